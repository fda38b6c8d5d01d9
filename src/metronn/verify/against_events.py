"""Events to compare a network with its framework: corners, real ones, real ones moved on the grid, uniform ones."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from metronn.events.codes import encode_input
from metronn.events.verification import corner_codes
from metronn.ir.arrays import Array, exact_array
from metronn.ir.graph import Graph
from metronn.ir.ops import Input
from metronn.model.graph import Floats

SEED = 20_040_301
LARGEST_MOVE = 4
"""Real events are repeated with each element moved by up to this many steps of its grid."""
BEYOND = 8
"""Where the framework's own quantizer stands at an input, uniform events reach beyond its range by this part of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventChunk:
    """Some events: float32 values as the framework gets them, and the codes the graph gets, by input."""

    values: Mapping[str, Floats]
    codes: Mapping[str, Array]


def event_chunks(
    graph: Graph, real: Mapping[str, Array], count: int, rows: int, borders: Collection[str] = ()
) -> Iterator[EventChunk]:
    """Yield `count` events, at most `rows` at a time; the same on every machine.

    First corners and the real events as they are (`real`: codes by input, may be empty), then in turns real events with
    noise and events uniform over the input ranges. `borders` names the inputs at which a quantizer of the framework
    makes the codes: the events behind the real ones then lie between the steps, too, and beyond the range.
    """
    corners = corner_codes(graph)
    names = [node.name for node in graph.inputs]
    given = {name: np.concatenate([corners[name], real[name]]) if real else corners[name] for name in names}
    known = len(given[names[0]])
    for number, start in enumerate(range(0, count, rows)):
        size = min(rows, count - start)
        plain = max(0, min(size, known - start))
        values, codes = {}, {}
        for position, node in enumerate(graph.inputs):
            if not isinstance(node.op, Input):
                raise AssertionError(f"{node.name}: an input with another op")
            random = np.random.Generator(np.random.PCG64([SEED, number, position]))
            moved = (size - plain) // 2 if real else 0
            between = node.name in borders
            parts = [given[node.name][start : start + plain].astype(np.float64)]
            if moved:
                picked = real[node.name][(start + np.arange(moved)) % len(real[node.name])]
                parts.append(_moved(picked.astype(np.float64), node.op, random, between=between))
            parts.append(_uniform(size - plain - moved, node.op, random, between=between))
            single = (np.concatenate(parts) * step(node.op)).astype(np.float32)
            values[node.name] = single.astype(np.float64)
            codes[node.name] = exact_array(encode_input(values[node.name], node.op))
        yield EventChunk(values=values, codes=codes)


def step(op: Input) -> Floats:
    """Return what one code of each element of an input is worth."""
    ones = np.ldexp(np.ones(op.shape), -op.range.frac_array(op.shape))
    return ones if op.step is None else np.asarray(ones * op.step.array.astype(np.float64))


def _bounds(op: Input) -> tuple[Floats, Floats]:
    return op.range.lo_array(op.shape).astype(np.float64), op.range.hi_array(op.shape).astype(np.float64)


def _moved(codes: Floats, op: Input, random: np.random.Generator, *, between: bool) -> Floats:
    """Move codes by a few steps, or by parts of steps."""
    if between:
        return codes + random.uniform(-LARGEST_MOVE, LARGEST_MOVE, size=codes.shape)
    low, high = _bounds(op)
    return np.clip(codes + random.integers(-LARGEST_MOVE, LARGEST_MOVE + 1, size=codes.shape), low, high)


def _uniform(count: int, op: Input, random: np.random.Generator, *, between: bool) -> Floats:
    """Draw codes from the range, or steps and parts of steps from a little more than it."""
    low, high = _bounds(op)
    part = random.random((count, *op.shape))
    if between:
        margin = (high - low) / BEYOND + 2
        return np.asarray(low - margin + part * (high - low + 2 * margin))
    return np.minimum(low + np.floor(part * (high - low + 1)), high)
