"""Passes over real networks: the function stays, repeating changes nothing, batch normalization disappears."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metronn.errors import ModelError
from metronn.ir.arrays import IntArray
from metronn.ir.ops import Add, Extremum, Multiply, Reduce, Rewire, operands
from metronn.model.graph import FloatArray, RealConstant, RealGraph, RealGraphBuilder, RealInput, RealLinear
from metronn.model.reference import run_reference
from metronn.passes.pipeline import REAL_PASSES, prepare
from random_tests import examples

PASSES = tuple(dict.fromkeys(step.run for step in REAL_PASSES))


class Net:
    """A builder that gives each value a name of its own and seeded constants."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.builder = RealGraphBuilder()

    def input(self, *shape: int) -> str:
        return self.builder.add(RealInput(shape=shape), "x")

    def constant(self, *shape: int) -> str:
        return self.builder.add(RealConstant(values=FloatArray.of(self.rng.normal(size=shape) + 1.5)), "c")

    def values(self, values: object) -> str:
        return self.builder.add(RealConstant(values=FloatArray.of(values)), "c")

    def linear(self, x: str, outputs: int) -> str:
        inputs = self.builder.shapes[x][-1]
        weight, bias = self.rng.normal(size=(inputs, outputs)), self.rng.normal(size=outputs)
        return self.builder.add(RealLinear(x=x, weight=FloatArray.of(weight), bias=FloatArray.of(bias)), "dense")

    def times(self, x: str, y: str) -> str:
        return self.builder.add(Multiply(x=x, y=y), "times")

    def plus(self, x: str, y: str, *, subtract: bool = False) -> str:
        return self.builder.add(Add(x=x, y=y, subtract=subtract), "plus")

    def relu(self, x: str) -> str:
        return self.builder.add(Extremum(x=x, y=self.values(0.0)), "relu")

    def rewire(self, x: str, index: object, *shape: int) -> str:
        return self.builder.add(Rewire(xs=(x,), index=IntArray.of(np.asarray(index)), shape=shape), "rewire")

    def normalized(self, x: str, *shape: int) -> str:
        return self.plus(self.times(x, self.constant(*shape)), self.constant(*shape))

    def build(self, *outputs: str) -> RealGraph:
        for number, value in enumerate(outputs):
            self.builder.output(f"y{number}", value)
        return self.builder.build()


def kinds(graph: RealGraph) -> list[str]:
    """Return the ops of a network, constants left out."""
    return [
        type(node.op).__name__.removeprefix("Real").lower()
        for node in graph.nodes
        if not isinstance(node.op, RealConstant)
    ]


def same_function(before: RealGraph, after: RealGraph) -> None:
    """Assert equal interfaces and equal results up to rounding of floats."""
    assert [(n.name, n.shape) for n in before.inputs] == [(n.name, n.shape) for n in after.inputs]
    assert [name for name, _ in before.outputs] == [name for name, _ in after.outputs]
    rng = np.random.default_rng(9)
    arrays = {node.name: rng.normal(size=(20, *node.shape)) for node in before.inputs}
    one, other = run_reference(before, arrays), run_reference(after, arrays)
    for name, values in one.items():
        np.testing.assert_allclose(np.broadcast_to(other[name], values.shape), values, rtol=1e-9, atol=1e-9)
    defined: set[str] = set()
    for node in after.nodes:
        assert set(operands(node.op)) <= defined
        assert node.name not in defined
        defined.add(node.name)
    assert {value for _, value in after.outputs} <= defined


def network(choices: list[int], seed: int) -> RealGraph:
    """Return a random network of matrices, normalizations, movements and shared values over shape (2, 3)."""
    net = Net(seed)
    x = net.input(2, 3)
    kept = []
    for choice in choices:
        shape = net.builder.shapes[x]
        size = int(np.prod(shape))
        match choice:
            case 0:
                x = net.linear(x, 3)
            case 1:
                x = net.normalized(x, shape[-1])
            case 2:
                x = net.times(net.constant(), x)
            case 3:
                x = net.relu(x)
            case 4:
                x = net.rewire(x, net.rng.permutation(size), *shape)
            case 5:
                x = net.rewire(x, np.arange(size), *shape)
            case 6:
                x = net.plus(net.values(np.zeros(shape[-1])), x)
            case 7:
                x = net.plus(net.constant(*shape), x, subtract=True)
            case 8:
                x = net.rewire(x, [0, -1, *range(2, size)], *shape)
            case 9:
                kept.append(x)
            case 10:
                x = net.times(x, net.times(net.constant(1), net.constant()))
            case 11:
                x = net.plus(x, net.constant(2, 1), subtract=True)
            case 12:
                net.linear(x, 2)
    return net.build(x, *kept)


@examples(100)
@given(st.lists(st.integers(0, 12), max_size=9), st.integers(0, 99))
def test_every_pass_keeps_the_function_and_changes_nothing_twice(choices: list[int], seed: int) -> None:
    graph = network(choices, seed)
    for run in PASSES:
        after = run(graph)
        same_function(graph, after)
        assert run(after) == after, run.__name__
    ready = prepare(graph)
    same_function(graph, ready)
    assert prepare(ready) == ready


