"""The type rules: from the types of its operands to the type of an op's result, by exact interval arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import assert_never

import numpy as np

from metronn.ir.arrays import Array, as_dtype_for, object_array
from metronn.ir.ops import (
    Add,
    Arithmetic,
    Constant,
    Extremum,
    ExtremumKind,
    Input,
    Linear,
    Lookup,
    Movement,
    Multiply,
    Op,
    Overflow,
    Padding,
    Reduce,
    ReduceKind,
    Requantize,
    Rewire,
    Rounding,
    Window,
)
from metronn.ir.shapes import result_shape
from metronn.ir.types import Range, TensorType
from metronn.ir.windows import window_index


class TypeRuleError(ValueError):
    """An op's operands do not fit it; the message says what was found and what is allowed."""


def infer(op: Op, types: Sequence[TensorType]) -> TensorType:
    """Return the type of `op`'s result from its operands' types, in the order of `operands(op)`.

    Raises TypeRuleError when shapes or ranges do not fit the op.
    """
    match op:
        case Input():
            return _infer_input(op)
        case Constant():
            values = tuple(op.values.ints())
            return TensorType(op.values.shape, Range(values, values, op.frac))
        case Rewire():
            return _infer_rewire(op, types)
        case Window():
            return _infer_window(op, types[0])
        case Linear():
            return _infer_linear(op, types[0])
        case Add():
            return _infer_add(op, types[0], types[1])
        case Multiply():
            return _infer_multiply(op, types[0], types[1])
        case Extremum():
            return _infer_extremum(op, types[0], types[1])
        case Reduce():
            return _infer_reduce(op, types[0])
        case Requantize():
            return _infer_requantize(op, types[0])
        case Lookup():
            return _infer_lookup(op, types[0])
        case _:
            assert_never(op)


def _shape(op: Movement | Arithmetic, *types: TensorType) -> tuple[int, ...]:
    try:
        return result_shape(op, [t.shape for t in types])
    except ValueError as error:
        raise TypeRuleError(str(error)) from None


def _infer_input(op: Input) -> TensorType:
    if op.step is not None and (op.step.shape not in ((), op.shape) or op.step.bounds()[0] < 1):
        raise TypeRuleError(
            f"input: step has shape {op.step.shape} and least value {op.step.bounds()[0]}, "
            f"allowed are positive values of shape {op.shape} or one"
        )
    if op.sticky and op.rounding is not Rounding.TRN:
        raise TypeRuleError(f"input: sticky with rounding {op.rounding.value}, allowed is TRN")
    if op.overflow is not Overflow.SAT:
        count = math.prod(op.shape)
        for lo, hi in set(zip(op.range.los(count), op.range.his(count), strict=True)):
            check_overflow_range(lo, hi, op.overflow)
    return TensorType(op.shape, op.range)


def _range_of(lo: Array, hi: Array, frac: Array) -> Range:
    """Build a Range from arrays of bounds and exponents."""
    return Range(
        tuple(int(v) for v in lo.ravel()), tuple(int(v) for v in hi.ravel()), tuple(int(v) for v in frac.ravel())
    )


def _infer_rewire(op: Rewire, types: Sequence[TensorType]) -> TensorType:
    shape, index = _shape(op, *types), op.index.ints()
    lo = [v for t in types for v in t.range.los(t.size)] + [0]
    hi = [v for t in types for v in t.range.his(t.size)] + [0]
    frac = [v for t in types for v in t.range.fracs(t.size)]
    picked = np.array([0 if k < 0 else frac[k] for k in index], dtype=np.int64)
    fracs = filled_fracs(picked, np.array([k < 0 for k in index]), shape[-1] if shape else 1, 0)
    return TensorType(shape, Range(tuple(lo[k] for k in index), tuple(hi[k] for k in index), fracs))


def filled_fracs(fracs: Array, empty: Array, channels: int, default: int) -> tuple[int, ...]:
    """Return the fracs of all elements (flat) of a tensor with elements from nowhere, which `empty` marks.

    Those get the largest frac of their channel (the place on a last axis of `channels`), so that fracs by channel stay
    fracs by channel; in a channel of such elements alone the largest of all, or `default`.
    """
    if empty.all():
        return (default,) * len(fracs)
    least = int(fracs[~empty].min())
    known = np.where(empty, least - 1, fracs).reshape(-1, channels)
    largest = known.max(axis=0)
    largest = np.where(largest < least, known.max(), largest)
    return tuple(np.where(empty, np.broadcast_to(largest, known.shape).ravel(), fracs).tolist())


