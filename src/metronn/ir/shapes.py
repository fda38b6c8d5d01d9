"""Shapes of the ops that integer and trained networks have in common, from the shapes of their operands."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import assert_never

import numpy as np

from metronn.ir.ops import Add, Arithmetic, Extremum, Movement, Multiply, Reduce, Rewire, Window
from metronn.ir.windows import window_shape

Shape = tuple[int, ...]


def result_shape(op: Movement | Arithmetic, shapes: Sequence[Shape]) -> Shape:
    """Return the shape of the result; raises ValueError saying what does not fit."""
    match op:
        case Rewire():
            return _rewired(op, sum(math.prod(shape) for shape in shapes))
        case Window():
            return window_shape(op, shapes[0])
        case Add() | Multiply() | Extremum():
            return _broadcast(shapes[0], shapes[1])
        case Reduce():
            return _reduced(op, shapes[0])
        case _:
            assert_never(op)


def _rewired(op: Rewire, total: int) -> Shape:
    count = math.prod(op.index.shape)
    if math.prod(op.shape) != count:
        raise ValueError(f"rewire: index has {count} entries, shape {op.shape} needs {math.prod(op.shape)}")
    low, high = op.index.bounds()
    if low < -1 or high >= total:
        raise ValueError(f"rewire: index goes from {low} to {high}, allowed is -1 to {total - 1}")
    return op.shape


def _broadcast(x: Shape, y: Shape) -> Shape:
    try:
        return tuple(int(n) for n in np.broadcast_shapes(x, y))
    except ValueError:
        raise ValueError(f"shapes {x} and {y} do not broadcast") from None


def _reduced(op: Reduce, shape: Shape) -> Shape:
    if not op.axes or len(set(op.axes)) != len(op.axes) or any(not 0 <= a < len(shape) for a in op.axes):
        raise ValueError(f"reduce: axes {op.axes} are not distinct axes of shape {shape} (0 to {len(shape) - 1})")
    return tuple(n for axis, n in enumerate(shape) if axis not in op.axes)
