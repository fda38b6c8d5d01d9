"""mnn_link_model: the latency it is told, flips, silence, slips."""

import os
import random

import cocotb
from cocotb.clock import Clock
from cocotb.handle import HierarchyObject
from cocotb.triggers import FallingEdge

MAX_LATENCY = int(os.environ["PARAMETER_MAXLATENCY"])


@cocotb.test()
async def latencies(dut: HierarchyObject) -> None:
    """Each latency in bounds delays by just that, with the flips of the cycle of entry; a slip changes it at once."""
    rng = random.Random(1)
    cocotb.start_soon(Clock(dut.clk_i, 10, unit="ns").start())
    dut.dead_i.value = 0
    for latency in range(1, MAX_LATENCY + 1):
        dut.raw_latency_i.value = latency
        dut.slip_i.value = 0
        dut.flip_i.value = 0
        dut.lane_i.value = 0
        dut.rst_i.value = 1
        for _ in range(2):
            await FallingEdge(dut.clk_i)
        dut.rst_i.value = 0
        entered = [0] * (MAX_LATENCY + 1)
        current = latency
        for n in range(3 * MAX_LATENCY + 5):
            word, flip = rng.getrandbits(66), rng.getrandbits(66) if rng.random() < 0.3 else 0
            dut.lane_i.value = word
            dut.flip_i.value = flip
            dut.raw_latency_i.value = rng.randint(1, MAX_LATENCY)  # ignored without reset or slip
            dut.dead_i.value = int(n % 7 == 0)
            slips = n == 2 * MAX_LATENCY
            dut.slip_i.value = int(slips)
            following = rng.randint(1, MAX_LATENCY)
            if slips:
                dut.raw_latency_i.value = following
            await FallingEdge(dut.clk_i)
            entered.append(word ^ flip)
            if slips:
                current = following
            assert int(dut.lane_o.value) == (0 if n % 7 == 0 else entered[-current])
