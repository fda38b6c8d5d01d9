"""mnn_start_guard: starts come through or are dropped by their distance alone; the others are counted and may hit."""

import os
import random

import cocotb
from cocotb.clock import Clock
from cocotb.handle import HierarchyObject
from cocotb.triggers import FallingEdge, Timer

DISTANCE = int(os.environ["PARAMETER_DISTANCE"])
WINDOW = int(os.environ["PARAMETER_WINDOW"])


@cocotb.test()
async def starts_and_resets(dut: HierarchyObject) -> None:
    """Back-to-back, early and rare starts, with resets and clears at any time in between."""
    chance = random.Random(DISTANCE * 1000 + WINDOW)
    cocotb.start_soon(Clock(dut.clk_i, 10, unit="ns").start())
    dut.start_i.value = dut.clear_i.value = 0
    dut.rst_i.value = 1
    await FallingEdge(dut.clk_i)
    last, count, hit = -DISTANCE, 0, False
    through = dropped = hits = 0
    for cycle in range(600 + 60 * DISTANCE):
        reset = cycle < 2 or chance.random() < 1 / (30 * DISTANCE)
        clear = chance.random() < 1 / (20 * DISTANCE)
        busy = (1.0, 1 / DISTANCE, 0.5 / DISTANCE)[cycle // (8 * DISTANCE) % 3]
        start = not reset and chance.random() < busy
        dut.rst_i.value, dut.clear_i.value, dut.start_i.value = int(reset), int(clear), int(start)
        await Timer(1, "ns")
        accepted = start and cycle - last >= DISTANCE
        if cycle >= 2:
            assert int(dut.start_o.value) == accepted, f"cycle {cycle}"
            assert int(dut.hit_o.value) == hit, f"cycle {cycle}"
            assert int(dut.early_starts_o.value) == count, f"cycle {cycle}"
        early = start and not accepted
        if reset:
            last, hit = -DISTANCE, False
        elif accepted:
            last, hit = cycle, False
        elif early and cycle - last <= WINDOW:
            hit = True
        if reset:
            last = cycle + 1 - DISTANCE
        count = 0 if reset or clear else min(65535, count + early)
        through, dropped, hits = through + accepted, dropped + early, hits + hit
        await FallingEdge(dut.clk_i)
    assert through > 20
    assert (dropped > 20) == (DISTANCE > 1)
    assert (hits > 0) == (WINDOW > 0)


@cocotb.test(skip=DISTANCE != 2)
async def the_counter_stops(dut: HierarchyObject) -> None:
    """At 65535, until it is cleared."""
    cocotb.start_soon(Clock(dut.clk_i, 10, unit="ns").start())
    dut.rst_i.value, dut.clear_i.value, dut.start_i.value = 1, 0, 0
    await FallingEdge(dut.clk_i)
    dut.rst_i.value, dut.start_i.value = 0, 1
    await Timer(10 * 2 * 65540, "ns")
    await FallingEdge(dut.clk_i)
    assert int(dut.early_starts_o.value) == 65535
    dut.clear_i.value, dut.start_i.value = 1, 0
    await FallingEdge(dut.clk_i)
    assert int(dut.early_starts_o.value) == 0