def _infer_window(op: Window, x: TensorType) -> TensorType:
    shape = _shape(op, x)
    lowest = op.padding is Padding.LOWEST
    if lowest and not isinstance(x.range.frac, int):
        by_channel = x.range.frac_array(x.shape).reshape(-1, x.shape[-1])
        if (by_channel != by_channel[0]).any():
            raise TypeRuleError("window: padding with the lowest code needs one frac for all elements of a channel")
    if isinstance(x.range.lo, int) and isinstance(x.range.hi, int) and isinstance(x.range.frac, int):
        padded = any(op.before) or any(op.after)
        lo, hi = x.range.lo, x.range.hi
        if not padded or lowest or lo <= 0 <= hi:
            return TensorType(shape, x.range)
    index = np.asarray(window_index(op, x.shape)).ravel()
    fill = x.range.lowest if lowest else 0
    los, his = (
        object_array((*x.range.los(x.size), fill), (x.size + 1,)),
        object_array((*x.range.his(x.size), fill), (x.size + 1,)),
    )
    fracs = np.asarray((*x.range.fracs(x.size), x.range.max_frac), dtype=np.int64)[index]
    known = filled_fracs(fracs, index < 0, x.shape[-1], x.range.max_frac)
    return TensorType(shape, Range(tuple(los[index].tolist()), tuple(his[index].tolist()), known))


def aligned_bounds(t: TensorType, frac: int) -> tuple[Array, Array]:
    """Bounds of `t` as object arrays of its shape, in codes with `frac` fraction bits (frac >= every element's)."""
    return shifted_bounds(t, frac - t.range.frac_array(t.shape).astype(object))


def shifted_bounds(t: TensorType, shift: Array) -> tuple[Array, Array]:
    """Bounds of `t` as object arrays of its shape, every element's code shifted up by its entry of `shift` (>= 0)."""
    lo = object_array(t.range.los(t.size), t.shape)
    hi = object_array(t.range.his(t.size), t.shape)
    factor = np.frompyfunc(lambda bits: 1 << int(bits), 1, 1)(shift)
    return np.asarray(lo * factor, dtype=object), np.asarray(hi * factor, dtype=object)


def linear_frac(op: Linear, x: TensorType) -> int:
    """F: the largest sum of an element's frac and the `input_frac` of its place on the last axis."""
    if isinstance(op.input_frac, int):
        return x.range.max_frac + op.input_frac
    return int((x.range.frac_array(x.shape) + np.asarray(op.input_frac)).max())


def linear_shifts(op: Linear, x: TensorType) -> Array:
    """Bits that each code of x, the operand of `op`, is shifted up before it is multiplied: int64 of x's shape."""
    if isinstance(op.input_frac, int) and isinstance(x.range.frac, int):
        return np.zeros(x.shape, dtype=np.int64)
    given = x.range.frac_array(x.shape) + np.asarray(op.input_frac)
    return np.asarray(given.max() - given, dtype=np.int64)


def reduce_fracs(op: Reduce, x: TensorType) -> Array:
    """Fracs of the result of `op`: the largest that is reduced over, for each; int64, of the result's shape."""
    return np.asarray(x.range.frac_array(x.shape).astype(np.int64).max(axis=op.axes))


def reduce_shifts(op: Reduce, x: TensorType) -> Array:
    """Bits that each code of x, the operand of `op`, is shifted up before it is reduced: int64 of x's shape."""
    fracs = x.range.frac_array(x.shape).astype(np.int64)
    return np.asarray(fracs.max(axis=op.axes, keepdims=True) - fracs)


def _infer_linear(op: Linear, x: TensorType) -> TensorType:
    if not x.shape:
        raise TypeRuleError("linear: the input is a scalar, a last axis is needed")
    if len(op.weight.shape) != 2 or op.weight.shape[0] != x.shape[-1]:
        raise TypeRuleError(f"linear: weight has shape {op.weight.shape}, the input's last axis is {x.shape[-1]}")
    if op.bias.shape != (op.weight.shape[1],):
        raise TypeRuleError(f"linear: bias has shape {op.bias.shape}, allowed is ({op.weight.shape[1]},)")
    for name, values, count in zip(
        ("input_frac", "weight_frac"), (op.input_frac, op.weight_frac), op.weight.shape, strict=True
    ):
        if isinstance(values, tuple) and len(values) != count:
            raise TypeRuleError(f"linear: {name} has {len(values)} entries, allowed are one for all or {count}")
    lo, hi = shifted_bounds(x, linear_shifts(op, x).astype(object))
    biggest = max(1, *(abs(int(v)) for v in (lo.min(), hi.max())))
    weight = op.weight.array
    reach = biggest * max(1, *(abs(v) for v in op.weight.bounds())) * op.weight.shape[0]
    reach += max(abs(v) for v in op.bias.bounds())
    limit = (-reach, reach)
    wide = as_dtype_for(weight, *limit)
    positive, negative = np.maximum(wide, 0), np.minimum(wide, 0)
    lo, hi = as_dtype_for(lo, *limit), as_dtype_for(hi, *limit)
    bias = as_dtype_for(op.bias.array, *limit)
    out_lo = lo @ positive + hi @ negative + bias
    out_hi = hi @ positive + lo @ negative + bias
    shape = (*x.shape[:-1], op.weight.shape[1])
    frac = np.broadcast_to(linear_frac(op, x) + np.asarray(op.weight_frac, dtype=np.int64), shape)
    return TensorType(shape, _range_of(np.asarray(out_lo), np.asarray(out_hi), frac))


