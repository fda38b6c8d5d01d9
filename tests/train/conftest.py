"""The command line in this process, small networks of Keras and events for them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from training_events import write_data

import command_line
from command_line import Run

os.environ.setdefault("KERAS_BACKEND", "jax")


@pytest.fixture
def command() -> Run:
    """Run the command line in this process."""
    return command_line.metronn


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Events with labels."""
    return write_data(tmp_path_factory.mktemp("data") / "events.npz")


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """A trained network of 6 inputs and 3 classes, with batch normalizations in front and between."""
    keras = pytest.importorskip("keras")
    pytest.importorskip("hgq")
    keras.utils.set_random_seed(3)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((6,), name="x"),
            layers.BatchNormalization(name="front"),
            layers.Dense(16, name="hidden"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(name="relu"),
            layers.Dense(12, activation="relu", name="second"),
            layers.Dense(3, activation="softmax", name="classes"),
        ]
    )
    arrays = np.load(data)
    model.compile(optimizer=keras.optimizers.Adam(0.01), loss="sparse_categorical_crossentropy")
    model.fit(arrays["x"], arrays["label"], epochs=12, batch_size=64, verbose=0)
    path = tmp_path_factory.mktemp("network") / "small.keras"
    model.save(path)
    return path
