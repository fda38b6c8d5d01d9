"""Train the muon network of the overlap muon track finder with Keras 3 on generated muons.

36 hit codes / 1024 -> 10 x (dense 128, batch normalization from the third on, ReLU) -> dense 43 logits, one per
bin of `physics.PT_EDGES`. The targets are the true bin smeared with a normal distribution over the bins, so that a
neighbouring bin costs less than a far one; the loss is the cross entropy. Afterwards the moving statistics of the batch
normalizations are those of the last epochs, and the optimizer's state is dropped from the saved file.
Set KERAS_BACKEND=jax. Then: python train.py -o omtf.keras
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import keras
import numpy as np
from generate import Spectrum, generate, network_input
from layers import BEND_LAYERS, BEND_ZERO, STATIONS
from physics import N_BINS, THRESHOLD_GEV, metric, pt_bin, pt_estimate, resolution

HIDDEN_LAYERS = 10
UNITS = 128
INPUTS = 36
SEEDED_LAYERS = 2
KERNEL_LIMITS = (16.0, 4.0)
ACTIVATION_LIMIT = 32.0
SEEDED_PAIRS = 45
REACH = 64.0
PRESENT = 128.0
SMEARING_BINS = 0.7


def rounded(values: keras.KerasTensor, step: float, limit: float) -> keras.KerasTensor:
    """Multiples of `step` within +-`limit`; the gradient passes as if nothing had happened."""
    grid = keras.ops.clip(keras.ops.round(values / step) * step, -limit, limit)
    return values + keras.ops.stop_gradient(grid - values)


class RoundedDense(keras.layers.Dense):
    """A dense layer whose kernel is rounded to 8 bits while training; a plain one is saved in its place."""

    def __init__(self, units: int, *, limit: float, **options: object) -> None:
        """`limit`: a power of two above every weight, so that the step is limit / 128."""
        super().__init__(units, **options)
        self.step, self.largest = limit / 128.0, limit * 127.0 / 128.0

    def call(self, inputs: keras.KerasTensor, training: bool | None = None) -> keras.KerasTensor:
        """The product with the rounded kernel."""
        return keras.ops.matmul(inputs, rounded(self.kernel, self.step, self.largest)) + self.bias


class Rounding(keras.layers.Layer):
    """Round to multiples of a step, as an activation of `bits` bits does."""

    def __init__(self, limit: float, bits: int) -> None:
        """`limit`: the power of two that bounds the values; the step is limit / 2^bits."""
        super().__init__()
        self.step, self.largest = limit / 2.0**bits, limit

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        """The rounded values."""
        return rounded(inputs, self.step, self.largest)


def build(*, activation_bits: int | None) -> keras.Model:
    """The network before training; input `hits`, output `pt_bins`.

    For training, the kernels of the first two layers are rounded to 8 bits and the output of the first to
    `activation_bits`, as firmware will. There a sum of large azimuths must cancel to a unit, so these weights have to
    be exact on a coarse grid; the layers after them need no such care. The saved network is built with None: no
    rounding.
    """
    inputs = keras.Input((INPUTS,), name="hits")
    x = inputs
    for i in range(1, HIDDEN_LAYERS + 1):
        seeded = i <= SEEDED_LAYERS
        if seeded and activation_bits is not None:
            x = RoundedDense(UNITS, limit=KERNEL_LIMITS[i - 1], kernel_initializer="he_normal", name=f"dense{i}")(x)
        else:
            x = keras.layers.Dense(UNITS, kernel_initializer="he_normal", use_bias=seeded, name=f"dense{i}")(x)
        if not seeded:
            x = keras.layers.BatchNormalization(name=f"norm{i}", momentum=0.97)(x)
        x = keras.layers.ReLU(name=f"relu{i}")(x)
        if i == 1 and activation_bits is not None:
            x = Rounding(ACTIVATION_LIMIT, activation_bits)(x)
    outputs = keras.layers.Dense(N_BINS, name="pt_bins")(x)
    return keras.Model(inputs, outputs, name="omtf")


def save(model: keras.Model, path: Path) -> None:
    """Write the plain network with the rounded kernels, without the optimizer's state."""
    plain = build(activation_bits=None)
    plain.set_weights(model.get_weights())
    for i, limit in enumerate(KERNEL_LIMITS, start=1):
        layer = plain.get_layer(f"dense{i}")
        kernel, bias = layer.get_weights()
        kernel = np.clip(np.round(kernel * (128.0 / limit)), -127, 127) * np.float32(limit / 128.0)
        layer.set_weights([kernel, bias])
    plain.save(path)