def _operand_arrays(t: TensorType, shape: tuple[int, ...]) -> tuple[Array, Array, Array]:
    def spread(values: tuple[int, ...]) -> Array:
        return np.broadcast_to(object_array(values, t.shape), shape)

    return spread(t.range.los(t.size)), spread(t.range.his(t.size)), spread(t.range.fracs(t.size))


def _align_pair(
    op: Add | Extremum, x: TensorType, y: TensorType
) -> tuple[tuple[int, ...], Array, Array, Array, Array, Array]:
    shape = _shape(op, x, y)
    x_lo, x_hi, x_frac = _operand_arrays(x, shape)
    y_lo, y_hi, y_frac = _operand_arrays(y, shape)
    frac = np.maximum(x_frac, y_frac)
    power = np.frompyfunc(lambda bits: 1 << int(bits), 1, 1)
    x_scale, y_scale = power(frac - x_frac), power(frac - y_frac)
    moved = (x_lo * x_scale, x_hi * x_scale, y_lo * y_scale, y_hi * y_scale)
    # the product of two arrays without axes is a bare integer, which NumPy would force into 64 bits later
    x_lo, x_hi, y_lo, y_hi = (np.asarray(bound, dtype=object) for bound in moved)
    return shape, x_lo, x_hi, y_lo, y_hi, np.asarray(frac)


def _infer_add(op: Add, x: TensorType, y: TensorType) -> TensorType:
    shape, x_lo, x_hi, y_lo, y_hi, frac = _align_pair(op, x, y)
    if op.subtract:
        return TensorType(shape, _range_of(np.asarray(x_lo - y_hi), np.asarray(x_hi - y_lo), frac))
    return TensorType(shape, _range_of(np.asarray(x_lo + y_lo), np.asarray(x_hi + y_hi), frac))


def _infer_multiply(op: Multiply, x: TensorType, y: TensorType) -> TensorType:
    shape = _shape(op, x, y)
    x_lo, x_hi, x_frac = _operand_arrays(x, shape)
    y_lo, y_hi, y_frac = _operand_arrays(y, shape)
    corners = [np.asarray(a * b, dtype=object) for a in (x_lo, x_hi) for b in (y_lo, y_hi)]
    lo, hi = corners[0], corners[0]
    for corner in corners[1:]:
        lo, hi = np.minimum(lo, corner), np.maximum(hi, corner)
    return TensorType(shape, _range_of(np.asarray(lo), np.asarray(hi), np.asarray(x_frac + y_frac)))


def _infer_extremum(op: Extremum, x: TensorType, y: TensorType) -> TensorType:
    shape, x_lo, x_hi, y_lo, y_hi, frac = _align_pair(op, x, y)
    pick = np.maximum if op.kind is ExtremumKind.MAX else np.minimum
    return TensorType(shape, _range_of(np.asarray(pick(x_lo, y_lo)), np.asarray(pick(x_hi, y_hi)), frac))


def _infer_reduce(op: Reduce, x: TensorType) -> TensorType:
    shape = _shape(op, x)
    lo, hi = shifted_bounds(x, reduce_shifts(op, x).astype(object))
    match op.kind:
        case ReduceKind.SUM:
            lo, hi = lo.sum(axis=op.axes), hi.sum(axis=op.axes)
        case ReduceKind.MAX:
            lo, hi = lo.max(axis=op.axes), hi.max(axis=op.axes)
        case ReduceKind.MIN:
            lo, hi = lo.min(axis=op.axes), hi.min(axis=op.axes)
        case _:
            assert_never(op.kind)
    lo, hi = np.asarray(lo, dtype=object), np.asarray(hi, dtype=object)
    return TensorType(shape, _range_of(lo, hi, reduce_fracs(op, x)))


