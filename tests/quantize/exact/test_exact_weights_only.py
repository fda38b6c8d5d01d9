"""Networks whose framework quantized weights alone, and what is told of layers that are not exact."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_exact import OPTIONS, differences

from metronn.events.data import Events
from metronn.frontends.common.builder import LayerBuilder
from metronn.frontends.hls4ml.apply import apply_hls4ml
from metronn.frontends.hls4ml.config import parse_hls4ml
from metronn.ir.ops import Linear
from metronn.model.graph import RealGraph
from metronn.passes.pipeline import prepare, quantize_model
from metronn.quantize.options import LayerOptions, QuantizeOptions
from metronn.quantize.quantize import Quantized
from random_tests import examples

WIDTH = 10


def network(seed: int, step: float, layers: int = 3) -> RealGraph:
    """Return dense layers with weights in steps, ReLU of floats between them."""
    random = np.random.default_rng(seed)
    drawn = LayerBuilder()
    x = drawn.input("x", (WIDTH,))
    for number in range(layers):
        drawn.layer = f"dense{number}"
        weight = np.round(random.normal(size=(WIDTH, WIDTH)) / np.sqrt(WIDTH) / step) * step
        x = drawn.linear(x, weight, np.round(random.normal(size=WIDTH) * 8) / 64, np.full(WIDTH, step))
        x = drawn.relu(x) if number < layers - 1 else x
    return drawn.finish([("y", x)], "test")


def made(model: RealGraph, options: QuantizeOptions = OPTIONS, seed: int = 0) -> Quantized:
    values = np.round(np.random.default_rng(seed).normal(size=(400, WIDTH)) * 32) / 32
    return quantize_model(model, Events(inputs={"x": values}), options)


@given(seed=st.integers(0, 10**6), step=st.sampled_from((2.0**-6, 2.0**-4, 0.037, 0.11)))
@examples(8)
def test_weights_stay_exact_and_activations_keep_forty_decibels(seed: int, step: float) -> None:
    model = network(seed, step)
    assert model.quantized
    quantized = made(model, seed=seed)
    for layer in quantized.report.layers:
        assert layer.sqnr_db is None or layer.sqnr_db >= 40, layer
    matrices = [node.op for node in quantized.graph.nodes if isinstance(node.op, Linear)]
    assert len(matrices) >= 3
    assert not any("float weights" in layer.note for layer in quantized.report.layers)
    (told,) = [line for line in quantized.report.warnings if "dense1" in line]
    assert "the framework quantized no activations" in told
    assert "dB on the calibration events" in told
    assert told.count("dense1 (") == 1
    assert "all layers exact on" not in quantized.report.summary()


@pytest.mark.parametrize(
    "options",
    [
        QuantizeOptions(metric="none", activation_bits=12),
        QuantizeOptions(metric="none", layers={"dense*": LayerOptions(activation_bits=12)}),
    ],
)
def test_a_width_that_is_asked_for_is_taken(options: QuantizeOptions) -> None:
    told = " ".join(made(network(1, 2.0**-6), options).report.warnings)
    assert "rounded to u12." in told
    assert "as [quantize] activation_bits says" in told


def test_what_one_layer_has_twice_is_told_twice() -> None:
    """Two results of one layer with the same rounding: neither counts as exact."""
    drawn = LayerBuilder()
    x = drawn.input("x", (2,))
    x = drawn.quantize(x, 0.25, -8, 7)
    drawn.layer = "sums"
    first, second = (drawn.times(x, drawn.constant(1 / 3)) for _ in range(2))
    model = drawn.finish([("a", first), ("b", second)], "test")
    inputs = {"x": np.random.default_rng(0).normal(size=(64, 2))}
    quantized = quantize_model(model, Events(inputs=inputs), OPTIONS)
    rounded = [layer for layer in quantized.report.layers if layer.kind == "output"]
    assert [layer.exactness and layer.exactness.value for layer in rounded] == ["requantized", "requantized"]
    assert len([line for line in quantized.report.warnings if "sums (" in line]) == 1


@pytest.mark.parametrize("precision", ["ap_fixed<23,12>", "ap_fixed<24,12>", "ap_fixed<28,8>", "ap_fixed<32,16>"])
def test_wide_hls4ml_types_are_exact_where_they_say_so(precision: str) -> None:
    """Batch normalization first, then dense layers: every integer is that of hls4ml's types in real arithmetic."""
    random = np.random.default_rng(4)
    drawn = LayerBuilder()
    x = drawn.input("x", (5,))
    drawn.layer = "bn"
    x = drawn.plus(drawn.times(x, drawn.constant(random.uniform(0.01, 2, 5))), drawn.constant(random.normal(size=5)))
    for name, size in (("fc1", 6), ("fc2", 3)):
        drawn.layer = name
        weight = random.normal(size=(drawn.shape(x)[-1], size)).astype(np.float32).astype(np.float64)
        x = drawn.relu(drawn.linear(x, weight, random.normal(size=size).astype(np.float32).astype(np.float64)))
    plain = drawn.finish([("y", x)], "test")
    config = {"Model": {"Precision": {"default": precision}, "ReuseFactor": 1, "BitExact": None}}
    model = apply_hls4ml(plain, parse_hls4ml(config, "types")).model
    inputs = {"x": random.normal(size=(30, 5)) * 3}
    quantized = quantize_model(model, Events(inputs=inputs), OPTIONS)
    assert "all layers exact on" in quantized.report.summary()
    wrong = differences(prepare(model), quantized, inputs)
    assert len(wrong) >= 4
    assert not any(wrong.values()), wrong
