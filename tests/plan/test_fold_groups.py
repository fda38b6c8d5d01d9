"""Groups of weights that share a multiplier: they cover a layer, and zero groups are multipliers less."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan_networks import Network

from metronn.ir.arrays import IntArray
from metronn.ir.check import check
from metronn.ir.graph import Graph
from metronn.ir.ops import Linear
from metronn.plan.fold_groups import ALONE, graph_groups
from metronn.plan.hardware.boards import load_device
from metronn.plan.hardware.system import load_system
from metronn.plan.hardware.timing import Timing
from metronn.plan.kernels.folds.fold import fold_outputs_spec, packing
from metronn.plan.kernels.kernels import planned
from metronn.plan.kernels.spec import FoldInputs, FoldOutputs
from metronn.plan.layout import Layout
from metronn.plan.options import PlanOptions
from random_tests import examples

TIMING = Timing.of([load_device("vu13p")], 1e6 / 360)


def layer(inputs: int, outputs: int, bits: int = 8) -> Graph:
    network = Network(3)
    x = network.input("x", inputs)
    network.builder.output("y", network.relu(network.linear(x, outputs, "dense", bits), "relu"))
    return check(network.builder.build())


def with_zeros(graph: Graph, zero: np.ndarray, other: int | None = None) -> Graph:
    """The graph with the weights of `dense` at `zero` replaced by 0, and by `other` where it is given elsewhere."""
    nodes = []
    for node in graph.nodes:
        if node.name == "dense" and isinstance(node.op, Linear):
            weight = IntArray.of(np.where(zero, 0, node.op.weight.array if other is None else other))
            node = replace(node, op=replace(node.op, weight=weight))
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes))


@pytest.mark.parametrize(("inputs", "outputs", "beats"), [(12, 24, 4), (10, 23, 4), (7, 5, 9), (16, 40, 3)])
@pytest.mark.parametrize("bits", [6, 14])
def test_groups_of_folded_outputs_are_the_multipliers(inputs: int, outputs: int, beats: int, bits: int) -> None:
    graph = layer(inputs, outputs, bits)
    spec = fold_outputs_spec(graph, "dense", (), beats, TIMING)
    groups = planned(spec, graph, TIMING).groups
    ways = packing(graph, "dense", TIMING).ways
    assert groups.shape == (inputs, outputs)
    used, counts = np.unique(groups, return_counts=True)
    assert counts.max() <= ways * beats
    assert len(used) <= planned(spec, graph, TIMING).multipliers
    if not spec.remainder:
        assert len(used) == planned(spec, graph, TIMING).multipliers
        assert set(counts) == {ways * beats}
    if spec.lanes:
        assert groups[0, 0] == groups[0, spec.lanes] != groups[1, 0]


def test_groups_of_folded_inputs_are_the_multipliers() -> None:
    graph = layer(12, 10)
    layout = Layout(tuple((b, 4 + b, 8 + b) for b in range(4)))
    spec = FoldInputs(linear="dense", layout=layout)
    groups = planned(spec, graph, TIMING).groups
    ways = packing(graph, "dense", TIMING).ways
    assert len(np.unique(groups)) == planned(spec, graph, TIMING).multipliers == 3 * -(-10 // ways)
    for slot in range(3):
        carried = [beat[slot] for beat in layout.beats]
        assert len(np.unique(groups[carried])) == -(-10 // ways)
    single = Layout(((0, 1, 2, 3, 4, 5), (6, 7, 8, 9, 10), (11,)))
    alone = planned(FoldInputs(linear="dense", layout=single), graph, TIMING).groups
    assert (alone[5] == ALONE).all() and (alone[:5] != ALONE).all()


def spec_of(kind: str, graph: Graph, beats: int) -> FoldOutputs | FoldInputs:
    inputs = graph.type_of("x").size
    if kind == "outputs":
        return fold_outputs_spec(graph, "dense", (), beats, TIMING)
    moved = [*range(inputs)][1::2] + [*range(inputs)][::2]
    return FoldInputs(linear="dense", layout=Layout(tuple(tuple(moved[b::beats]) for b in range(min(beats, inputs)))))


@pytest.mark.parametrize("kind", ["outputs", "inputs"])
@examples(60)
@given(
    inputs=st.integers(1, 9),
    outputs=st.integers(1, 9),
    beats=st.integers(2, 5),
    weight=st.sampled_from([3, 8001]),
    data=st.data(),
)
def test_a_weight_alone_needs_its_multiplier_alone(
    kind: str, inputs: int, outputs: int, beats: int, weight: int, data: st.DataObject
) -> None:
    row, column = data.draw(st.integers(0, inputs - 1)), data.draw(st.integers(0, outputs - 1))
    zero = np.ones((inputs, outputs), dtype=bool)
    zero[row, column] = False
    lone = with_zeros(layer(inputs, outputs), zero, weight)
    spec = spec_of(kind, lone, beats)
    kernel = planned(spec, lone, TIMING)
    group = int(kernel.groups[row, column])
    if isinstance(spec, FoldInputs):
        assert np.flatnonzero(kernel.sites.live.T).tolist() == ([] if group == ALONE else [group])
        return
    live = [0 if sites is None else int(sites.live.sum()) for sites in (kernel.main_sites, kernel.remainder_sites)]
    assert live == [int(column < spec.lanes * beats), int(column >= spec.lanes * beats)]
    pairs = spec.lanes // kernel.packing.ways
    found = [] if kernel.main_sites is None else np.flatnonzero(kernel.main_sites.live.T).tolist()
    if kernel.remainder_sites is not None:
        found += (inputs * pairs + np.flatnonzero(kernel.remainder_sites.live)).tolist()
    assert found == [group]


@pytest.mark.parametrize("beats", [4, 9])
def test_a_group_of_zeros_is_a_multiplier_less(beats: int) -> None:
    graph = layer(12, 36)
    spec = fold_outputs_spec(graph, "dense", (), beats, TIMING)
    groups = planned(spec, graph, TIMING).groups
    used = np.unique(groups)
    dropped = used[::3]
    pruned = with_zeros(graph, np.isin(groups, dropped))
    before, after = planned(spec, graph, TIMING).resources, planned(spec, pruned, TIMING).resources
    assert before.dsp - after.dsp == len(dropped)
    scattered = with_zeros(graph, np.indices(groups.shape).sum(axis=0) % 3 == 0)
    assert planned(spec, scattered, TIMING).resources.dsp == before.dsp


def test_groups_of_a_graph_follow_the_ii() -> None:
    graph = layer(48, 64)
    folded = graph_groups(graph, load_system("one-serenity").with_overrides(ii=9, clock_mhz=None), PlanOptions())
    unrolled = graph_groups(graph, load_system("one-serenity").with_overrides(ii=1, clock_mhz=None), PlanOptions())
    (nine,), (one,) = folded, unrolled
    assert (nine.source, nine.groups.shape) == ("dense", (48, 64)) == (one.source, one.groups.shape)
    assert (one.groups == ALONE).all() and one.multipliers == 0
    assert nine.multipliers == len(np.unique(nine.groups[nine.groups != ALONE])) > 100