def round_shift(value: int, shift: int, rounding: Rounding) -> int:
    """Return value * 2**-shift rounded to an integer in the given mode; shift <= 0 is exact. Scalar reference."""
    if shift <= 0:
        return value << -shift
    half = 1 << (shift - 1)
    floor = value >> shift
    remainder = value - (floor << shift)
    match rounding:
        case Rounding.TRN:
            return floor
        case Rounding.TRN_ZERO:
            return floor + (1 if value < 0 and remainder else 0)
        case Rounding.RND:
            return (value + half) >> shift
        case Rounding.RND_MIN_INF:
            return (value + half - 1) >> shift
        case Rounding.RND_ZERO:
            return (value + (half if value < 0 else half - 1)) >> shift
        case Rounding.RND_INF:
            return (value + (half - 1 if value < 0 else half)) >> shift
        case Rounding.RND_CONV:
            return (value + half - 1 + (floor & 1)) >> shift
        case _:
            assert_never(rounding)


def overflowed(value: int, lo: int, hi: int, overflow: Overflow) -> int:
    """Bring an integer into [lo, hi] in the given overflow mode. Scalar reference."""
    if lo <= value <= hi:
        return value
    match overflow:
        case Overflow.WRAP:
            return (value - lo) % (hi - lo + 1) + lo
        case Overflow.SAT:
            return min(max(value, lo), hi)
        case Overflow.SAT_ZERO:
            return 0
        case Overflow.SAT_SYM:
            return min(max(value, lo), hi)
        case _:
            assert_never(overflow)


def check_overflow_range(lo: int, hi: int, overflow: Overflow) -> None:
    """Raise TypeRuleError when [lo, hi] cannot be the target of the overflow mode."""
    span = hi - lo + 1
    if overflow is Overflow.WRAP and (span & (span - 1) or lo not in (0, -(hi + 1))):
        raise TypeRuleError(f"requantize: WRAP needs a full 2^n range, got [{lo}, {hi}]; use SAT or widen the range")
    if overflow is Overflow.SAT_SYM and lo not in (0, -hi):
        raise TypeRuleError(f"requantize: SAT_SYM needs lo = -hi or lo = 0, got [{lo}, {hi}]")
    if overflow is Overflow.SAT_ZERO and not lo <= 0 <= hi:
        raise TypeRuleError(f"requantize: SAT_ZERO needs 0 in the range, got [{lo}, {hi}]")


def _infer_requantize(op: Requantize, x: TensorType) -> TensorType:
    if op.out.element_count not in (None, x.size):
        raise TypeRuleError(f"requantize: out describes {op.out.element_count} elements, the input has {x.size}")
    lows, highs = [], []
    fields = (x.range.los, x.range.his, x.range.fracs, op.out.los, op.out.his, op.out.fracs)
    cache: dict[tuple[int, ...], tuple[int, int]] = {}
    for key in zip(*(f(x.size) for f in fields), strict=True):
        bounds = cache.get(key)
        if bounds is None:
            bounds = cache[key] = _requantize_bounds(key, op)
        lows.append(bounds[0])
        highs.append(bounds[1])
    return TensorType(x.shape, Range(tuple(lows), tuple(highs), op.out.frac))


def _requantize_bounds(key: tuple[int, ...], op: Requantize) -> tuple[int, int]:
    x_lo, x_hi, x_frac, out_lo, out_hi, out_frac = key
    check_overflow_range(out_lo, out_hi, op.overflow)
    lo = round_shift(x_lo, x_frac - out_frac, op.rounding)
    hi = round_shift(x_hi, x_frac - out_frac, op.rounding)
    if out_lo <= lo and hi <= out_hi:
        return lo, hi
    match op.overflow:
        case Overflow.WRAP:
            return out_lo, out_hi
        case Overflow.SAT | Overflow.SAT_SYM:
            return min(max(lo, out_lo), out_hi), min(max(hi, out_lo), out_hi)
        case Overflow.SAT_ZERO:
            kept = (max(lo, out_lo), min(hi, out_hi))
            return (min(kept[0], 0), max(kept[1], 0)) if kept[0] <= kept[1] else (0, 0)
        case _:
            assert_never(op.overflow)


def _infer_lookup(op: Lookup, x: TensorType) -> TensorType:
    if not isinstance(x.range.frac, int):
        raise TypeRuleError("lookup: the input needs one frac for all elements; requantize it first")
    low, high = x.range.lowest, x.range.highest
    if op.table.shape != (high - low + 1,):
        raise TypeRuleError(f"lookup: table has shape {op.table.shape}, codes {low}..{high} need ({high - low + 1},)")
    lo, hi = op.table.bounds()
    return TensorType(x.shape, Range(lo, hi, op.frac))
