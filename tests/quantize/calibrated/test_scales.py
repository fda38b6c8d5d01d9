"""Scales that differ: by feature, by branch, by channel, by unit. They cost neither bits nor a traceback."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import dense, linear, normal

from metronn.events.data import Events
from metronn.ir.arrays import IntArray
from metronn.ir.graph import Graph
from metronn.ir.ops import Add, Extremum, ExtremumKind, Linear, Requantize, Rewire
from metronn.ir.text import from_text, to_text
from metronn.model.graph import FloatArray, Floats, RealConstant, RealGraph, RealGraphBuilder, RealInput
from metronn.model.reference import run_reference
from metronn.passes.pipeline import optimize, quantize_model
from metronn.quantize.calibrated.formats.per_channel import WASTED_BITS, activation_fracs, automatic_input, feature_axis
from metronn.quantize.measure import run_fixed
from metronn.quantize.options import Calibration, QuantizeOptions
from random_tests import examples

KEPT_DB = 22.0


def scaled_first(weights: Floats, scales: Floats) -> RealGraph:
    """Features of any scale, each divided by it in the first matrix, as a normalization folded into it is."""
    builder = RealGraphBuilder()
    y = builder.add(RealInput(shape=scales.shape), "x")
    y = builder.add(linear(y, weights / scales[:, np.newaxis], np.linspace(-0.5, 0.5, weights.shape[1])), "first")
    y = builder.add(Extremum(x=y, y=builder.add(RealConstant(values=FloatArray.of(0.0)), "zero")), "relu", "first")
    builder.output("y", builder.add(linear(y, normal(weights.shape[1], 3, 9), np.zeros(3)), "last"))
    return builder.build()


def signal(model: RealGraph, inputs: dict[str, Floats], fixed: dict[str, Floats]) -> float:
    """Signal to noise of all outputs together, each relative to its own power."""
    worst = math.inf
    for name, expected in run_reference(model, inputs).items():
        noise = np.square(expected - fixed[name]).mean(axis=0)
        power = expected.var(axis=0)
        worst = min(worst, float(10 * np.log10((power / np.maximum(noise, 1e-300)).min())))
    return worst


@examples(15)
@given(st.lists(st.floats(-6, 6), min_size=2, max_size=6), st.integers(0, 99))
def test_features_of_any_scale_keep_eight_bits(exponents: list[float], seed: int) -> None:
    scales = 10.0 ** np.array(exponents)
    x = np.random.default_rng(seed).normal(size=(3000, len(scales))) * scales
    model = scaled_first(normal(len(scales), 8, seed), scales)
    quantized = quantize_model(model, Events(inputs={"x": x}), QuantizeOptions(bits=8))
    assert signal(model, {"x": x}, run_fixed(quantized.graph, {"x": x})) > KEPT_DB
    assert from_text(to_text(quantized.graph)) == quantized.graph


@pytest.mark.parametrize("exponent", [-120, -70, -40, 3, 40, 70])
def test_units_move_the_point_and_nothing_else(exponent: int) -> None:
    """A power of two on an input, taken back by the weights, leaves every code as it is."""
    weights, x = normal(5, 8, 1), normal(500, 5, 2)
    graphs = []
    for unit in (0, exponent):
        scales = np.full(5, 2.0**unit)
        model = scaled_first(weights, scales)
        graphs.append(quantize_model(model, Events(inputs={"x": x * scales}), QuantizeOptions(bits=8)).graph)
    codes = [
        [node.op.weight.ints() + node.op.bias.ints() for node in graph.nodes if isinstance(node.op, Linear)]
        for graph in graphs
    ]
    assert codes[0] == codes[1]
    fixed = [run_fixed(graph, {"x": x * 2.0**unit})["y"] for graph, unit in zip(graphs, (0, exponent), strict=True)]
    np.testing.assert_array_equal(fixed[0], fixed[1])


@pytest.mark.parametrize("scale", [1e-15, 1e-12, 1e15])
def test_biases_and_answers_in_unusual_units(scale: float) -> None:
    builder = RealGraphBuilder()
    y = builder.add(RealInput(shape=(6,)), "x")
    y = builder.add(linear(y, normal(6, 4, 1), normal(1, 4, 2)[0] * scale), "layer")
    zero = builder.add(RealConstant(values=FloatArray.of(0.0)), "zero")
    builder.output("y", builder.add(Extremum(x=y, y=zero, kind=ExtremumKind.MAX), "relu", "layer"))
    model, x = builder.build(), normal(400, 6, 3) * scale
    quantized = quantize_model(model, Events(inputs={"x": x}), QuantizeOptions(bits=8))
    assert signal(model, {"x": x}, run_fixed(quantized.graph, {"x": x})) > KEPT_DB


def branches(scale: float) -> RealGraph:
    """Two inputs, one of them `scale` times as large, side by side in one matrix."""
    builder = RealGraphBuilder()
    small = builder.add(RealInput(shape=(4,)), "small")
    large = builder.add(RealInput(shape=(4,)), "large")
    a = builder.add(linear(small, normal(4, 6, 1), np.zeros(6)), "a")
    b = builder.add(linear(large, normal(4, 6, 2), np.zeros(6)), "b")
    joined = builder.add(Rewire(xs=(a, b), index=IntArray.of(np.arange(12)), shape=(12,)), "joined")
    weight = normal(12, 5, 3)
    weight[6:] /= scale
    builder.output("y", builder.add(linear(joined, weight, np.zeros(5)), "last"))
    return builder.build()


@pytest.mark.parametrize("scale", [1e-3, 30.0, 1000.0])
def test_branches_of_different_scale_meet_in_one_matrix(scale: float) -> None:
    model = branches(scale)
    inputs = {"small": normal(600, 4, 4), "large": normal(600, 4, 5) * scale}
    quantized = quantize_model(model, Events(inputs=inputs), QuantizeOptions(bits=8))
    assert signal(model, inputs, run_fixed(quantized.graph, inputs)) > KEPT_DB


def test_outputs_of_different_scale_have_their_own_steps() -> None:
    builder = RealGraphBuilder()
    y = builder.add(RealInput(shape=(4,)), "x")
    weight = normal(4, 3, 1) * np.array([1.0, 1e-4, 1e5])
    builder.output("y", builder.add(linear(y, weight, np.zeros(3)), "last"))
    model, x = builder.build(), normal(600, 4, 2)
    quantized = quantize_model(model, Events(inputs={"x": x}), QuantizeOptions(bits=8))
    assert signal(model, {"x": x}, run_fixed(quantized.graph, {"x": x})) > KEPT_DB


def test_a_sum_leaves_out_what_is_too_small_to_count() -> None:
    builder = RealGraphBuilder()
    x = builder.add(RealInput(shape=(4,)), "x")
    z = builder.add(RealInput(shape=(4,)), "z")
    builder.output("y", builder.add(Add(x=x, y=z), "sum"))
    inputs = {"x": normal(300, 4), "z": normal(300, 4, 1) * 1e-25}
    quantized = quantize_model(builder.build(), Events(inputs=inputs))
    assert max(node.type.range.width_bits for node in quantized.graph.nodes) <= 42
    assert signal(builder.build(), inputs, run_fixed(quantized.graph, inputs)) > 60


def test_uniform_features_share_one_step() -> None:
    values = normal(500, 8) * np.linspace(1.0, 4.0, 8)
    assert feature_axis((8,), values, 16) is None
    assert automatic_input((8,), values, 16).uniform


def test_features_are_found_along_the_last_or_the_first_axis() -> None:
    values = np.random.default_rng(0).normal(size=(300, 5, 3))
    far = 2.0 ** (WASTED_BITS + 3)
    assert feature_axis((5, 3), values * np.array([1.0, far, 1.0]), 16) == 1
    assert feature_axis((5, 3), values * np.array([1.0, far, 1.0, 1.0, 1.0])[:, np.newaxis], 16) == 0
    assert feature_axis((5, 3), values, 16) is None


def test_fractions_follow_the_codes_before_where_these_differ() -> None:
    """In folds a multiplier serves several outputs: the same bits are dropped in all of them."""
    rows = normal(4000, 6) * 2.0 ** np.arange(6)
    codes = 12 - np.arange(6)
    found = activation_fracs(
        rows, 8, signed=True, method=Calibration.MSE, percentile=99.9, importance=np.ones(6), codes=codes
    )
    assert len(set((np.broadcast_to(found, 6) - codes).tolist())) == 1


def test_quiet_channels_keep_their_bits_behind_a_matrix() -> None:
    """Two layers without rescaling, channels 4,000-fold apart: their steps are, too."""
    first = normal(6, 8, 1) * 4.0 ** -np.arange(8)
    last = normal(8, 3, 2) * 4.0 ** np.arange(8)[:, np.newaxis]
    builder = RealGraphBuilder()
    y = builder.add(RealInput(shape=(6,)), "x")
    y = builder.add(linear(y, first, np.zeros(8)), "first")
    builder.output("y", builder.add(linear(y, last, np.zeros(3)), "last"))
    model, x = builder.build(), normal(600, 6, 3)
    quantized = quantize_model(model, Events(inputs={"x": x}), QuantizeOptions(bits=8, rescale=False))
    assert signal(model, {"x": x}, run_fixed(quantized.graph, {"x": x})) > KEPT_DB
    narrow = [n.op.out for n in quantized.graph.nodes if isinstance(n.op, Requantize) and n.name == "first.q"]
    assert [isinstance(out.frac, tuple) for out in narrow] == [True]


def test_a_graph_with_scales_is_left_alone_by_the_integer_passes() -> None:
    scales = np.array([1.0, 1e4, 1e-3])
    x = normal(400, 3) * scales
    graph: Graph = quantize_model(scaled_first(normal(3, 8, 1), scales), Events(inputs={"x": x})).graph
    assert optimize(graph) == graph


@pytest.mark.parametrize("events", [200, 600, 4000])
@pytest.mark.parametrize("sizes", [[8, 16, 16, 4], [16, 64, 64, 64, 32, 5]])
def test_ordinary_networks_have_one_step_a_layer(events: int, sizes: list[int]) -> None:
    """Steps that differ cost multipliers in folds: they are for scales that do, not for channels that fire rarely."""
    quantized = quantize_model(dense(sizes), Events(inputs={"x": normal(events, sizes[0])}), QuantizeOptions(bits=8))
    linears = [node.op for node in quantized.graph.nodes if isinstance(node.op, Linear)]
    assert all(isinstance(op.weight_frac, int) and op.input_frac == 0 for op in linears)
