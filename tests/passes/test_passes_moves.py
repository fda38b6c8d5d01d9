"""Movements sink, meet their inverses and disappear: the function stays, and a channels-first network turns around."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metronn.ir.arrays import IntArray
from metronn.ir.ops import Add, Extremum, ExtremumKind, Multiply, Padding, Reduce, ReduceKind, Rewire, Window
from metronn.model.graph import (
    FloatArray,
    FunctionKind,
    RealConstant,
    RealFunction,
    RealGraph,
    RealGraphBuilder,
    RealInput,
    RealLinear,
    RealSoftmax,
)
from metronn.model.reference import run_reference
from metronn.passes.pipeline import prepare
from metronn.passes.real.absorb_moves import absorb_into_matrix, fold_window_padding
from metronn.passes.real.sink_moves import sink_moves, transposed
from metronn.passes.rewriting import drop_dead
from random_tests import examples


class Net:
    """A builder with movements spelled as NumPy spells them."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.builder = RealGraphBuilder()

    def shape(self, x: str) -> tuple[int, ...]:
        return self.builder.shapes[x]

    def indices(self, x: str) -> np.ndarray:
        return np.arange(int(np.prod(self.shape(x)))).reshape(self.shape(x))

    def input(self, *shape: int) -> str:
        return self.builder.add(RealInput(shape=shape), "x")

    def constant(self, shape: tuple[int, ...]) -> str:
        return self.builder.add(RealConstant(values=FloatArray.of(self.rng.normal(size=shape) + 2.0)), "c")

    def rewire(self, index: np.ndarray, *xs: str) -> str:
        return self.builder.add(Rewire(xs=xs, index=IntArray.of(index), shape=index.shape), "move")

    def transpose(self, x: str, *order: int) -> str:
        return self.rewire(self.indices(x).transpose(order), x)

    def reshape(self, x: str, *shape: int) -> str:
        return self.rewire(self.indices(x).reshape(shape), x)

    def relu(self, x: str) -> str:
        zero = self.builder.add(RealConstant(values=FloatArray.of(0.0)), "zero")
        return self.builder.add(Extremum(x=x, y=zero, kind=ExtremumKind.MAX), "relu")

    def linear(self, x: str, outputs: int) -> str:
        weight, bias = self.rng.normal(size=(self.shape(x)[-1], outputs)), self.rng.normal(size=outputs)
        return self.builder.add(RealLinear(x=x, weight=FloatArray.of(weight), bias=FloatArray.of(bias)), "dense")

    def window(self, x: str, kernel: int, padding: Padding = Padding.ZERO) -> str:
        op = Window(
            x=x, kernel=(kernel,) * 2, strides=(1, 1), dilations=(1, 1), before=(0, 0), after=(0, 0), padding=padding
        )
        return self.builder.add(op, "window")

    def convolution(self, x: str, outputs: int) -> str:
        """A convolution of a channels-first value."""
        last = self.linear(self.window(self.transpose(x, 1, 2, 0), 3), outputs)
        return self.transpose(last, 2, 0, 1)

    def build(self, *values: str) -> RealGraph:
        for number, value in enumerate(values):
            self.builder.output(f"y{number}", value)
        return self.builder.build()


def same(before: RealGraph, after: RealGraph, *, exact: bool = False, events: int = 3) -> None:
    """Compare two networks on random events."""
    rng = np.random.default_rng(1)
    feeds = {node.name: rng.normal(size=(events, *node.shape)) for node in before.inputs}
    wanted, found = run_reference(before, feeds), run_reference(after, feeds)
    assert list(wanted) == list(found)
    for name, values in wanted.items():
        assert values.shape == found[name].shape
        if exact:
            np.testing.assert_array_equal(found[name], values)
        else:
            np.testing.assert_allclose(found[name], values, rtol=1e-9, atol=1e-9 * max(1.0, np.abs(values).max()))


def movements(graph: RealGraph) -> list[tuple[int, ...]]:
    """Return the shapes of movements that change the order of elements."""
    ops = [node.op for node in graph.nodes if isinstance(node.op, Rewire)]
    return [op.shape for op in ops if not np.array_equal(op.index.array.ravel(), np.arange(op.index.array.size))]


