"""Events to verify with: real ones, random ones, and corners of the input ranges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from metronn.ir.arrays import Array, as_dtype_for, exact_array
from metronn.ir.graph import Graph, Node

RANDOM_SEED = 20_040_229


@dataclass(frozen=True, slots=True, kw_only=True)
class EventCounts:
    """How many events of each kind a set holds, in this order."""

    corner: int
    random: int
    real: int

    @property
    def total(self) -> int:
        """All events."""
        return self.corner + self.random + self.real


def corner_codes(graph: Graph) -> dict[str, Array]:
    """Return events at the corners: all minimum, all maximum, alternating both ways, one-hot at up to 32 elements."""
    patterns: dict[str, list[Array]] = {node.name: [] for node in graph.inputs}
    sizes = {node.name: node.type.size for node in graph.inputs}
    bounds = {node.name: _bounds(node) for node in graph.inputs}
    total = sum(sizes.values())
    hot = np.unique(np.linspace(0, total - 1, min(32, total)).astype(int))
    offset = 0
    for node in graph.inputs:
        lo, hi = bounds[node.name]
        even = np.arange(sizes[node.name]) % 2 == 0
        rest = np.where((lo <= 0) & (hi >= 0), 0, lo)
        patterns[node.name] += [lo, hi, np.where(even, lo, hi), np.where(even, hi, lo)]
        for position in hot:
            chosen = np.arange(sizes[node.name]) + offset == position
            patterns[node.name].append(np.where(chosen, hi, rest))
        offset += sizes[node.name]
    return {
        node.name: exact_array(np.stack(patterns[node.name])).reshape(-1, *node.type.shape) for node in graph.inputs
    }


def _bounds(node: Node) -> tuple[Array, Array]:
    flat = (node.type.size,)
    return node.type.range.lo_array(flat), node.type.range.hi_array(flat)


def random_codes(graph: Graph, events: int) -> dict[str, Array]:
    """Return events uniform over each element's range; the same on every machine."""
    generator = np.random.Generator(np.random.PCG64(RANDOM_SEED))
    found = {}
    for node in graph.inputs:
        lo, hi = _bounds(node)
        columns = []
        for low, high in zip(lo, hi, strict=True):
            words = [generator.integers(0, 1 << 32, size=events, dtype=np.uint64).astype(object) for _ in range(4)]
            wide = words[0] | words[1] << 32 | words[2] << 64 | words[3] << 96
            columns.append(int(low) + wide % (int(high) - int(low) + 1))
        array = np.stack(columns, axis=1)
        found[node.name] = as_dtype_for(array, node.type.range.lowest, node.type.range.highest).reshape(
            events, *node.type.shape
        )
    return found


def verification_events(
    graph: Graph, real: Mapping[str, Array], events: int, most: int | None = None
) -> tuple[dict[str, Array], EventCounts]:
    """Return `events` real events (fewer when there are fewer) behind corner events and a tenth as many random ones.

    `most`, at least 8, bounds all of them together: a third are corners then, a sixth or more random ones, the rest
    real ones.
    """
    corners = corner_codes(graph)
    names = [node.name for node in graph.inputs]
    available = min((len(real[name]) for name in names), default=0) if real else 0
    corner, random, chosen = len(corners[names[0]]), max(16, events // 10), min(events, available)
    if most is not None and corner + random + chosen > most:
        corner = min(corner, max(4, most // 3))
        chosen = min(chosen, most - corner - max(2, most // 6))
        random = min(random, most - corner - chosen)
    counts = EventCounts(corner=corner, random=random, real=chosen)
    chance = random_codes(graph, counts.random)
    joined = {}
    for node in graph.inputs:
        parts = [corners[node.name][:corner], chance[node.name]]
        if counts.real:
            parts.append(real[node.name][: counts.real])
        lowest, highest = node.type.range.lowest, node.type.range.highest
        joined[node.name] = np.concatenate([as_dtype_for(part, lowest, highest) for part in parts])
    return joined, counts
