"""Train the b-jet tagger: three inputs, a branch each, joined to one sigmoid. Under a minute of one core."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import training
from bjet_tagger.generate import (
    CONSTITUENT_FEATURES,
    CONSTITUENTS,
    JET_FEATURES,
    VERTEX_FEATURES,
    VERTICES,
    generate,
)
from samples import TEST, TRAIN
from training import keras  # the backend is chosen there


def branch(name: str, objects: int, features: int, widths: tuple[int, ...]) -> tuple[keras.KerasTensor, ...]:
    """The same small network on every object, then the largest answer over the objects: order does not matter."""
    inputs = x = keras.Input((objects, features), name=name)
    for i, width in enumerate(widths, start=1):
        x = keras.layers.Conv1D(width, 1, activation="relu", kernel_initializer="he_normal", name=f"{name}_conv{i}")(x)
    x = keras.layers.MaxPooling1D(objects, name=f"{name}_largest")(x)
    return inputs, keras.layers.Flatten(name=f"{name}_flat")(x)


def build() -> keras.Model:
    """Inputs `vertices` [4, 5], `constituents` [16, 6], `jet` [8]; output `bottom` [1], a probability."""
    vertices, x = branch("vertices", VERTICES, VERTEX_FEATURES, (12, 8))
    constituents, y = branch("constituents", CONSTITUENTS, CONSTITUENT_FEATURES, (24, 12))
    jet = keras.Input((JET_FEATURES,), name="jet")
    z = keras.layers.Dense(8, activation="relu", kernel_initializer="he_normal", name="jet_dense")(jet)
    x = keras.layers.Concatenate(name="joined")([x, y, z])
    x = keras.layers.Dense(32, activation="relu", kernel_initializer="he_normal", name="dense1")(x)
    x = keras.layers.Dense(16, activation="relu", kernel_initializer="he_normal", name="dense2")(x)
    bottom = keras.layers.Dense(1, activation="sigmoid", name="bottom")(x)
    return keras.Model([vertices, constituents, jet], bottom, name="bjet_tagger")


def main() -> int:
    """Train, measure the area under the ROC curve on test jets, save."""
    from metronn.events.metrics import auc

    options = training.arguments(__doc__, Path(__file__).resolve().parent / "model.keras")
    data, test = generate(100_000, seed=TRAIN), generate(20_000, seed=TEST)
    model = build()
    training.fit(model, data, data["label"], loss="binary_crossentropy", epochs=10)
    area = auc(np.float64(training.answers(model, test)["bottom"]), test["label"])
    training.save(model, options.output, f"area under the ROC curve {area:.4f} on {len(test['label']):,} test jets")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
