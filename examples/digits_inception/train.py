"""Train the network with inception-style branches on digits (Szegedy et al., arXiv:1409.4842). A minute of one core."""

from __future__ import annotations

from pathlib import Path

import training
from digits import generate, shifted
from samples import TEST, TRAIN
from training import keras  # the backend is chosen there


def conv(x: keras.KerasTensor, channels: int, width: int, name: str) -> keras.KerasTensor:
    """A convolution with ReLU that keeps the image size."""
    return keras.layers.Conv2D(channels, width, padding="same", activation="relu", name=name)(x)


def module(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Four branches side by side: 1 x 1; 1 x 1 then 3 x 3; 1 x 1 then 5 x 5; 3 x 3 maximum then 1 x 1."""
    largest = keras.layers.MaxPooling2D(3, 1, padding="same", name=f"{name}_largest")(x)
    branches = [
        conv(x, 8, 1, f"{name}_1x1"),
        conv(conv(x, 6, 1, f"{name}_3x3_reduce"), 12, 3, f"{name}_3x3"),
        conv(conv(x, 4, 1, f"{name}_5x5_reduce"), 6, 5, f"{name}_5x5"),
        conv(largest, 6, 1, f"{name}_pool"),
    ]
    return keras.layers.Concatenate(name=f"{name}_joined")(branches)


def build() -> keras.Model:
    """Input `image` [8, 8, 1], output `digit` [10] (logits)."""
    inputs = keras.Input((8, 8, 1), name="image")
    x = conv(inputs, 8, 3, "stem")
    x = module(x, "module1")
    x = keras.layers.MaxPooling2D(2, name="pool")(x)
    x = module(x, "module2")
    x = keras.layers.GlobalAveragePooling2D(name="mean")(x)
    return keras.Model(inputs, keras.layers.Dense(10, name="digit")(x), name="digits_inception")


def main() -> int:
    """Train, measure the accuracy on test images, save."""
    options = training.arguments(__doc__, Path(__file__).resolve().parent / "model.keras")
    data, test = shifted(generate(seed=TRAIN), 8), generate(seed=TEST)
    model = build()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    training.fit(model, data, data["label"], loss=loss, epochs=12, batch=64)
    accuracy = (training.answers(model, test)["digit"].argmax(axis=1) == test["label"]).mean()
    training.save(model, options.output, f"accuracy {accuracy:.4f} on {len(test['label'])} test images")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
