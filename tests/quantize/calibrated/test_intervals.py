"""Sums of tables: every code reads the rounded value of its cell, within the error that was promised."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metronn.ir.arrays import Array
from metronn.ir.ops import Input
from metronn.ir.types import Range
from metronn.model.graph import Floats
from metronn.quantize.calibrated.emitter import Emitter
from metronn.quantize.calibrated.functions.intervals import Tolerance, emit_split, plan_split
from random_tests import examples

FUNCTIONS = {
    "1/x": lambda x: 1 / np.where(x < 0, np.minimum(x, -3.0), np.maximum(x, 3.0)),
    "1/sqrt": lambda x: 1 / np.sqrt(np.maximum(x, 2.0)),
    "sqrt": lambda x: np.sqrt(np.maximum(x, 0.0)),
    "log": lambda x: np.log(np.maximum(x, 5.0)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@examples(15)
@given(
    low=st.integers(-5000, 5000),
    span=st.integers(0, 60000),
    relative=st.sampled_from((2.0**-5, 2.0**-8, 2.0**-10)),
    frac=st.integers(4, 24),
)
def test_every_code_is_within_the_error(name: str, low: int, span: int, relative: float, frac: int) -> None:
    def function(code: Array) -> Floats:
        return np.asarray(FUNCTIONS[name](np.asarray(code).astype(np.float64)), dtype=np.float64)

    codes = np.arange(low, low + span + 1, dtype=np.int64)
    split = plan_split(function, low, low + span, Tolerance(relative=relative), frac, 1 << 14)
    emitter = Emitter(inputs={"x": codes[:, np.newaxis]})
    x = emitter.add(Input(shape=(1,), range=Range(low, low + span, 0)), "x", "x")
    value, entries = emit_split(emitter, x, split, "f", "f")
    found, expected = emitter.real(value)[:, 0], function(codes)
    error = np.abs(found - expected)
    assert error.max() <= split.max_error * (1 + 1e-12)
    assert (
        error <= np.maximum(relative * np.abs(expected) * (1 + relative), 2.0 ** -(frac + 1)) + 2.0 ** -(frac + 1)
    ).all()
    assert entries <= 1 << 15
