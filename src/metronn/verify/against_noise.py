"""How far float32 may take a framework from the real value of each element of a network.

Frameworks add products in float32 in an order of their own. Where every term is a whole multiple of one power of two
and their magnitudes sum up to less than 2**24 of it, each partial sum is exact and so is the result. Elsewhere the
result may be off by a few units in the last place, relative to the magnitudes that were summed. `Envelope` follows
these bounds through a network: a quantizer takes them away, unless a rounding boundary lies within them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import assert_never

import numpy as np

from metronn.ir.moves import element_index, lowest_from_nowhere, picked
from metronn.ir.ops import (
    Add,
    Extremum,
    ExtremumKind,
    Movement,
    Multiply,
    Overflow,
    Reduce,
    operands,
)
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
from metronn.model.grid import DEEPEST, grid_exponent
from metronn.model.reference import evaluate_real, quantize_real

UNIT = 2.0**-24
"""Half a unit in the last place of float32, relative."""
UNITS = 8
"""Units a sum, product or library function may be off, besides a unit per doubling of the number of terms."""
EXACT = 2.0**24
"""Whole numbers below are float32 numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A node's real values, bounds of what float32 may make of them, and the power of two they are multiples of."""

    value: Floats
    low: Floats
    high: Floats
    exponent: int


def envelopes(
    model: RealGraph,
    inputs: Mapping[str, Floats],
    known: Mapping[str, Floats],
    see: Callable[[RealNode, Envelope], None],
) -> None:
    """Show the envelope of every node to `see`, in order, and go on from what the framework really had.

    `known` holds, by node, the framework's own values: behind such a node its envelope is that value alone, so each
    stretch of the network between two known tensors is judged on its own.
    """
    found: dict[str, Envelope] = {}
    last = {x: node.name for node in model.nodes for x in operands(node.op)}
    for node in model.nodes:
        envelope = _envelope(node, found, inputs)
        see(node, envelope)
        found[node.name] = _sure(known[node.name]) if node.name in known else envelope
        for x in {node.name, *operands(node.op)}:
            if last.get(x, node.name) == node.name:
                del found[x]


def _sure(value: Floats) -> Envelope:
    return Envelope(value=value, low=value, high=value, exponent=grid_exponent(value))


def _around(value: Floats, radius: Floats, exponent: int) -> Envelope:
    return Envelope(value=value, low=value - radius, high=value + radius, exponent=exponent)


def _radius(x: Envelope) -> Floats:
    return np.maximum(x.value - x.low, x.high - x.value)


def _noise(magnitude: Floats, exponent: int, terms: int = 1) -> Floats:
    """Bound of the rounding of a result whose terms have magnitudes summing up to `magnitude`."""
    units = (UNITS + math.log2(max(1, terms))) * UNIT
    exact = magnitude < math.ldexp(EXACT, exponent)
    return np.where(exact, 0.0, units * magnitude)


