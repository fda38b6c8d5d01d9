"""Kernel calls of every op: which kernel, in which types, with which tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

import numpy as np
import numpy.typing as npt

from metronn.emulate.arithmetic import (
    FLOAT32_EXACT,
    FLOAT64_EXACT,
    linear_reach,
    shifted_code_bounds,
    window_fill,
    window_shifts,
)
from metronn.emulate.native.emission import SHIFT, Emission, Loop, storage
from metronn.emulate.native.fuse import FusedNodes
from metronn.emulate.native.layout import BLOCK_EVENTS
from metronn.emulate.native.types import type_for
from metronn.ir.arrays import Array
from metronn.ir.graph import Node
from metronn.ir.infer import linear_shifts, reduce_shifts
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
    Reduce,
    ReduceKind,
    Requantize,
    Rewire,
    Window,
)
from metronn.ir.types import TensorType

TILE_ELEMENTS = 32
"""Elements of a tile, about: two tiles of a block in 32 bits stay in a first-level cache."""


def loop_of(step: FusedNodes) -> Loop:
    """Return the loop that a step's kernels run in: over tiles when it is a chain."""
    size = step.result.type.size
    inner = size // max(1, step.nodes[0].type.size)
    head = step.nodes[0]
    if isinstance(head.op, Linear) or step.window is not None:
        inner = head.type.shape[-1]
    positions = size // inner
    tile = max(1, TILE_ELEMENTS // inner)
    return Loop(positions=positions, elements=inner, step=tile if len(step.nodes) > 1 else None)


def emit_node(emission: Emission, node: Node, window: Node | None) -> str:
    """Append the statement that computes a node; returns the name of the type it computes in, for the comment.

    `window` is applied to the operand on the way.
    """
    op = node.op
    match op:
        case Input():
            return storage(node.type).cpp
        case Constant():
            table = emission.table(node, "values", op.values.ints(), storage(node.type))
            emission.prepare.append(f"  metronn::constant({table}, {node.type.size}, {emission.pointer(node.name)});")
            return storage(node.type).cpp
        case Rewire():
            return _rewire(emission, node, op)
        case Window():
            return _window(emission, node, op)
        case Linear():
            return _linear(emission, node, op, window)
        case Add():
            return _binary(emission, node, op.x, op.y, "subtract" if op.subtract else "add")
        case Multiply():
            return _binary(emission, node, op.x, op.y, "multiply")
        case Extremum():
            return _binary(emission, node, op.x, op.y, "maximum" if op.kind is ExtremumKind.MAX else "minimum")
        case Reduce():
            return _reduce(emission, node, op) if window is None else _pool(emission, node, op, window)
        case Requantize():
            return _requantize(emission, node, op)
        case Lookup():
            return _lookup(emission, node, op)
        case _:
            assert_never(op)


def _rewire(emission: Emission, node: Node, op: Rewire) -> str:
    index = op.index.array.ravel().astype(np.int64)
    start = 0
    for position, name in enumerate(op.xs):
        stop = start + emission.graph.type_of(name).size
        targets = np.flatnonzero((index >= start) & (index < stop))
        if targets.size:
            source = emission.element_map(node, f"source{position}", index[targets] - start)
            target = emission.element_map(node, f"target{position}", targets)
            emission.call(
                "rewire", (), (emission.pointer(name), source, target, str(targets.size), emission.pointer(node.name))
            )
        start = stop
    zeros = np.flatnonzero(index < 0)
    if zeros.size:
        target = emission.element_map(node, "zero", zeros)
        emission.call("rewire_zero", (), (target, str(zeros.size), emission.pointer(node.name)))
    return storage(node.type).cpp


def _window_map(emission: Emission, node: Node, window: Node) -> str:
    """Add the map of a window; returns the C++ expression of it."""
    op = window.op
    assert isinstance(op, Window)
    x = emission.graph.type_of(op.x)
    rank = len(op.kernel)
    lead, spatial = x.shape[: -rank - 1], x.shape[-rank - 1 : -1]
    axes = (spatial, window.type.shape[len(lead) : -1], op.kernel, op.strides, op.dilations, op.before)
    sizes = ", ".join("{" + ", ".join(map(str, axis)) + "}" for axis in axes)
    count = int(np.prod(lead, dtype=np.int64))
    value = f" = metronn::window_map::sliding({count}, {sizes}, {x.shape[-1]})"
    return emission.share(node, "window", "metronn::window_map", value)


def _fill(emission: Emission, window: Node) -> str:
    """C++ expression of what a window holds beyond the edge, in the type of what it reads."""
    assert isinstance(window.op, Window)
    x = window.op.x
    kind = emission.of(x).kind
    return f"{kind.cpp}{{{kind.literal(window_fill(window.op, emission.graph.type_of(x)))}}}"


def _window(emission: Emission, node: Node, op: Window) -> str:
    arguments = (
        emission.rows(op.x),
        _window_map(emission, node, node),
        _fill(emission, node),
        emission.pointer(node.name),
    )
    emission.call("window", (), arguments)
    return storage(node.type).cpp


def _pool(emission: Emission, node: Node, op: Reduce, window: Node) -> str:
    assert isinstance(window.op, Window)
    x = window.op.x
    low, high = window.type.range.lowest, window.type.range.highest
    taps = window.type.shape[-1] // emission.graph.type_of(x).shape[-1]
    if op.kind is ReduceKind.SUM:
        compute = type_for(min(low, 0) * taps, max(high, 0) * taps)
    else:
        compute = emission.of(x).kind
    arguments = (
        emission.rows(x),
        _window_map(emission, node, window),
        _fill(emission, window),
        *emission.loop.span,
        emission.rows(node.name),
    )
    emission.call("pool", (f"metronn::reduce_op::{_REDUCE[op.kind]}", compute.cpp), arguments)
    return compute.cpp


def _per_element(shifts: Array) -> Sequence[int]:
    """Shifts as a list of one for each element, or of one for all."""
    return [int(shift) for shift in shifts.ravel()] if shifts.any() else (0,)


def _linear(emission: Emission, node: Node, op: Linear, window: Node | None) -> str:
    x = emission.graph.type_of(op.x)
    name, moved = op.x, linear_shifts(op, x)
    if window is not None and isinstance(window.op, Window):
        name = window.op.x
        behind = window_shifts(window.op, emission.graph.type_of(name), moved)
        assert behind is not None, "a window is fused whose elements are shifted differently"
        moved = behind
    shifts = _per_element(moved)
    reach = max(linear_reach(op, x), 1 << max(shifts), *map(abs, (*op.weight.bounds(), *op.bias.bounds())))
    if reach < FLOAT32_EXACT:
        compute, size_bytes = "float", 4
    elif reach < FLOAT64_EXACT:
        compute, size_bytes = "double", 8
    else:
        wide = type_for(-reach, reach, least=64)
        compute, size_bytes = wide.cpp, wide.size_bytes
    n_in, n_out = op.weight.shape
    weight_table = emission.table(node, "weight", op.weight.ints(), type_for(*op.weight.bounds(), least=8))
    bias_table = emission.table(node, "bias", op.bias.ints(), type_for(*op.bias.bounds()))
    offset = emission.arena.take(n_in * BLOCK_EVENTS * size_bytes)
    emission.arena.release(offset)
    if window is not None:
        places = _window_map(emission, node, window)
        fill = _fill(emission, window)
    else:
        value = f" = metronn::window_map::plain({x.size // n_in}, {n_in})"
        places = emission.share(node, "window", "metronn::window_map", value)
        fill = f"{emission.of(name).kind.cpp}{{}}"
    tables = f"{weight_table}, {bias_table}"
    own_map = places.removeprefix("shared.")
    if compute == "float" and not any(shifts) and _fits_bytes(x, op):
        value = f"{{{tables}, {own_map}, {n_out}, {x.range.lowest}}}"
        packed = emission.share(node, "packed", "metronn::byte_weights", value)
        emission.scratch.append(f"{packed}.scratch_bytes()")
        memory = (f"arena + {offset}", "scratch")
        arguments = (emission.rows(name), fill, packed, *emission.loop.span, *memory, emission.rows(node.name))
        emission.call("linear_bytes", (), arguments)
        return "bytes or float"
    value = f"{{{tables}, {n_in}, {n_out}}}"
    packed = emission.share(node, "packed", f"metronn::linear_weights<{compute}>", value)
    shift = emission.per_element(node, "shift", shifts, SHIFT)
    reads = (emission.rows(name), shift, fill, places, packed)
    scratch = f"metronn::at<{compute}>(arena, {offset})"
    emission.call("linear", (compute,), (*reads, *emission.loop.span, scratch, emission.rows(node.name)))
    return compute


def _fits_bytes(x: TensorType, op: Linear) -> bool:
    """Whether x less its lowest code fits an unsigned byte and every weight a signed one."""
    low, high = op.weight.bounds()
    return x.range.highest - x.range.lowest <= 255 and low >= -128 and high <= 127 and storage(x).bits <= 32


def _broadcast_map(x: TensorType, out: TensorType) -> npt.NDArray[np.int64]:
    """For each element of the result, the element of the operand it reads."""
    return np.broadcast_to(np.arange(x.size).reshape(x.shape), out.shape).ravel()


def _binary(emission: Emission, node: Node, x: str, y: str, kernel: str) -> str:
    out = node.type
    bounds = [out.range.lowest, out.range.highest]
    arguments: list[str] = []
    for which, name in (("x", x), ("y", y)):
        t = emission.graph.type_of(name)
        source = _broadcast_map(t, out)
        stays = kernel == "multiply" or (t.range.lowest == 0 and t.range.highest == 0)
        shifts = (0,) if stays else _binary_shifts(t, out, source)
        if t.range.uniform and len(shifts) == 1:
            bounds += [t.range.lowest << shifts[0], t.range.highest << shifts[0]]
        else:
            pairs = list(zip(source, shifts if len(shifts) > 1 else shifts * len(source), strict=True))
            for limits in (t.range.los(t.size), t.range.his(t.size)):
                moved = [limits[k] << shift for k, shift in pairs]
                bounds += [min(moved), max(moved)]
        bounds.append(1 << max(shifts))
        arguments.append(emission.rows(name))
        arguments.append(emission.element_map(node, f"{which}_source", source))
        arguments.append(emission.per_element(node, f"{which}_shift", shifts, SHIFT))
    compute = type_for(*bounds).cpp
    emission.call(
        "binary",
        (f"metronn::binary_op::{kernel}", compute),
        (*arguments, *emission.loop.element_span, emission.rows(node.name)),
    )
    return compute


def _binary_shifts(t: TensorType, out: TensorType, source: npt.NDArray[np.int64]) -> tuple[int, ...]:
    """Places that the operand of each element of the result moves up; one for all when fracs are."""
    if isinstance(t.range.frac, int) and isinstance(out.range.frac, int):
        return (out.range.frac - t.range.frac,)
    fracs = t.range.fracs(t.size)
    return tuple(frac - fracs[k] for frac, k in zip(out.range.fracs(out.size), source, strict=True))


_REDUCE = {ReduceKind.SUM: "sum", ReduceKind.MAX: "maximum", ReduceKind.MIN: "minimum"}


def _reduce(emission: Emission, node: Node, op: Reduce) -> str:
    x = emission.graph.type_of(op.x)
    moved = reduce_shifts(op, x)
    shifts = _per_element(moved)
    kept = [axis for axis in range(len(x.shape)) if axis not in op.axes]
    members = np.arange(x.size).reshape(x.shape).transpose(*kept, *op.axes).ravel()
    count = x.size // node.type.size
    lo, hi = shifted_code_bounds(x, moved)
    terms = count if op.kind is ReduceKind.SUM else 1
    bounds = [x.range.lowest, x.range.highest, 1 << max(shifts), min(lo, 0) * terms, max(hi, 0) * terms]
    compute = type_for(*bounds).cpp
    emission.call(
        "reduce",
        (f"metronn::reduce_op::{_REDUCE[op.kind]}", compute),
        (
            emission.pointer(op.x),
            emission.element_map(node, "member", members),
            str(count),
            emission.per_element(node, "shift", shifts, SHIFT),
            str(node.type.size),
            emission.pointer(node.name),
        ),
    )
    return compute


def _requantize(emission: Emission, node: Node, op: Requantize) -> str:
    x = emission.graph.type_of(op.x)
    size = x.size
    shifts = [a - b for a, b in zip(x.range.fracs(size), op.out.fracs(size), strict=True)]
    lows, highs = _kept_bounds(x, op, shifts)
    compute = type_for(*_requantize_bounds(x, shifts, lows, highs))
    overflow = "sat" if op.overflow is Overflow.SAT_SYM else op.overflow.value.lower()
    emission.call(
        "requantize",
        (f"metronn::rounding::{op.rounding.value.lower()}", f"metronn::overflow::{overflow}", compute.cpp),
        (
            emission.rows(op.x),
            emission.per_element(node, "shift", shifts, SHIFT),
            emission.per_element(node, "lo", lows, compute),
            emission.per_element(node, "hi", highs, compute),
            *emission.loop.element_span,
            emission.rows(node.name),
        ),
    )
    return compute.cpp


def _kept_bounds(x: TensorType, op: Requantize, shifts: Sequence[int]) -> tuple[list[int], list[int]]:
    """Bounds that the kernel brings elements into: no wider than what any of them reaches, which changes no result.

    A bound far beyond (a ReLU written as saturation) would ask for wide integers.
    """
    lows, highs = list(op.out.los(x.size)), list(op.out.his(x.size))
    if op.overflow is Overflow.WRAP:
        return lows, highs
    reached = set(zip(shifts, x.range.los(x.size), x.range.his(x.size), strict=True))
    least = min(lo >> shift if shift > 0 else lo << -shift for shift, lo, _ in reached)
    most = max(-(-hi >> shift) if shift > 0 else hi << -shift for shift, _, hi in reached)
    return (
        [min(max(low, least), high) for low, high in zip(lows, highs, strict=True)],
        [max(min(high, most), low) for low, high in zip(lows, highs, strict=True)],
    )


def _requantize_bounds(
    x: TensorType, shifts: Sequence[int], lows: Sequence[int], highs: Sequence[int]
) -> tuple[int, int]:
    """Bounds of every intermediate result of the kernel, over all elements."""
    least = most = 0
    for shift, lo, hi, out_lo, out_hi in set(
        zip(shifts, x.range.los(x.size), x.range.his(x.size), lows, highs, strict=True)
    ):
        up, step = 1 << max(0, -shift), 1 << max(0, shift)
        reach = (max(abs(lo), abs(hi)) + step) * up
        span = out_hi - out_lo + max(abs(out_lo), abs(out_hi))
        bound = max(reach + span, up, step)
        least, most = min(least, -bound), max(most, bound)
    return least, most


def _lookup(emission: Emission, node: Node, op: Lookup) -> str:
    kind = emission.of(op.x).kind
    lowest = emission.graph.type_of(op.x).range.lowest
    table = emission.table(node, "table", op.table.ints(), storage(node.type))
    name = f"{emission.identifiers[node.name]}_lowest"
    emission.tables.append(f"const {kind.cpp} {name} = {kind.literal(lowest)};")
    span = emission.loop.element_span
    emission.call("lookup", (), (emission.rows(op.x), name, table, *span, emission.rows(node.name)))
    return storage(node.type).cpp
