"""Hypothesis strategies for windows and other layouts in time: images as streams, retimed beats, moved elements."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st
from strategies import Draw, ranges, timings

from metronn.ir.arrays import IntArray
from metronn.ir.graph import Graph, GraphBuilder
from metronn.ir.ops import Input, Padding, Rewire, Window
from metronn.plan.kernels.kernels import planned
from metronn.plan.kernels.spec import Delay, Reorder, WindowBuffer
from metronn.plan.kernels.waiting.taps import element_map, input_layouts_of, rewire_output, window_output
from metronn.plan.layout import Layout
from metronn.verify.kernel_bench import Case


@st.composite
def images(draw: Draw) -> tuple[int, ...]:
    """Draw the shape of an image (*lead, *spatial, channels) of one or two spatial axes."""
    lead = (2,) if draw(st.integers(0, 4)) == 0 else ()
    spatial = tuple(draw(st.lists(st.integers(1, 7), min_size=1, max_size=2)))
    return (*lead, *spatial, draw(st.integers(1, 4)))


@st.composite
def rasters(draw: Draw, shape: tuple[int, ...]) -> Layout:
    """Draw how an image comes: pixels a beat, parts of the channels, cycles between beats and between rows."""
    columns, channels = shape[-2:]
    width = draw(st.sampled_from([1, 1, 1, 2, 3, columns]))
    parts = draw(st.integers(1, channels)) if draw(st.integers(0, 2)) == 0 else 1
    cuts = [round(k * channels / parts) for k in range(parts + 1)]
    part_cycles, extra = (draw(st.sampled_from([0, 0, 1, 3, 9])) for _ in range(2))
    row_extra = draw(st.sampled_from([0, 0, 1, 3, 20]))
    step = 1 + (part_cycles % 4)
    block_cycles = parts * step + extra
    beats, cycles, cycle = [], [], 0
    for row in range(math.prod(shape[:-2])):
        for first in range(0, columns, width):
            pixels = range(row * columns + first, row * columns + min(first + width, columns))
            for k, (a, b) in enumerate(zip(cuts, cuts[1:], strict=False)):
                beats.append(tuple(pixel * channels + c for pixel in pixels for c in range(a, b)))
                cycles.append(cycle + k * step)
            cycle += block_cycles
        cycle += row_extra
    return Layout(tuple(beats), tuple(cycles))


@st.composite
def window_graphs(draw: Draw) -> tuple[Graph, Window]:
    """Draw one Window over an image: any kernel, stride, dilation and padding that fits."""
    shape = draw(images())
    rank = draw(st.integers(1, min(2, len(shape) - 1)))
    spatial = shape[-1 - rank : -1]
    kernel = tuple(draw(st.integers(1, 4)) for _ in spatial)
    strides = tuple(draw(st.sampled_from([1, 1, 2, 3])) for _ in spatial)
    dilations = tuple(draw(st.sampled_from([1, 1, 2])) for _ in spatial)
    before, after = (tuple(draw(st.integers(0, k)) for k in kernel) for _ in range(2))
    room = [
        n + a + b - d * (k - 1) - 1 for n, a, b, d, k in zip(spatial, before, after, dilations, kernel, strict=True)
    ]
    assume(min(room) >= 0)
    graph = GraphBuilder()
    x = graph.add(Input(shape=shape, range=draw(ranges(math.prod(shape), 7, frac=2))), "x")
    op = Window(
        x=x,
        kernel=kernel,
        strides=strides,
        dilations=dilations,
        before=before,
        after=after,
        padding=draw(st.sampled_from(list(Padding))),
    )
    graph.output("y", graph.add(op, "window", "conv"))
    return graph.build(), op


@st.composite
def loose_layouts(draw: Draw, size: int, max_beats: int = 8) -> Layout:
    """Draw beats of any elements at any cycles: dense, evenly spaced or irregular."""
    order = draw(st.permutations(range(size))) if draw(st.integers(0, 2)) == 0 else list(range(size))
    count = draw(st.integers(1, min(size, max_beats)))
    cuts = sorted(draw(st.permutations(range(1, size)))[: count - 1])
    if draw(st.booleans()):
        width = -(-size // count)
        cuts = list(range(width, size, width))
    edges = [0, *cuts, size]
    gaps = draw(st.sampled_from([(1, 1), (2, 2), (5, 5), (19, 19), (1, 2), (1, 9), (4, 30)]))
    cycles = [0]
    for _ in cuts:
        cycles.append(cycles[-1] + draw(st.integers(*gaps)))
    return Layout(tuple(tuple(order[a:b]) for a, b in zip(edges, edges[1:], strict=False)), tuple(cycles))


def least_offset(spec: WindowBuffer | Reorder, graph: Graph) -> int:
    """The earliest offset at which every element is there when it leaves."""
    _, index = element_map(spec, graph)
    arrival: list[int] = []
    for layout in input_layouts_of(spec):
        cycle_of = {k: c for c, beat in zip(layout.cycles, layout.beats, strict=True) for k in beat}
        arrival += [cycle_of[k] for k in range(layout.size)]
    leaves = zip(spec.output.cycles, spec.output.beats, strict=True)
    return max([0, *(int(arrival[index[k]]) - c for c, beat in leaves for k in beat if index[k] >= 0)])


@st.composite
def buffer_cases(draw: Draw, name: str, kind: str) -> Case:
    """Draw a WindowBuffer, Reorder or Delay and an II it can keep: its least, one more, or any."""
    spec: WindowBuffer | Reorder | Delay
    late = draw(st.sampled_from([0, 0, 0, 1, 2, 7, 40]))
    match kind:
        case "window":
            graph, op = draw(window_graphs())
            layout = draw(rasters(graph.type_of("x").shape))
            made = window_output(op, graph.type_of("x").shape, layout)
            assume(made is not None)
            assert made is not None
            spec = WindowBuffer(node="window", layouts=(layout,), output=made[0], offset=made[1])
            spec = WindowBuffer(
                node="window", layouts=(layout,), output=made[0], offset=max(made[1], least_offset(spec, graph)) + late
            )
        case "loose_window":
            graph, _ = draw(window_graphs())
            assume(graph.type_of("window").size <= 300)
            layouts = (draw(loose_layouts(graph.type_of("x").size)),)
            output = draw(loose_layouts(graph.type_of("window").size))
            spec = WindowBuffer(node="window", layouts=layouts, output=output, offset=0)
            spec = WindowBuffer(node="window", layouts=layouts, output=output, offset=least_offset(spec, graph) + late)
        case "reorder" | "retime" | "delay":
            builder = GraphBuilder()
            size = draw(st.integers(1, 24))
            builder.output("y", builder.add(Input(shape=(size,), range=draw(ranges(size, 8))), "x"))
            graph = builder.build()
            layout = draw(loose_layouts(size, 24))
            if kind == "delay":
                spec = Delay(value="x", layout=layout, cycles=draw(st.integers(0, 3 * layout.span + 40)))
            else:
                output = draw(loose_layouts(size, 24))
                if kind == "retime":
                    spacing = draw(st.integers(1, 6))
                    output = Layout(layout.beats, tuple(range(0, spacing * layout.beat_count, spacing)))
                spec = Reorder(value="x", layout=layout, output=output, offset=0)
                spec = Reorder(value="x", layout=layout, output=output, offset=least_offset(spec, graph) + late)
        case "rewire":
            builder = GraphBuilder()
            shape = (draw(st.integers(1, 6)), draw(st.integers(1, 4)))
            size = math.prod(shape)
            xs = [
                builder.add(Input(shape=shape, range=draw(ranges(size, 7, frac=2))), f"x{k}")
                for k in range(draw(st.integers(1, 2)))
            ]
            joined = np.concatenate([np.arange(size).reshape(shape) + k * size for k in range(len(xs))], axis=1)
            if draw(st.booleans()):
                joined = np.pad(joined, ((1, 0), (0, 1)), constant_values=-1)
            if draw(st.booleans()):
                joined = joined.T
            builder.output(
                "y", builder.add(Rewire(xs=tuple(xs), index=IntArray.of(joined), shape=joined.shape), "moved", "cat")
            )
            graph = builder.build()
            beats = Layout.rows(size, shape[1], draw(st.integers(1, 3)))
            made = rewire_output("moved", graph, [beats] * len(xs))
            assert made is not None
            output = made[0] if draw(st.booleans()) else draw(loose_layouts(joined.size))
            spec = WindowBuffer(node="moved", layouts=(beats,) * len(xs), output=output, offset=0)
            spec = WindowBuffer(
                node="moved", layouts=spec.layouts, output=output, offset=least_offset(spec, graph) + late
            )
        case _:
            raise ValueError(f"unknown kind {kind}")
    timing = draw(timings())
    apart = planned(spec, graph, timing).cycles_per_event
    spec = dataclasses.replace(spec, period=draw(st.sampled_from([0, apart, apart + 1, apart + 9, 3 * apart])))
    return Case(
        name=name,
        spec=spec,
        graph=graph,
        timing=timing,
        ii_cycles=planned(spec, graph, timing).cycles_per_event
        + draw(st.sampled_from([0, 0, 1, draw(st.integers(2, 50))])),
        events=10,
    )


BUFFER_KINDS = ("window", "loose_window", "reorder", "retime", "delay", "rewire")


@st.composite
def buffer_batches(draw: Draw, count: int, kinds: tuple[str, ...] = BUFFER_KINDS) -> list[Case]:
    """Draw `count` kernels of each kind."""
    return [draw(buffer_cases(f"mnn_{kind}_{k}", kind)) for kind in kinds for k in range(count)]
