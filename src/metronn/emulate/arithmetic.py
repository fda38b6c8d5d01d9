"""The arithmetic of the NumPy emulator: what each op does to arrays of codes, (events, *shape)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import assert_never

import numpy as np
from numpy.lib.stride_tricks import as_strided

from metronn.ir.arrays import Array, as_dtype_for, fits_int64, same_rank
from metronn.ir.graph import Graph
from metronn.ir.infer import aligned_bounds, linear_shifts, reduce_shifts, shifted_bounds
from metronn.ir.ops import (
    Linear,
    Overflow,
    Padding,
    Reduce,
    ReduceKind,
    Requantize,
    Rewire,
    Rounding,
    Window,
)
from metronn.ir.types import TensorType
from metronn.ir.windows import window_index

FLOAT32_EXACT = 2**24
FLOAT64_EXACT = 2**53


def reach_of(*types: TensorType) -> tuple[int, int]:
    """Lowest and highest code of any of the types."""
    return min(t.range.lowest for t in types), max(t.range.highest for t in types)


def _shifted(array: Array, shift: Array, bounds: tuple[int, int]) -> Array:
    """Codes moved up by `shift` bits, element by element, in a dtype that holds `bounds`."""
    wide = as_dtype_for(array, *bounds)
    if not shift.any():
        return wide
    return wide * as_dtype_for(np.frompyfunc(lambda bits: 1 << int(bits), 1, 1)(shift), 0, 1 << int(shift.max()))


def code_bounds(t: TensorType, frac: int) -> tuple[int, int]:
    """Lowest and highest code of any element in codes with `frac` fraction bits (frac >= every element's)."""
    if isinstance(t.range.frac, int):
        return t.range.lowest << (frac - t.range.frac), t.range.highest << (frac - t.range.frac)
    lo, hi = aligned_bounds(t, frac)
    return int(lo.min()), int(hi.max())


def shifted_code_bounds(t: TensorType, shift: Array) -> tuple[int, int]:
    """Lowest and highest code of any element, every one shifted up by its entry of `shift`."""
    if not shift.any():
        return t.range.lowest, t.range.highest
    lo, hi = shifted_bounds(t, shift.astype(object))
    return int(lo.min()), int(hi.max())


def aligned_pair(graph: Graph, x: str, y: str, values: Mapping[str, Array], out: TensorType) -> tuple[Array, Array]:
    """Both operands in the codes of the result, batched and of equal rank."""
    pair = []
    for name in (x, y):
        t = graph.type_of(name)
        lo, hi = code_bounds(t, max(t.range.max_frac, out.range.max_frac))
        bounds = (min(lo, out.range.lowest), max(hi, out.range.highest))
        array = values[name]
        wide = as_dtype_for(array, *bounds)
        same = isinstance(t.range.frac, int) and t.range.frac == out.range.frac
        shift = np.zeros(()) if same else out.range.frac_array(out.shape) - t.range.frac_array(t.shape)
        if shift.any() and (t.range.lowest or t.range.highest):
            factor = np.asarray(np.frompyfunc(lambda bits: 1 << int(bits), 1, 1)(shift), dtype=object)
            wide = wide.reshape(wide.shape[0], *(1,) * (factor.ndim - t.range.frac_array(t.shape).ndim), *t.shape)
            wide = wide * as_dtype_for(factor, *bounds)
        pair.append(wide)
    return same_rank(pair[0], pair[1])


def rewire(op: Rewire, xs: list[Array], out: TensorType) -> Array:
    """Pick elements; a mere change of shape copies nothing."""
    events = max(x.shape[0] for x in xs)
    sizes = [math.prod(x.shape[1:]) for x in xs]
    flat = [np.broadcast_to(x.reshape(len(x), size), (events, size)) for x, size in zip(xs, sizes, strict=True)]
    joined = flat[0] if len(flat) == 1 else np.concatenate(flat, axis=1)
    index = op.index.array.ravel().astype(np.intp)
    if np.array_equal(index, np.arange(joined.shape[1])):
        return joined.reshape(events, *out.shape)
    picked = joined[:, np.where(index < 0, 0, index)]
    if (index < 0).any():
        picked[:, index < 0] = 0
    return as_dtype_for(picked, out.range.lowest, out.range.highest).reshape(events, *out.shape)


def linear_reach(op: Linear, x: TensorType) -> int:
    """Bound on every operand, product, partial sum and result of the op, in any order of summation."""
    biggest = max(1, *map(abs, shifted_code_bounds(x, linear_shifts(op, x))))
    low, high = op.weight.bounds()
    most = max(abs(low), abs(high)) * op.weight.shape[0]
    columns = np.abs(as_dtype_for(op.weight.array, -most, most)).sum(axis=0)
    return biggest * int(max(1, *columns)) + max(abs(v) for v in op.bias.bounds())


def window_fill(op: Window, x: TensorType) -> int:
    """Return the code beyond the edge."""
    return x.range.lowest if op.padding is Padding.LOWEST else 0


def window_shifts(op: Window, x: TensorType, shifts: Array) -> Array | None:
    """Bits to shift the elements of x, the window's operand, up by, so that its result is shifted by `shifts`.

    None where the copies of an element need different shifts, or the padding one that is not 0. Elements that no window
    reads stay as they are.
    """
    found = np.zeros(x.size, dtype=np.int64)
    if not shifts.any():
        return found.reshape(x.shape)
    if op.padding is Padding.LOWEST:
        return None
    index = np.asarray(window_index(op, x.shape)).ravel()
    inside = index >= 0
    found[index[inside]] = shifts.ravel()[inside]
    return found.reshape(x.shape) if (found[index[inside]] == shifts.ravel()[inside]).all() else None


def window(op: Window, x: Array, fill: int) -> Array:
    """Write the windows down, `fill` where they reach over the edge; any dtype."""
    first = x.ndim - 1 - len(op.kernel)
    spatial = x.shape[first:-1]
    padded = tuple(n + b + a for n, b, a in zip(spatial, op.before, op.after, strict=True))
    if padded != spatial:
        edged = np.full((*x.shape[:first], *padded, x.shape[-1]), fill, dtype=x.dtype)
        inside = tuple(slice(b, b + n) for n, b in zip(spatial, op.before, strict=True))
        edged[(slice(None),) * first + inside] = x
        x = edged
    fields = zip(padded, op.kernel, op.strides, op.dilations, strict=True)
    places = tuple((n - d * (k - 1) - 1) // s + 1 for n, k, s, d in fields)
    steps = x.strides[first:-1]
    view = as_strided(
        x,
        (*x.shape[:first], *places, *op.kernel, x.shape[-1]),
        (
            *x.strides[:first],
            *(n * s for n, s in zip(steps, op.strides, strict=True)),
            *(n * d for n, d in zip(steps, op.dilations, strict=True)),
            x.strides[-1],
        ),
        writeable=False,
    )
    return view.reshape(*x.shape[:first], *places, math.prod(op.kernel) * x.shape[-1])


def linear(graph: Graph, op: Linear, values: Mapping[str, Array], out: TensorType) -> Array:
    """Multiply; a window between x and the op is applied to x in the type of the products."""
    x_type = graph.type_of(op.x)
    reach = linear_reach(op, x_type)
    maker = graph.by_name[op.x].op
    fused = maker if op.x not in values and isinstance(maker, Window) else None
    source = fused.x if fused is not None else op.x
    shifts = linear_shifts(op, x_type)
    if fused is not None:
        behind = window_shifts(fused, graph.type_of(source), shifts)
        assert behind is not None, "a window is fused whose elements are shifted differently"
        shifts = behind
    x = _shifted(values[source], shifts, (-reach, reach))
    weight, bias = op.weight.array, op.bias.array
    kind: type | None = None
    if reach < FLOAT64_EXACT:
        kind = np.float32 if reach < FLOAT32_EXACT else np.float64
        x, weight, bias = x.astype(kind), weight.astype(kind), bias.astype(kind)
    else:
        x, weight, bias = (as_dtype_for(array, -reach, reach) for array in (x, weight, bias))
    if fused is not None:
        x = window(fused, x, window_fill(fused, graph.type_of(fused.x)))
    result = np.matmul(x, weight)
    if kind is not None:
        result += bias
        codes: Array = result.astype(np.int64)
        return codes
    return as_dtype_for(result + bias, out.range.lowest, out.range.highest)


def reduce(op: Reduce, x: Array, x_type: TensorType, out: TensorType) -> Array:
    """Sum or extremum along the axes, each in the largest frac it reads."""
    shifts = reduce_shifts(op, x_type)
    lo, hi = shifted_code_bounds(x_type, shifts)
    count = x_type.size
    bounds = (min(lo * count, out.range.lowest), max(hi * count, out.range.highest))
    x = _shifted(x, shifts, bounds)
    axes = tuple(axis + 1 for axis in op.axes)
    match op.kind:
        case ReduceKind.SUM:
            result = x.sum(axis=axes)
        case ReduceKind.MAX:
            result = x.max(axis=axes)
        case ReduceKind.MIN:
            result = x.min(axis=axes)
        case _:
            assert_never(op.kind)
    return as_dtype_for(np.asarray(result), out.range.lowest, out.range.highest)


def requantize(op: Requantize, x: Array, x_type: TensorType, out: TensorType) -> Array:
    """Round and bound every element in its own frac and range."""
    if isinstance(x_type.range.frac, int) and isinstance(op.out.frac, int):
        shift = np.asarray(x_type.range.frac - op.out.frac)
    else:
        shift = x_type.range.frac_array(x_type.shape) - op.out.frac_array(x_type.shape)
    grow = max(0, -int(shift.min())) if shift.size else 0
    half = 1 << max(0, int(shift.max()))
    reach = (max(abs(x_type.range.lowest), abs(x_type.range.highest)) + half) << grow
    wide = as_dtype_for(x, -reach, reach)
    if shift.size and (shift == shift.flat[0]).all():
        rounded = _round(wide, int(shift.flat[0]), op.rounding)
    else:
        rounded = wide.copy()
        for bits in np.unique(shift):
            where = shift == bits
            rounded[:, where] = _round(wide[:, where], int(bits), op.rounding)
    if op.out.uniform:
        lo, hi = np.asarray(op.out.lowest, dtype=object), np.asarray(op.out.highest, dtype=object)
        if fits_int64(op.out.lowest, op.out.highest):
            lo, hi = lo.astype(np.int64), hi.astype(np.int64)
    else:
        lo, hi = op.out.lo_array(x_type.shape), op.out.hi_array(x_type.shape)
    bounds = (min(-reach, op.out.lowest), max(reach, op.out.highest))
    rounded = as_dtype_for(rounded, *bounds)
    return as_dtype_for(_overflow(rounded, lo, hi, op.overflow), out.range.lowest, out.range.highest)


def _round(x: Array, shift: int, rounding: Rounding) -> Array:
    """Round x * 2**-shift in the given mode; the vector form of `ir.infer.round_shift`."""
    if shift == 0:
        return x
    if shift < 0:
        return np.asarray(x * (1 << -shift))
    half = 1 << (shift - 1)
    match rounding:
        case Rounding.TRN:
            added: Array | int = 0
        case Rounding.TRN_ZERO:
            added = _by_sign(x, (1 << shift) - 1, 0)
        case Rounding.RND:
            added = half
        case Rounding.RND_MIN_INF:
            added = half - 1
        case Rounding.RND_ZERO:
            added = _by_sign(x, half, half - 1)
        case Rounding.RND_INF:
            added = _by_sign(x, half - 1, half)
        case Rounding.RND_CONV:
            added = (half - 1) + ((x >> shift) & 1)
        case _:
            assert_never(rounding)
    moved: Array = x + added
    return np.asarray(moved >> shift)


def _by_sign(x: Array, negative: int, otherwise: int) -> Array:
    """Return one integer or the other, in the dtype of x, which holds both."""
    return np.where(x < 0, np.asarray(negative, dtype=x.dtype), np.asarray(otherwise, dtype=x.dtype))


def _overflow(x: Array, lo: Array, hi: Array, overflow: Overflow) -> Array:
    match overflow:
        case Overflow.WRAP:
            return np.asarray((x - lo) % (hi - lo + 1) + lo)
        case Overflow.SAT | Overflow.SAT_SYM:
            return np.minimum(np.maximum(x, lo), hi)
        case Overflow.SAT_ZERO:
            return np.where((x < lo) | (x > hi), np.zeros_like(x), x)
        case _:
            assert_never(overflow)
