"""The multipliers of a folded matrix product as `metronn/dense_stream.hpp` makes them: the plan's, one by one.

A multiplier whose weights are all 0 is none. What each holds in every beat stands in a memory of its own words.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metronn.emit.hls.index import Members
from metronn.emit.hls.values import integer_type, stored_bits, stored_cube
from metronn.plan.kernels.folds.fold import Packing
from metronn.plan.kernels.folds.sites import Kind, Sites

WORD_BITS = 65_536
"""Widest word of a reshaped array that the tool takes."""


class Multipliers:
    """Collects the sites of a fold, gives each its place in the weight memory, and describes them in C++."""

    def __init__(self, packing: Packing, beats: int, copies: int) -> None:
        """Begin without any; the same multipliers stand there `copies` times."""
        self.packing, self.beats, self.copies = packing, beats, copies
        self._weights: list[list[int]] = []
        self._tables: list[tuple[str, np.ndarray[tuple[int, ...], np.dtype[np.int64]]]] = []

    def add(self, prefix: str, sites: Sites | None, slots: Sequence[int], count: int) -> None:
        """Add sites [pair, input], whose inputs are `slots` of the `count` that arrive; None: there are none."""
        pairs = 1 if sites is None else sites.shape[0]
        place = np.full((pairs, max(1, count)), -1, dtype=np.int64)
        dsp = np.zeros(place.shape, dtype=np.int64)
        if sites is not None:
            words = sites.words[:, :, 0]
            if self.packing.ways == 2:
                words = words + (sites.words[:, :, 1].astype(object) << self.packing.shift)
            in_logic = self.packing.ways == 1 and self.packing.product_bits < sites.fabric.least_product_bits
            for pair, k in np.argwhere(sites.live):
                place[pair, slots[k]] = len(self._weights)
                dsp[pair, slots[k]] = sites.kinds[pair, k] == int(Kind.MULTIPLIER) and not in_logic
                self._weights.append([int(w) for w in words[:, pair, k]])
        self._tables += [(f"{prefix}site", place), (f"{prefix}dsp", dsp)]

    def describe(self, members: Members, source: str) -> None:
        """Add configuration and weights. Raises ModelError when a weight is too wide."""
        weights, pack, beats = self._weights or [[0] * self.beats], self.packing, self.beats
        flat = [w for column in weights for w in column]
        per_word = max(1, min(len(weights), WORD_BITS // stored_bits(min(flat), max(flat))))
        words = -(-len(weights) // per_word)
        weights = weights + [[0] * beats] * (words * per_word - len(weights))
        values = {
            "ways": pack.ways, "group": pack.group, "shift": pack.shift, "words": words, "per_word": per_word,
            "multipliers": max(1, self.copies * len(self._weights)),
        }  # fmt: skip
        for name, value in values.items():
            members.constant(name, value)
        for name, table in self._tables:
            members.matrix(name, table, np.ones(table.shape, dtype=bool))
        half = 1 << (pack.sum_bits - 1)
        members.lines += [
            f"typedef {integer_type(min(-1, *flat), max(0, *flat), source)} weight_t;",
            f"typedef {integer_type(-half, half - 1, source)} group_t;",
        ]
        cube = [
            [[column[beat] for column in weights[word * per_word : (word + 1) * per_word]] for beat in range(beats)]
            for word in range(words)
        ]
        members.stored.append(stored_cube(f"{members.name}_weight", cube))
