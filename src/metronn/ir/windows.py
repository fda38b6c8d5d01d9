"""Sliding windows: shape and element map of `Window`, shared by the integer and the real network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

import numpy as np
import numpy.typing as npt


class Windowed(Protocol):
    """What describes a window: see `metronn.ir.ops.Window`."""

    @property
    def kernel(self) -> tuple[int, ...]:
        """Positions of a window along each spatial axis."""

    @property
    def strides(self) -> tuple[int, ...]:
        """Steps between windows."""

    @property
    def dilations(self) -> tuple[int, ...]:
        """Steps between the positions of one window."""

    @property
    def before(self) -> tuple[int, ...]:
        """Padding before each spatial axis."""

    @property
    def after(self) -> tuple[int, ...]:
        """Padding behind each spatial axis."""


def window_shape(op: Windowed, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of the result; raises ValueError saying what does not fit."""
    rank = len(op.kernel)
    fields = {"strides": op.strides, "dilations": op.dilations, "before": op.before, "after": op.after}
    wrong = [name for name, values in fields.items() if len(values) != rank]
    if not rank or wrong:
        raise ValueError(f"window: kernel {op.kernel} with {', '.join(wrong) or 'no axes'} of another length")
    if min(*op.kernel, *op.strides, *op.dilations) < 1 or min(*op.before, *op.after) < 0:
        raise ValueError(
            f"window: kernel {op.kernel}, strides {op.strides}, dilations {op.dilations} must be at least 1, "
            f"padding {op.before}, {op.after} at least 0"
        )
    if len(shape) < rank + 1:
        raise ValueError(f"window: kernel {op.kernel} needs at least {rank + 1} axes, the input has shape {shape}")
    lead, spatial, channels = shape[: -rank - 1], shape[-rank - 1 : -1], shape[-1]
    out = []
    for n, k, s, d, b, a in zip(spatial, op.kernel, op.strides, op.dilations, op.before, op.after, strict=True):
        room = n + b + a - d * (k - 1) - 1
        if room < 0:
            raise ValueError(f"window: kernel {op.kernel} with dilations {op.dilations} is larger than {spatial}")
        out.append(room // s + 1)
    return (*lead, *out, math.prod(op.kernel) * channels)


@lru_cache(maxsize=64)
def _index(fields: tuple[tuple[int, ...], ...], shape: tuple[int, ...], out: tuple[int, ...]) -> npt.NDArray[np.int64]:
    kernel, strides, dilations, before = fields
    rank = len(kernel)
    lead, spatial, channels = shape[: -rank - 1], shape[-rank - 1 : -1], shape[-1]
    places = out[len(lead) : -1]
    flat = np.zeros((*places, *kernel), dtype=np.int64)
    inside = np.ones((*places, *kernel), dtype=bool)
    for axis in range(rank):
        start = np.arange(places[axis]) * strides[axis] - before[axis]
        position = start[:, None] + np.arange(kernel[axis]) * dilations[axis]
        where = [1] * (2 * rank)
        where[axis], where[rank + axis] = places[axis], kernel[axis]
        position = position.reshape(where)
        flat = flat * spatial[axis] + position
        inside &= (position >= 0) & (position < spatial[axis])
    flat = flat.reshape(*places, math.prod(kernel), 1) * channels + np.arange(channels)
    known = np.broadcast_to(inside.reshape(*places, math.prod(kernel), 1), flat.shape)
    one = np.where(known, flat, -1).reshape(1, -1)
    step = math.prod(spatial) * channels
    count = math.prod(lead)
    moved = np.where(one >= 0, one + np.arange(count).reshape(-1, 1) * step, -1)
    result: npt.NDArray[np.int64] = moved.reshape(out)
    result.flags.writeable = False
    return result


def window_index(op: Windowed, shape: Sequence[int]) -> npt.NDArray[np.int64]:
    """For each element of the result the flat index of the element of x it holds, or -1 beyond the edge."""
    shape = tuple(shape)
    return _index((op.kernel, op.strides, op.dilations, op.before), shape, window_shape(op, shape))
