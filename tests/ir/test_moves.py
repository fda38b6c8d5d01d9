"""Movement as an index: against a loop over elements, one after another, and alike in both kinds of networks."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metronn.frontends.common.builder import LayerBuilder
from metronn.ir.arrays import IntArray
from metronn.ir.moves import composed, element_index, lowest_from_nowhere, picked, shifted
from metronn.ir.ops import Add, Arithmetic, Movement, Op, Padding, Reduce, ReduceKind, Rewire, Window
from metronn.ir.shapes import result_shape
from metronn.model.graph import RealOp, real_shape

Index = npt.NDArray[np.int64]


@st.composite
def movements(draw: st.DrawFn) -> tuple[list[Index], Index, Index]:
    """Values with two events, or one of a constant; a movement of them, and one of its result."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    events = draw(st.lists(st.sampled_from((1, 2)), min_size=len(sizes), max_size=len(sizes)))
    counts = list(zip(events, sizes, strict=True))
    values = [100 * k + np.arange(n * size).reshape(n, size) for k, (n, size) in enumerate(counts)]
    first = draw(st.lists(st.integers(-1, sum(sizes) - 1), min_size=1, max_size=6))
    second = draw(st.lists(st.integers(-1, len(first) - 1), min_size=1, max_size=6))
    return values, np.array(first), np.array(second)


@given(movements())
def test_picks_elements_of_the_joined_values(case: tuple[list[Index], Index, Index]) -> None:
    values, index, _ = case
    found = picked(values, index, -7)
    events = max(len(x) for x in values)
    assert found.shape == (events, len(index))
    for event in range(events):
        joined = [int(v) for x in values for v in x[event % len(x)]]
        assert found[event].tolist() == [-7 if k < 0 else joined[k] for k in index.tolist()]


@given(movements())
def test_a_movement_of_a_movement_is_one(case: tuple[list[Index], Index, Index]) -> None:
    values, first, second = case
    expected = picked([picked(values, first, 0)], second, 0)
    assert picked(values, composed(second, [first]), 0).tolist() == expected.tolist()


def test_an_index_is_moved_along() -> None:
    assert shifted(np.array([0, -1, 2]), 5).tolist() == [5, -1, 7]


WINDOW = Window(x="x", kernel=(2,), strides=(1,), dilations=(1,), before=(1,), after=(0,), padding=Padding.LOWEST)


def test_windows_are_a_movement() -> None:
    assert element_index(WINDOW, [(3, 1)]).tolist() == [[-1, 0], [0, 1], [1, 2]]
    assert lowest_from_nowhere(WINDOW)
    rewire = Rewire(xs=("x",), index=IntArray.of([1, -1]), shape=(2, 1))
    assert element_index(rewire, [(2,)]).tolist() == [[1], [-1]]
    assert not lowest_from_nowhere(rewire)


@pytest.mark.parametrize("group", [Movement, Arithmetic])
def test_both_kinds_of_networks_have_them(group: Any) -> None:
    assert set(get_args(group)) <= set(get_args(Op)) & set(get_args(RealOp))


@pytest.mark.parametrize(
    ("op", "shapes", "message"),
    [
        (Rewire(xs=("x",), index=IntArray.of([0]), shape=(2,)), [(2,)], "rewire: index has 1 entries, shape (2,)"),
        (
            Rewire(xs=("x",), index=IntArray.of([2]), shape=(1,)),
            [(2,)],
            "rewire: index goes from 2 to 2, allowed is -1",
        ),
        (WINDOW, [(3,)], "window: kernel (2,) needs at least 2 axes"),
        (Add(x="x", y="y"), [(3,), (2,)], "shapes (3,) and (2,) do not broadcast"),
        (Reduce(x="x", axes=(1,)), [(3,)], "reduce: axes (1,) are not distinct axes of shape (3,)"),
        (Reduce(x="x", axes=()), [(3,)], "reduce: axes () are not distinct axes"),
    ],
)
def test_shapes_that_do_not_fit(op: Movement | Arithmetic, shapes: list[tuple[int, ...]], message: str) -> None:
    for shape_of in (result_shape, real_shape):
        with pytest.raises(ValueError) as error:
            shape_of(op, shapes)
        assert str(error.value).startswith(message)


def test_nothing_is_reduced_along_no_axes() -> None:
    builder = LayerBuilder()
    x = builder.input("x", (3,))
    assert builder.reduced(x, (), ReduceKind.SUM, keep=False) == x
