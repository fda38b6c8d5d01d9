"""Train the residual network on digits (He et al., arXiv:1512.03385). A minute of one core."""

from __future__ import annotations

from pathlib import Path

import training
from digits import generate, shifted
from samples import TEST, TRAIN
from training import keras  # the backend is chosen there


def block(x: keras.KerasTensor, channels: int, stride: int, name: str) -> keras.KerasTensor:
    """Two 3 x 3 convolutions beside a shortcut, which is a 1 x 1 convolution where shapes differ."""
    y = keras.layers.Conv2D(channels, 3, stride, padding="same", use_bias=False, name=f"{name}_conv1")(x)
    y = keras.layers.BatchNormalization(name=f"{name}_norm1", momentum=0.9)(y)
    y = keras.layers.ReLU(name=f"{name}_relu1")(y)
    y = keras.layers.Conv2D(channels, 3, padding="same", use_bias=False, name=f"{name}_conv2")(y)
    y = keras.layers.BatchNormalization(name=f"{name}_norm2", momentum=0.9)(y)
    if stride != 1 or x.shape[-1] != channels:
        x = keras.layers.Conv2D(channels, 1, stride, name=f"{name}_shortcut")(x)
    return keras.layers.ReLU(name=f"{name}_relu2")(keras.layers.Add(name=f"{name}_add")([x, y]))


def build() -> keras.Model:
    """Input `image` [8, 8, 1], output `digit` [10] (logits)."""
    inputs = keras.Input((8, 8, 1), name="image")
    x = keras.layers.Conv2D(8, 3, padding="same", activation="relu", name="stem")(inputs)
    x = block(x, 8, 1, "block1")
    x = block(x, 16, 2, "block2")
    x = block(x, 16, 1, "block3")
    x = keras.layers.GlobalAveragePooling2D(name="mean")(x)
    return keras.Model(inputs, keras.layers.Dense(10, name="digit")(x), name="digits_resnet")


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
