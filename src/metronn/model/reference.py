"""The float64 reference of a RealGraph: what the trained network computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import assert_never

import numpy as np

from metronn.errors import ModelError
from metronn.ir.arrays import same_rank
from metronn.ir.moves import element_index, lowest_from_nowhere, picked
from metronn.ir.ops import (
    Add,
    Extremum,
    ExtremumKind,
    Movement,
    Multiply,
    Overflow,
    Reduce,
    ReduceKind,
    Rounding,
    operands,
)
from metronn.model.constants import quotient
from metronn.model.functions import apply_function
from metronn.model.graph import (
    Floats,
    RealConstant,
    RealFunction,
    RealGraph,
    RealInput,
    RealLinear,
    RealNode,
    RealQuantize,
    RealSoftmax,
)


def run_reference(
    graph: RealGraph, inputs: Mapping[str, Floats], tap: Callable[[RealNode, Floats], None] | None = None
) -> dict[str, Floats]:
    """Run floats of shape (events, *shape) through the network; returns outputs by name.

    `tap`, when given, sees every node's values. A value is freed after its last reader. Raises ModelError on a missing
    input or a wrong shape. In a quantized network the results of functions are those of float32, in which its framework
    computes them, and constants are what they stand for (`metronn.model.constants`).
    """
    values: dict[str, Floats] = {}
    divided = _divided(graph)
    outputs = {value for _, value in graph.outputs}
    last = {x: node.name for node in graph.nodes for x in operands(node.op)}
    for node in graph.nodes:
        if isinstance(node.op, RealInput):
            if node.name not in inputs:
                raise ModelError(f"input {node.name}: no data; found {', '.join(sorted(inputs)) or 'nothing'}")
            if inputs[node.name].shape[1:] != node.shape:
                found = inputs[node.name].shape[1:]
                raise ModelError(f"input {node.name}: shape per event is {found}, allowed is {node.shape}")
        if node.name in divided:
            x, top, bottom = divided[node.name]
            values[node.name] = values[x] * top / bottom
        else:
            values[node.name] = evaluate_real(node, values, inputs)
        if graph.quantized and isinstance(node.op, RealFunction):
            with np.errstate(over="ignore"):
                values[node.name] = values[node.name].astype(np.float32).astype(np.float64)
        if tap is not None:
            tap(node, values[node.name])
        for x in {node.name, *operands(node.op)} - outputs:
            if last.get(x, node.name) == node.name:
                del values[x]
    return {name: values[value] for name, value in graph.outputs}


def _divided(graph: RealGraph) -> dict[str, tuple[str, Floats, Floats]]:
    """Return, for products of a quantized network with fractions that no float64 is, what to multiply and divide by."""
    found: dict[str, tuple[str, Floats, Floats]] = {}
    for node in graph.nodes if graph.quantized else ():
        if isinstance(node.op, Multiply):
            for x, y in ((node.op.x, node.op.y), (node.op.y, node.op.x)):
                constant = graph.by_name[y].op
                if isinstance(constant, RealConstant) and graph.by_name[x].shape == node.shape:
                    parts = quotient(constant.values.array)
                    if parts is not None:
                        found[node.name] = (x, *parts)
    return found


def evaluate_real(node: RealNode, values: Mapping[str, Floats], inputs: Mapping[str, Floats]) -> Floats:
    """Return the floats of one node, (events, *shape), from those of its operands; a constant has one event."""
    op = node.op
    if isinstance(op, Movement):
        return _moved(op, [values[x] for x in operands(op)])
    match op:
        case RealInput():
            return np.asarray(inputs[node.name], dtype=np.float64)
        case RealConstant():
            return op.values.array[np.newaxis]
        case RealLinear():
            return np.asarray(values[op.x] @ op.weight.array + op.bias.array)
        case Add():
            x, y = same_rank(values[op.x], values[op.y])
            return x - y if op.subtract else x + y
        case Multiply():
            x, y = same_rank(values[op.x], values[op.y])
            return x * y
        case Extremum():
            x, y = same_rank(values[op.x], values[op.y])
            return np.maximum(x, y) if op.kind is ExtremumKind.MAX else np.minimum(x, y)
        case Reduce():
            axes = tuple(axis + 1 for axis in op.axes)
            return _reduce(op.kind, values[op.x], axes)
        case RealFunction():
            return apply_function(op.kind, values[op.x], op.parameters)
        case RealSoftmax():
            x = values[op.x]
            shifted = np.exp(x - x.max(axis=op.axis + 1, keepdims=True))
            return np.asarray(shifted / shifted.sum(axis=op.axis + 1, keepdims=True))
        case RealQuantize():
            return quantize_real(op, values[op.x])
        case _:
            assert_never(op)


def _moved(op: Movement, xs: list[Floats]) -> Floats:
    """Return a movement. Where the lowest value is asked for it is that of all events: the same behind a maximum."""
    fill = float(xs[0].min()) if lowest_from_nowhere(op) else 0.0
    return picked(xs, element_index(op, [x.shape[1:] for x in xs]), fill)


def _reduce(kind: ReduceKind, x: Floats, axes: tuple[int, ...]) -> Floats:
    match kind:
        case ReduceKind.SUM:
            return np.asarray(x.sum(axis=axes))
        case ReduceKind.MAX:
            return np.asarray(x.max(axis=axes))
        case ReduceKind.MIN:
            return np.asarray(x.min(axis=axes))
        case _:
            assert_never(kind)


def quantize_real(op: RealQuantize, x: Floats) -> Floats:
    """Apply a quantizer to floats of shape (..., *shape); NaN stays NaN, infinities saturate whatever the overflow."""
    lo, hi = op.lo.array.astype(np.float64), op.hi.array.astype(np.float64)
    span = np.asarray(op.hi.array.astype(object) - op.lo.array.astype(object) + 1, dtype=np.float64)
    codes = round_real(np.clip(x / op.scale.array, -(2.0**100), 2.0**100), op.rounding)
    match op.overflow:
        case Overflow.WRAP:
            kept = wrap_real(codes, lo, span)
        case Overflow.SAT:
            kept = np.clip(codes, lo, hi)
        case Overflow.SAT_ZERO:
            kept = np.where((codes < lo) | (codes > hi), 0.0, codes)
        case Overflow.SAT_SYM:
            kept = np.clip(codes, np.where(lo < 0, -hi, lo), hi)
        case _:
            assert_never(op.overflow)
    return np.asarray(kept * op.scale.array)


def round_real(x: Floats, rounding: Rounding) -> Floats:
    """Round floats to whole numbers, as `ap_fixed` does in this mode."""
    down = np.floor(x)
    part = x - down
    match rounding:
        case Rounding.TRN:
            return down
        case Rounding.TRN_ZERO:
            return np.trunc(x)
        case Rounding.RND:
            return down + (part >= 0.5)
        case Rounding.RND_MIN_INF:
            return down + (part > 0.5)
        case Rounding.RND_ZERO:
            return down + np.where(x < 0, part >= 0.5, part > 0.5)
        case Rounding.RND_INF:
            return down + np.where(x < 0, part > 0.5, part >= 0.5)
        case Rounding.RND_CONV:
            return np.rint(x)
        case _:
            assert_never(rounding)


def wrap_real(codes: Floats, lo: Floats | float, span: Floats | float) -> Floats:
    """Bring whole numbers into lo .. lo + span - 1 by adding multiples of `span`, as types that wrap do.

    Exact, also beyond 2^53, where `lo` and `span` are exact as floats and lo <= 0: a remainder of floats is, and so is
    what one `span` more or less makes of it. `codes - lo` would lose the lowest bits of codes of wide types.
    """
    rest = np.fmod(codes, span)
    rest = np.where(rest < lo, rest + span, rest)
    return np.asarray(np.where(rest >= lo + span, rest - span, rest))
