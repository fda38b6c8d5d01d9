"""The NumPy emulator: the definition of what every op means, exact at any width.

Values are integer codes, batched: an array of shape (events, *shape), int64 where the op's range fits, else Python
integers in an object array. Linear ops run in BLAS, float32 or float64, wherever the ranges prove every partial sum
exact there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import assert_never

import numpy as np

from metronn.errors import ModelError
from metronn.ir.arrays import Array, as_dtype_for, fits_int64
from metronn.ir.graph import Graph, Node
from metronn.ir.infer import aligned_bounds
from metronn.ir.ops import (
    Add,
    Constant,
    Extremum,
    ExtremumKind,
    Input,
    Linear,
    Lookup,
    Multiply,
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


def emulate(
    graph: Graph, inputs: Mapping[str, Array], tap: Callable[[Node, Array], None] | None = None
) -> dict[str, Array]:
    """Run integer codes through the graph and return the codes of each output, by output name.

    `inputs` maps each input's name to codes of shape (events, *shape). `tap`, when given, sees every node's codes.
    Raises ModelError when an input is missing, has another shape, or a code outside its promised range.
    """
    values: dict[str, Array] = {}
    last_use = _last_uses(graph)
    for position, node in enumerate(graph.nodes):
        values[node.name] = evaluate(graph, node, values, inputs)
        if tap is not None:
            tap(node, values[node.name])
        for name in last_use.get(position, ()):
            del values[name]
    return {output.name: values[output.value] for output in graph.outputs}


def _last_uses(graph: Graph) -> dict[int, list[str]]:
    """Where each value that is no output is read last: it can be freed there."""
    kept = {output.value for output in graph.outputs}
    position = {node.name: index for index, node in enumerate(graph.nodes)}
    last: dict[int, list[str]] = {}
    for name, users in graph.uses.items():
        if name not in kept:
            last.setdefault(max((position[user] for user in users), default=position[name]), []).append(name)
    return last


def checked_input(node: Node, array: Array) -> Array:
    """Return the codes of an input after checking shape, kind and range."""
    codes = np.asarray(array)
    if codes.dtype.kind not in "iuO":
        raise ModelError(f"input {node.name}: codes are {codes.dtype}, allowed are integers")
    if codes.shape[1:] != node.type.shape:
        raise ModelError(f"input {node.name}: shape per event is {codes.shape[1:]}, allowed is {node.type.shape}")
    lo, hi = node.type.range.lo_array(node.type.shape), node.type.range.hi_array(node.type.shape)
    bad = (codes < lo) | (codes > hi)
    if bad.any():
        where = tuple(int(k) for k in np.argwhere(bad)[0])
        flat = int(np.ravel_multi_index(where[1:], node.type.shape)) if node.type.shape else 0
        element = node.type.range.element(flat)
        raise ModelError(
            f"input {node.name}: event {where[0]}, element {flat} is {codes[where]}, "
            f"allowed is {element.lo} to {element.hi}"
        )
    return as_dtype_for(codes, node.type.range.lowest, node.type.range.highest)


def evaluate(graph: Graph, node: Node, values: Mapping[str, Array], inputs: Mapping[str, Array]) -> Array:
    """Return the codes of one node from the codes of its operands."""
    op = node.op
    match op:
        case Input():
            if node.name not in inputs:
                raise ModelError(f"input {node.name}: no data; found {', '.join(sorted(inputs)) or 'nothing'}")
            return checked_input(node, inputs[node.name])
        case Constant():
            return op.values.array[np.newaxis]
        case Rewire():
            return _rewire(op, [values[x] for x in op.xs], node.type)
        case Window():
            return _window(op, values[op.x], graph.type_of(op.x))
        case Linear():
            return _linear(op, values[op.x], graph.type_of(op.x), node.type)
        case Add():
            x, y = _aligned_pair(graph, op.x, op.y, values, node.type)
            return x - y if op.subtract else x + y
        case Multiply():
            bounds = _reach(node.type, graph.type_of(op.x), graph.type_of(op.y))
            x, y = _same_rank(values[op.x], values[op.y])
            return as_dtype_for(x, *bounds) * as_dtype_for(y, *bounds)
        case Extremum():
            x, y = _aligned_pair(graph, op.x, op.y, values, node.type)
            return np.maximum(x, y) if op.kind is ExtremumKind.MAX else np.minimum(x, y)
        case Reduce():
            return _reduce(op, values[op.x], graph.type_of(op.x), node.type)
        case Requantize():
            return _requantize(op, values[op.x], graph.type_of(op.x), node.type)
        case Lookup():
            codes = values[op.x] - graph.type_of(op.x).range.lowest
            return op.table.array[codes.astype(np.intp)]
        case _:
            assert_never(op)


def _reach(*types: TensorType) -> tuple[int, int]:
    return min(t.range.lowest for t in types), max(t.range.highest for t in types)


def _same_rank(x: Array, y: Array) -> tuple[Array, Array]:
    """Insert axes after the batch axis so that the shapes behind it broadcast from the right."""
    rank = max(x.ndim, y.ndim)

    def widen(a: Array) -> Array:
        return a.reshape(a.shape[0], *(1,) * (rank - a.ndim), *a.shape[1:])

    return widen(x), widen(y)


def _shifted_to(array: Array, t: TensorType, frac: Array | int, bounds: tuple[int, int]) -> Array:
    """Codes moved up to `frac` fraction bits (a scalar or an array of t's shape), in a dtype that holds `bounds`."""
    shift = np.asarray(frac) - t.range.frac_array(t.shape)
    wide = as_dtype_for(array, *bounds)
    if not shift.any():
        return wide
    return wide * as_dtype_for(np.frompyfunc(lambda bits: 1 << int(bits), 1, 1)(shift), 0, 1 << int(shift.max()))


def _aligned_pair(graph: Graph, x: str, y: str, values: Mapping[str, Array], out: TensorType) -> tuple[Array, Array]:
    """Both operands in the codes of the result, batched and of equal rank."""
    pair = []
    for name in (x, y):
        t = graph.type_of(name)
        lo, hi = aligned_bounds(t, max(t.range.max_frac, out.range.max_frac))
        bounds = (min(int(lo.min()), out.range.lowest), max(int(hi.max()), out.range.highest))
        array, frac = values[name], t.range.frac_array(t.shape)
        shift = out.range.frac_array(out.shape) - frac
        wide = as_dtype_for(array, *bounds)
        if shift.any():
            factor = np.asarray(np.frompyfunc(lambda bits: 1 << int(bits), 1, 1)(shift), dtype=object)
            wide = wide.reshape(wide.shape[0], *(1,) * (factor.ndim - t.range.frac_array(t.shape).ndim), *t.shape)
            wide = wide * as_dtype_for(factor, *bounds)
        pair.append(wide)
    return _same_rank(pair[0], pair[1])


def _rewire(op: Rewire, xs: list[Array], out: TensorType) -> Array:
    events = max(x.shape[0] for x in xs)
    sizes = [math.prod(x.shape[1:]) for x in xs]
    flat = [np.broadcast_to(x.reshape(len(x), size), (events, size)) for x, size in zip(xs, sizes, strict=True)]
    joined = flat[0] if len(flat) == 1 else np.concatenate(flat, axis=1)
    index = op.index.array.ravel().astype(np.intp)
    picked = joined[:, np.where(index < 0, 0, index)]
    if (index < 0).any():
        picked[:, index < 0] = 0
    return as_dtype_for(picked, out.range.lowest, out.range.highest).reshape(events, *out.shape)


def linear_reach(op: Linear, x: TensorType) -> int:
    """Bound on every operand, product, partial sum and result of the op, in any order of summation."""
    lo, hi = aligned_bounds(x, x.range.max_frac)
    biggest = max(1, abs(int(lo.min())), abs(int(hi.max())))
    columns = np.abs(op.weight.array.astype(object)).sum(axis=0)
    return biggest * int(max(1, *columns)) + max(abs(v) for v in op.bias.bounds())


def _window(op: Window, x: Array, kind: TensorType) -> Array:
    fill = kind.range.lowest if op.padding is Padding.LOWEST else 0
    flat = x.reshape(x.shape[0], -1)
    padded = np.concatenate([flat, np.full((flat.shape[0], 1), fill, dtype=flat.dtype)], axis=1)
    return np.asarray(padded[:, window_index(op, kind.shape)])


def _linear(op: Linear, x: Array, x_type: TensorType, out: TensorType) -> Array:
    reach = linear_reach(op, x_type)
    x = _shifted_to(x, x_type, x_type.range.max_frac, (-reach, reach))
    weight, bias = op.weight.array, op.bias.array
    if reach < FLOAT64_EXACT:
        kind = np.float32 if reach < FLOAT32_EXACT else np.float64
        result = np.matmul(x.astype(kind), weight.astype(kind))
        result += bias.astype(kind)
        codes: Array = result.astype(np.int64)
        return codes
    wide = np.matmul(as_dtype_for(x, -reach, reach), as_dtype_for(weight, -reach, reach))
    return as_dtype_for(wide + as_dtype_for(bias, -reach, reach), out.range.lowest, out.range.highest)


def _reduce(op: Reduce, x: Array, x_type: TensorType, out: TensorType) -> Array:
    lo, hi = aligned_bounds(x_type, x_type.range.max_frac)
    count = x_type.size
    bounds = (min(int(lo.min()) * count, out.range.lowest), max(int(hi.max()) * count, out.range.highest))
    x = _shifted_to(x, x_type, x_type.range.max_frac, bounds)
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


def _requantize(op: Requantize, x: Array, x_type: TensorType, out: TensorType) -> Array:
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
            added = np.where(x < 0, (1 << shift) - 1, 0).astype(x.dtype)
        case Rounding.RND:
            added = half
        case Rounding.RND_MIN_INF:
            added = half - 1
        case Rounding.RND_ZERO:
            added = np.where(x < 0, half, half - 1).astype(x.dtype)
        case Rounding.RND_INF:
            added = np.where(x < 0, half - 1, half).astype(x.dtype)
        case Rounding.RND_CONV:
            added = (half - 1) + ((x >> shift) & 1)
        case _:
            assert_never(rounding)
    moved: Array = x + added
    return np.asarray(moved >> shift)


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
