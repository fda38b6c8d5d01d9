"""What `Movement` does to elements: an index of the joined operands, -1 for an element from nowhere.

Written for both kinds of networks, so that an op of movement is told apart here and in few other places.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

import numpy as np
import numpy.typing as npt

from metronn.ir.arrays import Array
from metronn.ir.ops import Movement, Padding, Rewire, Window
from metronn.ir.windows import window_index

Index = npt.NDArray[np.int64]


def element_index(op: Movement, shapes: Sequence[tuple[int, ...]]) -> Index:
    """Return for each element of the result the one of the joined operands, of these shapes, that it is, or -1."""
    match op:
        case Rewire():
            return op.index.array.reshape(op.shape)
        case Window():
            return window_index(op, shapes[0])
        case _:
            assert_never(op)


def lowest_from_nowhere(op: Movement) -> bool:
    """Whether an element from nowhere is as low as any can be; else it is 0."""
    return isinstance(op, Window) and op.padding is Padding.LOWEST


def picked(xs: Sequence[Array], index: Array, fill: object) -> Array:
    """Return elements of the joined xs, (events, *shape of index), and `fill` from nowhere; one event serves all."""
    events = max(len(x) for x in xs)
    flat = [np.broadcast_to(x.reshape(len(x), -1), (events, x[0].size)) for x in xs]
    edge = np.full((events, 1), fill, dtype=flat[0].dtype)
    return np.concatenate([*flat, edge], axis=1)[:, index]


def composed(index: Array, parts: Sequence[Array]) -> Index:
    """Return the index through operands that are movements themselves, of which `parts` are the flat indices."""
    return np.asarray(np.concatenate([*parts, [-1]])[index], dtype=np.int64)


def shifted(index: Array, start: int) -> Index:
    """Return an index of elements that are numbered from `start`; what comes from nowhere still does."""
    return np.where(index < 0, -1, index + start)
