"""Line buffers alone: windows of every form over every raster, and the memory they keep."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
from hls_flows import TIMING, build_flows
from hls_projects import assert_equal, project_of
from hypothesis import strategies as st
from native_graphs import collected, random_codes
from stream_graphs import random_raster, random_window

from metronn.emit.hls.flow import Flow
from metronn.emit.hls.project import emit_hls
from metronn.emit.hls.window import window_form
from metronn.ir.graph import Graph, GraphBuilder
from metronn.ir.ops import Input, Padding, Window
from metronn.ir.types import Range
from metronn.plan.candidates.layouts_in_time import raster_layout
from metronn.plan.design import KernelInstance, Signal
from metronn.plan.hardware.resources import Resources
from metronn.plan.kernels.kernels import Kernels
from metronn.plan.kernels.spec import WindowBuffer
from metronn.plan.kernels.waiting.taps import window_output
from metronn.plan.layout import Layout


@pytest.mark.parametrize(("after", "fits"), [(1, True), (0, False)])
def test_a_row_in_a_beat_needs_a_window_for_each_pixel(after: int, fits: bool) -> None:
    builder = GraphBuilder()
    x = builder.add(Input(shape=(3, 4, 1), range=Range(0, 7)), "x")
    op = Window(x=x, kernel=(1, 2), strides=(1, 1), dilations=(1, 1), before=(0, 0), after=(0, after))
    builder.output("y", builder.add(op, "windows"))
    layout = Layout.rows(12, 4)
    made = window_output(op, (3, 4, 1), layout)
    assert made is not None
    spec = WindowBuffer(node="windows", layouts=(layout,), output=made[0], offset=made[1])
    assert (window_form(spec, builder.build()) is not None) == fits


def one_kernel(graph: Graph, layout: Layout) -> Flow | None:
    """Return the flow of the one window of a graph, or None when its windows do not leave one after another."""
    node = graph.nodes[-1]
    assert isinstance(node.op, Window)
    made = window_output(node.op, graph.type_of("x").shape, layout)
    if made is None:
        return None
    output, offset = made
    spec = WindowBuffer(node=node.name, layouts=(layout,), output=output, offset=offset)
    kernel = KernelInstance(
        name="windows_buffer", spec=spec, inputs=("pixels",), output="made", start_cycle=0, latency_cycles=offset,
        resources=Resources(),
    )  # fmt: skip
    return Flow(
        plans=Kernels(graph, TIMING),
        kernels=(kernel,),
        signals={
            "pixels": Signal(name="pixels", value="x", layout=layout, first_cycle=0),
            "made": Signal(name="made", value=node.name, layout=output, first_cycle=offset),
        },
        inputs=(("x", "pixels"),),
        outputs=(("y", "made"),),
        ii_cycles=max(layout.span, output.span),
    )


def window_graph(shape: tuple[int, ...], op: Window, bounds: Range) -> Graph:
    """Return a graph of one window."""
    builder = GraphBuilder()
    builder.add(Input(shape=shape, range=bounds), "x")
    builder.output("y", builder.add(op, "windows"))
    return builder.build()


@st.composite
def window_flows(draw: st.DrawFn) -> tuple[Graph, Layout]:
    """Draw a window over one or two axes, and a raster of its input."""
    rng = draw(st.randoms(use_true_random=True))
    rank = rng.choice((1, 2, 2))
    shape = (*((rng.randint(1, 2),) if rng.random() < 0.3 else ()), *(rng.randint(2, 6) for _ in range(rank)))
    shape = (*shape, rng.randint(1, 4))
    op = random_window(rng, "x", shape, rank, rng.choice(list(Padding)))
    layout = random_raster(rng, shape)
    return window_graph(shape, op, Range(-5, rng.randint(1, 100), 0)), layout


@pytest.mark.random
@pytest.mark.slow
@pytest.mark.usefixtures("hls_compiler")
@pytest.mark.parametrize("part", range(2))
def test_windows_of_streams_equal_numpy(tmp_path: Path, part: int) -> None:
    """Strides, dilations, padding, pixels per beat, parts of channels, gaps; most of them by line buffers."""
    drawn = [(graph, one_kernel(graph, layout)) for graph, layout in collected(window_flows(), 120)]
    flows = [flow for _, flow in drawn if flow is not None]
    assert len(flows) > 60
    specs = [(flow.kernels[0].spec, flow.graph) for flow in flows]
    lines = sum(isinstance(spec, WindowBuffer) and window_form(spec, graph) is not None for spec, graph in specs)
    assert lines > 0.5 * len(flows)
    chosen = flows[part:40:2]
    for number, (simulation, flow) in enumerate(zip(build_flows(chosen, tmp_path), chosen, strict=True)):
        assert_equal(simulation, flow.graph, random_codes(flow.graph, 8, number))


def form_of(flow: Flow) -> dict[str, int]:
    """Return the configuration of the one kernel."""
    spec = flow.kernels[0].spec
    assert isinstance(spec, WindowBuffer)
    form = window_form(spec, flow.graph)
    assert form is not None
    return dict(form.values)


def square(size: int, kernel: int, channels: int, ii_cycles: int) -> Flow:
    """Return the flow of a window that keeps the size of an image."""
    pad = kernel // 2
    two = (1, 1)
    op = Window(x="x", kernel=(kernel,) * 2, strides=two, dilations=two, before=(pad,) * 2, after=(pad,) * 2)
    shape = (size, size, channels)
    layout = raster_layout(shape, ii_cycles)
    assert layout is not None
    flow = one_kernel(window_graph(shape, op, Range.fixed(8, 0)), layout)
    assert flow is not None
    return flow


@pytest.mark.parametrize("kernel", [3, 5])
def test_memory_is_rows_not_the_image(kernel: int) -> None:
    """The lines are (kernel height - 1) rows, whatever the height of the image."""
    form = form_of(square(40, kernel, 2, 1600))
    lines = (form["kernel_rows"] - 1) * form["row_dilation"]
    assert lines * form["blocks"] * form["parts"] * form["width"] * form["channels"] == (kernel - 1) * 40 * 2
    assert form["steps"] == 1600 + (kernel // 2) * 40 + kernel // 2


def test_text_does_not_grow_with_the_image() -> None:
    """An image of a hundred times the pixels makes the same text but for its numbers."""
    sizes = {}
    for size in (10, 100):
        flow = square(size, 3, 1, size * size)
        files = emit_hls(flow.graph, project_of(flow.graph, "net"), flow)
        own = {path: str(text) for path, text in files.items() if not path.startswith("metronn/")}
        sizes[size] = {path: len(re.sub(r"\d+", "0", text)) for path, text in own.items()}
        assert not any(path.startswith("weights/") for path in own)
        assert math.prod(flow.graph.type_of("x").shape) == size * size
    assert sizes[10] == sizes[100]


def test_ports_are_streams_of_beats() -> None:
    """The top reads beats, processes run side by side, and loops are pipelined as the beats come."""
    flow = square(10, 3, 1, 200)
    files = emit_hls(flow.graph, project_of(flow.graph, "net"), flow)
    top = str(files["net.cpp"])
    assert "void net(metronn::stream<x_beats_t> &x, metronn::stream<windows_beats_t> &y)" in top
    assert "#pragma HLS DATAFLOW" in top
    assert "#pragma HLS INTERFACE mode = ap_fifo port = x" in top
    assert "static const int interval = 1;" in top  # 111 steps in 200 cycles
    assert "metronn::window_beats<windows_buffer_process>(x, y);" in top
