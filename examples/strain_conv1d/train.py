"""Train the chirp finder: three 1-D convolutions with pooling, dense 16, sigmoid. 1 to 2 minutes of one core."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import training
from samples import TEST, TRAIN
from strain_conv1d.generate import SAMPLES, generate
from training import keras  # the backend is chosen there


def build() -> keras.Model:
    """Input `strain` [512, 1], output `chirp` [1], a probability."""
    inputs = x = keras.Input((SAMPLES, 1), name="strain")
    for i, (channels, width) in enumerate(((8, 16), (16, 8), (16, 8)), start=1):
        x = keras.layers.Conv1D(channels, width, padding="same", activation="relu", name=f"conv{i}")(x)
        x = keras.layers.MaxPooling1D(4, name=f"pool{i}")(x)
    x = keras.layers.Flatten(name="flat")(x)
    x = keras.layers.Dense(16, activation="relu", name="dense")(x)
    return keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid", name="chirp")(x), name="strain_conv1d")


def main() -> int:
    """Train, measure the area under the ROC curve on test windows, save."""
    from metronn.events.metrics import auc

    options = training.arguments(__doc__, Path(__file__).resolve().parent / "model.keras")
    data, test = generate(40_000, seed=TRAIN), generate(10_000, seed=TEST)
    model = build()
    training.fit(model, data, data["label"], loss="binary_crossentropy", epochs=8)
    area = auc(np.float64(training.answers(model, test)["chirp"]), test["label"])
    training.save(model, options.output, f"area under the ROC curve {area:.4f} on {len(test['label']):,} test windows")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
