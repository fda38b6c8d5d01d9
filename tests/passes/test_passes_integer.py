"""Passes over integer graphs: every bit stays, repeating changes nothing."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from metronn.emulate.numpy import emulate
from metronn.ir.arrays import IntArray
from metronn.ir.graph import Graph, GraphBuilder
from metronn.ir.ops import Add, Input, Overflow, Requantize, Rewire, Rounding, op_name
from metronn.ir.types import Range
from metronn.passes.pipeline import INTEGER_PASSES, optimize
from random_tests import examples


def chain(steps: list[tuple[int, int, bool, Overflow, Rounding]], *, shown: bool = False) -> Graph:
    """Return requantizations in a row; with `shown` every one is an output."""
    builder = GraphBuilder()
    x = builder.add(Input(shape=(2,), range=Range(-100, (90, 100), 3)), "x")
    for number, (bits, frac, signed, overflow, rounding) in enumerate(steps):
        out = Range.fixed(bits, frac, signed=signed)
        if overflow is Overflow.SAT_SYM:
            out = Range(-out.highest if signed else 0, out.highest, frac)
        x = builder.add(Requantize(x=x, out=out, rounding=rounding, overflow=overflow), f"q{number}")
        if shown:
            builder.output(f"y{number}", x)
    builder.output("y", x)
    return builder.build()


STEP = st.tuples(
    st.integers(2, 12), st.integers(-1, 6), st.booleans(), st.sampled_from(Overflow), st.sampled_from(Rounding)
)


@examples(60)
@given(st.lists(STEP, max_size=5), st.booleans())
def test_every_pass_keeps_every_bit(steps: list[tuple[int, int, bool, Overflow, Rounding]], shown: bool) -> None:
    graph = chain(steps, shown=shown)
    codes = np.stack([np.arange(-100, 91, 5), np.arange(-90, 101, 5)], axis=1)
    expected = emulate(graph, {"x": codes})
    for run in (*(step.run for step in INTEGER_PASSES), optimize):
        after = run(graph)
        assert run(after) == after
        found = emulate(after, {"x": codes})
        for name, values in expected.items():
            assert found[name].tolist() == values.tolist()
            shown_by = [g.type_of(next(o.value for o in g.outputs if o.name == name)) for g in (graph, after)]
            assert shown_by[0].range.fracs(2) == shown_by[1].range.fracs(2)


def kinds(graph: Graph) -> list[str]:
    """Return the ops in order."""
    return [op_name(node.op) for node in graph.nodes]


def test_a_requantization_that_keeps_all_is_looked_through() -> None:
    wide = (12, 5, True, Overflow.SAT, Rounding.RND)
    narrow = (4, 0, True, Overflow.SAT, Rounding.RND)
    assert kinds(optimize(chain([wide, narrow]))) == ["input", "requantize"]


def test_two_that_both_round_stay() -> None:
    one, two = (8, 1, True, Overflow.SAT, Rounding.RND), (4, 0, True, Overflow.SAT, Rounding.RND)
    assert kinds(optimize(chain([one, two]))) == ["input", "requantize", "requantize"]


def test_one_that_changes_nothing_goes() -> None:
    assert kinds(optimize(chain([(8, 3, True, Overflow.WRAP, Rounding.TRN)]))) == ["input"]


def test_identity_rewires_and_dead_nodes_go_and_inputs_stay() -> None:
    builder = GraphBuilder()
    x = builder.add(Input(shape=(2,), range=Range(0, 3)), "x")
    builder.add(Input(shape=(1,), range=Range(0, 3)), "unused")
    same = builder.add(Rewire(xs=(x,), index=IntArray.of([0, 1]), shape=(2,)), "same")
    builder.add(Add(x=same, y=x), "dead")
    builder.output("y", builder.add(Rewire(xs=(same,), index=IntArray.of([1, 0]), shape=(2,)), "swap"))
    graph = optimize(builder.build())
    assert [node.name for node in graph] == ["x", "unused", "swap"]
    assert emulate(graph, {"x": np.array([[1, 2]]), "unused": np.array([[0]])})["y"].tolist() == [[2, 1]]
