"""Adder graphs: equal to their matrices by their linear form (rung 6), cached, refused when too large."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metronn.ir.arrays import IntArray, object_array
from metronn.ir.graph import Graph, GraphBuilder
from metronn.ir.ops import Constant, Extremum, Input, Linear, Overflow, Requantize, Rounding
from metronn.ir.types import Range
from metronn.plan.hardware.boards import load_device
from metronn.plan.kernels.adder_graph import NOTHING, Adder, AdderGraph, AdderOutput, adder_graph_matrix, nonzero_digits
from metronn.plan.kernels.adders import solver as adder_solver
from metronn.plan.kernels.adders.constants import with_constants
from metronn.plan.kernels.adders.matvec import is_candidate
from metronn.plan.kernels.adders.solver import solve
from metronn.plan.kernels.kernels import planned
from metronn.plan.kernels.netlist import Source, Sum
from metronn.plan.kernels.spec import MatvecAdders
from random_tests import examples
from timings import level_timing

FABRIC = load_device("vu13p").fabric


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache directory, and nothing kept in memory."""
    pytest.importorskip("alkaid", reason="alkaid is not installed")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    adder_solver._solved.cache_clear()
    return tmp_path / "metronn" / "adders"


@st.composite
def problems(draw: st.DrawFn) -> tuple[np.ndarray, list[tuple[int, int]]]:
    n_in, n_out, bits = draw(st.integers(1, 8)), draw(st.integers(1, 8)), draw(st.integers(1, 16) | st.integers(23, 70))
    codes = st.integers(-(1 << (bits - 1)), 1 << (bits - 1))
    values = draw(st.lists(codes | st.just(0), min_size=n_in * n_out, max_size=n_in * n_out))
    lows = draw(st.lists(st.integers(-40, 40), min_size=n_in, max_size=n_in))
    return object_array(values, (n_in, n_out)), [(lo, lo + draw(st.integers(1, 99))) for lo in lows]


@examples(60)
@given(problem=problems())
def test_the_graph_is_the_matrix(problem: tuple[np.ndarray, list[tuple[int, int]]]) -> None:
    weight, bounds = problem
    graphs = solve(weight, bounds)
    assert all((adder_graph_matrix(graph) == weight).all() for graph in graphs)
    costs = [graph.cost(bounds) for graph in graphs]
    assert costs == sorted(costs)
    assert [luts for _, luts in costs] == sorted((luts for _, luts in costs), reverse=True)


@examples(40)
@given(problem=problems(), data=st.data())
def test_biases_are_added_on_the_way(problem: tuple[np.ndarray, list[tuple[int, int]]], data: st.DataObject) -> None:
    weight, bounds = problem
    size = weight.shape[1]
    biases = data.draw(st.lists(st.integers(-5000, 5000) | st.just(0), min_size=size, max_size=size))
    for graph in solve(weight, bounds):
        made, rests = with_constants(graph, biases, bounds)
        assert (adder_graph_matrix(made) == weight).all()
        codes = [data.draw(st.integers(lo, hi)) for lo, hi in bounds]
        values = values_of(made, codes)
        for (low, high), code in zip(made.bounds(bounds), values, strict=True):
            assert low <= code <= high
        found = [rest + scaled(output, values) for output, rest in zip(made.outputs, rests, strict=True)]
        assert found == (np.array(codes, dtype=object) @ weight + biases).tolist()


def values_of(graph: AdderGraph, codes: list[int]) -> list[int]:
    """Every value of a graph for given inputs, addition by addition."""
    values = list(codes)
    for adder in graph.adders:
        right = 0 if adder.right == NOTHING else values[adder.right] << adder.right_shift
        values.append((values[adder.left] << adder.left_shift) + (-right if adder.subtract else right) + adder.offset)
    return values


def scaled(output: AdderOutput, values: list[int]) -> int:
    """The code of an output; bits that are dropped are zero."""
    if output.value == NOTHING:
        return 0
    code = values[output.value] << max(0, output.shift)
    assert code % (1 << max(0, -output.shift)) == 0
    return (-1 if output.negative else 1) * (code >> max(0, -output.shift))


def test_a_bias_costs_no_level_where_a_carry_takes_it() -> None:
    graph, _ = layer(np.array([[1], [1], [2], [2]]), [3], Range.fixed(6, 0), act=False)
    spec = MatvecAdders(linear="dense")
    netlist, _ = planned(spec, graph, level_timing(FABRIC, 2)).structure
    sums = [cell.op for cell in netlist.cells if isinstance(cell.op, Sum)]
    assert len(sums) == len(netlist.cells) - 4 == 3
    assert sorted(op.offset for op in sums)[-1] > 0
    assert netlist.stage_count == 1


