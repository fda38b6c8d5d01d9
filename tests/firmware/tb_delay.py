"""mnn_delay: every input leaves exactly Latency cycles later."""

import os
import random

import cocotb
from cocotb.clock import Clock
from cocotb.handle import HierarchyObject
from cocotb.triggers import FallingEdge, Timer

WIDTH = int(os.environ["PARAMETER_WIDTH"])
LATENCY = int(os.environ["PARAMETER_LATENCY"])


@cocotb.test()
async def delays(dut: HierarchyObject) -> None:
    """Random data and valid come out Latency cycles later, bit for bit."""
    random.seed(WIDTH * 100 + LATENCY)
    cocotb.start_soon(Clock(dut.clk_i, 10, unit="ns").start())
    dut.rst_i.value = 1
    dut.valid_i.value = 0
    dut.data_i.value = 0
    for _ in range(LATENCY + 2):
        await FallingEdge(dut.clk_i)
    dut.rst_i.value = 0
    sent: list[tuple[int, int]] = [(0, 0)] * LATENCY
    for _ in range(300):
        word = (random.getrandbits(1), random.getrandbits(WIDTH))
        dut.valid_i.value, dut.data_i.value = word
        sent.append(word)
        await Timer(1, "ns")
        assert (int(dut.valid_o.value), int(dut.data_o.value)) == sent.pop(0)
        await FallingEdge(dut.clk_i)


@cocotb.test(skip=LATENCY == 0)
async def reset_clears_valid(dut: HierarchyObject) -> None:
    """One cycle of reset empties the whole line of valids."""
    cocotb.start_soon(Clock(dut.clk_i, 10, unit="ns").start())
    dut.valid_i.value = 1
    dut.data_i.value = 0
    dut.rst_i.value = 0
    for _ in range(LATENCY + 1):
        await FallingEdge(dut.clk_i)
    assert int(dut.valid_o.value) == 1
    dut.rst_i.value = 1
    await FallingEdge(dut.clk_i)
    dut.rst_i.value = 0
    for _ in range(LATENCY):
        assert int(dut.valid_o.value) == 0
        await FallingEdge(dut.clk_i)
    assert int(dut.valid_o.value) == 1
