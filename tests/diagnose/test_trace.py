"""Every tensor of a network beside the firmware's: the values, where they differ, and what is not there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from traced_networks import (
    channels_first,
    dyadic,
    events_of,
    linear,
    masked,
    normalized_twice,
    subject_of,
    unlike_channels,
    write_float,
    write_qonnx,
)

from metronn.diagnose.kept import KeptTrace, kept_of
from metronn.diagnose.shown import shown_values
from metronn.diagnose.subject import Subject
from metronn.diagnose.trace import COLUMNS, Trace, correlation, trace_network
from metronn.events.data import Events
from metronn.frontends import load_model
from metronn.frontends.hls4ml.apply import apply_hls4ml
from metronn.frontends.hls4ml.config import parse_hls4ml
from metronn.ir.ops import Extremum
from metronn.model.graph import FloatArray, Floats, RealConstant, RealGraphBuilder, RealInput
from metronn.passes.pipeline import quantize_model
from metronn.quantize.measure import run_fixed
from metronn.quantize.options import InputOptions, QuantizeOptions
from random_tests import examples

MODELS = Path(__file__).resolve().parents[3] / "shared" / "models"


def names(trace: Trace) -> list[str]:
    return [tensor.name for tensor in trace.tensors]


def test_channels_of_unlike_scale_are_traced_in_the_units_of_the_network() -> None:
    model = unlike_channels()
    inputs = events_of(model)
    subject = subject_of(model, inputs)
    trace = trace_network(subject, inputs)
    assert names(trace) == ["x", "first", "first.relu", "second"]
    assert trace.first_below is None
    assert all(tensor.sqnr_db is not None and tensor.sqnr_db > 30 for tensor in trace.tensors)
    plain = [replace(entry, scale=FloatArray.of(1.0)) for entry in subject.kept.values]
    codes = trace_network(replace(subject, kept=KeptTrace(values=tuple(plain), matrices=())), inputs)
    assert codes.first_below is codes["first"]
    assert codes["first.relu"].below(10)
    assert "first below 20 dB: first (" in codes.verdict()


def test_the_answers_are_those_of_the_firmware() -> None:
    model = channels_first()
    inputs = events_of(model)
    subject = subject_of(model, inputs)
    trace = trace_network(subject, inputs)
    assert np.array_equal(trace["last"].fixed, run_fixed(subject.graph, inputs)["y"])


def test_what_was_folded_is_told_with_what_it_went_into() -> None:
    model = normalized_twice()
    inputs = events_of(model)
    trace = trace_network(subject_of(model, inputs), inputs)
    assert names(trace) == ["x", "bn.add", "relu", "last"]
    assert [one.words() for one in trace.untraced] == ["dense (folded into bn.add)", "bn (folded into bn.add)"]


def test_masks_of_another_size_are_not_taken_for_those_of_the_network() -> None:
    """Calibration makes -1e9 a small power of two: what it is added to differs, what softmax gives does not."""
    model = masked()
    bits = np.random.default_rng(3).integers(0, 2, (200, 5)) * np.array([0, 1, 1, 1, 1.0])
    inputs = {"x": events_of(model)["x"], "mask": bits}
    trace = trace_network(subject_of(model, inputs), inputs)
    assert names(trace) == ["x", "logits", "mask", "softmax"]
    assert [one.words() for one in trace.untraced] == ["away (folded into softmax)", "masked (folded into softmax)"]
    assert trace.first_below is None


def test_a_convolution_is_traced_in_the_order_of_its_axes() -> None:
    model = channels_first()
    inputs = events_of(model)
    trace = trace_network(subject_of(model, inputs), inputs)
    assert names(trace) == ["x", "bias_out", "relu_out", "flat_out", "last"]
    assert trace["relu_out"].shape == (4, 6, 5)
    assert trace["flat_out"].shape == (120,)
    assert np.array_equal(trace["flat_out"].fixed, trace["relu_out"].fixed.reshape(len(inputs["x"]), -1))
    assert all(tensor.sqnr_db is not None and tensor.sqnr_db > 30 for tensor in trace.tensors)
    assert [one.name for one in trace.untraced] == ["conv.linear", "conv_out"]


@examples(40)
@given(st.integers(0, 10**6))
def test_exact_values_are_equal_bit_for_bit(seed: int) -> None:
    model = dyadic(seed)
    inputs = {"x": np.random.default_rng(seed).integers(-256, 256, (30, 3, 4)) / 32}
    trace = trace_network(subject_of(model, inputs), inputs)
    exact = [tensor for tensor in trace.tensors if tensor.exact]
    assert exact
    for tensor in exact:
        assert np.array_equal(tensor.fixed, tensor.floating), tensor.name
        assert tensor.equal and tensor.max_error == 0


def test_a_qonnx_file_is_traced_by_the_names_of_its_tensors(tmp_path: Path) -> None:
    model = load_model(write_qonnx(tmp_path / "net.onnx"))
    inputs = events_of(model)
    trace = trace_network(subject_of(model, inputs), inputs)
    assert {"xq", "rq", "scores"} <= set(names(trace))
    *inner, scores = trace.tensors
    assert scores.name == "scores"
    assert not scores.exact and scores.sqnr_db is not None and scores.sqnr_db > 60  # an output's step is a power of two
    assert {tensor.name for tensor in inner} >= {"xq", "rq"}
    assert all(tensor.exact and tensor.equal for tensor in inner)
    assert trace["xq"].saturated > 0
    assert "x (folded into xq)" in [one.words() for one in trace.untraced]


@pytest.mark.parametrize("name", ["qkeras_3layer/qkeras_3layer.json", "hgq2_lin8/model.keras"])
def test_networks_of_quantizing_frameworks(name: str) -> None:
    if not (MODELS / name).is_file():
        pytest.skip(f"../shared/models/{name} is not there")
    model = load_model(MODELS / name)
    rng = np.random.default_rng(2)
    inputs = {node.name: rng.integers(-64, 64, (60, *node.shape)) / 32 for node in model.inputs}
    trace = trace_network(subject_of(model, inputs), inputs)
    exact = [tensor for tensor in trace.tensors if tensor.exact]
    assert len(exact) >= 8
    assert all(tensor.equal for tensor in exact), [tensor.name for tensor in exact if not tensor.equal]


def test_shares_and_places() -> None:
    """An input of four bits: what saturates, and where the error is largest, is counted by hand."""
    builder = RealGraphBuilder()
    x = builder.add(RealInput(shape=(2,)), "x")
    builder.output("y", builder.add(linear(x, np.eye(2), np.zeros(2)), "y"))
    model = builder.build()
    inputs = {"x": np.array([[0.0, 1.0], [2.0, -3.0], [5.0, 100.0], [-20.0, 7.0]])}
    options = QuantizeOptions(metric="none", inputs={"x": InputOptions(bits=4, frac=0)}, rescale=False)
    trace = trace_network(subject_of(model, inputs, options), inputs)
    tensor = trace["x"]
    assert tensor.formats == ("s4.0",)
    assert tensor.fixed.tolist() == [[0, 1], [2, -3], [5, 7], [-8, 7]]
    assert tensor.saturated == 2 / 8
    assert (tensor.max_error, tensor.worst_event, tensor.worst_element) == (93.0, 2, (1,))
    noise = 93.0**2 + 12.0**2
    power = float(np.square(inputs["x"]).sum())
    assert tensor.sqnr_db == pytest.approx(10 * np.log10(power / noise), rel=1e-12)
    assert trace.first_below is tensor
    assert "event 2, element 1: 100 in floats, 7 in the firmware" in trace.verdict()
    assert tensor.row()[7] == "25 %"
    assert len(tensor.row()) == len(COLUMNS)


def test_arrays_by_name() -> None:
    builder = RealGraphBuilder()
    x = builder.add(RealInput(shape=(2,)), "x")
    y = builder.add(linear(x, np.eye(2), np.zeros(2)), "x__float")
    builder.output("y", y)
    model = builder.build()
    inputs = events_of(model, 10)
    arrays = trace_network(subject_of(model, inputs), inputs).arrays()
    assert list(arrays) == ["x", "x__float_", "x__float", "x__float__float"]
    assert np.array_equal(arrays["x__float_"], inputs["x"])


def test_unknown_names_are_told() -> None:
    model = unlike_channels()
    inputs = events_of(model)
    with pytest.raises(KeyError, match=r"nothing: traced are x, first, first\.relu, second"):
        trace_network(subject_of(model, inputs), inputs)["nothing"]


def test_names_of_values_inside_a_layer() -> None:
    """Keras calls what its layer gives `dense`; the matrix inside has that name in the RealGraph."""
    builder = RealGraphBuilder()
    x = builder.add(RealInput(shape=(2,)), "x")
    x = builder.add(linear(x, np.eye(2), np.zeros(2)), "dense")
    zero = builder.add(RealConstant(values=FloatArray.of(0.0)), "dense.zero", "dense")
    x = builder.add(Extremum(x=x, y=zero), "dense.relu", "dense")
    builder.output("y", x)
    model = replace(builder.build(), tensors=(("dense", "dense.relu"),))
    assert [(value.name, value.node.name) for value in shown_values(model)] == [
        ("x", "x"),
        ("dense.linear", "dense"),
        ("dense", "dense.relu"),
    ]


def test_types_of_hls4ml_are_compared_with_the_network_without_them(tmp_path: Path) -> None:
    model = load_model(write_float(tmp_path / "float.onnx"))
    inputs = events_of(model)
    config = parse_hls4ml({"Model": {"Precision": "fixed<10,4>", "ReuseFactor": 1}}, "config")
    applied = apply_hls4ml(model, config)
    quantized = quantize_model(applied.model, Events(inputs=inputs), QuantizeOptions(metric="none"))
    kept = kept_of(quantized, quantized.graph)
    subject = Subject(network=model, graph=quantized.graph, kept=kept, typed=applied.model, names=applied.names)
    trace = trace_network(subject, inputs)
    assert {"h", "y"} <= set(names(trace))
    for tensor in trace.tensors:
        assert not tensor.equal
        assert tensor.max_error < 2.0 or tensor.saturated > 0


def test_correlation() -> None:
    x: Floats = np.array([[1.0, 2.0], [3.0, 5.0]])
    assert correlation(x, 2 * x + 1) == pytest.approx(1)
    assert correlation(x, -x) == pytest.approx(-1)
    assert correlation(x, np.ones((2, 2))) is None
