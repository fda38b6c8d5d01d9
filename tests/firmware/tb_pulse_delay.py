"""mnn_pulse_delay: every pulse comes out exactly Cycles later, however many are on their way; none survives a reset."""

import os
import random

import cocotb
from cocotb.clock import Clock
from cocotb.handle import HierarchyObject
from cocotb.triggers import FallingEdge, Timer

CYCLES = int(os.environ["PARAMETER_CYCLES"])
DISTANCE = int(os.environ["PARAMETER_DISTANCE"])


@cocotb.test()
async def pulses_and_resets(dut: HierarchyObject) -> None:
    """Pulses at the least distance and with gaps, resets at any time in between."""
    chance = random.Random(CYCLES * 1000 + DISTANCE)
    cocotb.start_soon(Clock(dut.clk_i, 10, unit="ns").start())
    await FallingEdge(dut.clk_i)
    due: set[int] = set()
    allowed, seen = 0, 0
    for cycle in range(40 * max(CYCLES, DISTANCE)):
        reset = cycle < 2 or chance.random() < 1 / (6 * CYCLES)
        pulse = cycle >= allowed and (cycle // (8 * CYCLES) % 2 == 0 or chance.random() < 2 / DISTANCE)
        dut.rst_i.value, dut.pulse_i.value = int(reset), int(pulse)
        if pulse:
            allowed = cycle + DISTANCE
            due.add(cycle + CYCLES)
        await Timer(1, "ns")
        if cycle >= 2:
            assert int(dut.pulse_o.value) == int(cycle in due), f"cycle {cycle}"
            seen += cycle in due
        if reset:
            due = set()
        await FallingEdge(dut.clk_i)
    assert seen > 5
