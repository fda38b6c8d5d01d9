"""Quantized networks become integers exactly: every integer is that of real arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from exact_networks import draw, events_for
from hypothesis import given
from hypothesis import strategies as st

from metronn.events.codes import encode_inputs
from metronn.events.data import Events
from metronn.model.graph import Floats, RealGraph, RealNode
from metronn.model.rational import Rational, run_rational
from metronn.passes.pipeline import prepare, quantize_model
from metronn.quantize.exact.values import exact_values
from metronn.quantize.options import QuantizeOptions
from metronn.quantize.quantize import Quantized
from random_tests import examples, seeds

OPTIONS = QuantizeOptions(metric="none")


def differences(model: RealGraph, quantized: Quantized, inputs: dict[str, Floats]) -> dict[str, int]:
    """Count, for every value of the frontier, the integers that are not those of exact real arithmetic."""
    real: dict[str, Rational] = {}

    def keep(node: RealNode, values: Rational) -> None:
        real[node.name] = values

    run_rational(model, inputs, keep)
    codes = exact_values(quantized.graph, quantized.frontier, encode_inputs(quantized.graph, inputs))
    wrong = {}
    for exact in quantized.frontier:
        kind = quantized.graph.type_of(exact.value)
        size = kind.size
        scales = np.broadcast_to(exact.scale.array, kind.shape).ravel().tolist()
        steps = [Fraction(s) * Fraction(2) ** -f for s, f in zip(scales, kind.range.fracs(size), strict=True)]
        expected = real[exact.real]
        unit = expected.unit
        found = np.broadcast_to(codes[exact.value], expected.numbers.shape).reshape(-1, size)
        numbers = expected.numbers.reshape(-1, size)
        wrong[exact.real] = sum(
            int(found[event, e]) * steps[e] != int(numbers[event, e]) * unit
            for event in range(len(numbers))
            for e in range(size)
        )
    return wrong


def checked(model: RealGraph, seed: int, count: int = 40) -> Quantized:
    """Quantize a network and compare all its exact values."""
    inputs = events_for(model, seed, count)
    quantized = quantize_model(model, Events(inputs=inputs), OPTIONS)
    wrong = differences(prepare(model), quantized, inputs)
    assert not any(wrong.values()), wrong
    return quantized


@given(seed=st.integers(0, 10**6))
@examples(15)
def test_dyadic_networks_are_exact(seed: int) -> None:
    """Every scale a power of two: every value up to the output is exact."""
    model = draw(seed, dyadic=True)
    quantized = checked(model, seed)
    assert all(layer.exactness is None or layer.exactness.value == "exact" for layer in quantized.report.layers)
    assert quantized.frontier[0].real == prepare(model).outputs[0][1]


@given(seed=st.integers(0, 10**6))
@examples(10)
def test_networks_of_any_scale_are_exact_where_they_say_so(seed: int) -> None:
    """Scales that are no powers of two."""
    quantized = checked(draw(seed, dyadic=False), seed)
    assert quantized.frontier


@pytest.mark.slow
@pytest.mark.random
@pytest.mark.parametrize("dyadic", [True, False])
def test_many_networks(dyadic: bool) -> None:
    """More networks, and deeper ones."""
    for seed in seeds(16):
        checked(draw(seed, dyadic=dyadic, layers=2 + seed % 3), seed, 20)
