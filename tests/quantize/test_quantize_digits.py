"""Handwritten digits: a small convolutional network, trained here, keeps its accuracy with 8 bits."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from metronn.events.data import Events
from metronn.frontends import load_model
from metronn.passes.pipeline import quantize_model

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras", reason="keras is not installed")
pytest.importorskip(os.environ["KERAS_BACKEND"], reason="the backend of keras is not installed")
datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]


def test_eight_bits_lose_less_than_one_percent_of_accuracy_on_digits(tmp_path: Path) -> None:
    keras.utils.set_random_seed(5)
    digits = datasets.load_digits()
    images, labels = (digits.images / 16)[..., np.newaxis], digits.target
    train, test = slice(0, 1200), slice(1200, None)
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((8, 8, 1)),
            layers.BatchNormalization(),
            layers.Conv2D(16, 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.SeparableConv2D(24, 3, padding="same", activation="relu"),
            layers.AveragePooling2D(2),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.005), "sparse_categorical_crossentropy")
    model.fit(images[train], labels[train], epochs=25, batch_size=60, verbose=0)
    model.save(tmp_path / "digits.keras")
    network = load_model(tmp_path / "digits.keras")
    events = Events(inputs={network.inputs[0].name: images[test]}, labels=labels[test])
    report = quantize_model(network, events).report
    assert report.metric is not None
    assert report.metric.float_value > 0.92
    assert report.metric.loss < 0.01