def test_batch_normalization_behind_a_matrix_disappears_into_it() -> None:
    net = Net()
    y = net.relu(net.normalized(net.linear(net.input(4), 5), 5))
    graph = net.build(net.linear(y, 2))
    ready = prepare(graph)
    assert kinds(ready) == ["input", "linear", "extremum", "linear"]
    assert ready.by_name["dense"].source == "dense"
    same_function(graph, ready)


def test_batch_normalization_of_the_input_disappears_into_the_next_matrix() -> None:
    net = Net()
    graph = net.build(net.linear(net.normalized(net.input(4), 4), 2))
    ready = prepare(graph)
    assert kinds(ready) == ["input", "linear"]
    same_function(graph, ready)


def test_batch_normalization_behind_relu_passes_movement_with_padding() -> None:
    net = Net()
    y = net.relu(net.linear(net.input(2, 3), 3))
    y = net.rewire(net.normalized(y, 3), [5, 4, 3, -1, 2, 1, 0, -1], 8)
    graph = net.build(net.linear(y, 2))
    ready = prepare(graph)
    assert kinds(ready) == ["input", "linear", "extremum", "rewire", "linear"]
    same_function(graph, ready)


def test_it_stays_where_positions_differ() -> None:
    net = Net()
    y = net.rewire(net.normalized(net.relu(net.linear(net.input(2, 3), 3)), 3), [0, 1, 2, 4, 5, 3], 2, 3)
    graph = net.build(net.linear(y, 2))
    assert kinds(prepare(graph)) == ["input", "linear", "extremum", "multiply", "add", "rewire", "linear"]


def test_it_stays_where_an_output_or_another_op_reads_it() -> None:
    net = Net()
    y = net.normalized(net.relu(net.linear(net.input(3), 3)), 3)
    graph = net.build(net.linear(y, 2), y)
    ready = prepare(graph)
    assert kinds(ready).count("multiply") == 1
    same_function(graph, ready)


def test_a_shared_matrix_keeps_its_values() -> None:
    net = Net()
    y = net.linear(net.input(3), 3)
    graph = net.build(net.times(y, net.constant(3)), y)
    ready = prepare(graph)
    assert kinds(ready) == ["input", "linear", "multiply"]
    same_function(graph, ready)


def test_it_folds_into_every_matrix_that_reads_it() -> None:
    net = Net()
    y = net.normalized(net.relu(net.linear(net.input(3), 3)), 3)
    graph = net.build(net.linear(y, 2), net.linear(y, 4))
    ready = prepare(graph)
    assert kinds(ready) == ["input", "linear", "extremum", "linear", "linear"]
    same_function(graph, ready)


def test_constants_are_computed_and_merged() -> None:
    net = Net()
    x = net.input(3)
    y = net.times(net.times(x, net.times(net.constant(3), net.constant())), net.constant(3))
    y = net.plus(net.plus(net.constant(3), y, subtract=True), net.constant())
    graph = net.build(net.relu(y))
    ready = prepare(graph)
    assert kinds(ready) == ["input", "multiply", "add", "extremum"]
    same_function(graph, ready)


def test_dead_nodes_go_and_inputs_stay() -> None:
    net = Net()
    x = net.input(3)
    net.builder.add(Reduce(x=x, axes=(0,)), "unused")
    unused = net.builder.add(RealInput(shape=(2,)), "z")
    graph = net.build(net.linear(x, 2))
    assert kinds(prepare(graph)) == ["input", "input", "linear"]
    assert [node.name for node in prepare(graph).inputs] == ["x", unused]


def test_movements_of_movements_become_one() -> None:
    net = Net()
    x = net.input(2, 3)
    y = net.rewire(net.rewire(x, [5, 4, 3, 2, 1, -1], 6), [0, -1, 5, 1], 2, 2)
    z = net.builder.add(Rewire(xs=(x, y), index=IntArray.of(np.array([9, 0, 7, 6, -1])), shape=(5,)), "joined")
    graph = net.build(z)
    ready = prepare(graph)
    assert kinds(ready) == ["input", "rewire"]
    same_function(graph, ready)


def test_movements_that_undo_each_other_vanish() -> None:
    net = Net()
    x = net.input(2, 3)
    y = net.rewire(net.rewire(x, [0, 3, 1, 4, 2, 5], 3, 2), [0, 2, 4, 1, 3, 5], 2, 3)
    assert kinds(prepare(net.build(net.linear(y, 2)))) == ["input", "linear"]


@pytest.mark.parametrize("run", PASSES)
def test_passes_leave_their_argument_alone(run: Callable[[RealGraph], RealGraph]) -> None:
    graph, twin = network([0, 1, 3, 1, 4, 0], 3), network([0, 1, 3, 1, 4, 0], 3)
    run(graph)
    assert graph == twin


def test_constants_that_are_not_finite_are_refused() -> None:
    net = Net()
    graph = net.build(net.times(net.input(2), net.values([1.0, np.nan])))
    with pytest.raises(ModelError, match="layer c: 1 of 2 constants are NaN or infinite"):
        prepare(graph)
