"""The codes of a tensor, the framework's beside the integer graph's: where and by how many bits they differ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from metronn.ir.arrays import Array
from metronn.ir.types import TensorType, width_bits
from metronn.model.graph import Floats
from metronn.quantize.exact.values import ExactValue
from metronn.verify.against_noise import UNIT

GRID_TOLERANCE = 1e-3
"""How far, in steps, a quantizer's value may lie beside its grid before that counts as a difference."""
FLOAT32_WIDTH, FLOAT64_WIDTH = 22, 50
"""Codes of at most so many bits are nearest to their own value in steps after one rounding in that format."""


@dataclass(slots=True, kw_only=True)
class TensorResult:
    """What comparing one tensor of the framework found; counts are of elements over all events, bits where said.

    `quantizer` tells that a quantizer of the framework ends there; elsewhere float32 may not even hold every bit.
    """

    tensor: str
    layer: str
    value: str
    width: int
    quantizer: bool = False
    events: int = 0
    values: int = 0
    bits: int = 0
    differing: int = 0
    differing_bits: int = 0
    noise: int = 0
    consequences: int = 0
    real: int = 0
    first: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A tensor of the framework and the value of the graph that holds it."""

    tensor: str
    exact: ExactValue
    kind: TensorType
    snapped: bool
    result: TensorResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One tensor on a chunk of events: the framework's values, the graph's codes, where they differ, a code's worth."""

    values: Array
    codes: Array
    differs: Array
    step: Floats

    def steps(self, events: Array) -> Floats:
        """Return the framework's values on some events in steps: whole numbers where they are on the grid."""
        return np.asarray(self.values[events].astype(np.float64) / self.step)

    def known(self, events: Array) -> Floats:
        """Return the framework's values on some events, put on the grid."""
        return np.asarray(np.rint(self.steps(events)) * self.step)


def compare_tensor(pair: Pair, tensor: Array, codes: Array, events: int) -> Part:
    """Compare a tensor of the framework with its codes in the graph, both (events, *shape), or one for all events."""
    shape = (events, *pair.kind.shape)
    values, ours = tensor.reshape(shape), np.broadcast_to(codes, shape)
    step = np.broadcast_to(pair.exact.step(pair.kind), pair.kind.shape)
    differs = ~_alike(values, ours, step, pair.kind.range.width_bits)
    doubted = np.nonzero(differs)
    if len(doubted[0]):
        theirs = values[doubted].astype(np.float64) / step[doubted[1:]]
        whole = np.rint(theirs)
        with np.errstate(invalid="ignore"):
            wrong = ~(whole == ours[doubted].astype(np.float64))
            if pair.snapped:
                wrong |= ~(np.abs(theirs - whole) <= GRID_TOLERANCE + 4 * UNIT * np.abs(theirs))
        differs[doubted] = wrong
    return Part(values=values, codes=ours, differs=differs, step=step)


def _alike(values: Array, codes: Array, step: Floats, width: int) -> Array:
    """Return where a value is its code times the step, rounded once: the nearest whole number of steps is that code.

    False says nothing, and is the answer for codes so wide that it would not follow.
    """
    single = step.astype(np.float32)
    if width <= FLOAT32_WIDTH and (single == step).all():
        return np.asarray(values == codes.astype(np.float32) * single)
    if width <= FLOAT64_WIDTH:
        return np.asarray(values == codes.astype(np.float64) * step)
    return np.zeros(values.shape, dtype=bool)


def count_differences(pair: Pair, part: Part) -> None:
    """Add events, values, bits and what differs to the result."""
    result, kind = pair.result, pair.kind
    los, his = kind.range.los(kind.size), kind.range.his(kind.size)
    widths = np.array([width_bits(lo, hi) for lo, hi in zip(los, his, strict=True)], dtype=np.int64)
    events = len(part.codes)
    result.events += events
    result.values += part.codes.size
    result.bits += events * int(widths.sum())
    if not part.differs.any():
        return
    places = part.differs.reshape(events, -1)
    elements = np.nonzero(places)[1]
    values, ours = (array.reshape(events, -1)[places].astype(np.float64) for array in (part.values, part.codes))
    theirs = values / part.step.ravel()[elements]
    reach = 2.0**62
    whole = np.rint(np.clip(np.where(np.isfinite(theirs), theirs, ours), -reach, reach)).astype(np.int64)
    masks = np.left_shift(1, np.clip(widths[elements], 1, 62)) - 1
    wrong = np.bitwise_count((whole ^ np.clip(ours, -reach, reach).astype(np.int64)) & masks)
    result.differing += len(elements)
    result.differing_bits += int(np.maximum(wrong, 1).sum())