def test_a_channels_first_network_keeps_one_transpose() -> None:
    net = Net()
    x = net.input(3, 12, 12)
    for outputs in (4, 5):
        x = net.convolution(x, outputs)
        for combine in (Multiply, Add):
            x = net.builder.add(combine(x=x, y=net.constant((outputs, 1, 1))), "norm")
        x = net.relu(x)
        channels, height, width = net.shape(x)
        windows = net.window(net.transpose(x, 1, 2, 0), 2, Padding.LOWEST)
        apart = net.reshape(windows, height - 1, width - 1, 4, channels)
        x = net.transpose(net.builder.add(Reduce(x=apart, axes=(2,), kind=ReduceKind.MAX), "pool"), 2, 0, 1)
    x = net.linear(net.reshape(x, int(np.prod(net.shape(x)))), 2)
    graph = net.build(x)
    prepared = prepare(graph)
    assert movements(prepared) == [(12, 12, 3)]
    kinds = [type(node.op) for node in prepared.nodes]
    assert Add not in kinds and Multiply not in kinds, "the normalization is in the matrices"
    same(graph, prepared)


def test_skip_connections_and_branches_stay_channels_last() -> None:
    net = Net()
    start = net.relu(net.convolution(net.input(2, 9, 9), 4))
    index = np.pad(net.indices(start), ((0, 0), (1, 1), (1, 1)), constant_values=-1)
    branch = net.convolution(net.rewire(index, start), 4)
    joined = net.relu(net.builder.add(Add(x=branch, y=start), "add"))
    both = net.rewire(
        np.concatenate([net.indices(joined), net.indices(start) + net.indices(joined).size]), joined, start
    )
    gate = net.builder.add(Reduce(x=both, axes=(1, 2)), "gate")
    scaled = net.builder.add(Multiply(x=both, y=net.reshape(gate, 8, 1, 1)), "scale")
    graph = net.build(net.linear(net.reshape(net.convolution(scaled, 3), 3 * 5 * 5), 2))
    prepared = prepare(graph)
    same(graph, prepared)
    single = [shape for shape in movements(prepared) if shape != (7, 7, 8)]
    assert single == [(9, 9, 2)], "the input's transpose, and the concatenation along the last axis"
    padded = [node.op for node in prepared.nodes if isinstance(node.op, Window) and any(node.op.before)]
    assert [op.before for op in padded] == [(1, 1)]


def test_a_matrix_takes_the_order_of_what_it_reads() -> None:
    net = Net()
    x, y = net.input(2, 3), net.builder.add(RealInput(shape=(4,)), "z")
    index = np.random.default_rng(3).permutation(10)
    graph = net.build(net.linear(net.rewire(index, x, y), 3))
    absorbed = drop_dead(absorb_into_matrix(graph))
    assert movements(absorbed) == [(10,)][:0]
    same(graph, absorbed)


def test_a_matrix_does_not_take_a_choice_of_elements() -> None:
    net = Net()
    graph = net.build(net.linear(net.rewire(np.array([5, 0, 2]), net.input(2, 3)), 3))
    assert absorb_into_matrix(graph) == graph


@pytest.mark.parametrize("before", [(0, 0), (1, 2)])
def test_zeros_around_an_image_become_the_windows_padding(before: tuple[int, int]) -> None:
    net = Net()
    x = net.input(5, 6, 2)
    padded = net.rewire(np.pad(net.indices(x), (before, (2, 0), (0, 0)), constant_values=-1), x)
    graph = net.build(net.window(padded, 2))
    folded = fold_window_padding(graph)
    windows = [node.op for node in folded.nodes if isinstance(node.op, Window)]
    assert [(op.before, op.after) for op in windows] == [((before[0], 2), (before[1], 0))]
    same(graph, folded, exact=True)


@pytest.mark.parametrize("padding", [Padding.LOWEST, Padding.ZERO])
def test_other_zeros_stay(padding: Padding) -> None:
    net = Net()
    x = net.input(5, 6, 2)
    around = ((1, 0), (0, 0), (0, 0)) if padding is Padding.LOWEST else ((0, 0), (0, 0), (1, 1))
    padded = net.rewire(np.pad(net.indices(x), around, constant_values=-1), x)
    graph = net.build(net.window(padded, 2, padding))
    assert fold_window_padding(graph) == graph


