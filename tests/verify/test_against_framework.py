"""Networks against their framework: equal ones, damaged ones, and where float32 rounds otherwise."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from float32_network import InProcess, Layers, compared, damaged, dyadic, lowered, ragged
from hypothesis import given
from hypothesis import strategies as st

from metronn.errors import ModelError, ToolError
from metronn.frontends.common.builder import LayerBuilder
from metronn.model.graph import Floats, RealNode
from metronn.model.grid import grid_exponent
from metronn.passes.pipeline import prepare
from metronn.verify.against import compare_framework
from metronn.verify.against_events import event_chunks
from metronn.verify.against_noise import Envelope, envelopes
from metronn.verify.framework import MissingFramework, opened_framework
from random_tests import examples


def test_an_exact_network_has_no_difference() -> None:
    result = compared(dyadic())
    assert {tensor.tensor for tensor in result.tensors} >= {"x_q", "fc1", "act", "out"}
    assert (result.events, result.differing_bits, result.noise, result.real) == (600, 0, 0, 0)
    assert result.bits == sum(tensor.bits for tensor in result.tensors) > 600 * 30


@pytest.mark.parametrize(("layer", "first"), [("fc1", "fc1"), ("fc2", "fc2")])
def test_a_damaged_graph_is_found_at_its_layer(layer: str, first: str) -> None:
    _, graph, _ = lowered(dyadic())
    result = compared(dyadic(), graph=damaged(graph, layer))
    assert result.real > 0
    assert result.first.startswith(f"layer {first} (tensor {first}, value ")
    assert "event " in result.first
    assert "lowest differing bit" in result.first
    before = {"fc1": ("x_q",), "fc2": ("x_q", "fc1", "act")}[layer]
    assert [tensor.differing for tensor in result.tensors if tensor.tensor in before] == [0] * len(before)


def test_another_rounding_of_the_framework_is_a_real_difference() -> None:
    """Ties are no noise: float32 computes these sums exactly."""

    class HalfUp(Layers):
        def float32(self, x: Floats) -> dict[str, Floats]:
            found = super().float32(x)
            found["act"] = np.clip(np.floor(found["fc1"] / self.step + 0.5), 0, 31) * self.step
            found["fc2"] = self.product(found["act"], self.second.astype(np.float32))
            found["out"] = np.clip(np.rint(found["fc2"] * 4), -128, 127) / 4
            return found

    right = dyadic()
    other = HalfUp(first=right.first, second=right.second, bias=right.bias)
    result = compared(right, run=other)
    assert result.first.startswith("layer act (tensor act")
    assert result.noise == 0


def test_a_value_beside_the_grid_is_a_real_difference() -> None:
    class Beside(Layers):
        def float32(self, x: Floats) -> dict[str, Floats]:
            found = super().float32(x)
            return found | {"out": found["out"] + np.float32(2.0**-5)}

    right = dyadic()
    result = compared(right, run=Beside(first=right.first, second=right.second, bias=right.bias))
    assert {tensor.tensor for tensor in result.tensors if tensor.real} == {"out"}


def test_noise_of_float32_is_counted_and_is_no_real_difference() -> None:
    """Multiples of a third of float32 meet ties of the quantizer that the real product passes by."""
    result = compared(ragged(), count=3000)
    tensors = {tensor.tensor: tensor for tensor in result.tensors}
    assert result.real == 0, result.first
    assert tensors["act"].noise > 0
    assert tensors["act"].differing == tensors["act"].noise
    assert result.differing_bits > 0


def test_noise_does_not_hide_a_damaged_graph() -> None:
    _, graph, _ = lowered(ragged())
    result = compared(ragged(), graph=damaged(graph, "fc2"), count=3000)
    assert result.real > 0
    assert "layer fc2 " in result.first or "layer out " in result.first


def test_a_network_without_quantizers_has_nothing_to_compare() -> None:
    layers = dyadic()
    _, graph, _ = lowered(layers)
    framework: Any = InProcess(layers=layers)
    with pytest.raises(ModelError, match="nothing to compare"):
        compare_framework(prepare(layers.real()), graph, (), framework, [])


@given(st.lists(st.integers(-(2**20), 2**20).map(lambda n: n / 2**7), min_size=1, max_size=8))
def test_the_grid_is_the_coarsest(values: list[float]) -> None:
    array = np.array(values)
    step = 2.0 ** grid_exponent(array)
    assert (array / step == np.rint(array / step)).all()
    if array.any():
        assert not (array / (2 * step) == np.rint(array / (2 * step))).all()


@examples(30)
@given(seed=st.integers(0, 10_000), terms=st.integers(1, 40), dyadic_weights=st.booleans())
def test_float32_stays_within_the_envelope(seed: int, terms: int, dyadic_weights: bool) -> None:
    random = np.random.default_rng(seed)
    weight = random.integers(-7, 8, size=(terms, 3)) / 8 if dyadic_weights else random.normal(size=(terms, 3))
    weight = weight.astype(np.float32).astype(np.float64)
    network = LayerBuilder()
    x = network.input("x", (terms,))
    network.layer = "fc"
    y = network.linear(x, weight, np.array([0.5, 0.25, -1.0]))
    network.layer = "tanh"
    model = network.finish([("y", network.relu(y))], "test")
    inputs = (random.integers(-128, 128, size=(20, terms)) / 16).astype(np.float64)
    seen: dict[str, Envelope] = {}

    def see(node: RealNode, envelope: Envelope) -> None:
        seen[node.name] = envelope

    envelopes(model, {"x": inputs}, {}, see)
    order = random.permutation(terms)
    total = np.array([0.5, 0.25, -1.0], np.float32) + np.zeros((20, 3), np.float32)
    for row in order:
        total = total + inputs.astype(np.float32)[:, row : row + 1] * weight.astype(np.float32)[row]
    envelope = seen["fc"]
    assert (envelope.low <= total).all()
    assert (total <= envelope.high).all()
    if dyadic_weights:
        assert (envelope.low == envelope.high).all(), "sums of few bits are exact in float32"


def test_events_are_the_same_every_time_and_of_every_kind() -> None:
    _, graph, _ = lowered(dyadic())
    real = {"x": np.full((3, 6), 5)}
    first, second = (list(event_chunks(graph, real, 500, 200, {"x"})) for _ in range(2))
    codes = np.concatenate([chunk.codes["x"] for chunk in first])
    assert [len(chunk.codes["x"]) for chunk in first] == [200, 200, 100]
    assert all((a.values["x"] == b.values["x"]).all() for a, b in zip(first, second, strict=True))
    assert (codes == 5).all(axis=1).any(), "real events as they are"
    assert codes.min() == -64
    assert codes.max() == 63
    values = np.concatenate([chunk.values["x"] for chunk in first])
    assert (values * 16 != np.rint(values * 16)).any(), "between the steps, where the framework rounds itself"
    assert (values.astype(np.float32) == values).all()


def test_the_same_onnx_network_in_a_process_of_its_own(tmp_path: Path) -> None:
    """ONNX QDQ with onnxruntime or the reference evaluator, from file to comparison."""
    from onnx_network import compare_onnx, write_qdq

    path = write_qdq(tmp_path / "qdq.onnx")
    result = compare_onnx(path)
    assert result.framework.startswith(("onnxruntime", "onnx"))
    assert len(result.tensors) >= 2
    assert result.real == 0, result.first
    assert result.events == 400


def test_a_framework_that_is_not_there_is_told(tmp_path: Path) -> None:
    model = tmp_path / "net.json"
    model.write_text('{"config": {"layers": [{"class_name": "QDense", "module": "qkeras"}]}}')
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec env PYTHONPATH={tmp_path / "hidden"} {sys.executable} "$@"\n')
    python.chmod(0o755)
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "sitecustomize.py").write_text(
        "import importlib.util as u\nfind = u.find_spec\n"
        "u.find_spec = lambda name, package=None: None if name == 'qkeras' else find(name, package)\n"
    )
    missing = pytest.raises(MissingFramework, match=r"not run: QKeras is not installed \(interpreter .*python\)")
    with missing, opened_framework(model, python):
        raise AssertionError("opened")
    with pytest.raises(ToolError, match="cannot be started"), opened_framework(model, tmp_path / "nothing"):
        raise AssertionError("opened")


def test_a_framework_that_fails_says_why(tmp_path: Path) -> None:
    model = tmp_path / "net.onnx"
    model.write_bytes(b"no protobuf")
    with pytest.raises(ToolError, match=r"the framework failed \(status 1\)"), opened_framework(model):
        raise AssertionError("opened")
    assert os.listdir(tmp_path) == ["net.onnx"]


def test_steps_that_are_no_power_of_two_are_compared() -> None:
    result = compared(replace(dyadic(), step=float(np.float32(0.15))), count=2000)
    assert result.real == 0, result.first
    assert {tensor.tensor for tensor in result.tensors} >= {"act", "out"}
