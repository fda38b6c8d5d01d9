"""Train the autoencoder on good histograms, and save it with the reconstruction error as its last layers.

128 -> 32 -> 8 -> 32 -> 128, then the sum of squared differences to the input, so that the network's one output is what
an alarm is set on. Under a minute of one core.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import training
from dqm_autoencoder.generate import BINS, generate
from samples import TEST, TRAIN
from training import keras  # the backend is chosen there


def autoencoder() -> keras.Model:
    """Input `occupancy` [128], output `reconstruction` [128]."""
    inputs = x = keras.Input((BINS,), name="occupancy")
    for name, units in (("encode1", 32), ("code", 8), ("decode1", 32)):
        x = keras.layers.Dense(units, activation="relu", kernel_initializer="he_normal", name=name)(x)
    return keras.Model(inputs, keras.layers.Dense(BINS, name="reconstruction")(x), name="autoencoder")


def with_error(coder: keras.Model) -> keras.Model:
    """The same network with output `anomaly` [1]: the sum of squares of (reconstruction - occupancy)."""
    inputs = x = keras.Input((BINS,), name="occupancy")
    for layer in coder.layers[1:]:
        x = layer(x)
    difference = keras.layers.Subtract(name="difference")([x, inputs])
    square = keras.layers.Multiply(name="square")([difference, difference])
    total = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones", trainable=False, name="anomaly")(square)
    return keras.Model(inputs, total, name="dqm_autoencoder")


def main() -> int:
    """Train, measure the area under the ROC curve on test histograms, save."""
    from metronn.events.metrics import auc

    options = training.arguments(__doc__, Path(__file__).resolve().parent / "model.keras")
    data, test = generate(60_000, seed=TRAIN, faulty=0.0), generate(20_000, seed=TEST)
    coder = autoencoder()
    # The mean of the good histograms is where the decoder starts.
    coder.get_layer("reconstruction").bias.assign(data["occupancy"].mean(axis=0))
    training.fit(coder, data, data["occupancy"], loss="mse", epochs=20)
    model = with_error(coder)
    error = np.float64(training.answers(model, test)["anomaly"])
    said = f"area under the ROC curve {auc(error, test['label']):.4f} on {len(error):,} test histograms"
    training.save(model, options.output, said)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
