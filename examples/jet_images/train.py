"""Train the top tagger on jet images: three convolutions with pooling, dense 32, sigmoid. 3 minutes of one core."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import training
from jet_images.generate import SIDE, generate
from samples import TEST, TRAIN
from training import keras  # the backend is chosen there


def build() -> keras.Model:
    """Input `image` [40, 40, 1], output `top` [1], a probability."""
    inputs = x = keras.Input((SIDE, SIDE, 1), name="image")
    for i, channels in enumerate((8, 16, 16), start=1):
        x = keras.layers.Conv2D(channels, 3, padding="same", activation="relu", name=f"conv{i}")(x)
        x = keras.layers.MaxPooling2D(2, name=f"pool{i}")(x)
    x = keras.layers.Flatten(name="flat")(x)
    x = keras.layers.Dense(32, activation="relu", name="dense")(x)
    return keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid", name="top")(x), name="jet_images")


def main() -> int:
    """Train, measure the area under the ROC curve on test jets, save."""
    from metronn.events.metrics import auc

    options = training.arguments(__doc__, Path(__file__).resolve().parent / "model.keras")
    data, test = generate(30_000, seed=TRAIN), generate(10_000, seed=TEST)
    model = build()
    training.fit(model, data, data["label"], loss="binary_crossentropy", epochs=6, batch=128)
    area = auc(np.float64(training.answers(model, test)["top"]), test["label"])
    training.save(model, options.output, f"area under the ROC curve {area:.4f} on {len(test['label']):,} test jets")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
