"""Normalizations by a computed scale are right for small events as for large ones: kinds, axes, spreads, units."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metronn.events.data import Events
from metronn.frontends.common.builder import LayerBuilder
from metronn.frontends.common.products import layer_normalized, log_softmax, unit_normalized
from metronn.frontends.onnx.math import absolute, power
from metronn.frontends.onnx.normalize import standardized
from metronn.ir.check import problems
from metronn.ir.ops import ReduceKind
from metronn.model.graph import Floats, FunctionKind, RealGraph
from metronn.model.reference import run_reference
from metronn.passes.pipeline import quantize_model
from metronn.quantize.calibrated.formats.per_channel import headroom
from metronn.quantize.measure import run_fixed
from metronn.quantize.options import QuantizeOptions
from random_tests import examples

Kind = Callable[[LayerBuilder, str, Sequence[int], float], str]
"""(builder, value, axes, epsilon in the units of a variance) -> value."""


def _sum(low: LayerBuilder, x: str, axes: Sequence[int]) -> str:
    return low.reduced(x, axes, ReduceKind.SUM, keep=True)


def _deviation(low: LayerBuilder, x: str, axes: Sequence[int], epsilon: float) -> str:
    below = low.minus(x, low.mean(x, axes, keep=True))
    return low.function(low.scaled(low.mean(low.times(below, below), axes, keep=True), 1.0, epsilon), FunctionKind.SQRT)


def _over_deviation(low: LayerBuilder, x: str, axes: Sequence[int], epsilon: float) -> str:
    inverse = low.function(_deviation(low, x, axes, epsilon), FunctionKind.RECIPROCAL)
    return low.times(low.minus(x, low.mean(x, axes, keep=True)), inverse)


def _from_moments(low: LayerBuilder, x: str, axes: Sequence[int], epsilon: float) -> str:
    mean, squares = low.mean(x, axes, keep=True), low.mean(low.times(x, x), axes, keep=True)
    variance = low.scaled(low.minus(squares, low.times(mean, mean)), 1.0, epsilon)
    return low.times(low.minus(x, mean), low.function(variance, FunctionKind.RSQRT))


def _over_sum(low: LayerBuilder, x: str, axes: Sequence[int], epsilon: float) -> str:
    total = low.maximum(_sum(low, absolute(low, x), axes), low.constant(math.sqrt(epsilon), "floor"))
    return low.times(x, low.function(total, FunctionKind.RECIPROCAL))


def _over_root_of_sum(low: LayerBuilder, x: str, axes: Sequence[int], epsilon: float) -> str:
    length = low.function(_sum(low, low.times(x, x), axes), FunctionKind.SQRT)
    floor = low.maximum(length, low.constant(math.sqrt(epsilon), "floor"))
    return low.times(x, low.function(floor, FunctionKind.RECIPROCAL))


def _power(low: LayerBuilder, x: str, axes: Sequence[int], epsilon: float) -> str:
    raised = low.scaled(low.mean(low.times(x, x), axes, keep=True), 1.0, epsilon)
    return low.times(x, power(low, raised, -0.5001))


KINDS: dict[str, Kind] = {
    "layer": layer_normalized,
    "rms": lambda low, x, axes, e: layer_normalized(low, x, axes, e, centred=False),
    "standardized": lambda low, x, axes, e: standardized(low, x, axes, e)[0],
    "over deviation": _over_deviation,
    "from moments": _from_moments,
    "unit": unit_normalized,
    "unit, root and quotient": _over_root_of_sum,
    "unit, L1": _over_sum,
    "power": _power,
}


def network(kind: str, shape: tuple[int, ...], axes: Sequence[int], epsilon: float) -> RealGraph:
    low = LayerBuilder()
    x = low.input("x", shape)
    low.layer = "norm"
    return low.finish([("y", KINDS[kind](low, x, axes, epsilon))], "test")


def answers(model: RealGraph, x: Floats, bits: int = 16, fresh: Floats | None = None) -> tuple[Floats, Floats]:
    """Quantize on x; return the float and the integer network's answers on x, or on fresh events."""
    options = QuantizeOptions(weight_bits=bits, activation_bits=bits, metric="none")
    quantized = quantize_model(model, Events(inputs={"x": x}), options)
    assert problems(quantized.graph) == ()
    seen = {"x": x if fresh is None else fresh}
    return run_reference(model, seen)["y"], run_fixed(quantized.graph, seen)["y"]


def decibels(expected: Floats, got: Floats) -> float:
    """Return the signal-to-noise ratio."""
    noise = float(np.square(expected - got).mean())
    return math.inf if noise == 0 else 10 * math.log10(float(np.square(expected).mean()) / noise)


