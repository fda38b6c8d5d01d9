"""The NumPy emulator: the definition of what every op means, exact at any width.

Values are integer codes, batched: an array of shape (events, *shape), int64 where the op's range fits, else Python
integers in an object array. Linear ops run in BLAS, float32 or float64, wherever the ranges prove every partial sum
exact there. Events are computed a chunk at a time, so that memory does not grow with their number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import assert_never

import numpy as np
from numpy.lib.stride_tricks import as_strided

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
    operands,
)
from metronn.ir.types import TensorType

FLOAT32_EXACT = 2**24
FLOAT64_EXACT = 2**53
CHUNK_BYTES = 48 * 2**20
"""Memory of the codes held at a time; the temporaries of an op come to a few times that of its result."""
CODE_BYTES, WIDE_CODE_BYTES = 8, 48
"""Memory of a code in an int64 array, and about that of one in an object array."""


def emulate(
    graph: Graph, inputs: Mapping[str, Array], tap: Callable[[Node, Array], None] | None = None
) -> dict[str, Array]:
    """Run integer codes through the graph and return the codes of each output, by output name.

    `inputs` maps each input's name to codes of shape (events, *shape). `tap`, when given, sees every node's codes, all
    events of a node at once. An output that no input reaches has one event. Without `tap` the memory used beside
    inputs and outputs does not depend on the number of events.
    Raises ModelError when an input is missing, has another shape, or a code outside its promised range.
    """
    if tap is not None:
        return _run(graph, inputs, frozenset(), tap)
    codes = {node.name: evaluate(graph, node, {}, inputs) for node in graph.inputs}
    events = max(map(len, codes.values()), default=0)
    fused = fused_windows(graph)
    step = max(1, CHUNK_BYTES // _peak_bytes(graph, fused))
    if events <= step:
        return _run(graph, codes, fused, None, checked=True)
    constant = constant_values(graph)
    results: dict[str, Array] = {}
    for start in range(0, events, step):
        found = _run(graph, _events(codes, events, start, step), fused, None, checked=True)
        for output in graph.outputs:
            part = found[output.name]
            if output.value in constant:
                results[output.name] = part
                continue
            whole = results.setdefault(output.name, np.empty((events, *part.shape[1:]), dtype=part.dtype))
            whole[start : start + step] = part
    return results


def _events(arrays: Mapping[str, Array], events: int, start: int, step: int) -> dict[str, Array]:
    """Some events of every array; those of constants serve all."""
    return {name: a[start : start + step] if len(a) == events else a for name, a in arrays.items()}


def _run(
    graph: Graph,
    inputs: Mapping[str, Array],
    fused: frozenset[str],
    tap: Callable[[Node, Array], None] | None,
    *,
    checked: bool = False,
) -> dict[str, Array]:
    """Compute every node but the windows in `fused`, whose readers take their operand instead."""
    values: dict[str, Array] = {}
    last_use = _last_uses(graph, fused)
    for position, node in enumerate(graph.nodes):
        if checked and isinstance(node.op, Input):
            values[node.name] = inputs[node.name]
        elif node.name not in fused:
            values[node.name] = evaluate(graph, node, values, inputs)
        if tap is not None:
            tap(node, values[node.name])
        for name in last_use.get(position, ()):
            del values[name]
    return {output.name: values[output.value] for output in graph.outputs}


def constant_values(graph: Graph) -> frozenset[str]:
    """Return the values that no input reaches: they have one event, whatever the inputs."""
    constant: set[str] = set()
    for node in graph.nodes:
        if not isinstance(node.op, Input) and all(name in constant for name in operands(node.op)):
            constant.add(node.name)
    return frozenset(constant)


def fused_windows(graph: Graph) -> frozenset[str]:
    """Return the windows that only Linear ops read: nobody needs their copies of the elements."""
    kept = {output.value for output in graph.outputs}
    return frozenset(
        node.name
        for node in graph.nodes
        if isinstance(node.op, Window)
        and node.name not in kept
        and graph.uses[node.name]
        and all(isinstance(graph.by_name[user].op, Linear) for user in graph.uses[node.name])
        and _same_reach(graph.type_of(node.op.x), node.type)
    )


def _same_reach(x: TensorType, window: TensorType) -> bool:
    """Whether elements that no window picks are no wider than those that are, so that x can be converted whole."""
    if x.range.max_frac != window.range.max_frac:
        return False
    low, high = code_bounds(x, x.range.max_frac)
    window_low, window_high = code_bounds(window, window.range.max_frac)
    return window_low <= low and high <= window_high


def _node_bytes(node: Node) -> int:
    wide = not fits_int64(node.type.range.lowest, node.type.range.highest)
    return max(1, node.type.size) * (WIDE_CODE_BYTES if wide else CODE_BYTES)


def _peak_bytes(graph: Graph, fused: frozenset[str]) -> int:
    """Memory of the codes of one event at the node where most are alive, a fused window counted with its reader."""
    last_use = _last_uses(graph, fused)
    alive: dict[str, int] = {}
    peak = 1
    for position, node in enumerate(graph.nodes):
        alive[node.name] = 0 if node.name in fused else _node_bytes(node)
        hidden = sum(_node_bytes(graph.by_name[name]) for name in operands(node.op) if name in fused)
        peak = max(peak, sum(alive.values()) + hidden)
        for name in last_use.get(position, ()):
            del alive[name]
    return peak


def _last_uses(graph: Graph, fused: frozenset[str]) -> dict[int, list[str]]:
    """Where each value that is no output is read last: it can be freed there. A reader of a fused window reads x."""
    kept = {output.value for output in graph.outputs}
    position = {node.name: index for index, node in enumerate(graph.nodes)}
    last: dict[int, list[str]] = {}
    for name, users in graph.uses.items():
        if name in kept or name in fused:
            continue
        readers = [reader for user in users for reader in (graph.uses[user] if user in fused else (user,))]
        last.setdefault(max((position[reader] for reader in readers), default=position[name]), []).append(name)
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
    """Return the codes of one node from the codes of its operands.

    A window that is missing from `values` is taken from the codes of its own operand.
    """
    if isinstance(node.op, Input):
        if node.name not in inputs:
            raise ModelError(f"input {node.name}: no data; found {', '.join(sorted(inputs)) or 'nothing'}")
        return checked_input(node, inputs[node.name])
    names = [name if name in values else graph.by_name[name] for name in operands(node.op)]
    read = {name: values[name] for name in map(_present, names)}
    events = max(map(len, read.values()), default=0)
    size = _node_bytes(node) + sum(_node_bytes(graph.by_name[name]) for name in operands(node.op))
    step = max(1, CHUNK_BYTES // size)
    if events <= step:
        return _compute(graph, node, read)
    result: Array | None = None
    for start in range(0, events, step):
        part = _compute(graph, node, _events(read, events, start, step))
        if result is None:
            result = np.empty((events, *part.shape[1:]), dtype=part.dtype)
        result[start : start + step] = part
    assert result is not None
    return result


def _present(name: str | Node) -> str:
    """Return the value that stands for an operand: itself, or what a fused window reads."""
    if isinstance(name, str):
        return name
    assert isinstance(name.op, Window), f"{name.name} has not been computed"
    return name.op.x


def _compute(graph: Graph, node: Node, values: Mapping[str, Array]) -> Array:
    op = node.op
    match op:
        case Input():
            return values[node.name]
        case Constant():
            return op.values.array[np.newaxis]
        case Rewire():
            return _rewire(op, [values[x] for x in op.xs], node.type)
        case Window():
            return _window(op, values[op.x], window_fill(op, graph.type_of(op.x)))
        case Linear():
            return _linear(graph, op, values, node.type)
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


def _shifted_to(array: Array, t: TensorType, frac: int, bounds: tuple[int, int]) -> Array:
    """Codes moved up to `frac` fraction bits, in a dtype that holds `bounds`."""
    wide = as_dtype_for(array, *bounds)
    if t.range.frac == frac:
        return wide
    shift = frac - t.range.frac_array(t.shape)
    if not shift.any():
        return wide
    return wide * as_dtype_for(np.frompyfunc(lambda bits: 1 << int(bits), 1, 1)(shift), 0, 1 << int(shift.max()))


def code_bounds(t: TensorType, frac: int) -> tuple[int, int]:
    """Lowest and highest code of any element in codes with `frac` fraction bits (frac >= every element's)."""
    if isinstance(t.range.frac, int):
        return t.range.lowest << (frac - t.range.frac), t.range.highest << (frac - t.range.frac)
    lo, hi = aligned_bounds(t, frac)
    return int(lo.min()), int(hi.max())


def _aligned_pair(graph: Graph, x: str, y: str, values: Mapping[str, Array], out: TensorType) -> tuple[Array, Array]:
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
    if np.array_equal(index, np.arange(joined.shape[1])):
        return joined.reshape(events, *out.shape)
    picked = joined[:, np.where(index < 0, 0, index)]
    if (index < 0).any():
        picked[:, index < 0] = 0
    return as_dtype_for(picked, out.range.lowest, out.range.highest).reshape(events, *out.shape)


def linear_reach(op: Linear, x: TensorType) -> int:
    """Bound on every operand, product, partial sum and result of the op, in any order of summation."""
    biggest = max(1, *map(abs, code_bounds(x, x.range.max_frac)))
    low, high = op.weight.bounds()
    most = max(abs(low), abs(high)) * op.weight.shape[0]
    columns = np.abs(as_dtype_for(op.weight.array, -most, most)).sum(axis=0)
    return biggest * int(max(1, *columns)) + max(abs(v) for v in op.bias.bounds())


def window_fill(op: Window, x: TensorType) -> int:
    """Return the code beyond the edge."""
    return x.range.lowest if op.padding is Padding.LOWEST else 0


def _window(op: Window, x: Array, fill: int) -> Array:
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


def _linear(graph: Graph, op: Linear, values: Mapping[str, Array], out: TensorType) -> Array:
    """Multiply; a window between x and the op is applied to x in the type of the products."""
    x_type = graph.type_of(op.x)
    reach = linear_reach(op, x_type)
    window = graph.by_name[op.x].op
    fused = window if op.x not in values and isinstance(window, Window) else None
    source = fused.x if fused is not None else op.x
    x = _shifted_to(values[source], graph.type_of(source), x_type.range.max_frac, (-reach, reach))
    weight, bias = op.weight.array, op.bias.array
    kind: type | None = None
    if reach < FLOAT64_EXACT:
        kind = np.float32 if reach < FLOAT32_EXACT else np.float64
        x, weight, bias = x.astype(kind), weight.astype(kind), bias.astype(kind)
    else:
        x, weight, bias = (as_dtype_for(array, -reach, reach) for array in (x, weight, bias))
    if fused is not None:
        x = _window(fused, x, window_fill(fused, graph.type_of(fused.x)))
    result = np.matmul(x, weight)
    if kind is not None:
        result += bias
        codes: Array = result.astype(np.int64)
        return codes
    return as_dtype_for(result + bias, out.range.lowest, out.range.highest)


def _reduce(op: Reduce, x: Array, x_type: TensorType, out: TensorType) -> Array:
    lo, hi = code_bounds(x_type, x_type.range.max_frac)
    count = x_type.size
    bounds = (min(lo * count, out.range.lowest), max(hi * count, out.range.highest))
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
