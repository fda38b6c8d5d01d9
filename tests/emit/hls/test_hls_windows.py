"""Windows that are there all at once: the computed index against the emulator."""

from __future__ import annotations

from pathlib import Path

import pytest
from hls_projects import assert_equal, build_together
from hypothesis import strategies as st
from native_graphs import collected, random_codes, random_range
from stream_graphs import random_window

from metronn.ir.graph import Graph, GraphBuilder
from metronn.ir.ops import Input, Padding, Requantize
from metronn.ir.types import Range


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


@pytest.mark.random
@pytest.mark.slow
@pytest.mark.usefixtures("hls_compiler")
def test_windows_equal_numpy(tmp_path: Path) -> None:
    """Many windows in one translation unit."""
    found = collected(window_graphs(), 40)
    for number, (simulation, graph) in enumerate(zip(build_together(found, tmp_path), found, strict=True)):
        assert_equal(simulation, graph, random_codes(graph, 20, number))