def test_transposes_are_recognized() -> None:
    index = np.arange(24).reshape(2, 3, 4)
    assert transposed(index.transpose(2, 0, 1), (2, 3, 4)) == (2, 0, 1)
    assert transposed(index, (2, 3, 4)) == (0, 1, 2)
    assert transposed(index.reshape(4, 3, 2), (2, 3, 4)) is None
    assert transposed(np.arange(6).reshape(1, 3, 2, 1).transpose(0, 2, 1, 3), (1, 3, 2, 1)) == (0, 2, 1, 3)


STEPS = ("transpose", "reshape", "reverse", "relu", "function", "channel", "full", "add", "scale", "sum", "max")
STEPS += ("softmax", "linear", "slice", "pad", "concat", "join")


@st.composite
def networks(draw: st.DrawFn) -> RealGraph:
    """Random chains with branches: movements between everything that they can sink through."""
    net = Net(draw(st.integers(0, 9)))
    values = [net.input(*draw(st.lists(st.integers(1, 4), min_size=2, max_size=3)))]
    for _ in range(draw(st.integers(2, 10))):
        x = draw(st.sampled_from(values[-3:]))
        values.append(_step(draw, net, values, x))
    return net.build(*dict.fromkeys((values[-1], draw(st.sampled_from(values[1:])))))


def _step(draw: st.DrawFn, net: Net, values: list[str], x: str) -> str:
    shape = net.shape(x)
    rank = len(shape)
    axis = draw(st.integers(0, max(rank - 1, 0)))
    step: Any = draw(st.sampled_from(STEPS if rank else ("relu", "function", "add")))
    match step:
        case "transpose":
            return net.transpose(x, *draw(st.permutations(range(rank))))
        case "reshape":
            return net.reshape(x, *draw(st.permutations(shape)))
        case "reverse":
            return net.rewire(np.flip(net.indices(x), axis), x)
        case "relu":
            return net.relu(x)
        case "function":
            return net.builder.add(RealFunction(x=x, kind=FunctionKind.TANH), "tanh")
        case "channel":
            along = tuple(n if a == axis else 1 for a, n in enumerate(shape))[draw(st.integers(0, axis)) :]
            return net.builder.add(Multiply(x=net.constant(along), y=x), "times")
        case "full":
            return net.builder.add(Add(x=net.constant(shape), y=x, subtract=draw(st.booleans())), "plus")
        case "add" | "join":
            same_shape = [v for v in values if net.shape(v) == shape]
            other = draw(st.sampled_from(same_shape))
            return net.builder.add(Add(x=x, y=other, subtract=step == "join"), "sum")
        case "scale":
            total = net.builder.add(Reduce(x=x, axes=(axis,)), "total")
            kept = net.reshape(total, *(1 if a == axis else n for a, n in enumerate(shape)))
            return net.builder.add(Multiply(x=x, y=kept), "scaled")
        case "sum" | "max":
            kind = ReduceKind.SUM if step == "sum" else ReduceKind.MAX
            return net.builder.add(Reduce(x=x, axes=(axis,), kind=kind), step)
        case "softmax":
            return net.builder.add(RealSoftmax(x=x, axis=axis), "softmax")
        case "linear":
            return net.linear(x, draw(st.integers(1, 4)))
        case "slice":
            return net.rewire(net.indices(x).take(range(draw(st.integers(1, shape[axis]))), axis), x)
        case "pad":
            around = [(draw(st.integers(0, 1)), 1) if a == axis else (0, 0) for a in range(rank)]
            return net.rewire(np.pad(net.indices(x), around, constant_values=-1), x)
        case _:
            other = draw(st.sampled_from([v for v in values if net.shape(v) == shape]))
            parts = [net.indices(x), net.indices(other) + net.indices(x).size]
            return net.rewire(np.concatenate(parts, axis=axis), x, other)


@examples(150)
@given(graph=networks())
def test_sinking_keeps_the_function(graph: RealGraph) -> None:
    sunk = sink_moves(graph)
    same(graph, sunk)
    assert sink_moves(sunk) == sunk


@examples(60)
@given(graph=networks())
def test_all_passes_keep_the_function(graph: RealGraph) -> None:
    prepared = prepare(graph)
    same(graph, prepared)
    assert prepare(prepared) == prepared
    assert len(movements(prepared)) <= len(movements(graph)) + 3
