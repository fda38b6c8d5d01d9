"""How the multipliers of a fold are gathered in clusters, each with its own phases and weights, placed by itself.

A cluster is a block of pairs and inputs, whole groups of them. It holds all between the inputs on the wires and the
sums of its groups: a phase counter, a ROM, weight and input registers, products, sums. Bits of weights
that are the same in every phase are one in a cluster; nothing is shared between clusters.

A control bit has copies of its own for every `LOADS` bits that it acts on (`mnn_replica`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from metronn.ir.arrays import Array
from metronn.plan.kernels.folds.sites import Sites

MOST_SITES = 64
"""Sites of a cluster that are something, at most: what stands together in about two columns of DSP blocks."""

LOADS = 64
"""Bits that one copy of a control register acts on, at most."""

SLICE_LOADS = 24
"""Bits of a choice by phase that one copy of the phase makes: each takes several LUTs."""


@dataclass(frozen=True)
class Cluster:
    """Sites of `pairs` and inputs `places` of an array, which begin and end with groups."""

    pairs: range
    places: range
    sites: Sites

    @property
    def groups(self) -> range:
        """Groups of the array whose sums it makes."""
        group = self.sites.pack.group
        return range(self.places.start // group, -(-self.places.stop // group))

    @cached_property
    def patterns(self) -> Patterns:
        """Bits of its weights by phase."""
        return patterns_of(self.sites.codes.reshape(len(self.sites.codes), -1), self.sites.pack.weight_bits)


def clusters_of(sites: Sites) -> tuple[Cluster, ...]:
    """Return the clusters of an array: as many pairs side by side as there are, so that each input goes to few.

    Groups that are nothing at the edge of a cluster are left out, and so are clusters of them.
    """
    pairs, places = sites.shape
    group, live = sites.pack.group, sites.live
    blocks = -(-pairs // max(1, MOST_SITES // group))
    found = []
    for block in range(blocks):
        rows = range(pairs * block // blocks, pairs * (block + 1) // blocks)
        counts = [int(live[rows.start : rows.stop, at : at + group].sum()) for at in range(0, places, group)]
        for run in _runs(counts):
            columns = range(run.start * group, min(run.stop * group, places))
            words = sites.words[:, rows.start : rows.stop, :, columns.start : columns.stop]
            found.append(Cluster(rows, columns, Sites(words, sites.pack, sites.fabric)))
    return tuple(found)


def _runs(counts: list[int]) -> Iterator[range]:
    """Neighbours with at most `MOST_SITES` together, or one by itself, about as many in each; zeros only inside."""
    several = -(-sum(counts) // MOST_SITES)
    start = total = last = 0
    for at, count in enumerate(counts):
        if total and count and (total + count > MOST_SITES or total * several >= sum(counts)):
            yield range(start, last + 1)
            total = 0
        if count:
            start = at if not total else start
            total, last = total + count, at
    if total:
        yield range(start, last + 1)


@dataclass(frozen=True)
class Patterns:
    """What bits of words are over the phases.

    `bits` [word, bit]: `ZERO` or `ONE` for one that never changes, else a row of `values` [pattern, phase], which holds
    different patterns only.
    """

    bits: npt.NDArray[np.int64]
    values: npt.NDArray[np.uint8]


ZERO, ONE = -1, -2


def patterns_of(words: Array, bits: int) -> Patterns:
    """Return the patterns of words [phase, word] of `bits` bits, two's complement."""
    planes = np.stack([((words >> bit) & 1).astype(np.uint8) for bit in range(bits)], axis=2)
    rows = planes.reshape(len(words), -1).T
    index = np.where(rows[:, 0] == 0, ZERO, ONE).astype(np.int64)
    changes = np.flatnonzero((rows != rows[:, :1]).any(axis=1))
    if not len(changes):
        return Patterns(index.reshape(-1, bits), np.zeros((0, len(words)), dtype=np.uint8))
    moving = rows[changes]
    _, first, inverse = np.unique(np.packbits(moving, axis=1), axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    index[changes] = place[inverse.reshape(-1)]
    return Patterns(index.reshape(-1, bits), np.asarray(moving[np.sort(first)]))


def copies_of(bits: int) -> int:
    """Copies of a control register that acts on so many bits."""
    return -(-bits // LOADS)


def lanes_of_copy(bits: int) -> int:
    """Neighbouring lanes of `bits` bits that one copy of a control register acts on."""
    return max(1, LOADS // max(1, bits))
