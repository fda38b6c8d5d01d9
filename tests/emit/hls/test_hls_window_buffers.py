"""Line buffers alone: windows of every form over every raster, and the memory they keep."""

from __future__ import annotations

import json
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
from metronn.verify.hls_static import check_project


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


def channel_rows(shape: tuple[int, ...], sizes: tuple[int, ...]) -> Layout:
    """Return a layout of pixels one after another, their channels in beats of different sizes."""
    beats, first = [], 0
    for _ in range(math.prod(shape[:-1])):
        for size in sizes:
            beats.append(tuple(range(first, first + size)))
            first += size
    return Layout(tuple(beats), tuple(range(len(beats))))


def late_flows() -> dict[str, Flow]:
    """Return windows that one process cannot take at the II, since padding leaves behind the last pixel."""

    def flow(shape: tuple[int, ...], layout: Layout, *axes: tuple[int, ...], lowest: bool = False) -> Flow:
        kernel, strides, dilations, before, after = axes
        padding = Padding.LOWEST if lowest else Padding.ZERO
        op = Window(
            x="x", kernel=kernel, strides=strides, dilations=dilations, before=before, after=after, padding=padding
        )
        made = one_kernel(window_graph(shape, op, Range(-5, 100, 0)), layout)
        assert made is not None
        return made

    one, two, none = (1, 1), (2, 2), (0, 0)
    return {
        "3x3": square(6, 3, 2, 36),
        "5x5, two rows of padding": square(6, 5, 1, 36),
        "7x7, three rows": square(6, 7, 1, 36),
        "a signal": flow((9, 2), Layout.rows(18, 2), (3,), (1,), (1,), (1,), (1,)),
        "a signal, padding behind": flow((9, 1), Layout.rows(9, 1), (4,), (1,), (2,), (0,), (6,)),
        "stride 2": flow((6, 6, 2), Layout.rows(72, 2), (3, 3), two, one, none, one, lowest=True),
        "dilated": flow((7, 5, 1), Layout.rows(35, 1), (3, 2), one, two, two, (2, 0)),
        "two images": flow((2, 4, 5, 1), Layout.rows(40, 1), (3, 3), one, one, one, one, lowest=True),
        "two pixels a beat": flow((4, 6, 1), Layout.rows(24, 2), (3, 3), one, one, one, one),
        "a row a beat": flow((5, 4, 2), Layout.rows(40, 8), (3, 3), one, one, one, one),
        "channels in parts": flow((4, 4, 4), Layout.rows(64, 2), (3, 3), one, one, one, one),
        "a larger last part": flow((4, 4, 6), channel_rows((4, 4, 6), (1, 1, 1, 3)), (3, 3), one, one, one, one),
        "a smaller last part": flow((5, 3, 5), channel_rows((5, 3, 5), (2, 2, 1)), (2, 3), one, one, (0, 1), one),
    }


def test_padding_leaves_while_the_next_image_comes() -> None:
    """Two processes keep the II; the checks, a simulation of the beats among them, find nothing."""
    for name, flow in late_flows().items():
        spec = flow.kernels[0].spec
        assert isinstance(spec, WindowBuffer)
        form = window_form(spec, flow.graph)
        assert form is not None, name
        assert form.steps > flow.ii_cycles, name
        assert form.is_split(flow.ii_cycles), name
        made = emit_hls(flow.graph, project_of(flow.graph, "net", flow.ii_cycles), flow)
        files = {path: str(text) for path, text in made.items()}
        assert "HLS takes" not in files["net.cpp"], name
        assert json.loads(files["interface.json"])["expected"]["ii_cycles"] == flow.ii_cycles, name
        assert f"set expected {{ii_cycles {flow.ii_cycles} " in files["check.tcl"], name
        assert check_project(files) == [], name
        assert flow.process_count(flow.kernels[0]) == 2, name


def test_a_queue_of_columns_that_is_too_short_is_named() -> None:
    """Columns wait while padding leaves that is more than the steps before the first window."""
    flow = late_flows()["a signal, padding behind"]
    made = emit_hls(flow.graph, project_of(flow.graph, "net", flow.ii_cycles), flow)
    files = {path: str(text) for path, text in made.items()}
    depth = re.search(r"variable = windows_buffer_columns depth = (\d+)", files["net.cpp"])
    assert depth is not None
    files["net.cpp"] = files["net.cpp"].replace(depth[0], depth[0].replace(f"= {depth[1]}", "= 1"))
    (found,) = check_project(files)
    assert "queue windows_buffer_columns with 1 beats is too short" in found


@pytest.mark.slow
@pytest.mark.usefixtures("hls_compiler")
def test_late_padding_equals_numpy(tmp_path: Path) -> None:
    flows = list(late_flows().values())
    for number, (simulation, flow) in enumerate(zip(build_flows(flows, tmp_path), flows, strict=True)):
        assert_equal(simulation, flow.graph, random_codes(flow.graph, 8, number))


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