def test_the_check_sees_a_wrong_adder() -> None:
    graph = AdderGraph(2, (Adder(0, 1, 0, 1, subtract=False),), (AdderOutput(2, 0, negative=False),))
    assert adder_graph_matrix(graph).ravel().tolist() == [1, 2]
    wrong = AdderGraph(2, (Adder(0, 1, 0, 1, subtract=True),), (AdderOutput(2, 0, negative=False),))
    assert adder_graph_matrix(wrong).ravel().tolist() == [1, -2]
    dropped = AdderGraph(2, (), (AdderOutput(0, -1, negative=False),))
    with pytest.raises(ValueError, match="output 0 drops bits of input 0"):
        adder_graph_matrix(dropped)


def test_a_cached_graph_is_used_and_a_damaged_one_is_not(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weight, bounds = object_array([3, -7, 5, 11], (2, 2)), [(0, 63), (-8, 7)]
    first = solve(weight, bounds)
    (folder,) = own_cache.iterdir()
    path = folder / adder_solver.GRAPHS
    adder_solver._solved.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(adder_solver, "_solve", lambda *_: pytest.fail("solved again"))
        assert solve(weight, bounds) == first
    data = json.loads(path.read_text())
    data["graphs"][0]["outputs"][0][1] += 1  # a graph, but not of this matrix
    for text in (json.dumps(data), "{", "[]"):
        path.write_text(text)
        adder_solver._solved.cache_clear()
        assert solve(weight, bounds) == first
        assert json.loads(path.read_text())["graphs"][0]["inputs"] == 2


def layer(weight: np.ndarray, bias: list[int], x: Range, *, act: bool = True) -> tuple[Graph, MatvecAdders]:
    """One Linear with rounding, saturation and ReLU behind it."""
    graph = GraphBuilder()
    source = graph.add(Input(shape=(weight.shape[0],), range=x), "x")
    dense = graph.add(Linear(x=source, weight=IntArray.of(weight), bias=IntArray.of(bias), weight_frac=4), "dense")
    nodes = [dense]
    if act:
        zero = graph.add(Constant(values=IntArray.of([0])), "zero")
        nodes.append(graph.add(Extremum(x=dense, y=zero), "relu"))
        out = Range.fixed(6, 2, signed=False)
        quantize = Requantize(x=nodes[-1], out=out, rounding=Rounding.RND_CONV, overflow=Overflow.SAT)
        nodes.append(graph.add(quantize, "q"))
    graph.output("y", nodes[-1])
    return graph.build(), MatvecAdders(linear=dense, epilogue=tuple(nodes[1:]))


def test_dead_inputs_and_zero_weights_cost_nothing() -> None:
    weight = np.array([[4, 0], [0, 0], [0, -1]])
    graph, spec = layer(weight, [0, 0], Range.fixed(6, 0), act=False)
    netlist, _ = planned(spec, graph, level_timing(FABRIC, 2)).structure
    assert [c.op.element for c in netlist.cells if isinstance(c.op, Source)] == [0, 2]
    assert not any(isinstance(c.op, Sum) for c in netlist.cells)
    assert planned(spec, graph, level_timing(FABRIC, 2)).latency_cycles == 1


def test_latency_is_the_additions_over_those_of_a_stage() -> None:
    graph, spec = layer(np.ones((16, 1), dtype=np.int64), [7], Range.fixed(6, 0))
    # four levels of sums, the bias in a carry, rounding: five; ReLU and saturation are LUTs, which take nothing here
    found = [planned(spec, graph, level_timing(FABRIC, n)).latency_cycles for n in (1, 2, 3, 4, 8)]
    assert found == [5, 3, 2, 2, 1]


def test_fewer_registers_when_stages_are_deeper() -> None:
    rng = np.random.default_rng(3)
    graph, spec = layer(rng.integers(-31, 32, (12, 8)), [1] * 8, Range.fixed(7, 3, signed=False))
    shallow, deep = (planned(spec, graph, level_timing(FABRIC, n)).resources for n in (1, 3))
    assert shallow.lut == deep.lut
    assert shallow.ff > deep.ff > 0


def test_large_matrices_are_no_candidates() -> None:
    rng = np.random.default_rng(4)
    small = layer(rng.integers(-127, 128, (16, 16)), [0] * 16, Range.fixed(8, 0))
    large = layer(rng.integers(-127, 128, (128, 128)), [0] * 128, Range.fixed(8, 0))
    wide = layer(np.array([[(1 << 31) - 1, -(1 << 31)]]), [0, 1], Range.fixed(8, 0))
    assert [is_candidate(spec, graph) for graph, spec in (small, large, wide)] == [True, False, True]


@pytest.mark.parametrize("bits", [24, 25, 32, 63, 64])
def test_the_widest_weights_are_exact(bits: int) -> None:
    top = 1 << bits - 1
    weight = object_array([-top, top - 1, 0, 1 - top, top >> 1, -1], (3, 2))
    (graph, *_) = solve(weight, [(-128, 127)] * 3)
    assert (adder_graph_matrix(graph) == weight).all()


@pytest.mark.parametrize(("value", "digits"), [(0, 0), (1, 1), (-8, 1), (7, 2), (127, 2), (85, 4), (-11, 3)])
def test_signed_digits(value: int, digits: int) -> None:
    assert nonzero_digits(np.array([value])) == digits
