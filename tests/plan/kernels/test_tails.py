"""Tails of adder graphs: one shift, one constant and a sign give what the ops say, code by code."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metronn.emulate.numpy import emulate
from metronn.ir.arrays import IntArray
from metronn.ir.graph import GraphBuilder
from metronn.ir.ops import Constant, Extremum, Input, Linear, Overflow, Requantize, Rounding
from metronn.ir.types import Range
from metronn.plan.kernels.adders.tails import Tail, tail_of
from random_tests import examples

RAMP = "ramp"
Step = str | tuple[int, int, bool, Rounding, Overflow]


def graph_of(bounds: tuple[int, int], steps: list[Step]) -> tuple[GraphBuilder, list[str]]:
    """Return the graph of one number, 3 fraction bits, and what follows it."""
    builder = GraphBuilder()
    x = builder.add(Input(shape=(1,), range=Range(*bounds, 3)), "x")
    value = builder.add(Linear(x=x, weight=IntArray.of([[1]]), bias=IntArray.of([0])), "dense")
    names = []
    for step in steps:
        if isinstance(step, str):
            zero = builder.add(Constant(values=IntArray.of([0]), frac=len(names)), "zero")
            value = builder.add(Extremum(x=value, y=zero), "relu")
        else:
            bits, frac, signed, rounding, overflow = step
            out = Range.fixed(bits, frac, signed=signed)
            value = builder.add(Requantize(x=value, out=out, rounding=rounding, overflow=overflow), "q")
        names.append(value)
    builder.output("y", value)
    return builder, names


def applied(tail: Tail, code: int) -> int:
    """What a tail makes of a code, in the bits of its bounds."""
    moved = code + tail.offset
    if tail.ramp and moved < 0:
        return 0
    kept = moved >> tail.shift if tail.shift >= 0 else moved << -tail.shift
    if tail.lo <= kept <= tail.hi:
        return kept
    assert (tail.hi - tail.lo + 1) & (tail.hi - tail.lo) == 0
    return (kept - tail.lo) % (tail.hi - tail.lo + 1) + tail.lo


quantizers = st.tuples(
    st.integers(2, 10),
    st.integers(-2, 5),
    st.booleans(),
    st.sampled_from(list(Rounding)),
    st.sampled_from([Overflow.WRAP, Overflow.WRAP, Overflow.SAT, Overflow.SAT_ZERO]),
)


@examples(250)
@given(
    low=st.integers(-200, 40),
    span=st.integers(1, 400),
    steps=st.lists(st.just(RAMP) | quantizers, min_size=1, max_size=3),
)
def test_a_tail_is_what_the_ops_say(low: int, span: int, steps: list[Step]) -> None:
    builder, names = graph_of((low, low + span), steps)
    graph = builder.build()
    tail = tail_of(graph, names, "dense", 0, (low, low + span))
    if tail is None:
        return
    codes = np.arange(low, low + span + 1).reshape(-1, 1)
    expected = emulate(graph, {"x": codes})["y"].ravel().tolist()
    assert [applied(tail, int(code)) for code in codes.ravel()] == expected
    assert all(tail.lo <= code <= tail.hi for code in expected)


WRAP, SAT, SAT_ZERO = Overflow.WRAP, Overflow.SAT, Overflow.SAT_ZERO


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([RAMP], Tail(offset=0, shift=0, ramp=True, lo=0, hi=99)),
        ([(6, 1, True, Rounding.RND, WRAP)], Tail(offset=2, shift=2, ramp=False, lo=-25, hi=25)),
        ([RAMP, (4, 1, True, Rounding.RND, WRAP)], Tail(offset=2, shift=2, ramp=True, lo=-8, hi=7)),
        (
            [(9, 1, False, Rounding.RND_INF, SAT), (4, 1, True, Rounding.TRN, WRAP)],
            Tail(offset=2, shift=2, ramp=True, lo=-8, hi=7),
        ),
        ([(4, 1, True, Rounding.TRN, WRAP), RAMP], None),
        ([(3, 1, False, Rounding.RND, SAT)], None),
        ([(6, 1, True, Rounding.RND_CONV, WRAP)], None),
        ([(6, 2, True, Rounding.RND, WRAP), (6, 1, True, Rounding.RND, WRAP)], None),
    ],
)
def test_which_ops_are_a_tail(steps: list[Step], expected: Tail | None) -> None:
    builder, names = graph_of((-100, 99), steps)
    assert tail_of(builder.build(), names, "dense", 0, (-100, 99)) == expected


def test_what_wraps_into_no_bits_is_no_tail() -> None:
    """A register of no bits would keep one."""
    builder, _ = graph_of((-20, 20), [])
    none = builder.add(Requantize(x="dense", out=Range(0, 0, 3), overflow=WRAP), "none")
    builder.output("none", none)
    assert tail_of(builder.build(), [none], "dense", 0, (-20, 20)) is None
