"""Which weights a multiplier of a fold sees over an event: the one place that says so.

A lane multiplies, in every beat, one input by the weight of one output:

- main lanes of a `FoldOutputs`: lane l makes output b * lanes + l in beat b, of all inputs at once;
- its remainder: every output beyond those has lanes of its own, which take inputs b * slice + s in beat b;
- `FoldInputs`: slot s carries the input that the layout says, for all outputs at once.

Where products are packed, lanes `ways` * p .. `ways` * (p + 1) - 1 are one multiplier. Maps are int64, NONE where a
lane has nothing to do in a beat.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from metronn.ir.arrays import Array
from metronn.plan.layout import Layout

Index = npt.NDArray[np.int64]

NONE = -1


def outputs_of_lanes(lanes: int, beats: int) -> Index:
    """Output that each main lane makes, [beat, lane]."""
    return np.arange(beats * lanes, dtype=np.int64).reshape(beats, lanes)


def inputs_of_slice(inputs: int, beats: int) -> Index:
    """Input that each lane of an output of the remainder takes, [beat, lane]: slices as long as the beats allow."""
    length = -(-inputs // beats)
    index = np.arange(beats * length, dtype=np.int64).reshape(beats, length)
    return np.where(index < inputs, index, NONE)


def inputs_of_slots(layout: Layout) -> Index:
    """Input that each slot of the beats carries, [beat, slot]."""
    index = np.full((layout.beat_count, layout.slot_count), NONE, dtype=np.int64)
    for beat, elements in enumerate(layout.beats):
        index[beat, : len(elements)] = elements
    return index


def taken(rows: Array, index: Index) -> Array:
    """Rows [element, ...] that lanes take, [beat, lane, ...]; zeros where one has nothing to do."""
    if not len(rows):
        return np.zeros((*index.shape, *rows.shape[1:]), dtype=rows.dtype)
    found = rows[np.maximum(index, 0)]
    found[index < 0] = 0
    return np.asarray(found)


def lane_of(index: Index, count: int) -> Index:
    """Lane that takes each of `count` elements, NONE where none does."""
    found = np.full(count, NONE, dtype=np.int64)
    _, lanes = np.nonzero(index >= 0)
    found[index[index >= 0]] = lanes
    return found
