"""What the generators of the zoo do alike: a command line that writes calibration and test events.

Training, calibration and test events come from different random streams, so none is in two of them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

TRAIN, CALIBRATE, TEST = 1, 2, 3
"""Seeds of the three samples of every example."""

Generator = Callable[..., dict[str, np.ndarray]]


def random(seed: int) -> np.random.Generator:
    """A PCG64 stream for a seed."""
    return np.random.Generator(np.random.PCG64(seed))


def check_count(n: int) -> None:
    """Raise ValueError unless at least one event is asked for."""
    if n < 1:
        raise ValueError(f"generate: n is {n}, must be 1 or more")


def to_grid(values: np.ndarray, frac: int, bits: int, *, signed: bool = True) -> np.ndarray:
    """Round to multiples of 2**-frac and saturate to `bits` bits, as a digitizer does; float32."""
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return (np.clip(np.rint(values * 2.0**frac), low, high) * 2.0**-frac).astype(np.float32)


def write_samples(generate: Generator, folder: Path, *, calibrate: int, test: int) -> None:
    """Write `.cache/calibration.npz` and `.cache/test.npz` in `folder`."""
    cache = folder / ".cache"
    cache.mkdir(exist_ok=True)
    np.savez_compressed(cache / "calibration.npz", **generate(calibrate, seed=CALIBRATE))
    np.savez_compressed(cache / "test.npz", **generate(test, seed=TEST))


def main(generate: Generator, folder: Path, *, calibrate: int = 2000, test: int = 4000) -> int:
    """Command line of a generator: without arguments the two samples that metronn.toml names, else any file."""
    parser = argparse.ArgumentParser(description=f"Make events of {folder.name}.")
    parser.add_argument("-n", "--events", type=int, default=1000, help="for --output")
    parser.add_argument("--seed", type=int, default=TEST, help="for --output")
    parser.add_argument("-o", "--output", type=Path, help="write one file of events there")
    options = parser.parse_args()
    if options.output is None:
        write_samples(generate, folder, calibrate=calibrate, test=test)
    else:
        np.savez_compressed(options.output, **generate(options.events, seed=options.seed))
    return 0
