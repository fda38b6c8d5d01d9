"""Windows that are there all at once: the computed index against the emulator."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hls_projects import assert_equal, build_together
from hypothesis import strategies as st
from native_graphs import collected, random_codes, random_range

from metronn.ir.graph import Graph, GraphBuilder
from metronn.ir.ops import Input, Padding, Requantize, Window
from metronn.ir.types import Range


def random_window(rng: random.Random, x: str, shape: tuple[int, ...], rank: int, padding: Padding) -> Window:
    """Return a window of any stride, dilation and padding that fits the shape."""
    fields: dict[str, list[int]] = {name: [] for name in ("kernel", "strides", "dilations", "before", "after")}
    for size in shape[-rank - 1 : -1]:
        kernel, dilation = rng.randint(1, 3), rng.randint(1, 2)
        before, after = rng.randint(0, 2), rng.randint(0, 2)
        while dilation * (kernel - 1) + 1 > size + before + after:
            kernel -= 1
        for name, value in zip(fields, (kernel, rng.randint(1, 3), dilation, before, after), strict=True):
            fields[name].append(value)
    return Window(x=x, padding=padding, **{name: tuple(values) for name, values in fields.items()})


@st.composite
def window_graphs(draw: st.DrawFn) -> Graph:
    """Draw one window over one, two or three axes, with or without axes before them."""
    rng = draw(st.randoms(use_true_random=True))
    rank = rng.randint(1, 3)
    shape = tuple(rng.randint(1, 4) for _ in range(rank + 1 + rng.randint(0, 1)))
    builder = GraphBuilder()
    padding = rng.choice(list(Padding))
    bits = rng.choice((4, 70))
    bounds = Range.fixed(bits, 3) if padding is Padding.LOWEST else random_range(rng, 1, bits)
    x = builder.add(Input(shape=shape, range=bounds), "x")
    builder.output("y", builder.add(random_window(rng, x, shape, rank, padding), "windows"))
    small = builder.add(Requantize(x="windows", out=Range.fixed(3, 1)), "small")
    builder.output("z", small)
    return builder.build()


@pytest.mark.slow
@pytest.mark.usefixtures("hls_compiler")
def test_windows_equal_numpy(tmp_path: Path) -> None:
    """Many windows in one translation unit."""
    found = collected(window_graphs(), 40)
    for number, (simulation, graph) in enumerate(zip(build_together(found, tmp_path), found, strict=True)):
        assert_equal(simulation, graph, random_codes(graph, 20, number))