def seed_first_layers(model: keras.Model, hits: np.ndarray) -> None:
    """Start the first two layers from differences of azimuths, which random weights are slow to find.

    The momentum is in differences of a few units between azimuths of hundreds of units, and a missing hit is 0. For
    each of the pairs of stations that fire together most often in `hits` int16 [n, 18, 2], layer 1 gets the difference,
    shifted to be positive within `REACH` units, and the excess of that over twice the reach; layer 2 subtracts them,
    which limits the difference to its reach whatever is missing. In the same way a station's azimuth is cut at
    `PRESENT` units (no station is read out below), which leaves whether it fired. The remaining units start at random.
    Training then moves all of them.
    """
    dense1, dense2 = model.get_layer("dense1"), model.get_layer("dense2")
    (kernel1, bias1), (kernel2, bias2) = dense1.get_weights(), dense2.get_weights()
    fired = (hits[:, STATIONS, 0] > 0).astype(np.float32)
    together = np.triu(fired.T @ fired, 1)
    pairs = np.argsort(-together, axis=None, kind="stable")[:SEEDED_PAIRS]
    unit, target = 0, 0
    gain1, gain2 = 15.5, 3.5
    kernel2[: 2 * SEEDED_PAIRS + 2 * len(STATIONS) + len(BEND_LAYERS)] *= 0.1

    def limited(columns: dict[int, float], shift: float, top: float, gain: float) -> None:
        nonlocal unit, target
        for offset in (shift, shift - top):
            kernel1[:, unit] = 0.0
            for layer, sign in columns.items():
                kernel1[2 * layer, unit] = sign * gain1
            bias1[unit] = offset * gain1 / 1024.0
            unit += 1
        kernel2[:, target] = 0.0
        kernel2[unit - 2, target], kernel2[unit - 1, target] = gain, -gain
        target += 1

    for pair in pairs:
        first, second = divmod(int(pair), len(STATIONS))
        limited({STATIONS[first]: 1.0, STATIONS[second]: -1.0}, REACH, 2 * REACH, gain2)
    for station in STATIONS:
        limited({station: 1.0}, 0.0, PRESENT, gain2 / 8)
    for layer in BEND_LAYERS:
        kernel1[:, unit] = 0.0
        kernel1[2 * layer, unit] = gain1
        bias1[unit] = 0.0
        for low, gain in ((BEND_ZERO - 300.0, gain2 / 4), (BEND_ZERO - 60.0, gain2), (BEND_ZERO, gain2)):
            kernel2[:, target] = 0.0
            kernel2[unit, target] = gain
            bias2[target] = -low * gain1 / 1024.0 * gain
            target += 1
        unit += 1
    dense1.set_weights([kernel1, bias1])
    dense2.set_weights([kernel2, bias2])


def soft_targets() -> np.ndarray:
    """Row b: the target distribution [43] of an event in bin b."""
    distance = np.arange(N_BINS)[:, None] - np.arange(N_BINS)[None, :]
    table = np.exp(-0.5 * (distance / SMEARING_BINS) ** 2)
    return (table / table.sum(axis=1, keepdims=True)).astype(np.float32)


class Muons(keras.utils.PyDataset):
    """Batches of generated muons, reordered every epoch."""

    def __init__(self, hits: np.ndarray, label: np.ndarray, batch: int) -> None:
        """Keep int16 `hits` [n, 36] and `label` [n]."""
        super().__init__()
        self.hits, self.label, self.batch = hits, label, batch
        self.targets = soft_targets()
        self.rng = np.random.Generator(np.random.PCG64(7))
        self.order = self.rng.permutation(len(label))

    def __len__(self) -> int:
        """Whole batches per epoch."""
        return len(self.label) // self.batch

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """One batch of inputs and soft targets."""
        rows = self.order[index * self.batch : (index + 1) * self.batch]
        return self.hits[rows].astype(np.float32) / np.float32(1024), self.targets[self.label[rows]]

    def on_epoch_end(self) -> None:
        """Reorder."""
        self.order = self.rng.permutation(len(self.label))


def main() -> int:
    """Train and save."""
    parser = argparse.ArgumentParser(description="Train the overlap muon network on generated muons.")
    here = Path(__file__).resolve().parent
    parser.add_argument("--events", type=int, default=1_500_000)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--activation-bits", type=int, default=12, help="of the first layer's output")
    parser.add_argument("--start", type=Path, help="continue from this network instead of from the start")
    parser.add_argument("-o", "--output", type=Path, default=here / "omtf.keras")
    options = parser.parse_args()
    keras.utils.set_random_seed(options.seed)
    events = generate(options.events, seed=options.seed, spectrum=Spectrum.FLAT)
    data = Muons(events.hits.reshape(len(events.hits), INPUTS), pt_bin(events.momentum), options.batch)
    test = generate(40_000, seed=options.seed + 1000)
    model = build(activation_bits=options.activation_bits)
    if options.start is None:
        seed_first_layers(model, events.hits[:100_000])
    else:
        model.set_weights(keras.models.load_model(options.start).get_weights())
    steps = len(data) * options.epochs
    schedule = keras.optimizers.schedules.CosineDecay(
        options.rate / 20, steps, alpha=1e-3, warmup_target=options.rate, warmup_steps=min(300, steps // 10)
    )
    model.compile(
        optimizer=keras.optimizers.AdamW(schedule, weight_decay=1e-3),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
        jit_compile=True,
    )
    start = time.monotonic()

    def report(epoch: int, logs: dict[str, float]) -> None:
        answers = np.asarray(model.predict(network_input(test.hits), batch_size=20_000, verbose=0))
        middle, width = resolution(pt_estimate(answers), test.momentum)
        accuracy = np.mean((pt_estimate(answers) >= THRESHOLD_GEV) == (test.momentum >= THRESHOLD_GEV))
        sys.stderr.write(
            f"epoch {epoch + 1} loss {logs['loss']:.4f} area {metric(answers, test.momentum):.4f} "
            f"accuracy {accuracy:.4f} log pT {middle:+.3f} +- {width:.3f} {time.monotonic() - start:.0f} s\n"
        )
        save(model, options.output)

    model.fit(
        data,
        epochs=options.epochs,
        verbose=0,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=report)],
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
