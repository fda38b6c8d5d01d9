"""Windows over images in time, other layouts of the same beats, delays of streams: what buffers are measured on."""

from __future__ import annotations

from collections.abc import Iterator

from metronn.ir.graph import Graph, GraphBuilder
from metronn.ir.ops import Input, Padding, Window
from metronn.ir.types import Range
from metronn.plan.kernels.spec import Delay, Reorder, WindowBuffer
from metronn.plan.kernels.waiting.taps import window_output
from metronn.plan.layout import Layout


def image(height: int, width: int, channels: int) -> GraphBuilder:
    """Begin a graph with an image of 8 bit pixels."""
    builder = GraphBuilder()
    builder.add(Input(shape=(height, width, channels), range=Range.fixed(8, 0)), "x")
    return builder


def window(
    height: int,
    width: int,
    channels: int,
    *,
    kernel: int = 3,
    stride: int = 1,
    padding: Padding = Padding.ZERO,
    pixels: float = 1,
    spacing: int = 1,
) -> tuple[Graph, WindowBuffer]:
    """Return padded square windows over an image that comes `pixels` a beat, a beat every `spacing` cycles."""
    builder = image(height, width, channels)
    edge = (kernel - 1) // 2
    op = Window(
        x="x",
        kernel=(kernel, kernel),
        strides=(stride, stride),
        dilations=(1, 1),
        before=(edge, edge),
        after=(edge, edge),
        padding=padding,
    )
    builder.output("y", builder.add(op, "windows"))
    layout = Layout.rows(height * width * channels, round(pixels * channels), spacing)
    made = window_output(op, (height, width, channels), layout)
    assert made is not None
    return builder.build(), WindowBuffer(node="windows", layouts=(layout,), output=made[0], offset=made[1])


def window_samples() -> Iterator[tuple[str, Graph, WindowBuffer]]:
    """Yield windows as convolutions and poolings have them: name, graph, kernel."""
    yield "3x3 on 40x40x8", *window(40, 40, 8)
    yield "3x3 on 40x40x8, every 4 cycles", *window(40, 40, 8, spacing=4)
    yield "3x3 on 40x40x8, 2 pixels a beat", *window(40, 40, 8, pixels=2)
    yield "3x3 on 40x40x8, 2 channels a beat", *window(40, 40, 8, pixels=0.25)
    yield "5x5 on 28x28x1", *window(28, 28, 1, kernel=5)
    yield "2x2 stride 2 on 40x40x8, lowest", *window(40, 40, 8, kernel=2, stride=2, padding=Padding.LOWEST)
    yield "3x3 on 24x128x8", *window(24, 128, 8)


def _delayed(count: int, layout: Layout, cycles: int) -> tuple[Graph, Delay]:
    builder = GraphBuilder()
    builder.output("y", builder.add(Input(shape=(count,), range=Range.fixed(8, 0)), "x"))
    return builder.build(), Delay(value="x", layout=layout, cycles=cycles)


def delay_samples() -> Iterator[tuple[str, Graph, Delay]]:
    """Yield delays of streams: name, graph, kernel."""
    yield "64 bit every 4 cycles, 300 cycles", *_delayed(3200, Layout.rows(3200, 8, 4), 300)
    yield "128 bit every cycle, 500 cycles", *_delayed(16000, Layout.rows(16000, 16), 500)
    yield "64 bit every 16 cycles, 200 cycles", *_delayed(3200, Layout.rows(3200, 8, 16), 200)


def _reordered(count: int, layout: Layout, output: Layout, offset: int) -> tuple[Graph, Reorder]:
    builder = GraphBuilder()
    builder.output("y", builder.add(Input(shape=(count,), range=Range.fixed(8, 0)), "x"))
    return builder.build(), Reorder(value="x", layout=layout, output=output, offset=offset)


def reorder_samples() -> Iterator[tuple[str, Graph, Reorder]]:
    """Yield changes of layout: name, graph, kernel."""
    yield "100 beats of 8, 1 to 4 cycles", *_reordered(800, Layout.rows(800, 8), Layout.rows(800, 8, 4), 2)
    yield "64 at once to 16 beats", *_reordered(64, Layout.parallel(64), Layout.rows(64, 4), 0)
    yield "beats of 16 to beats of 4", *_reordered(1600, Layout.rows(1600, 16, 4), Layout.rows(1600, 4), 0)
    yield "beats of 4 to beats of 16", *_reordered(1600, Layout.rows(1600, 4), Layout.rows(1600, 16, 4), 3)
    order = tuple(tuple(range((k % 10 * 10 + k // 10) * 8, (k % 10 * 10 + k // 10 + 1) * 8)) for k in range(100))
    yield "10x10 beats of 8 transposed", *_reordered(800, Layout.rows(800, 8), Layout(order), 90)
