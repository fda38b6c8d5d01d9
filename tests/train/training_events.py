"""Events to train with."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def write_data(path: Path, shape: tuple[int, ...] = (6,), events: int = 768, *, labels: bool = True) -> Path:
    """Events on a grid of 1/16, and three classes that follow from sums of them."""
    rng = np.random.Generator(np.random.PCG64(1))
    x = np.round(rng.normal(size=(events, *shape)) * 16) / 16
    flat = x.reshape(events, -1)
    label = np.argmax(np.stack([flat[:, 0] + flat[:, 1], flat[:, 2] - flat[:, 3], 0.5 * flat[:, 4]]), axis=0)
    arrays = {"x": x.astype(np.float32)} | ({"label": label} if labels else {})
    np.savez(path, **arrays)
    return path
