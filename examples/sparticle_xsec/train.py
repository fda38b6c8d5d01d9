"""Train the cross-section network: 19 parameters -> 8 x (dense 100, ReLU) -> log10 sigma. 3 minutes of one core."""

from __future__ import annotations

from pathlib import Path

import training
from samples import TEST, TRAIN
from sparticle_xsec.generate import PARAMETERS, generate
from sparticle_xsec.metric import median_error
from training import keras  # the backend is chosen there


def build() -> keras.Model:
    """Input `parameters` [19], output `cross_section` [1]: log10(sigma / fb) / 4."""
    inputs = x = keras.Input((len(PARAMETERS),), name="parameters")
    for i in range(1, 9):
        x = keras.layers.Dense(100, activation="relu", kernel_initializer="he_normal", name=f"dense{i}")(x)
    return keras.Model(inputs, keras.layers.Dense(1, name="cross_section")(x), name="sparticle_xsec")


def main() -> int:
    """Train, measure on test models, save."""
    options = training.arguments(__doc__, Path(__file__).resolve().parent / "model.keras")
    data, test = generate(200_000, seed=TRAIN), generate(20_000, seed=TEST)
    model = build()
    training.fit(model, data, data["target"], loss="mae", epochs=40, batch=512, rate=2e-3)
    answers = training.answers(model, test)
    training.save(model, options.output, f"median error {median_error(answers, test):.4f} on 20,000 test models")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
