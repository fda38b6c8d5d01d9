"""Tails: what follows the sums of a matrix, where it is no more than a ReLU, rounding by a constant and dropped bits.

Such a tail takes no level of its own. The half that rounding adds is a part of the bias, before the ReLU as well as
behind it: with h = 2**(s-1), a sum v in [-h, 0) becomes v + h in [0, h), of which no bit above s is left. The ReLU, or
saturation at 0, is the reset of the register behind it by the sign bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

import numpy as np

from metronn.ir.graph import Graph
from metronn.ir.infer import round_shift
from metronn.ir.ops import Constant, Extremum, ExtremumKind, Overflow, Requantize, Rounding


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """The code v of a sum becomes (v + offset) >> shift, or 0 where v + offset is negative and `ramp` is set.

    The result has bounds [lo, hi]; where it goes beyond them, they are a full range and it wraps.
    """

    offset: int
    shift: int
    ramp: bool
    lo: int
    hi: int


def tail_of(graph: Graph, nodes: Sequence[str], linear: str, element: int, bounds: tuple[int, int]) -> Tail | None:
    """Return the tail of one output whose sum has these bounds, or None when the nodes do something else.

    `nodes`: the ops behind the Linear, in order, each reading the one before (and constants).
    """
    if not nodes:
        return None
    low, high = bounds
    frac = graph.type_of(linear).range.element(element).max_frac
    shift, offset, ramp, wraps = 0, 0, False, False
    value = linear
    for name in nodes:
        op = graph.by_name[name].op
        if wraps:
            return None
        if _is_ramp(graph, name, value, element):
            made = graph.type_of(name).range.element(element).max_frac
            step, rounding, overflow, out = frac - made, Rounding.TRN, Overflow.SAT, (0, max(0, high << (made - frac)))
        elif isinstance(op, Requantize) and op.x == value:
            target = op.out.element(element)
            made, rounding, overflow = target.max_frac, op.rounding, op.overflow
            step, out = frac - made, (target.lowest, target.highest)
        else:
            return None
        # What a ramp makes 0 needs no rounding of its own.
        clips = low < 0 and out[0] == 0 and overflow is not Overflow.WRAP
        added = _offset(rounding, step, signed=low < 0 and not clips)
        if added is None or (added and shift) or (step < 0 < shift):
            return None
        low, high = round_shift(low, step, rounding), round_shift(high, step, rounding)
        if clips:
            ramp, low, high = True, 0, max(0, high)
        if low < out[0] or high > out[1]:
            if overflow is not Overflow.WRAP or out[0] == out[1]:
                return None
            wraps, low, high = True, *out
        value, frac, shift, offset = name, made, shift + step, offset + added
    return Tail(offset=offset, shift=shift, ramp=ramp, lo=low, hi=high)


def _offset(rounding: Rounding, shift: int, *, signed: bool) -> int | None:
    """Return the constant that rounding adds before the bits are dropped, or None where it depends on the value."""
    half = 1 << (shift - 1) if shift > 0 else 0
    if not half:
        return 0
    match rounding:
        case Rounding.TRN:
            return 0
        case Rounding.RND:
            return half
        case Rounding.RND_MIN_INF:
            return half - 1
        case Rounding.TRN_ZERO:
            return None if signed else 0
        case Rounding.RND_INF:
            return None if signed else half
        case Rounding.RND_ZERO:
            return None if signed else half - 1
        case Rounding.RND_CONV:
            return None
        case _:
            assert_never(rounding)


def _is_ramp(graph: Graph, name: str, value: str, element: int) -> bool:
    """Whether a node is max(value, 0) for this element."""
    op = graph.by_name[name].op
    if not isinstance(op, Extremum) or op.kind is not ExtremumKind.MAX or value not in (op.x, op.y):
        return False
    other = graph.by_name[op.y if op.x == value else op.x]
    if not isinstance(other.op, Constant):
        return False
    return not np.broadcast_to(other.op.values.array, graph.type_of(name).shape).ravel()[element]
