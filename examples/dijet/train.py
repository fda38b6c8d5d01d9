"""Train the dijet classifier: 27 features -> 64 -> 32 -> 32 -> 4 classes, about a minute of one core."""

from __future__ import annotations

from pathlib import Path

import training
from dijet.generate import CLASSES, INPUTS, generate
from samples import TEST, TRAIN
from training import keras  # the backend is chosen there


def build() -> keras.Model:
    """Input `features` [27], output `classes` [4] (logits)."""
    inputs = x = keras.Input((INPUTS,), name="features")
    for i, units in enumerate((64, 32, 32), start=1):
        x = keras.layers.Dense(units, activation="relu", kernel_initializer="he_normal", name=f"dense{i}")(x)
    return keras.Model(inputs, keras.layers.Dense(len(CLASSES), name="classes")(x), name="dijet")


def main() -> int:
    """Train, measure the accuracy on test events, save."""
    options = training.arguments(__doc__, Path(__file__).resolve().parent / "model.keras")
    data, test = generate(100_000, seed=TRAIN), generate(20_000, seed=TEST)
    model = build()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    training.fit(model, data, data["label"], loss=loss, epochs=12)
    accuracy = (training.answers(model, test)["classes"].argmax(axis=1) == test["label"]).mean()
    training.save(model, options.output, f"accuracy {accuracy:.4f} on {len(test['label']):,} test events")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
