"""Quantization of networks with shape: bounded memory, folding through windows, what convolutions lose."""

from __future__ import annotations

import numpy as np
import pytest

from metronn.emulate.numpy import emulate
from metronn.events.codes import decode_outputs, encode_inputs
from metronn.events.data import Events
from metronn.events.split import split_events
from metronn.frontends.common.builder import LayerBuilder
from metronn.frontends.common.spatial import PoolKind, convolution, global_pool, pool
from metronn.ir.ops import Add, Multiply, op_name
from metronn.model.graph import Floats, RealGraph, RealLinear
from metronn.model.reference import run_reference
from metronn.passes.pipeline import prepare, quantize_model
from metronn.quantize.calibrated import calibration
from metronn.quantize.quantize import quantize

ONES = (1, 1)


class Network:
    """A small network of layers on an image, built one by one."""

    def __init__(self, shape: tuple[int, ...], seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.builder = LayerBuilder()
        self.x = self.builder.input("image", shape)
        self.layers = 0

    def layer(self) -> None:
        self.layers += 1
        self.builder.layer = f"layer{self.layers}"

    def conv(self, channels: int, *, pad: int = 0, relu: bool = True) -> Network:
        self.layer()
        inputs = self.builder.shape(self.x)[-1]
        kernel = self.rng.normal(size=(3, 3, inputs, channels)) * np.sqrt(2 / (9 * inputs))
        self.x = convolution(
            self.builder,
            self.x,
            kernel,
            self.rng.normal(size=channels) * 0.1,
            strides=ONES,
            dilations=ONES,
            pads=[(pad, pad)] * 2,
        )
        if relu:
            self.x = self.builder.relu(self.x)
        return self

    def norm(self) -> Network:
        self.layer()
        size = self.builder.shape(self.x)[-1]
        stats = (
            self.rng.uniform(0.5, 1.5, size),
            self.rng.normal(size=size),
            self.rng.normal(size=size),
            np.ones(size),
        )
        axis = len(self.builder.shape(self.x)) - 1
        self.x = self.builder.normalized(self.x, axis, stats, 1e-3)
        return self

    def pooled(self, kind: PoolKind, *, pad: int = 0) -> Network:
        self.layer()
        self.x = pool(
            self.builder,
            self.x,
            kind,
            kernel=(2, 2),
            strides=(2, 2),
            dilations=ONES,
            pads=[(pad, pad)] * 2,
            count_padding=False,
        )
        return self

    def finish(self, classes: int = 3) -> RealGraph:
        self.layer()
        self.x = global_pool(self.builder, self.x, PoolKind.AVERAGE, rank=2, keep=False)
        size = self.builder.shape(self.x)[0]
        self.x = self.builder.linear(self.x, self.rng.normal(size=(size, classes)))
        return self.builder.finish([("y", self.x)], "test")


def images(events: int, shape: tuple[int, ...], seed: int = 1) -> Floats:
    rng = np.random.default_rng(seed)
    return np.round(rng.gamma(0.5, 1.0, size=(events, *shape)) * 32) / 32


def kinds(graph: RealGraph) -> list[str]:
    return [type(node.op).__name__.removeprefix("Real").lower() for node in graph.nodes]


def assert_same_function(model: RealGraph, other: RealGraph) -> None:
    x = images(20, model.inputs[0].shape, 3)
    one, two = run_reference(model, {"image": x})["y"], run_reference(other, {"image": x})["y"]
    np.testing.assert_allclose(one, two, rtol=1e-9, atol=1e-9)


def test_normalization_after_a_convolution_disappears_into_it() -> None:
    model = Network((8, 8, 2)).conv(4, pad=1, relu=False).norm().conv(3).finish()
    prepared = prepare(model)
    assert not any(isinstance(n.op, Add) for n in prepared.nodes)
    assert kinds(prepared).count("multiply") == 0
    assert_same_function(model, prepared)


def test_normalization_before_a_convolution_folds_without_padding_and_stays_with_it() -> None:
    """Padding is zero after the normalization: its shift cannot be a bias where windows reach over the edge."""
    folded = prepare(Network((8, 8, 2)).norm().conv(3).finish())
    assert not any(isinstance(node.op, Add) for node in folded.nodes)
    assert_same_function(Network((8, 8, 2)).norm().conv(3).finish(), folded)
    model = Network((8, 8, 2)).norm().conv(3, pad=1).finish()
    kept = prepare(model)
    assert sum(isinstance(node.op, Add) for node in kept.nodes) == 1
    assert_same_function(model, kept)


@pytest.mark.parametrize("pad", [0, 1])
def test_the_scale_of_an_average_disappears_into_the_next_convolution(pad: int) -> None:
    model = Network((8, 8, 2)).conv(4).pooled(PoolKind.AVERAGE).conv(3, pad=pad).finish()
    prepared = prepare(model)
    assert not any(isinstance(node.op, Multiply) for node in prepared.nodes)
    assert_same_function(model, prepared)


def test_averages_of_unequal_counts_are_scaled_position_by_position() -> None:
    model = Network((6, 6, 2)).pooled(PoolKind.AVERAGE, pad=1).conv(3).finish()
    prepared = prepare(model)
    scales = [node for node in prepared.nodes if isinstance(node.op, Multiply)]
    assert [node.shape for node in scales] == [(4, 4, 2)]
    assert_same_function(model, prepared)


def network() -> RealGraph:
    built = Network((10, 10, 1)).conv(4, pad=1).pooled(PoolKind.MAX).norm().conv(6, pad=1).pooled(PoolKind.AVERAGE)
    return built.conv(6, pad=1).finish()


def test_calibration_in_pieces_gives_what_one_piece_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    model, events = network(), Events(inputs={"image": images(300, (10, 10, 1))})
    whole = quantize_model(model, events)
    monkeypatch.setattr(calibration, "CHUNK_ELEMENTS", 10_000)
    pieces = quantize_model(model, events)
    assert [op_name(node.op) for node in pieces.graph.nodes] == [op_name(node.op) for node in whole.graph.nodes]
    assert whole.report.outputs[0].sqnr_db is not None
    assert pieces.report.outputs[0].sqnr_db == pytest.approx(whole.report.outputs[0].sqnr_db, abs=1)
    assert not pieces.report.calibration_cut


def test_fewer_events_are_used_where_values_are_many_and_the_report_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    model, events = network(), Events(inputs={"image": images(300, (10, 10, 1))})
    monkeypatch.setattr(calibration, "KEPT_ELEMENTS", 50 * calibration.kept_elements(prepare(model)))
    report = quantize_model(model, events).report
    assert (report.calibration_events, report.events, report.calibration_cut) == (50, 300, True)
    assert report.summary().endswith("; calibrated on 50, what memory allows")
    assert report.to_json()["calibration_cut"] is True


def test_windows_are_not_kept() -> None:
    model = network()
    values = calibration.RealValues()
    run_reference(model, {"image": images(5, (10, 10, 1))}, values.keep)
    windows = [node.name for node in model.nodes if "window" in type(node.op).__name__.lower()]
    assert windows
    assert not set(windows) & set(values.held)
    seen: dict[str, Floats] = {}
    run_reference(model, {"image": images(5, (10, 10, 1))}, lambda node, x: seen.update({node.name: x}))
    for name, x in seen.items():
        np.testing.assert_array_equal(values[name], x)
        np.testing.assert_array_equal(values.part(name, slice(1, 3)), x if len(x) == 1 else x[1:3])


def test_eight_bits_lose_little_of_a_network_with_every_layer_of_images() -> None:
    model, x = network(), images(600, (10, 10, 1))
    quantized = quantize_model(model, Events(inputs={"image": x}))
    report = quantized.report
    assert report.outputs[0].sqnr_db is not None
    assert report.outputs[0].sqnr_db > 25
    fixed = decode_outputs(quantized.graph, emulate(quantized.graph, encode_inputs(quantized.graph, {"image": x})))
    judging = split_events(600, report.calibration_limit).judging
    errors = np.abs(fixed["y"] - run_reference(model, {"image": x})["y"])
    assert errors[judging].max() == report.outputs[0].max_error


def test_a_network_of_movement_alone_is_exact() -> None:
    builder = LayerBuilder()
    x = builder.input("image", (4, 4, 2))
    builder.layer = "turn"
    lowering_output = builder.transpose(x, (1, 0, 2))
    model = builder.finish([("y", lowering_output)], "test")
    quantized = quantize(model, Events(inputs={"image": images(9, (4, 4, 2))}))
    assert quantized.report.outputs[0].sqnr_db is None
    assert not any(isinstance(node.op, RealLinear) for node in model.nodes)
