"""Window buffers, delays and queues keep no more than what is on its way."""

from __future__ import annotations

import pytest

from metronn.ir.graph import Graph, GraphBuilder
from metronn.ir.ops import Input, Window
from metronn.ir.types import Range
from metronn.plan.hardware.boards import load_device
from metronn.plan.kernels.kernels import planned
from metronn.plan.kernels.spec import Delay, Reorder, WindowBuffer
from metronn.plan.kernels.waiting.lines import WIRE, Register, Ring
from metronn.plan.kernels.waiting.pulses import Pulse, in_flight
from metronn.plan.kernels.waiting.taps import window_output
from metronn.plan.layout import Layout
from timings import level_timing

TIMING = level_timing(load_device("vu13p").fabric)


def convolution(spacing: int, pixels: int) -> tuple[Graph, WindowBuffer]:
    """3x3 windows, padded, over a 40x40x8 image of 8 bit pixels."""
    builder = GraphBuilder()
    x = builder.add(Input(shape=(40, 40, 8), range=Range.fixed(8, 0)), "x")
    op = Window(x=x, kernel=(3, 3), strides=(1, 1), dilations=(1, 1), before=(1, 1), after=(1, 1))
    builder.output("y", builder.add(op, "windows"))
    layout = Layout.rows(40 * 40 * 8, 8 * pixels, spacing)
    made = window_output(op, (40, 40, 8), layout)
    assert made is not None
    return builder.build(), WindowBuffer(node="windows", layouts=(layout,), output=made[0], offset=made[1])


@pytest.mark.parametrize("pixels", [1, 2, 4])
def test_a_window_keeps_two_rows_and_what_its_beats_need(pixels: int) -> None:
    graph, spec = convolution(1, pixels)
    assert planned(spec, graph, TIMING).buffer_bits <= (2 * 40 + 3 + pixels - 1) * 8 * 8


def test_the_edges_of_an_image_are_two_flags_of_rows_and_two_of_columns() -> None:
    graph, spec = convolution(4, 1)
    memory = planned(spec, graph, TIMING).memory
    assert (memory.choices.rows, memory.choices.columns_count) == (40, 40)
    assert len(memory.choices.bits) == 8
    assert len({bit.rows for bit in memory.choices.bits if bit.rows}) == 2
    assert len({bit.columns for bit in memory.choices.bits if bit.columns}) == 2


def test_slots_that_wait_alike_share_one_memory() -> None:
    graph, spec = convolution(4, 1)
    (line,) = planned(spec, graph, TIMING).memory.lines
    assert line.slots == tuple(range(8))
    assert [type(cell) for cell in line.cells].count(Ring) == 2
    assert [cell.depth for cell in line.cells if isinstance(cell, Ring)] == [39, 39]


def test_a_long_delay_of_few_beats_keeps_only_what_is_on_its_way() -> None:
    graph, _ = convolution(1, 1)
    sparse = Delay(value="x", layout=Layout.rows(40 * 40 * 8, 8, 10), cycles=500)
    assert planned(sparse, graph, TIMING).buffer_bits <= 52 * 64
    assert planned(sparse, graph, TIMING).resources.lut < 150


def test_beats_at_another_pace_are_a_queue() -> None:
    graph, _ = convolution(1, 1)
    beats = Layout.rows(40 * 40 * 8, 8)
    slower = Layout(beats.beats, tuple(range(0, 4 * beats.beat_count, 4)))
    (line,) = planned(Reorder(value="x", layout=beats, output=slower, offset=2), graph, TIMING).memory.lines
    cell, *registers = line.cells
    assert isinstance(cell, Ring)
    assert 1150 < cell.depth <= 1202  # three of four wait when the last one comes
    assert cell.block
    assert registers == [Register(WIRE, Pulse(beats.cycles)), Register(1, None)]  # the first beat waits for two cycles


def test_as_many_wait_as_overlap_when_repeated() -> None:
    assert in_flight([0], [4], 5) == 1
    assert in_flight([0], [5], 5) == 2
    assert in_flight([0, 1, 2], [3, 3, 3], 4) == 3
    assert in_flight([0, 2], [12, 3], 4) == 4
    assert in_flight([], [], 3) == 0
