"""Which weights go: units of weights that vanish together, their scores, and the masks at a sparsity."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from metronn.ir.arrays import Array
from metronn.plan.fold_groups import ALONE

Mask = npt.NDArray[np.bool_]
Units = npt.NDArray[np.int64]


def units_of(shape: tuple[int, ...], groups: Units | None) -> Units:
    """Number the units of a kernel: the groups (any numbers, in its shape), and every ALONE weight by itself."""
    size = int(np.prod(shape))
    if groups is None:
        return np.arange(size, dtype=np.int64).reshape(shape)
    flat = groups.reshape(-1)
    alone = flat == ALONE
    _, numbers = np.unique(flat, return_inverse=True)
    units = numbers.reshape(-1).astype(np.int64)
    units[alone] = units.max() + 1 + np.arange(int(alone.sum()))
    return units.reshape(shape)


def mask_at(sparsity: float, score: Array, units: Units) -> Mask:
    """Return True for the weights of a layer that stay when at least this share of them goes.

    Units go in order of the mean score of their weights, the lowest first; of equals the earlier one first. The best
    unit stays, so that no layer is cut through.
    """
    flat = units.reshape(-1)
    count = np.bincount(flat)
    mean = np.bincount(flat, weights=score.reshape(-1)) / np.maximum(count, 1)
    present = np.flatnonzero(count)
    order = present[np.argsort(mean[present], kind="stable")][:-1]
    gone = np.cumsum(count[order])
    last = int(np.searchsorted(gone, sparsity * score.size * (1 - 1e-9))) + 1 if sparsity > 0 else 0
    dropped = np.zeros(len(count), dtype=bool)
    dropped[order[:last]] = True
    return np.asarray(~dropped[units])


def allocate(
    sparsity: float, sizes: Sequence[int], levels: Sequence[float], rises: Sequence[Sequence[float]]
) -> list[float]:
    """Return the sparsity of every layer that gives `sparsity` over all weights at the least rise of the loss.

    `rises[layer][k]`: how much the loss rises when this layer alone has sparsity `levels[k]` (rising, from 0). The
    rises are taken as independent and as the convex curve below them, and weights are given up where a weight costs
    least.
    """
    pieces: list[tuple[float, int, float, float]] = []
    for layer, (size, losses) in enumerate(zip(sizes, rises, strict=True)):
        points = [(0.0, 0.0), *((s, max(0.0, r)) for s, r in zip(levels, losses, strict=True) if s > 0)]
        hull: list[tuple[float, float]] = []
        for point in points:
            while len(hull) > 1 and _slope(hull[-2], hull[-1]) >= _slope(hull[-2], point):
                hull.pop()
            hull.append(point)
        pieces += [(_slope(a, b) / size, layer, a[0], b[0]) for a, b in zip(hull, hull[1:], strict=False)]
    wanted = sparsity * sum(sizes)
    found = [0.0] * len(sizes)
    for _, layer, low, high in sorted(pieces):
        taken = min(high - low, wanted / sizes[layer])
        if taken <= 0:
            break
        found[layer] = low + taken
        wanted -= taken * sizes[layer]
    return found


def _slope(a: tuple[float, float], b: tuple[float, float]) -> float:
    return (b[1] - a[1]) / (b[0] - a[0])


def sparsity_of(masks: Sequence[Mask]) -> float:
    """Return the share of weights that go."""
    total = sum(mask.size for mask in masks)
    return 1.0 - sum(int(mask.sum()) for mask in masks) / total if total else 0.0


def polynomial(sparsity: float, epoch: int, epochs: int, start: float = 0.0) -> float:
    """Return the sparsity before an epoch (from 0): a cubic rise to the full one in the first 70 % of the epochs.

    Zhu and Gupta, "To prune, or not to prune" (2017): s_f + (s_i - s_f) (1 - t)^3.
    """
    rise = max(1, round(0.7 * epochs))
    t = min(1.0, (epoch + 1) / rise)
    return sparsity + (start - sparsity) * (1.0 - t) ** 3


def used_units(mask: Mask, groups: Units | None) -> tuple[int, int]:
    """Return how many groups there are and how many hold a weight that stays; weights ALONE are not counted."""
    if groups is None:
        return 0, 0
    flat = groups.reshape(-1)
    shared = flat != ALONE
    every = np.unique(flat[shared])
    left = np.unique(flat[shared & mask.reshape(-1)])
    return len(every), len(left)
