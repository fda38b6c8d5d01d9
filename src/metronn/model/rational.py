"""A RealGraph in exact arithmetic: whole numbers over one power of two and one divisor, which is 1 but for means.

Every float64 is a whole number times a power of two; a constant such as 1/6 is a sixth (`metronn.model.constants`).

`run_reference` computes in float64, whose rounding may tip a value that lies on the edge between two steps of a
quantizer. Here sums, products and quantizers are those of real numbers. Functions are float32 as in the frameworks,
softmax is float64. Slow (Python integers): made for judging few events.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import assert_never

import numpy as np
import numpy.typing as npt

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
from metronn.model.constants import meant
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

Numbers = npt.NDArray[np.object_]


@dataclass(frozen=True, slots=True, eq=False)
class Rational:
    """numbers * 2**-frac / divisor, (events, *shape); the divisor is odd and positive."""

    numbers: Numbers
    frac: int
    divisor: int = 1

    @staticmethod
    def of(values: Floats) -> Rational:
        """Return float64 values exactly; what is not finite is an error."""
        return Rational.fractions([Fraction(value) for value in values.ravel().tolist()], values.shape)

    @staticmethod
    def fractions(values: list[Fraction], shape: tuple[int, ...]) -> Rational:
        """Return fractions in a shape."""
        known = set(values)
        common = math.lcm(*(value.denominator for value in known))
        frac = (common & -common).bit_length() - 1
        numbers = np.empty(len(values), dtype=object)
        numbers[:] = [value.numerator * (common // value.denominator) for value in values]
        return Rational(numbers.reshape(shape), frac, common >> frac)

    def at(self, frac: int, divisor: int) -> Numbers:
        """Return the numbers with more fraction bits and a multiple of the divisor."""
        return np.asarray(self.numbers * ((divisor // self.divisor) << (frac - self.frac)), dtype=object)

    @property
    def unit(self) -> Fraction:
        """What 1 among the numbers is worth."""
        return Fraction(2) ** -self.frac / self.divisor

    def floats(self) -> Floats:
        """Return the nearest float64 values."""
        bottom = self.divisor << max(0, self.frac)
        grow = 1 << max(0, -self.frac)
        flat = [float(int(n) * grow / bottom) for n in self.numbers.ravel()]
        return np.array(flat, dtype=np.float64).reshape(self.numbers.shape)


def _common(xs: list[Rational]) -> tuple[int, int]:
    """Return the fraction bits and the divisor that hold all."""
    return max(x.frac for x in xs), math.lcm(*(x.divisor for x in xs))


def run_rational(
    graph: RealGraph, inputs: Mapping[str, Floats], tap: Callable[[RealNode, Rational], None] | None = None
) -> dict[str, Rational]:
    """Run floats of shape (events, *shape) through the network exactly; returns outputs by name.

    `tap`, when given, sees every node's values. A constant has one event.
    """
    values: dict[str, Rational] = {}
    for node in graph.nodes:
        values[node.name] = _evaluate(node, [values[x] for x in operands(node.op)], inputs)
        if tap is not None:
            tap(node, values[node.name])
    return {name: values[value] for name, value in graph.outputs}


def _evaluate(node: RealNode, xs: list[Rational], inputs: Mapping[str, Floats]) -> Rational:
    op = node.op
    if isinstance(op, Movement):
        return _moved(op, xs)
    match op:
        case RealInput():
            return Rational.of(np.asarray(inputs[node.name], dtype=np.float64))
        case RealConstant():
            values = [meant(value) for value in op.values.array.ravel().tolist()]
            return Rational.fractions(values, (1, *op.values.shape))
        case RealLinear():
            weight, bias = Rational.of(op.weight.array), Rational.of(op.bias.array)
            numbers = np.asarray(xs[0].numbers @ weight.numbers, dtype=object)
            product = Rational(numbers, xs[0].frac + weight.frac, xs[0].divisor)
            grid = _common([product, bias])
            return Rational(np.asarray(product.at(*grid) + bias.at(*grid), dtype=object), *grid)
        case Add() | Extremum():
            grid = _common(xs)
            x, y = same_rank(xs[0].at(*grid), xs[1].at(*grid))
            return Rational(np.asarray(_joined(op, x, y), dtype=object), *grid)
        case Multiply():
            x, y = same_rank(xs[0].numbers, xs[1].numbers)
            return Rational(np.asarray(x * y, dtype=object), xs[0].frac + xs[1].frac, xs[0].divisor * xs[1].divisor)
        case Reduce():
            axes = tuple(axis + 1 for axis in op.axes)
            match op.kind:
                case ReduceKind.SUM:
                    reduced = xs[0].numbers.sum(axis=axes)
                case ReduceKind.MAX:
                    reduced = xs[0].numbers.max(axis=axes)
                case ReduceKind.MIN:
                    reduced = xs[0].numbers.min(axis=axes)
                case _:
                    assert_never(op.kind)
            return Rational(np.asarray(reduced, dtype=object), xs[0].frac, xs[0].divisor)
        case RealFunction():
            found = apply_function(op.kind, xs[0].floats(), op.parameters)
            with np.errstate(all="ignore"):
                single = found.astype(np.float32).astype(np.float64)
            return Rational.of(np.nan_to_num(single, nan=0.0, posinf=2.0**200, neginf=-(2.0**200)))
        case RealSoftmax():
            floats = xs[0].floats()
            shifted = np.exp(floats - floats.max(axis=op.axis + 1, keepdims=True))
            return Rational.of(np.asarray(shifted / shifted.sum(axis=op.axis + 1, keepdims=True)))
        case RealQuantize():
            return _quantize(op, xs[0], node.shape)
        case _:
            assert_never(op)


def _joined(op: Add | Extremum, x: Numbers, y: Numbers) -> Numbers:
    if isinstance(op, Add):
        return np.asarray(x - y if op.subtract else x + y, dtype=object)
    picked = np.maximum(x, y) if op.kind is ExtremumKind.MAX else np.minimum(x, y)
    return np.asarray(picked, dtype=object)


def _moved(op: Movement, xs: list[Rational]) -> Rational:
    grid = _common(xs)
    parts = [x.at(*grid) for x in xs]
    fill = parts[0].min() if lowest_from_nowhere(op) else 0
    return Rational(picked(parts, element_index(op, [part.shape[1:] for part in parts]), fill), *grid)


def _quantize(op: RealQuantize, x: Rational, shape: tuple[int, ...]) -> Rational:
    size = math.prod(shape)
    scales = np.broadcast_to(op.scale.array, shape).ravel().tolist()
    los = np.broadcast_to(op.lo.array, shape).ravel().tolist()
    his = np.broadcast_to(op.hi.array, shape).ravel().tolist()
    steps = Rational.of(np.array(scales))
    rows = x.numbers.reshape(-1, size)
    found = np.empty(rows.shape, dtype=object)
    for element in range(size):
        step, lo, hi = int(steps.numbers[element]), int(los[element]), int(his[element])
        if op.overflow is Overflow.SAT_SYM and lo < 0:
            lo = -hi
        shift = steps.frac - x.frac
        top, bottom = (1 << shift, step) if shift >= 0 else (1, step << -shift)
        bottom *= x.divisor
        for event in range(len(rows)):
            code = _rounded(int(rows[event, element]) * top, bottom, op.rounding)
            found[event, element] = _bounded(code, lo, hi, op.overflow) * step
    return Rational(found.reshape(x.numbers.shape), steps.frac)


def _rounded(top: int, bottom: int, rounding: Rounding) -> int:
    """Return top / bottom rounded, bottom positive."""
    down, rest = divmod(top, bottom)
    twice = 2 * rest
    match rounding:
        case Rounding.TRN:
            up = False
        case Rounding.TRN_ZERO:
            up = top < 0 and rest > 0
        case Rounding.RND:
            up = twice >= bottom
        case Rounding.RND_MIN_INF:
            up = twice > bottom
        case Rounding.RND_ZERO:
            up = twice >= bottom if top < 0 else twice > bottom
        case Rounding.RND_INF:
            up = twice > bottom if top < 0 else twice >= bottom
        case Rounding.RND_CONV:
            up = twice > bottom or (twice == bottom and down % 2 == 1)
        case _:
            assert_never(rounding)
    return down + int(up)


def _bounded(code: int, lo: int, hi: int, overflow: Overflow) -> int:
    if lo <= code <= hi:
        return code
    match overflow:
        case Overflow.WRAP:
            return (code - lo) % (hi - lo + 1) + lo
        case Overflow.SAT | Overflow.SAT_SYM:
            return min(max(code, lo), hi)
        case Overflow.SAT_ZERO:
            return 0
        case _:
            assert_never(overflow)
