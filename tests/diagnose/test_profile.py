"""Sizes of trained values beside their formats, and the picture of them."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
from traced_networks import dyadic, events_of, linear, normalized_twice, subject_of, unlike_channels

from metronn.diagnose.kept import KeptTrace
from metronn.diagnose.measured import COLUMNS, Sizes
from metronn.diagnose.profile import Profile, profile_network
from metronn.errors import ToolError
from metronn.ir.ops import Linear
from metronn.model.graph import FloatArray, RealGraphBuilder, RealInput, RealLinear
from metronn.passes.pipeline import prepare
from metronn.quantize.options import InputOptions, QuantizeOptions


def titles(profile: Profile) -> list[tuple[str, str]]:
    return [(tensor.name, tensor.kind) for tensor in profile.tensors]


def test_weights_stand_before_what_they_make() -> None:
    model = unlike_channels()
    inputs = events_of(model)
    profile = profile_network(subject_of(model, inputs), inputs)
    assert titles(profile) == [
        ("x", "activations"),
        ("first", "weights"),
        ("first", "activations"),
        ("first.relu", "activations"),
        ("second", "weights"),
        ("second", "activations"),
    ]
    assert profile.events == 200
    assert all(len(row) == len(COLUMNS) for row in profile.rows())


def test_formats_of_scaled_channels_are_in_the_units_of_the_network() -> None:
    """Each channel has a step of its own; without the scale none of them fits its weights."""
    model = unlike_channels()
    inputs = events_of(model)
    subject = subject_of(model, inputs)
    matrices = {matrix.real: matrix for matrix in subject.kept.matrices}
    for name, matrix in matrices.items():
        op, real = subject.graph.by_name[matrix.value].op, model.by_name[name].op
        assert isinstance(op, Linear) and isinstance(real, RealLinear)
        step, codes = matrix.step(op), op.weight.array
        assert (np.abs(codes * step - real.weight.array) <= 2 * step).all()
        other = replace(matrix, rows=FloatArray.of(1.0), columns=FloatArray.of(1.0)).step(op)
        assert not (np.abs(codes * other - real.weight.array) <= 2 * other).all()
    first = profile_network(subject, inputs).tensors[1]
    assert first.format.steps[1] > 8 * first.format.steps[0]
    assert first.vanishing < 0.05
    plain = [replace(m, rows=FloatArray.of(1.0), columns=FloatArray.of(1.0)) for m in matrices.values()]
    without = replace(subject, kept=KeptTrace(values=(), matrices=tuple(plain)))
    assert profile_network(without, inputs).tensors[0].vanishing > 0.3


def test_folded_weights_are_those_with_the_normalization() -> None:
    model = normalized_twice()
    inputs = events_of(model)
    profile = profile_network(subject_of(model, inputs), inputs)
    weights = next(tensor for tensor in profile.tensors if tensor.kind == "weights")
    op = prepare(model).by_name["dense"].op
    assert isinstance(op, RealLinear)
    assert weights.sizes.largest == np.abs(op.weight.array).max()


def test_shares_are_counted() -> None:
    builder = RealGraphBuilder()
    x = builder.add(RealInput(shape=(2,)), "x")
    builder.output("y", builder.add(linear(x, np.eye(2), np.zeros(2)), "y"))
    model = builder.build()
    inputs = {"x": np.array([[0.0, 0.3], [-0.5, 7.4], [7.5, -8.5], [-9.0, 100.0]])}
    options = QuantizeOptions(metric="none", inputs={"x": InputOptions(bits=4, frac=0)}, rescale=False)
    tensor = profile_network(subject_of(model, inputs, options), inputs).tensors[0]
    assert (tensor.format.names, tensor.format.steps, tensor.format.reaches) == (("s4.0",), (1.0, 1.0), (8.0, 8.0))
    assert tensor.beyond == 3 / 8  # 7.5 rounds to 8, which there is not; -8.5 rounds up to -8
    assert tensor.vanishing == 1 / 8  # 0.3; half a step is as near to 1
    assert (tensor.sizes.count, tensor.sizes.zeros, tensor.sizes.least, tensor.sizes.largest) == (8, 1, 0.3, 100.0)


def test_sizes_are_those_of_what_is_not_zero() -> None:
    sizes = Sizes.of(np.array([0.0, -1.0, 2.0, -3.0, 4.0, 5.0, 0.0]))
    assert sizes == Sizes(count=7, zeros=2, least=1, quartiles=(2, 3, 4), high=pytest.approx(4.996), largest=5)
    assert Sizes.of(np.zeros(3)) == Sizes(count=3, zeros=3, least=0, quartiles=(0, 0, 0), high=0, largest=0)


@pytest.mark.parametrize("seed", range(4))
def test_a_quantized_network_fills_its_formats(seed: int) -> None:
    """Values behind a quantizer of the framework are on its grid and within its bounds."""
    model = dyadic(seed)
    inputs = events_of(model)
    for tensor in profile_network(subject_of(model, inputs), inputs).tensors:
        assert tensor.beyond == 0, tensor.name
        assert tensor.vanishing == 0, tensor.name


def test_json_holds_the_figures() -> None:
    model = unlike_channels()
    inputs = events_of(model)
    profile = profile_network(subject_of(model, inputs), inputs)
    data = profile.to_json()
    assert data["events"] == 200
    first = data["tensors"][1]
    assert (first["name"], first["kind"], first["values"]) == ("first", "weights", 72)
    assert first["percentile_99.9"] == profile.tensors[1].sizes.high


def test_the_picture_has_a_row_for_each_tensor() -> None:
    pytest.importorskip("matplotlib")
    model = unlike_channels()
    inputs = events_of(model)
    profile = profile_network(subject_of(model, inputs), inputs)
    axes = profile.figure().axes[0]
    shown = [label.get_text() for label in axes.get_yticklabels()]
    assert shown == ["x", "first (weights)", "first", "first.relu", "second (weights)", "second"]
    svg = profile.svg()
    assert svg == profile.svg()
    assert svg.startswith(b"<?xml") and b"first (weights)" in svg
    assert profile.png().startswith(b"\x89PNG")


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ToolError, match=r"pip install 'metronn\[plots\]'"):
        Profile(events=1, tensors=()).figure()
