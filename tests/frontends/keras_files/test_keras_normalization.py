"""Activations, normalizations and products of Keras against Keras itself. Skipped where Keras is not installed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")  # compiling takes longer than running
keras = pytest.importorskip("keras", reason="keras is not installed")
pytest.importorskip(os.environ["KERAS_BACKEND"], reason="the backend of keras is not installed")

from keras_networks import Close, check, randomized  # noqa: E402

from metronn.frontends.keras.activations import ACTIVATIONS  # noqa: E402

L = keras.layers
KERAS = ("model.keras",)
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]

LAYERS: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "elu": (lambda: L.ELU(0.7), (3, 4)),
    "relu with threshold": (lambda: L.ReLU(threshold=0.5), (3, 4)),
    "relu with threshold and slope": (lambda: L.ReLU(threshold=0.5, negative_slope=0.25), (3, 4)),
    "relu with everything": (lambda: L.ReLU(threshold=0.5, negative_slope=0.25, max_value=1.5), (3, 4)),
    "dense with relu layer": (lambda: L.Dense(3, activation=L.ReLU(threshold=1.0)), (4,)),
    "dense with elu layer": (lambda: L.Dense(3, activation=L.ELU(0.5)), (4,)),
    "softmax on two axes": (lambda: L.Softmax(axis=(1, 3)), (2, 3, 4)),
    "layer norm": (lambda: L.LayerNormalization(), (3, 4)),
    "layer norm on another axis": (lambda: L.LayerNormalization(axis=1, epsilon=0.1), (3, 4)),
    "layer norm on two axes": (lambda: L.LayerNormalization(axis=[1, 2], center=False), (3, 4)),
    "layer norm on axes apart": (lambda: L.LayerNormalization(axis=[1, -1], scale=False), (3, 2, 4)),
    "layer norm bare": (lambda: L.LayerNormalization(center=False, scale=False), (3, 4)),
    "layer norm by rms": (lambda: L.LayerNormalization(rms_scaling=True), (3, 4)),
    "unit normalization": (lambda: L.UnitNormalization(), (3, 4)),
    "unit normalization on two axes": (lambda: L.UnitNormalization(axis=(1, 2)), (3, 4)),
    "normalization": (lambda: L.Normalization(), (3, 4)),
    "normalization on two axes": (lambda: L.Normalization(axis=(1, 2)), (3, 4)),
    "normalization of all": (lambda: L.Normalization(axis=None), (3, 4)),
    "normalization by numbers": (lambda: L.Normalization(mean=0.5, variance=4.0), (3, 4)),
    "normalization by lists": (lambda: L.Normalization(mean=[0.5, 1, 2, 3], variance=[4.0, 1, 2, 3]), (3, 4)),
    "normalization inverted": (lambda: L.Normalization(axis=1, invert=True), (3, 4)),
    "einsum dense": (lambda: L.EinsumDense("abc,cd->abd", output_shape=(None, 5), bias_axes="d"), (3, 4)),
    "einsum dense elided": (lambda: L.EinsumDense("...x,xy->...y", output_shape=5, bias_axes="y"), (2, 3, 4)),
    "einsum dense heads": (lambda: L.EinsumDense("abc,cde->abde", output_shape=(None, 2, 3), bias_axes="de"), (3, 4)),
    "einsum dense from heads": (
        lambda: L.EinsumDense("abde,dec->abc", output_shape=(None, 5), activation="relu"), (3, 2, 4)
    ),
    "einsum dense in blocks": (lambda: L.EinsumDense("abc,bcd->abd", output_shape=(3, 2), bias_axes="bd"), (3, 4)),
    "einsum dense moving axes": (lambda: L.EinsumDense("abc,bd->adc", output_shape=(2, None), bias_axes="d"), (3, 4)),
    "einsum dense bias on a kept axis": (
        lambda: L.EinsumDense("abc,cd->abd", output_shape=(3, 5), bias_axes="b"), (3, 4)
    ),
    "einsum dense elided behind": (lambda: L.EinsumDense("ab...,bc->ac...", output_shape=(2,), bias_axes="c"), (3, 4)),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_normalizing_layer_agrees_with_keras(name: str, tmp_path: Path, assert_close: Close) -> None:
    make, shape = LAYERS[name]
    layer = make()
    if isinstance(layer, L.Normalization) and layer.get_config()["mean"] is None:
        layer.adapt(np.random.default_rng(0).normal(1, 2, size=(50, *shape)).astype(np.float32))
        model = keras.Sequential([L.Input(shape), layer])
    else:
        model = randomized(keras.Sequential([L.Input(shape), layer]))
    check(model, tmp_path, assert_close, KERAS)


def test_every_activation_agrees_with_keras(tmp_path: Path, assert_close: Close) -> None:
    x = keras.Input((3, 6))
    model = keras.Model(x, [L.Activation(name)(x) for name in sorted(ACTIVATIONS)])
    check(model, tmp_path, assert_close, low=-6, high=6)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize(
    ("left", "right", "axes"),
    [((4,), (4,), 1), ((3, 4), (4,), (2, 1)), ((4,), (4, 3), 1), ((3, 4), (5, 4), 2), ((3, 4), (5, 4), -1),
     ((4, 3), (4, 5), 1), ((2, 3, 4), (4, 5), (3, 1))],
)  # fmt: skip
def test_dot_agrees_with_keras(
    left: tuple[int, ...], right: tuple[int, ...], axes: Any, normalize: bool, tmp_path: Path, assert_close: Close
) -> None:
    a, b = keras.Input(left), keras.Input(right)
    check(keras.Model([a, b], L.Dot(axes, normalize=normalize)([a, b])), tmp_path, assert_close, KERAS)
