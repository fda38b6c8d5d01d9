"""Train the small convolutional network on digits. Half a minute of one core."""

from __future__ import annotations

from pathlib import Path

import training
from digits import generate, shifted
from samples import TEST, TRAIN
from training import keras  # the backend is chosen there


def build() -> keras.Model:
    """Input `image` [8, 8, 1], output `digit` [10] (logits)."""
    inputs = x = keras.Input((8, 8, 1), name="image")
    x = keras.layers.Conv2D(8, 3, padding="same", activation="relu", name="conv1")(x)
    x = keras.layers.MaxPooling2D(2, name="pool1")(x)
    x = keras.layers.Conv2D(16, 3, padding="same", activation="relu", name="conv2")(x)
    x = keras.layers.MaxPooling2D(2, name="pool2")(x)
    x = keras.layers.Flatten(name="flat")(x)
    return keras.Model(inputs, keras.layers.Dense(10, name="digit")(x), name="digits_cnn")


def main() -> int:
    """Train, measure the accuracy on test images, save."""
    options = training.arguments(__doc__, Path(__file__).resolve().parent / "model.keras")
    data, test = shifted(generate(seed=TRAIN), 8), generate(seed=TEST)
    model = build()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    training.fit(model, data, data["label"], loss=loss, epochs=30, batch=64)
    accuracy = (training.answers(model, test)["digit"].argmax(axis=1) == test["label"]).mean()
    training.save(model, options.output, f"accuracy {accuracy:.4f} on {len(test['label'])} test images")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
