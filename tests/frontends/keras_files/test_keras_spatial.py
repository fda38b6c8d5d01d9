"""Keras layers with spatial axes against Keras itself, over their arguments. Skipped where Keras is not installed.

Tolerances are those of float32 (conftest): Keras computes in it, the reference in float64.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from random_tests import examples

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")  # compiling takes longer than running
keras = pytest.importorskip("keras", reason="keras is not installed")
pytest.importorskip(os.environ["KERAS_BACKEND"], reason="the backend of keras is not installed")

from keras_networks import Close, check, randomized  # noqa: E402

from metronn.errors import ModelError  # noqa: E402
from metronn.frontends import load_model  # noqa: E402
from metronn.ir.ops import Window  # noqa: E402
from metronn.model.graph import RealLinear  # noqa: E402

L = keras.layers
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]
KERAS = ("model.keras",)

LAYERS: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "conv1d": (lambda: L.Conv1D(3, 4), (9, 2)),
    "conv1d causal": (lambda: L.Conv1D(3, 3, padding="causal", dilation_rate=2, activation="relu"), (9, 2)),
    "conv1d with groups": (lambda: L.Conv1D(6, 3, groups=3, strides=2, padding="same"), (8, 3)),
    "conv1d channels first": (lambda: L.Conv1D(3, 3, data_format="channels_first", padding="same"), (2, 9)),
    "conv2d": (lambda: L.Conv2D(3, (2, 3), use_bias=False), (5, 6, 2)),
    "conv2d pointwise": (lambda: L.Conv2D(3, 1, activation="tanh"), (3, 4, 2)),
    "conv2d channels first": (lambda: L.Conv2D(3, 3, data_format="channels_first", activation="softmax"), (2, 5, 6)),
    "conv2d with groups": (lambda: L.Conv2D(4, 3, groups=2, padding="same", strides=2), (5, 6, 4)),
    "depthwise 1d": (lambda: L.DepthwiseConv1D(3, depth_multiplier=2), (7, 3)),
    "depthwise 2d": (lambda: L.DepthwiseConv2D((3, 2), padding="same", depth_multiplier=2), (5, 6, 3)),
    "depthwise 2d dilated": (lambda: L.DepthwiseConv2D(2, dilation_rate=2, use_bias=False), (5, 6, 3)),
    "depthwise 2d channels first": (lambda: L.DepthwiseConv2D(3, strides=2, data_format="channels_first"), (2, 7, 7)),
    "separable 1d": (lambda: L.SeparableConv1D(4, 3, depth_multiplier=2, padding="same"), (7, 3)),
    "separable 2d": (lambda: L.SeparableConv2D(4, 3, strides=2, activation="relu"), (7, 6, 3)),
    "max 1d": (lambda: L.MaxPooling1D(3, strides=2), (8, 3)),
    "max 1d same": (lambda: L.MaxPooling1D(3, padding="same"), (8, 3)),
    "max 2d": (lambda: L.MaxPooling2D(), (5, 6, 2)),
    "max 2d same": (lambda: L.MaxPooling2D((3, 2), strides=(1, 2), padding="same"), (5, 6, 2)),
    "max 2d channels first": (lambda: L.MaxPooling2D(2, data_format="channels_first"), (2, 4, 6)),
    "average 1d": (lambda: L.AveragePooling1D(4, strides=1), (8, 3)),
    "average 1d same": (lambda: L.AveragePooling1D(3, padding="same"), (8, 3)),
    "average 2d": (lambda: L.AveragePooling2D((2, 3)), (5, 6, 2)),
    "average 2d same": (lambda: L.AveragePooling2D(3, strides=2, padding="same"), (6, 5, 2)),
    "average 2d channels first": (
        lambda: L.AveragePooling2D(3, strides=1, padding="same", data_format="channels_first"),
        (2, 4, 6),
    ),
    **{
        f"{name} {options}": (lambda name=name, options=options: getattr(L, name)(**options), (3, 4, 5)[: rank + 1])
        for name, rank in (
            ("GlobalMaxPooling1D", 1),
            ("GlobalAveragePooling1D", 1),
            ("GlobalMaxPooling2D", 2),
            ("GlobalAveragePooling2D", 2),
        )
        for options in ({}, {"keepdims": True}, {"data_format": "channels_first", "keepdims": True})
    },
    "global max channels first": (lambda: L.GlobalMaxPooling2D(data_format="channels_first"), (3, 4, 5)),
    "zero padding 1d": (lambda: L.ZeroPadding1D((1, 2)), (4, 3)),
    "zero padding 1d both": (lambda: L.ZeroPadding1D(2), (4, 3)),
    "zero padding 2d": (lambda: L.ZeroPadding2D(((1, 0), (2, 3))), (4, 3, 2)),
    "zero padding 2d by axis": (lambda: L.ZeroPadding2D((1, 2), data_format="channels_first"), (2, 3, 4)),
    "cropping 1d": (lambda: L.Cropping1D((1, 2)), (5, 3)),
    "cropping 2d": (lambda: L.Cropping2D(((1, 0), (2, 1))), (4, 5, 2)),
    "cropping 2d channels first": (lambda: L.Cropping2D(1, data_format="channels_first"), (2, 4, 5)),
    "upsampling 1d": (lambda: L.UpSampling1D(3), (4, 2)),
    "upsampling 2d": (lambda: L.UpSampling2D((2, 3)), (3, 2, 2)),
    "upsampling 2d channels first": (lambda: L.UpSampling2D(2, data_format="channels_first"), (2, 3, 2)),
    "batch norm on channels first": (lambda: L.BatchNormalization(axis=1), (2, 3, 4)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layer_with_shape_agrees_with_keras(name: str, tmp_path: Path, assert_close: Close) -> None:
    make, shape = LAYERS[name]
    check(randomized(keras.Sequential([L.Input(shape), make()])), tmp_path, assert_close, KERAS)


def test_weights_of_every_layer_are_found_in_hdf5(tmp_path: Path, assert_close: Close) -> None:
    model = keras.Sequential(
        [
            L.Input((8, 8, 2)),
            L.Conv2D(4, 3, padding="same", activation="relu"),
            L.DepthwiseConv2D(3),
            L.SeparableConv2D(3, 2),
            L.BatchNormalization(),
            L.Conv2DTranspose(2, 2),
            L.LayerNormalization(axis=[1, 2]),
            L.PReLU(shared_axes=[1, 2]),
            L.TimeDistributed(L.Conv1D(2, 2)),
            L.EinsumDense("abcd,de->abce", output_shape=(None, None, 3), bias_axes="e"),
        ]
    )
    check(randomized(model), tmp_path, assert_close, ("model.h5",))


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4])
def test_transposed_convolutions_1d_agree(kernel: int, padding: str, tmp_path: Path, assert_close: Close) -> None:
    options = [
        {"strides": stride, "output_padding": extra, "dilation_rate": dilation}
        for stride, (extra, dilation) in itertools.product((1, 2, 3), ((None, 1), (0, 1), (1, 1), (None, 2)))
        if (extra is None or extra < stride) and (dilation == 1 or stride == 1)
    ]
    x = keras.Input((5, 2))
    outputs = [L.Conv1DTranspose(3, kernel, padding=padding, **chosen)(x) for chosen in options]
    check(randomized(keras.Model(x, outputs)), tmp_path, assert_close, KERAS)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("options", [{}, {"padding": "same"}, {"output_padding": (1, 0)}, {"use_bias": False}])
def test_transposed_convolution_2d_agrees(
    data_format: str, options: dict[str, Any], tmp_path: Path, assert_close: Close
) -> None:
    layer = L.Conv2DTranspose(3, (3, 2), strides=(2, 1), data_format=data_format, **options)
    if options.get("output_padding"):
        layer = L.Conv2DTranspose(3, (3, 2), strides=(2, 2), data_format=data_format, **options)
    check(randomized(keras.Sequential([L.Input((4, 4, 4)), layer])), tmp_path, assert_close)


@examples(12, slow=True)
@given(data=st.data())
def test_drawn_convolutions_and_pools_agree(data: st.DataObject, tmp_path: Path, assert_close: Close) -> None:
    rank = data.draw(st.sampled_from([1, 2]))
    small = st.integers(1, 3)
    kernel = data.draw(st.tuples(*[small] * rank))
    padding = data.draw(st.sampled_from(["valid", "same"]))
    strides, dilations = data.draw(st.tuples(*[small] * rank)), data.draw(st.tuples(*[small] * rank))
    assume(set(strides) == {1} or set(dilations) == {1})
    groups = data.draw(small)
    shape = data.draw(st.tuples(*[st.integers(7, 9)] * rank))
    conv = L.Conv1D if rank == 1 else L.Conv2D
    layers = [
        conv(2 * groups, kernel, strides=strides, dilation_rate=dilations, padding=padding, groups=groups),
        (L.MaxPooling1D if rank == 1 else L.MaxPooling2D)(2, padding="same", strides=data.draw(small)),
        (L.AveragePooling1D if rank == 1 else L.AveragePooling2D)(3, padding="same", strides=data.draw(small)),
    ]
    model = randomized(keras.Sequential([L.Input((*shape, groups)), *layers]))
    check(model, tmp_path, assert_close, KERAS)


def test_a_convolution_is_a_window_and_a_matrix(tmp_path: Path, assert_close: Close) -> None:
    model = randomized(keras.Sequential([L.Input((6, 6, 2)), L.Conv2D(3, 3, padding="same", name="conv")]))
    graph = check(model, tmp_path, assert_close, KERAS)[0]
    window, matrix = (node.op for node in graph.nodes[1:])
    assert isinstance(window, Window)
    assert (window.before, window.after) == ((1, 1), (1, 1))
    assert isinstance(matrix, RealLinear)
    assert matrix.weight.shape == (18, 3)


def test_a_pointwise_convolution_needs_no_window(tmp_path: Path, assert_close: Close) -> None:
    model = randomized(keras.Sequential([L.Input((3, 3, 2)), L.Conv2D(3, 1)]))
    assert len(check(model, tmp_path, assert_close, KERAS)[0].nodes) == 2


def test_an_average_with_equal_counts_is_one_scalar(tmp_path: Path, assert_close: Close) -> None:
    model = keras.Sequential([L.Input((4, 4, 2)), L.AveragePooling2D(2)])
    graph = check(model, tmp_path, assert_close, KERAS)[0]
    assert [node.shape for node in graph.nodes if node.name.endswith("scale")] == [()]


DISTRIBUTED: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "dense": (lambda: L.Dense(3, activation="softmax"), (4, 5)),
    "convolution": (lambda: L.Conv2D(2, 2, padding="same"), (3, 4, 4, 2)),
    "convolution channels first": (lambda: L.Conv2D(2, 2, data_format="channels_first"), (3, 2, 4, 4)),
    "pooling": (lambda: L.MaxPooling1D(2), (3, 4, 2)),
    "global pooling": (lambda: L.GlobalAveragePooling1D(), (3, 4, 2)),
    "flatten": (lambda: L.Flatten(), (3, 4, 2)),
    "flatten channels first": (lambda: L.Flatten(data_format="channels_first"), (3, 2, 2, 2)),
    "reshape": (lambda: L.Reshape((2, -1)), (3, 4)),
    "batch norm": (lambda: L.BatchNormalization(), (3, 4)),
    "layer norm": (lambda: L.LayerNormalization(), (3, 4)),
    "softmax": (lambda: L.Softmax(axis=1), (3, 4, 2)),
    "prelu": (lambda: L.PReLU(shared_axes=[1]), (3, 4, 2)),
    "permute": (lambda: L.Permute((2, 1)), (3, 4, 2)),
    "repeat": (lambda: L.RepeatVector(2), (3, 4)),
    "einsum": (lambda: L.EinsumDense("bx,xy->by", output_shape=2), (3, 4)),
    "zero padding": (lambda: L.ZeroPadding1D(1), (3, 4, 2)),
    "time distributed": (lambda: L.TimeDistributed(L.Dense(2)), (3, 4, 2)),
    "model": (lambda: keras.Sequential([L.Input((4,)), L.Dense(3, activation="relu"), L.Dense(2)]), (3, 4)),
}


@pytest.mark.parametrize("name", DISTRIBUTED)
def test_time_distributed_agrees_with_keras(name: str, tmp_path: Path, assert_close: Close) -> None:
    make, shape = DISTRIBUTED[name]
    model = keras.Sequential([L.Input(shape), L.TimeDistributed(make())])
    check(randomized(model), tmp_path, assert_close, KERAS)


def test_nested_shared_convolutional_models(tmp_path: Path, assert_close: Close) -> None:
    block = keras.Sequential(
        [L.Input((6, 6, 2)), L.Conv2D(2, 3, padding="same", name="c"), L.BatchNormalization(), L.ReLU()], name="block"
    )
    a = keras.Input((6, 6, 2))
    conv = L.Conv2D(2, 3, padding="same", name="shared")
    skip = L.Add()([block(a), conv(a)])
    inner_in = keras.Input((6, 6, 2))
    inner = keras.Model(inner_in, [L.MaxPooling2D()(conv(inner_in)), L.GlobalAveragePooling2D()(inner_in)])
    pooled, mean = inner(block(skip))
    model = keras.Model(a, [L.Dense(3)(L.Flatten()(pooled)), mean, conv(skip)])
    check(randomized(model), tmp_path, assert_close)


def test_mixing_upsampling_is_refused_with_the_reason(tmp_path: Path) -> None:
    keras.Sequential([L.Input((2, 2, 1)), L.UpSampling2D(interpolation="bilinear", name="up")]).save(
        tmp_path / "model.keras"
    )
    with pytest.raises(ModelError) as error:
        load_model(tmp_path / "model.keras")
    assert "up: UpSampling2D with interpolation bilinear (only nearest moves values" in str(error.value)
    assert "docs/frontends.md lists what is read" in str(error.value)


def test_layers_that_cannot_be_read_are_all_listed(tmp_path: Path) -> None:
    keras.Sequential(
        [
            L.Input((3, 4, 2)),
            L.TimeDistributed(L.LSTM(2, name="inside"), name="td"),
            L.Conv1D(1, 1, activation="sparsemax", name="c"),
            L.Masking(name="m"),
        ]
    ).save(tmp_path / "model.keras")
    recurrent = "LSTM (a recurrent network, which metronn does not read yet)"
    expected = f"3 unsupported layers:\n  td/inside: {recurrent}\n  c: Conv1D with activation sparsemax\n  m: Masking\n"
    with pytest.raises(ModelError, match=re.escape(expected)):
        load_model(tmp_path / "model.keras")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"padding": "wrap"}, r"conv \(Conv2D\): padding is 'wrap' in the configuration; valid, same and causal"),
        ({"kernel_size": [2, 2, 2]}, r"conv \(Conv2D\): kernel_size is \[2, 2, 2\] .*, 2 sizes are needed"),
        ({"strides": [0, 1]}, r"conv \(Conv2D\): strides is \[0, 1\]"),
        ({"groups": 2}, r"conv \(Conv2D\): 3 channels and 2 filters cannot be 2 groups"),
        ({"kernel_size": [9, 1]}, r"conv: |conv \(Conv2D\)"),
        ({"filters": 5}, r"conv \(Conv2D\): kernel has shape \(2, 2, 3, 2\) in the weights, .* \(2, 2, 3, 5\)"),
    ],
)
def test_a_damaged_configuration_is_an_error_that_names_the_layer(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    model = keras.Sequential([L.Input((4, 4, 3)), L.Conv2D(2, 2, name="conv")])
    architecture = json.loads(model.to_json())
    architecture["config"]["layers"][1]["config"].update(changes)
    (tmp_path / "net.json").write_text(json.dumps(architecture))
    model.save_weights(tmp_path / "net.weights.h5")
    with pytest.raises(ModelError, match=message):
        load_model(tmp_path / "net.json")
