"""mnn_ring: words leave in order, stay until the next one leaves, and a full ring loses none."""

import os
import random
from collections import deque

import cocotb
from cocotb.clock import Clock
from cocotb.handle import HierarchyObject
from cocotb.triggers import FallingEdge, Timer

WIDTH = int(os.environ["PARAMETER_WIDTH"])
DEPTH = int(os.environ["PARAMETER_DEPTH"])
LATENCY = 1 + int(os.environ["PARAMETER_BLOCK"])


@cocotb.test()
async def first_in_first_out(dut: HierarchyObject) -> None:
    """Random writes and reads within the depth, with a reset now and then."""
    chance = random.Random(WIDTH * 1000 + DEPTH)
    cocotb.start_soon(Clock(dut.clk_i, 10, unit="ns").start())
    inside: deque[tuple[int, int]] = deque()  # cycle of the write, word
    shown: list[int | None] = [None] * (LATENCY + 1)  # on data_o in this cycle and the next ones
    fullest = 0
    for cycle in range(400 + 20 * DEPTH):
        reset = cycle < 2 or chance.random() < 1 / (10 * DEPTH)
        busy = 0.9 if cycle // (3 * DEPTH) % 2 else 0.3
        read = not reset and bool(inside) and inside[0][0] < cycle and chance.random() < 1 - busy
        write = not reset and len(inside) < DEPTH and chance.random() < busy
        word = chance.getrandbits(WIDTH)
        dut.rst_i.value, dut.write_i.value, dut.read_i.value, dut.data_i.value = int(reset), write, read, word
        await Timer(1, "ns")
        if shown[0] is not None:
            assert int(dut.data_o.value) == shown[0], f"cycle {cycle}"
        fullest = max(fullest, len(inside))
        if read:
            shown[LATENCY] = inside.popleft()[1]
        shown = [*shown[1:], shown[-1]]
        if write:
            inside.append((cycle, word))
        if reset:
            inside.clear()
        await FallingEdge(dut.clk_i)
    assert fullest == DEPTH