def _envelope(node: RealNode, found: Mapping[str, Envelope], inputs: Mapping[str, Floats]) -> Envelope:
    op = node.op
    xs = [found[name] for name in operands(op)]
    values = {name: found[name].value for name in operands(op)}
    value = evaluate_real(node, values, inputs)
    if isinstance(op, Movement):
        return _moved(op, value, xs)
    match op:
        case RealInput() | RealConstant():
            return _sure(value)
        case RealLinear():
            weight = np.abs(op.weight.array)
            exponent = xs[0].exponent + grid_exponent(op.weight.array)
            exponent = min(exponent, grid_exponent(op.bias.array)) if op.bias.array.any() else exponent
            magnitude = np.abs(xs[0].value) @ weight + np.abs(op.bias.array)
            noise = _noise(magnitude, exponent, len(weight))
            return _around(value, _radius(xs[0]) @ weight + noise, exponent)
        case Add():
            x, y = _broadcast(node, xs)
            exponent = min(xs[0].exponent, xs[1].exponent)
            noise = _noise(np.abs(x.value) + np.abs(y.value), exponent)
            return _around(value, _radius(x) + _radius(y) + noise, exponent)
        case Multiply():
            x, y = _broadcast(node, xs)
            exponent = xs[0].exponent + xs[1].exponent
            noise = _noise(np.abs(value), exponent)
            spread = np.abs(x.value) * _radius(y) + np.abs(y.value) * _radius(x) + _radius(x) * _radius(y)
            return _around(value, spread + noise, exponent)
        case Extremum():
            x, y = _broadcast(node, xs)
            pick = np.maximum if op.kind is ExtremumKind.MAX else np.minimum
            low, high = pick(x.low, y.low), pick(x.high, y.high)
            return Envelope(value=value, low=low, high=high, exponent=min(xs[0].exponent, xs[1].exponent))
        case Reduce():
            return _reduced(node, op, value, xs[0])
        case RealFunction():
            ends = [apply_function(op.kind, end, op.parameters) for end in (xs[0].low, xs[0].high)]
            spread = np.maximum(np.abs(ends[0] - value), np.abs(ends[1] - value))
            return _around(value, spread + UNITS * UNIT * np.abs(value), DEEPEST)
        case RealSoftmax():
            span = _radius(xs[0]).max(axis=op.axis + 1, keepdims=True)
            return _around(value, value * (2 * span + 2 * UNITS * UNIT), DEEPEST)
        case RealQuantize():
            return _quantized(op, value, xs[0])
        case _:
            assert_never(op)


def _broadcast(node: RealNode, xs: list[Envelope]) -> list[Envelope]:
    """Insert axes behind the batch axis so that the event shapes broadcast from the right."""
    rank = len(node.shape) + 1

    def wide(array: Floats) -> Floats:
        return array.reshape(array.shape[0], *(1,) * (rank - array.ndim), *array.shape[1:])

    return [Envelope(value=wide(x.value), low=wide(x.low), high=wide(x.high), exponent=x.exponent) for x in xs]


def _moved(op: Movement, value: Floats, xs: list[Envelope]) -> Envelope:
    """Move both bounds; what comes from nowhere is the same in all three."""
    fill = float(xs[0].value.min()) if lowest_from_nowhere(op) else 0.0
    index = element_index(op, [x.value.shape[1:] for x in xs])
    low, high = picked([x.low for x in xs], index, fill), picked([x.high for x in xs], index, fill)
    return Envelope(value=value, low=low, high=high, exponent=min(x.exponent for x in xs))


def _reduced(node: RealNode, op: Reduce, value: Floats, x: Envelope) -> Envelope:
    axes = tuple(axis + 1 for axis in op.axes)
    if op.kind.value != "sum":
        low, high = (evaluate_real(node, {op.x: end}, {}) for end in (x.low, x.high))
        return Envelope(value=value, low=low, high=high, exponent=x.exponent)
    terms = math.prod(x.value.shape[axis] for axis in axes)
    noise = _noise(np.abs(x.value).sum(axis=axes), x.exponent, terms)
    return _around(value, _radius(x).sum(axis=axes) + noise, x.exponent)


def _quantized(op: RealQuantize, value: Floats, x: Envelope) -> Envelope:
    """Return the codes between those of the bounds; the division by a scale may be off in float32, too."""
    scale = op.scale.array
    dyadic = bool((np.frexp(scale)[0] == 0.5).all())
    slack = _noise(np.abs(x.value), x.exponent if dyadic else DEEPEST)
    low, high = quantize_real(op, x.low - slack), quantize_real(op, x.high + slack)
    lowest, highest = np.minimum(np.minimum(low, high), value), np.maximum(np.maximum(low, high), value)
    if op.overflow in (Overflow.WRAP, Overflow.SAT_ZERO):
        first, last = (op.lo.array * scale, op.hi.array * scale)
        inside = (x.low - slack >= first - scale) & (x.high + slack <= last + scale)
        moved = (low != high) & ~inside
        lowest, highest = np.where(moved, first, lowest), np.where(moved, last, highest)
    return Envelope(value=value, low=lowest, high=highest, exponent=grid_exponent(scale * np.ones(1)))
