"""Ranges, widths and exact arrays."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metronn.ir.arrays import INT64_LIMIT, IntArray, as_dtype_for, exact_array, fits_int64, object_array
from metronn.ir.types import Range, TensorType, width_bits
from random_tests import examples

STEADY = examples()
INTEGERS = st.integers(-(2**80), 2**80)


@STEADY
@given(INTEGERS, INTEGERS)
def test_width_is_the_smallest_that_holds_both_ends(one: int, other: int) -> None:
    lo, hi = sorted((one, other))
    width = width_bits(lo, hi)
    full = Range.fixed(width, 0, signed=lo < 0)
    assert full.lowest <= lo
    assert hi <= full.highest
    if width > 1:
        smaller = Range.fixed(width - 1, 0, signed=lo < 0)
        assert lo < smaller.lowest or hi > smaller.highest


@pytest.mark.parametrize(
    ("lo", "hi", "width"),
    [(0, 0, 1), (0, 1, 1), (0, 255, 8), (-1, 0, 1), (-1, 1, 2), (-128, 127, 8), (-129, 0, 9), (5, 8, 4)],
)
def test_widths(lo: int, hi: int, width: int) -> None:
    assert width_bits(lo, hi) == width


def test_equal_elements_become_one() -> None:
    assert Range((1, 1), (3, 3), (2, 2)) == Range(1, 3, 2)
    assert Range((1, 1), (3, 4), 2).lo == 1
    assert Range((1, 1), (3, 4), 2).element_count == 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ((3, 2), "Range is empty: lo 3 > hi 2"),
        (((0, 5), (1, 4)), "Range is empty: lo 5 > hi 4"),
        (((0, 1), (1, 2, 3)), "Range fields have different element counts"),
        (((), 1), "Range.lo is an empty tuple"),
    ],
)
def test_bad_ranges(fields: tuple[object, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Range(*fields)  # type: ignore[arg-type]


def test_bad_types() -> None:
    with pytest.raises(ValueError, match="width must be at least 1 bit, got 0"):
        Range.fixed(0, 0)
    with pytest.raises(ValueError, match=r"range describes 2 elements, shape \(3,\) has 3"):
        TensorType((3,), Range((0, 1), 2))
    with pytest.raises(ValueError, match="has an axis below 1"):
        TensorType((0,), Range(0, 1))


def test_descriptions_and_values() -> None:
    mixed = Range((-4, 0), (3, 7), (1, 3))
    assert mixed.describe() == "s4.1..3 per element"
    assert Range.fixed(11, 10, signed=False).describe() == "u11.10"
    assert mixed.value_bounds() == (Fraction(-2), Fraction(3, 2))
    assert TensorType((2,), mixed).element_widths() == (3, 3)
    assert TensorType((2,), mixed).total_bits == 6
    assert TensorType((), Range(0, 1)).describe() == "scalar x u1.0"
    assert (mixed.element(1), mixed.max_frac, mixed.signed) == (Range(0, 7, 3), 3, True)


@STEADY
@given(st.lists(INTEGERS, min_size=1, max_size=6))
def test_exact_arrays_keep_every_integer(values: list[int]) -> None:
    array = exact_array(object_array(values, (len(values),)))
    assert [int(v) for v in array] == values
    assert (array.dtype == np.int64) == all(abs(v) < INT64_LIMIT for v in values)
    kept = IntArray.of(array)
    assert kept.ints() == values
    assert kept.bounds() == (min(values), max(values))
    assert kept == IntArray.of(object_array(values, (len(values),)))
    assert hash(kept) == hash(IntArray.of(array))


def test_exact_arrays_refuse_floats() -> None:
    with pytest.raises(TypeError, match="cannot be made from floating-point values"):
        exact_array(np.ones(2))


def test_constants_are_frozen_and_compared_by_shape_too() -> None:
    kept = IntArray.of([[1, 2]])
    assert kept != IntArray.of([1, 2])
    with pytest.raises(ValueError, match="read-only"):
        kept.array[0, 0] = 3
    assert exact_array(np.array([True, False])).tolist() == [1, 0]
    assert exact_array(np.array([2**63], dtype=np.uint64)).tolist() == [2**63]


def test_dtype_follows_the_bounds() -> None:
    assert fits_int64(-INT64_LIMIT + 1, INT64_LIMIT - 1)
    assert not fits_int64(0, INT64_LIMIT)
    assert as_dtype_for(np.array([1]), 0, INT64_LIMIT).dtype == object
    assert as_dtype_for(np.array([1], dtype=object), 0, 1).dtype == np.int64
