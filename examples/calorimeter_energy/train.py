"""Train the energy regression: convolutions on each image, then two dense layers of 1000. 4 minutes of one core.

The network is larger than what this repository keeps: it is written to `.cache/model.keras`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import training
from calorimeter_energy.generate import ECAL_SIDE, HCAL_SIDE, UNIT_GEV, generate
from calorimeter_energy.metric import ratio, sharpness
from samples import TEST, TRAIN
from training import keras  # the backend is chosen there


def branch(name: str, side: int, channels: tuple[int, ...]) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """3 x 3 convolutions, each with 2 x 2 max pooling."""
    inputs = x = keras.Input((side, side, 1), name=name)
    for i, width in enumerate(channels, start=1):
        x = keras.layers.Conv2D(width, 3, padding="same", activation="relu", name=f"{name}_conv{i}")(x)
        x = keras.layers.MaxPooling2D(2, name=f"{name}_pool{i}")(x)
    return inputs, keras.layers.Flatten(name=f"{name}_flat")(x)


def build() -> keras.Model:
    """Inputs `ecal` [16, 16, 1] and `hcal` [8, 8, 1], output `energy` [1], all in units of 128 GeV."""
    ecal, x = branch("ecal", ECAL_SIDE, (8, 16))
    hcal, y = branch("hcal", HCAL_SIDE, (8,))
    x = keras.layers.Concatenate(name="joined")([x, y])
    for i in (1, 2):
        x = keras.layers.Dense(1000, activation="relu", name=f"dense{i}")(x)
    return keras.Model([ecal, hcal], keras.layers.Dense(1, name="energy")(x), name="calorimeter_energy")


def main() -> int:
    """Train, measure the resolution on test particles beside that of the sum of cells, save."""
    options = training.arguments(__doc__, Path(__file__).resolve().parent / ".cache" / "model.keras")
    data, test = generate(40_000, seed=TRAIN), generate(10_000, seed=TEST)
    model = build()
    # The relative error counts: mean absolute percentage error is 100 |measured / true - 1|.
    training.fit(model, data, data["target"], loss="mean_absolute_percentage_error", epochs=8, rate=1e-3)
    answers = training.answers(model, test)
    total = (test["ecal"].sum(axis=(1, 2, 3)) + test["hcal"].sum(axis=(1, 2, 3)))[:, None]
    best = np.polyfit(total[:, 0], test["target"], 1, w=1 / test["target"])
    plain = 1 - sharpness({"energy": np.polyval(best, total)}, test)
    said = (
        f"resolution {1 - sharpness(answers, test):.4f} (sum of cells, calibrated: {plain:.4f}), "
        f"bias {np.median(ratio(answers, test)) - 1:+.4f} on 10,000 test particles up to {2 * UNIT_GEV:.0f} GeV"
    )
    training.save(model, options.output, said)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
