"""Means of counts that are no power of two: exact quotients, ties included."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from metronn.emulate.numpy import emulate
from metronn.events.codes import encode_inputs
from metronn.events.data import Events
from metronn.ir.arrays import IntArray
from metronn.ir.infer import overflowed
from metronn.ir.ops import Multiply, Overflow, Reduce, ReduceKind, Requantize, Rounding
from metronn.model.constants import meant
from metronn.model.graph import FloatArray, RealConstant, RealGraph, RealGraphBuilder, RealInput, RealQuantize
from metronn.model.rational import run_rational
from metronn.model.reference import run_reference
from metronn.passes.pipeline import prepare, quantize_model
from metronn.quantize.exact.chains import Affine
from metronn.quantize.exact.closing_ways import Plain, Source, Target, twice_rounded
from metronn.quantize.exact.staircase import round_fraction
from metronn.quantize.options import QuantizeOptions


def mean_of(count: int, bits: int, rounding: Rounding, factor: float = 1.0) -> RealGraph:
    """Return quantizer, sum, 1 / count, a constant, quantizer."""
    builder = RealGraphBuilder()
    x = builder.add(RealInput(shape=(count,)), "x")
    top = 2 ** (bits - 1)
    lo, hi = IntArray.of(np.array(-top)), IntArray.of(np.array(top - 1))
    x = builder.add(RealQuantize(x=x, scale=FloatArray.of(0.25), lo=lo, hi=hi, rounding=Rounding.RND), "grid")
    x = builder.add(Reduce(x=x, axes=(0,), kind=ReduceKind.SUM), "sum")
    for constant in (1 / count, factor):
        name = builder.add(RealConstant(values=FloatArray.of(constant)), "constant")
        x = builder.add(Multiply(x=x, y=name), "scaled")
    x = builder.add(RealQuantize(x=x, scale=FloatArray.of(0.5), lo=lo, hi=hi, rounding=rounding), "out")
    builder.output("y", x)
    return builder.build()


@pytest.mark.parametrize("rounding", list(Rounding))
@pytest.mark.parametrize(("count", "bits"), [(3, 4), (6, 8), (49, 10)])
def test_means_are_quotients(count: int, bits: int, rounding: Rounding) -> None:
    """The integers are those of sum / count, in every rounding mode, also where a table would be large."""
    model = mean_of(count, bits, rounding, 3.0)
    rng = np.random.default_rng(count)
    codes = rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (400, count))
    events = {"x": codes / 4}
    quantized = quantize_model(model, Events(inputs=events), QuantizeOptions(metric="none"))
    found = emulate(quantized.graph, encode_inputs(quantized.graph, events))["y"]
    top = 2 ** (bits - 1)
    wanted = [
        overflowed(round_fraction(Fraction(3 * int(s), 2 * count), rounding), -top, top - 1, Overflow.SAT)
        for s in codes.sum(axis=1)
    ]
    assert found.tolist() == wanted
    assert quantized.frontier[0].real == "out"
    exact = run_rational(prepare(model), events)["y"]
    assert [int(n) * exact.unit * 2 for n in exact.numbers] == wanted
    assert (run_reference(prepare(model), events)["y"] * 2).tolist() == wanted


def test_ties_to_even_of_wide_sums_take_two_roundings() -> None:
    """No table, no error."""
    model = mean_of(6, 10, Rounding.RND_CONV)
    events = {"x": np.random.default_rng(0).normal(size=(50, 6)) * 20}
    graph = quantize_model(model, Events(inputs=events), QuantizeOptions(metric="none")).graph
    assert sum(isinstance(node.op, Requantize) for node in graph.nodes) == 2
    target = Target(Fraction(1), -512, 511, 1, Rounding.RND_CONV, Overflow.SAT)
    way = twice_rounded(Affine(Fraction(1, 6)), Source(2, -3072, 3066), target, None)
    assert isinstance(way, Plain) and way.grain is not None
    assert twice_rounded(Affine(Fraction(0.1)), Source(2, -(1 << 30), 1 << 30), target, None) is None


def test_what_constants_stand_for() -> None:
    """Float32 numbers are themselves; quotients computed in float64 are the quotients."""
    assert meant(1 / 6) == Fraction(1, 6)
    assert meant(-5 / 49) == Fraction(-5, 49)
    tenth = float(np.float32(0.1))
    assert meant(tenth) == Fraction(tenth) != Fraction(1, 10)
    assert meant(1 / tenth) == 1 / Fraction(tenth)
    for value in (0.0, 0.375, float(np.float32(1 / 3)), float(np.pi), 2.0**-300):
        assert meant(value) == Fraction(value)
