"""What the training scripts of the zoo do alike: arguments, seed, optimizer, and a saved file without optimizer state.

The scripts are modules of this folder: `cd examples; KERAS_BACKEND=jax python -m dijet.train`.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np

Arrays = Mapping[str, np.ndarray]


def arguments(description: str, output: Path) -> argparse.Namespace:
    """Read `--output` and `--seed`, and seed Keras with it."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("-o", "--output", type=Path, default=output, help="the network to write (.keras)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    keras.utils.set_random_seed(options.seed)
    return options


def inputs_of(model: keras.Model, arrays: Arrays) -> dict[str, np.ndarray] | np.ndarray:
    """The arrays that are inputs of the network: by name, or the one that is."""
    found = {tensor.name: arrays[tensor.name] for tensor in model.inputs}
    return found if len(found) > 1 else next(iter(found.values()))


def fit(
    model: keras.Model,
    arrays: Arrays,
    target: np.ndarray,
    *,
    loss: object,
    epochs: int,
    batch: int = 256,
    rate: float = 2e-3,
) -> None:
    """Train with Adam and a learning rate that rises to `rate` in a twentieth of the steps and falls as a cosine."""
    steps = epochs * -(-len(target) // batch)
    schedule = keras.optimizers.schedules.CosineDecay(
        rate / 20, steps - steps // 20, alpha=1e-2, warmup_target=rate, warmup_steps=steps // 20
    )
    model.compile(optimizer=keras.optimizers.Adam(schedule), loss=loss)
    start = time.process_time()

    def report(epoch: int, logs: dict[str, float]) -> None:
        sys.stderr.write(
            f"epoch {epoch + 1} of {epochs} loss {logs['loss']:.5f} CPU {time.process_time() - start:.0f} s\n"
        )

    model.fit(
        inputs_of(model, arrays),
        target,
        epochs=epochs,
        batch_size=batch,
        verbose=0,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=report)],
    )


def answers(model: keras.Model, arrays: Arrays) -> dict[str, np.ndarray]:
    """The network's outputs by name, as a metric of metronn gets them."""
    results = model.predict(inputs_of(model, arrays), batch_size=1024, verbose=0)
    return {model.output_names[0]: np.asarray(results)}


def save(model: keras.Model, path: Path, said: str) -> None:
    """Write the network without the optimizer's state, and say how good it is."""
    plain = type(model).from_config(model.get_config())
    plain.set_weights(model.get_weights())
    path.parent.mkdir(parents=True, exist_ok=True)
    plain.save(path)
    sys.stdout.write(f"{path.name}: {model.count_params():,} parameters, {path.stat().st_size / 1e3:.0f} kB, {said}\n")
