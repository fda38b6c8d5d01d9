"""Softmax in integers: z = max x - x, e = table exp(-z), s = sum e, r = table 1/s, y = e r."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from metronn.ir.arrays import Array, IntArray
from metronn.ir.ops import Add, Lookup, Multiply, Overflow, Reduce, ReduceKind, Requantize, Rewire, Rounding
from metronn.ir.types import Range
from metronn.model.graph import Floats
from metronn.quantize.calibrated.emitter import Emitter
from metronn.quantize.calibrated.functions.intervals import Tolerance, emit_split, plan_split

MAX_ENTRY_BITS = 16
"""Widest entries of the exponential, so that their product with the reciprocal fits one multiplier."""
SHORT_AXIS_BITS = 5
"""One table of reciprocals serves sums of up to 2**SHORT_AXIS_BITS + 1 exponentials, longer ones a sum of tables."""
FINEST_ERROR = 2.0**-10
"""Least relative error asked of the reciprocals of long sums."""
LONG_BITS = 24
"""Widest reciprocal of a long sum: with the widest exponential the product stays within 40 bits."""
TAIL = 2.0
"""Elements saturate this far below the one whose exponential rounds to 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftmaxResult:
    """The exact product, the requantizations of x on the way, and the entries of both tables together."""

    value: str
    requantize: tuple[str, ...]
    table_entries: int


def lower_softmax(
    emitter: Emitter, x: str, axis: int, *, name: str, source: str, bits: int, table_bits: int
) -> SoftmaxResult:
    """Emit softmax of `x` along `axis` with tables of at most 2**table_bits entries; results of about `bits` bits.

    The exponential covers z up to the point where exp(-z) is below half a step of its entries. The sum is at least 1
    because the largest element contributes exp(0); its reciprocal's table starts there. The reciprocal of a long sum
    keeps its relative error.
    """
    kind = emitter.type_of(x)
    count = kind.shape[axis]
    growth = math.ceil(math.log2(max(2, count - 1)))
    # What each of many small elements loses by rounding adds up.
    entry_bits = min(bits + max(0, growth - SHORT_AXIS_BITS), MAX_ENTRY_BITS)
    reach = (entry_bits + 1) * math.log(2)
    z_frac = table_bits - math.ceil(math.log2(reach))
    requantized = []
    if isinstance(kind.range.frac, tuple) or kind.range.max_frac > z_frac:
        x = _settle_input(emitter, x, axis, z_frac, reach + TAIL, name, source)
        requantized.append(x)
    top = _keep_axis(emitter, emitter.add(Reduce(x=x, axes=(axis,), kind=ReduceKind.MAX), f"{name}.max", source), axis)
    z = emitter.add(Add(x=top, y=x, subtract=True), f"{name}.below", source)
    z = _requantize(emitter, z, Range.fixed(table_bits, z_frac, signed=False), f"{name}.z", source)
    e, e_entries = _table(emitter, z, lambda v: np.exp(-v), entry_bits, f"{name}.exp", source)
    total = emitter.add(Reduce(x=e, axes=(axis,), kind=ReduceKind.SUM), f"{name}.sum", source)
    if growth > SHORT_AXIS_BITS:
        r, r_entries = _long_reciprocal(emitter, total, entry_bits, growth, table_bits, f"{name}.reciprocal", source)
    else:
        s_frac = max(0, table_bits - growth)
        low = 1 << s_frac
        s = _requantize(emitter, total, Range(low, low + (1 << table_bits) - 1, s_frac), f"{name}.s", source)
        r, r_entries = _table(emitter, s, lambda v: 1 / v, entry_bits, f"{name}.reciprocal", source)
    y = emitter.add(Multiply(x=e, y=_keep_axis(emitter, r, axis)), name, source)
    return SoftmaxResult(value=y, requantize=tuple(requantized), table_entries=e_entries + r_entries)


def _long_reciprocal(
    emitter: Emitter, total: str, entry_bits: int, growth: int, table_bits: int, name: str, source: str
) -> tuple[str, int]:
    """Emit 1 / sum for sums from 1 to the length of the axis, each with about `entry_bits` significant bits."""
    codes = emitter.type_of(total).range
    frac = min(entry_bits + growth, LONG_BITS)
    below_one = 1 - math.ldexp(1.0, -frac)

    def reciprocal(code: Array) -> Floats:
        return np.minimum(below_one, 1 / np.ldexp(code.astype(np.float64), -codes.max_frac))

    tolerance = Tolerance(relative=max(2.0 ** -(entry_bits + 1), FINEST_ERROR))
    first = 1 << codes.max_frac
    split = plan_split(reciprocal, first, max(first, codes.highest), tolerance, frac, 1 << table_bits + 1)
    return emit_split(emitter, total, split, name, source)


def _settle_input(emitter: Emitter, x: str, axis: int, frac: int, tail: float, name: str, source: str) -> str:
    """Bring x to the exponential's step in a range that holds twice what calibration saw.

    What lies further than `tail` below the largest element has no exponential that shows: it saturates there.
    """
    values = emitter.real(x)
    values = np.maximum(values, values.max(axis=axis + 1, keepdims=True) - tail)
    reach = max(1.0, 2 * float(np.abs(values).max()))
    bits = math.frexp(reach)[1] + frac + 1
    out = Range.fixed(max(2, bits), frac, signed=emitter.type_of(x).range.signed)
    return _requantize(emitter, x, out, f"{name}.in", source)


def _requantize(emitter: Emitter, x: str, out: Range, name: str, source: str) -> str:
    op = Requantize(x=x, out=out, rounding=Rounding.RND, overflow=Overflow.SAT)
    return emitter.add(op, name, source)


def _table(
    emitter: Emitter, x: str, function: Callable[[Floats], Floats], bits: int, name: str, source: str
) -> tuple[str, int]:
    """Emit a table of unsigned entries with `bits` fraction bits; 1 becomes the largest code below it."""
    codes = emitter.type_of(x).range
    at = np.ldexp(np.arange(codes.lowest, codes.highest + 1).astype(np.float64), -codes.max_frac)
    entries = np.clip(np.floor(np.ldexp(function(at), bits) + 0.5), 0, (1 << bits) - 1)
    table = IntArray.of(entries.astype(np.int64))
    return emitter.add(Lookup(x=x, table=table, frac=bits), name, source), at.size


def _keep_axis(emitter: Emitter, x: str, axis: int) -> str:
    """Put back a reduced axis with length 1, where broadcasting needs it."""
    if axis == 0:
        return x
    node = emitter.nodes[x]
    shape = (*node.type.shape[:axis], 1, *node.type.shape[axis:])
    op = Rewire(xs=(x,), index=IntArray.of(np.arange(node.type.size)), shape=shape)
    return emitter.add(op, f"{x}.kept", node.source)
