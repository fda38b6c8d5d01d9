"""Events to compare a network with its framework: corners, real ones, real ones moved on the grid, uniform ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from metronn.emit.events import corner_codes
from metronn.ir.arrays import Array, as_dtype_for
from metronn.ir.graph import Graph
from metronn.ir.types import TensorType
from metronn.quantize.codes import decode, encode

SEED = 20_040_301
LARGEST_MOVE = 4
"""Real events are repeated with each element moved by up to this many steps of its grid."""


def event_chunks(graph: Graph, real: Mapping[str, Array], count: int, rows: int) -> Iterator[dict[str, Array]]:
    """Yield `count` events as input codes, at most `rows` at a time; the same on every machine.

    First corners and the real events as they are (`real`: codes by input, may be empty), then real events with noise
    and events uniform over the input ranges in turns. Every code is one that float32 holds.
    """
    corners = corner_codes(graph)
    names = [node.name for node in graph.inputs]
    given = {name: np.concatenate([corners[name], real[name]]) if real else corners[name] for name in names}
    known = len(given[names[0]])
    for number, start in enumerate(range(0, count, rows)):
        size = min(rows, count - start)
        plain = max(0, min(size, known - start))
        chunk = {}
        for position, node in enumerate(graph.inputs):
            random = np.random.Generator(np.random.PCG64([SEED, number, position]))
            parts = [given[node.name][start : start + plain]]
            moved = (size - plain) // 2 if real else 0
            if moved:
                picked = real[node.name][(start + np.arange(moved)) % len(real[node.name])]
                parts.append(_moved(picked, node.type, random))
            parts.append(_uniform(size - plain - moved, node.type, random))
            chunk[node.name] = _float32(np.concatenate(parts), node.type)
        yield chunk


def _moved(codes: Array, kind: TensorType, random: np.random.Generator) -> Array:
    low, high = kind.range.lo_array(kind.shape), kind.range.hi_array(kind.shape)
    moves = random.integers(-LARGEST_MOVE, LARGEST_MOVE + 1, size=codes.shape)
    return np.asarray(np.minimum(np.maximum(codes + moves, low), high))


def _uniform(count: int, kind: TensorType, random: np.random.Generator) -> Array:
    low, high = kind.range.lo_array(kind.shape), kind.range.hi_array(kind.shape)
    span = (high - low).astype(np.float64)
    steps = np.floor(random.random((count, *kind.shape)) * (span + 1))
    codes = low + np.minimum(steps, span).astype(np.int64)
    return np.asarray(np.minimum(codes, high))


def _float32(codes: Array, kind: TensorType) -> Array:
    """Return codes whose values float32 holds: those of more than 24 bits are rounded."""
    lowest, highest = kind.range.lowest, kind.range.highest
    if max(abs(lowest), abs(highest)) < 2**24:
        return as_dtype_for(codes, lowest, highest)
    return encode(decode(codes, kind).astype(np.float32), kind)
