"""Networks with hls4ml's types against hls4ml's own C simulation: every bit of every layer."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metronn.events.codes import encode_inputs
from metronn.events.data import Events
from metronn.frontends import load_model
from metronn.frontends.hls4ml.apply import apply_hls4ml
from metronn.frontends.hls4ml.config import parse_hls4ml
from metronn.passes.pipeline import prepare, quantize_model
from metronn.verify.against import AgainstResult, borders, compare_framework
from metronn.verify.against_events import event_chunks
from metronn.verify.framework import opened_hls4ml

pytest.importorskip("hls4ml")
pytest.importorskip("jax")
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

BY_NAME: dict[str, Any] = {
    "Model": {"Precision": {"default": "fixed<16,6>"}, "ReuseFactor": 1, "Strategy": "Latency"},
    "LayerName": {
        "image": {"Precision": {"result": "ap_fixed<10,4,AP_RND,AP_SAT>"}},
        "conv": {
            "Precision": {"weight": "ap_fixed<8,2,AP_RND,AP_SAT>", "bias": "auto", "accum": "auto", "result": "auto"}
        },
        "conv_relu": {"Precision": {"result": "ap_ufixed<9,3,AP_RND,AP_SAT>"}},
        "pool": {"Precision": {"accum": "auto", "result": "auto"}},
        "fc1": {
            "Precision": {
                "weight": "ap_fixed<8,2>",
                "bias": "ap_fixed<8,2>",
                "accum": "ap_fixed<12,3,AP_RND,AP_SAT>",
                "result": "ap_fixed<10,3,AP_RND_CONV,AP_SAT>",
            }
        },
        "act": {"TableSize": 512, "Precision": {"result": "ap_ufixed<8,0,AP_RND,AP_SAT>"}},
        "fc2": {"Precision": {"weight": "auto", "bias": "auto", "accum": "auto", "result": "auto"}},
        "out": {
            "Precision": {"weight": "ap_fixed<9,2>", "bias": "ap_fixed<9,2>", "accum": "auto", "result": "fixed<12,4>"}
        },
        "out_softmax": {"Precision": {"result": "ap_ufixed<10,0,AP_RND,AP_SAT>"}, "inv_table_t": "ap_ufixed<12,1>"},
    },
}
BY_MODEL: dict[str, Any] = {"Model": {"Precision": "ap_fixed<14,5>", "ReuseFactor": 1, "Strategy": "Latency"}}


@pytest.fixture
def keras() -> Any:
    os.environ.setdefault("KERAS_BACKEND", "jax")
    module = pytest.importorskip("keras")
    module.utils.set_random_seed(3)
    return module


def image_network(keras: Any, path: Path) -> Path:
    """Save convolution, pooling, dense, sigmoid, batch normalization behind a dense layer, softmax."""
    layers = keras.layers
    x = image = keras.Input((4, 4, 1), name="image")
    x = layers.Conv2D(2, 2, activation="relu", name="conv")(x)
    x = layers.AveragePooling2D(3, name="pool")(x)
    x = layers.Flatten(name="flat")(x)
    x = layers.Dense(3, name="fc1")(x)
    x = layers.Activation("sigmoid", name="act")(x)
    x = layers.Dense(3, name="fc2")(x)
    x = layers.BatchNormalization(name="bn")(x)
    x = layers.Dense(3, activation="softmax", name="out")(x)
    model = keras.Model(image, x)
    random = np.random.default_rng(6)
    model.get_layer("bn").set_weights([random.uniform(0.5, 1.5, 3) for _ in range(4)])
    model.save(path)
    return path


def vector_network(keras: Any, path: Path) -> Path:
    """Save two branches of dense layers, added, with tanh behind."""
    layers = keras.layers
    x = vector = keras.Input((5,), name="x")
    left = layers.Dense(4, activation="relu", name="left")(x)
    right = layers.BatchNormalization(name="bn")(layers.Dense(4, name="right")(x))
    x = layers.Add(name="add")([left, right])
    keras.Model(vector, layers.Activation("tanh", name="act")(x)).save(path)
    return path


def simulated(path: Path, config: dict[str, Any], folder: Path) -> AgainstResult:
    model = apply_hls4ml(load_model(path), parse_hls4ml(config, "types")).model
    random = np.random.default_rng(7)
    inputs = {node.name: random.normal(size=(200, *node.shape)) * 2 for node in model.inputs}
    quantized = quantize_model(model, Events(inputs=inputs))
    real = encode_inputs(quantized.graph, inputs)
    edges = borders(quantized.graph, quantized.frontier)
    with opened_hls4ml(path, json.loads(json.dumps(config)), folder) as framework:
        assert {name for name, _ in model.tensors} - set(framework.tensors) <= {node.name for node in model.inputs}
        chunks = event_chunks(quantized.graph, real, 600, 600, edges)
        return compare_framework(
            prepare(model), quantized.graph, quantized.frontier, framework, chunks, floating=False, compiled=False
        )


@pytest.mark.slow
def test_every_layer_equals_the_simulation_by_name(keras: Any, tmp_path: Path) -> None:
    result = simulated(image_network(keras, tmp_path / "image.keras"), BY_NAME, tmp_path)
    assert {tensor.tensor for tensor in result.tensors} >= {"conv_relu", "fc1", "act", "out", "out_softmax"}
    assert (result.events, result.differing_bits, result.first) == (600, 0, "")
    assert result.approximate == ()


@pytest.mark.slow
def test_every_layer_equals_the_simulation_by_model(keras: Any, tmp_path: Path) -> None:
    result = simulated(vector_network(keras, tmp_path / "vector.keras"), BY_MODEL, tmp_path)
    assert {tensor.tensor for tensor in result.tensors} >= {"left", "right", "bn", "act"}
    assert (result.events, result.differing_bits, result.first) == (600, 0, "")


def wide_network(keras: Any, path: Path) -> Path:
    """Save a batch normalization in front of two dense layers, everything random, biases too."""
    layers = keras.layers
    x = vector = keras.Input((40,), name="x")
    x = layers.BatchNormalization(name="bn")(x)
    x = layers.Dense(8, activation="relu", name="fc1", bias_initializer="normal")(x)
    x = layers.Dense(3, name="fc2", bias_initializer="normal")(x)
    model = keras.Model(vector, x)
    random = np.random.default_rng(8)
    model.get_layer("bn").set_weights([random.uniform(0.5, 1.5, 40) for _ in range(4)])
    model.save(path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("default", ["fixed<24,12>", "fixed<28,14>"])
def test_sums_wider_than_a_double_equal_the_simulation(keras: Any, tmp_path: Path, default: str) -> None:
    """Accumulators left to `auto` have 53 bits and more: biases are cut to the grid of the default type, no coarser."""
    auto = {"weight": "auto", "bias": "auto", "accum": "auto", "result": "auto"}
    config = {
        "Model": {"Precision": {"default": default}, "ReuseFactor": 1, "Strategy": "Latency"},
        "LayerName": {
            "bn": {"Precision": {"scale": "auto", "bias": "auto", "result": "auto"}},
            "fc1": {"Precision": auto},
            "fc1_relu": {"Precision": {"result": "auto"}},
            "fc2": {"Precision": auto},
        },
    }
    result = simulated(wide_network(keras, tmp_path / "wide.keras"), config, tmp_path)
    assert {tensor.tensor for tensor in result.tensors} >= {"bn", "fc1_relu", "fc2"}
    assert (result.events, result.differing_bits, result.first) == (600, 0, "")
