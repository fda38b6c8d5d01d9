"""Streamed designs in HLS against the NumPy emulator: every kernel on streams, every way to bring pixels."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hls_flows import build_flows, flow_with
from hls_projects import assert_equal, two_layers
from native_graphs import collected, random_codes, random_ints, random_range
from stream_graphs import stream_networks

from metronn.ir.graph import Graph, GraphBuilder
from metronn.ir.ops import Input, Linear, Overflow, Reduce, Requantize, Rounding
from metronn.ir.types import Range
from metronn.plan.layout import Layout


@pytest.mark.random
@pytest.mark.slow
@pytest.mark.usefixtures("hls_compiler")
@pytest.mark.parametrize("part", range(3))
def test_random_streams_equal_numpy(tmp_path: Path, part: int) -> None:
    """Windows, products, poolings, joins, moves and reductions in random kernels over random rasters."""
    found = collected(stream_networks(), 36)[part * 12 : part * 12 + 12]
    flows = [
        flow_with(graph, seed, max(2, *(layout.span for layout in inputs.values())), inputs)
        for graph, inputs, seed in found
    ]
    for number, (simulation, flow) in enumerate(zip(build_flows(flows, tmp_path), flows, strict=True)):
        assert_equal(simulation, flow.graph, random_codes(flow.graph, 12, number))


def wide_layers(rng: random.Random) -> Graph:
    """Return two dense layers on elements of any width, each with its own range and point."""
    builder = GraphBuilder()
    sizes = [rng.randint(1, 12) for _ in range(3)]
    bounds = random_range(rng, sizes[0], rng.choice((8, 70)))
    x = builder.add(Input(shape=(sizes[0],), range=bounds), "x")
    for k, (n_in, n_out) in enumerate(zip(sizes, sizes[1:], strict=False)):
        weight, bias = (random_ints(rng, shape, rng.choice((5, 40))) for shape in ((n_in, n_out), (n_out,)))
        x = builder.add(Linear(x=x, weight=weight, bias=bias, weight_frac=3), f"linear{k}")
        fracs = tuple(rng.randint(0, 3) for _ in range(n_out)) if rng.random() < 0.5 else 2
        out = Range(-100, rng.randint(0, 400), fracs)
        op = Requantize(x=x, out=out, rounding=rng.choice(list(Rounding)), overflow=Overflow.SAT)
        x = builder.add(op, f"narrow{k}") if rng.random() < 0.8 else x
    builder.output("y", x)
    return builder.build()


@pytest.mark.slow
@pytest.mark.usefixtures("hls_compiler")
def test_folded_vectors_equal_numpy(tmp_path: Path) -> None:
    """Matrix products over wide elements of different points, folded as chance will have it."""
    flows = []
    for number in range(24):
        graph = wide_layers(random.Random(number))
        size = graph.type_of("x").size
        layout = Layout.rows(size, random.Random(number).randint(1, size))
        flows.append(flow_with(graph, number, max(9, layout.span), {"x": layout}))
    assert sum("Fold" in repr(kernel.spec) for flow in flows for kernel in flow.kernels) > 20
    for number, (simulation, flow) in enumerate(zip(build_flows(flows, tmp_path), flows, strict=True)):
        assert_equal(simulation, flow.graph, random_codes(flow.graph, 20, number))


@pytest.mark.slow
@pytest.mark.usefixtures("hls_compiler")
def test_ports_unread_passed_on_and_read_often(tmp_path: Path) -> None:
    """An input that nothing reads, one that is a result, one with three readers, a result shown twice, wide codes."""
    builder = GraphBuilder()
    unread = builder.add(Input(shape=(3, 1), range=Range.fixed(6, 2)), "unread")
    echoed = builder.add(Input(shape=(3, 2), range=Range(0, 2**70, 1)), "echoed")
    often = builder.add(Input(shape=(4, 1), range=Range.fixed(90, 2)), "often")
    small = builder.add(Requantize(x=often, out=Range.fixed(5, 1), overflow=Overflow.SAT), "small")
    total = builder.add(Reduce(x=often, axes=(0,)), "total")
    for name, value in {"echo": echoed, "same": often, "a": small, "b": small, "total": total}.items():
        builder.output(name, value)
    graph = builder.build()
    inputs = {name: Layout.rows(graph.type_of(name).size, 1) for name in (unread, echoed, often)}
    flow = flow_with(graph, 1, 6, inputs)
    (simulation,) = build_flows([flow], tmp_path)
    assert_equal(simulation, graph, random_codes(graph, 20, 3))
    top = (tmp_path / "f0" / "f0.cpp").read_text()
    assert "metronn::drain_beats<3>(unread);" in top
    assert "metronn::copy_beats<6>(echoed, echo);" in top
    assert top.count("metronn::fork_beats<4>") >= 2


def test_queues_are_as_deep_as_the_way_around_them_is_long() -> None:
    """A branch waits in a queue for the plan's cycles, and for what each process of the longest chain may add."""
    _, flow = two_layers()
    assert flow.processes == {"middle": 1, "out": 2}
    assert flow.slack_cycles == 12
    layout = Layout.rows(4, 2)  # two beats, an event every 9 cycles
    assert [flow.depth(layout, cycles) for cycles in (0, 9, 24)] == [5, 7, 10]