def worst_events(expected: Floats, got: Floats) -> float:
    """Return the signal-to-noise ratio of the worst 1 % of events, with the signal of all."""
    noise = np.square(expected - got).reshape(len(expected), -1).mean(axis=1)
    worst = float(np.sort(noise)[-max(1, len(noise) // 100) :].mean())
    return math.inf if worst == 0 else 10 * math.log10(float(np.square(expected).mean()) / worst)


def spread_events(events: int, shape: tuple[int, ...], axes: Sequence[int], sigma: float, seed: int) -> Floats:
    """Normal numbers times a log-normal scale for each group that is normalized."""
    rng = np.random.default_rng(seed)
    own = [1 if axis in axes else size for axis, size in enumerate(shape)]
    return rng.normal(size=(events, *shape)) * np.exp(rng.normal(size=(events, *own)) * sigma)


def on_grid(x: Floats) -> Floats:
    """Round to 16 bits that hold what other events may reach to, as an input is."""
    step = math.ldexp(1.0, math.frexp(headroom(x) * float(np.abs(x).max()))[1] - 15)
    return np.clip(np.rint(x / step), -(2**15), 2**15 - 1) * step


CASES = [((16,), (0,)), ((4, 12), (1,)), ((12, 3), (0,)), ((2, 4, 4), (1, 2))]


@pytest.mark.parametrize("sigma", [0.5, 1.5])
@pytest.mark.parametrize(("kind", "case"), [(kind, CASES[k % len(CASES)]) for k, kind in enumerate(KINDS)])
def test_spread_scales(kind: str, case: tuple[tuple[int, ...], tuple[int, ...]], sigma: float) -> None:
    shape, axes = case
    """Hardly more is lost than rounding the input to 16 bits costs the float network already."""
    x = spread_events(300, shape, axes, sigma, 1)
    model = network(kind, shape, axes, 1e-5)
    expected, got = answers(model, x)
    rounded = run_reference(model, {"x": on_grid(x)})["y"]
    assert decibels(expected, got) >= min(40.0, decibels(expected, rounded) - 3)
    assert worst_events(expected, got) >= min(25.0, worst_events(expected, rounded) - 3)


@pytest.mark.parametrize("kind", ["unit", "unit, L1", "unit, root and quotient"])
def test_lengths_over_three_decades(kind: str) -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(1000, 3))
    x *= 10 ** rng.uniform(-1.5, 1.5, size=(1000, 1)) / np.linalg.norm(x, axis=1, keepdims=True)
    expected, got = answers(network(kind, (3,), (0,), 1e-24), x)
    assert decibels(expected, got) >= 40


def test_unseen_scales_are_served() -> None:
    """Events three times smaller than those of calibration, which the input's format still holds."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(500, 8)) * np.where(np.arange(500) % 2, 0.25, 4.0)[:, np.newaxis]
    fresh = rng.normal(size=(500, 8)) * 0.08
    expected, got = answers(network("unit", (8,), (0,), 1e-24), x, fresh=fresh)
    assert decibels(expected, got) >= 40


@pytest.mark.parametrize("seed", range(3))
def test_a_reciprocal_over_four_decades_of_both_signs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = 10 ** rng.uniform(-2, 2, size=(500, 4)) * rng.choice([-1.0, 1.0], size=(500, 4))
    low = LayerBuilder()
    value = low.input("x", (4,))
    low.layer = "one"
    inverse = low.function(value, FunctionKind.RECIPROCAL)
    expected, got = answers(low.finish([("y", low.times(value, inverse))], "test"), x)
    assert np.abs(expected - got).max() <= 0.01


@examples(20)
@given(
    kind=st.sampled_from(sorted(set(KINDS) - {"from moments"})),
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple),
    data=st.data(),
    decades=st.floats(0, 3),
    unit=st.floats(-6, 6),
    seed=st.integers(0, 1000),
)
def test_random_normalizations(
    kind: str, shape: tuple[int, ...], data: st.DataObject, decades: float, unit: float, seed: int
) -> None:
    # The difference of two moments is as unstable in float32 where the mean is much larger than the deviation.
    axes = data.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1).map(sorted))
    own = [1 if axis in axes else size for axis, size in enumerate(shape)]
    rng = np.random.default_rng(seed)
    scale = 10 ** rng.uniform(-decades / 2, decades / 2, size=(300, *own))
    x = on_grid((rng.normal(size=(300, *shape)) * scale + rng.choice([0.0, 1.0]) * scale) * 10**unit)
    model = network(kind, shape, axes, 1e-5 * 100**unit)
    expected, got = answers(model, x)
    reached = math.prod(shape[axis] for axis in axes)
    if not expected.any():
        assert not got.any() or reached == 1  # one number less its mean
    else:
        assert decibels(expected, got) >= 30


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("spread", [1.0, 30.0])
def test_log_softmax_of_wide_logits(axis: int, spread: float) -> None:
    low = LayerBuilder()
    x = low.input("x", (6, 5))
    low.layer = "log"
    values = np.random.default_rng(5).normal(size=(500, 6, 5)) * spread
    expected, got = answers(low.finish([("y", log_softmax(low, x, axis))], "test"), values)
    assert decibels(expected, got) >= 50
