"""mnn_crossing: every word leaves exactly Registers cycles later."""

import os
import random

import cocotb
from cocotb.clock import Clock
from cocotb.handle import HierarchyObject
from cocotb.triggers import FallingEdge, Timer

WIDTH = int(os.environ["PARAMETER_WIDTH"])
REGISTERS = int(os.environ["PARAMETER_REGISTERS"])


@cocotb.test()
async def crosses(dut: HierarchyObject) -> None:
    """Random words, one in every cycle."""
    random.seed(WIDTH * 100 + REGISTERS)
    cocotb.start_soon(Clock(dut.clk_i, 10, unit="ns").start())
    sent: list[int] = []
    for _ in range(200):
        word = random.getrandbits(WIDTH)
        dut.data_i.value = word
        sent.append(word)
        await Timer(1, "ns")
        if len(sent) > REGISTERS:
            assert int(dut.data_o.value) == sent.pop(0)
        await FallingEdge(dut.clk_i)
    assert len(sent) == REGISTERS
