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


def magnitude_scores(values: Sequence[Array]) -> list[Array]:
    """Squared weights, relative to the mean square of the layer's weights that are not zero."""
    scores = []
    for value in values:
        square = np.square(value.astype(np.float64))
        used = square[square > 0]
        scores.append(square / used.mean() if used.size else square)
    return scores


def masks_at(sparsity: float, scores: Sequence[Array], units: Sequence[Units]) -> list[Mask]:
    """Return True for the weights that stay when at least `sparsity` of all weights go.

    Units go in order of the mean score of their weights, the lowest first, over all layers together; of equals the
    earlier one first. The best unit of every layer stays, so that no layer is cut through.
    """
    total = sum(score.size for score in scores)
    means, sizes, layers = [], [], []
    for layer, (score, unit) in enumerate(zip(scores, units, strict=True)):
        flat = unit.reshape(-1)
        count = np.bincount(flat)
        used = np.maximum(count, 1)
        mean = np.bincount(flat, weights=score.reshape(-1)) / used
        mean[count == 0] = np.inf
        mean[int(np.argmax(np.where(count > 0, mean, -np.inf)))] = np.inf
        means.append(mean)
        sizes.append(count)
        layers.append(np.full(len(mean), layer))
    mean, size, layer_of = np.concatenate(means), np.concatenate(sizes), np.concatenate(layers)
    order = np.argsort(mean, kind="stable")
    order = order[np.isfinite(mean[order])]
    gone = np.cumsum(size[order])
    wanted = sparsity * total
    last = int(np.searchsorted(gone, wanted - 1e-9 * total)) + 1 if wanted > 0 else 0
    dropped = np.zeros(len(mean), dtype=bool)
    dropped[order[:last]] = True
    return [~dropped[layer_of == layer][unit] for layer, unit in enumerate(units)]


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
