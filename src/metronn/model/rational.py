"""A RealGraph in exact arithmetic: every float64 is a whole number times a power of two, and so is every result.

`run_reference` computes in float64, whose rounding may tip a value that lies on the edge between two steps of a
quantizer. Here sums, products and quantizers are those of real numbers. Functions are float32 as in the frameworks,
softmax is float64. Slow (Python integers): made for judging few events.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import assert_never

import numpy as np
import numpy.typing as npt

from metronn.ir.ops import ExtremumKind, Overflow, Padding, ReduceKind, Rounding
from metronn.ir.windows import window_index
from metronn.model.functions import apply_function
from metronn.model.graph import (
    Floats,
    RealAdd,
    RealConstant,
    RealExtremum,
    RealFunction,
    RealGraph,
    RealInput,
    RealLinear,
    RealMultiply,
    RealNode,
    RealQuantize,
    RealReduce,
    RealRewire,
    RealSoftmax,
    RealWindow,
    real_operands,
)

Numbers = npt.NDArray[np.object_]


@dataclass(frozen=True, slots=True, eq=False)
class Dyadic:
    """numbers * 2**-frac, (events, *shape)."""

    numbers: Numbers
    frac: int

    @staticmethod
    def of(values: Floats) -> Dyadic:
        """Return float64 values exactly; what is not finite is an error."""
        pairs = [float(value).as_integer_ratio() for value in values.ravel()]
        frac = max((bottom.bit_length() - 1 for _, bottom in pairs), default=0)
        numbers = np.empty(len(pairs), dtype=object)
        numbers[:] = [top << (frac - bottom.bit_length() + 1) for top, bottom in pairs]
        return Dyadic(numbers.reshape(values.shape), frac)

    def at(self, frac: int) -> Numbers:
        """Return the numbers with more fraction bits."""
        return np.asarray(self.numbers * (1 << (frac - self.frac)), dtype=object)

    def floats(self) -> Floats:
        """Return the nearest float64 values."""
        bottom = 1 << max(0, self.frac)
        grow = 1 << max(0, -self.frac)
        flat = [float(int(n) * grow / bottom) for n in self.numbers.ravel()]
        return np.array(flat, dtype=np.float64).reshape(self.numbers.shape)


def run_rational(
    graph: RealGraph, inputs: Mapping[str, Floats], tap: Callable[[RealNode, Dyadic], None] | None = None
) -> dict[str, Dyadic]:
    """Run floats of shape (events, *shape) through the network exactly; returns outputs by name.

    `tap`, when given, sees every node's values. A constant has one event.
    """
    values: dict[str, Dyadic] = {}
    for node in graph.nodes:
        values[node.name] = _evaluate(node, [values[x] for x in real_operands(node.op)], inputs)
        if tap is not None:
            tap(node, values[node.name])
    return {name: values[value] for name, value in graph.outputs}


def _evaluate(node: RealNode, xs: list[Dyadic], inputs: Mapping[str, Floats]) -> Dyadic:
    op = node.op
    match op:
        case RealInput():
            return Dyadic.of(np.asarray(inputs[node.name], dtype=np.float64))
        case RealConstant():
            return Dyadic.of(op.values.array[np.newaxis])
        case RealRewire():
            return _rewire(op, xs)
        case RealWindow():
            return _window(op, xs[0])
        case RealLinear():
            weight, bias = Dyadic.of(op.weight.array), Dyadic.of(op.bias.array)
            product = Dyadic(np.asarray(xs[0].numbers @ weight.numbers, dtype=object), xs[0].frac + weight.frac)
            frac = max(product.frac, bias.frac)
            return Dyadic(np.asarray(product.at(frac) + bias.at(frac), dtype=object), frac)
        case RealAdd() | RealExtremum():
            frac = max(x.frac for x in xs)
            x, y = _pair(xs[0].at(frac), xs[1].at(frac))
            return Dyadic(np.asarray(_joined(op, x, y), dtype=object), frac)
        case RealMultiply():
            x, y = _pair(xs[0].numbers, xs[1].numbers)
            return Dyadic(np.asarray(x * y, dtype=object), xs[0].frac + xs[1].frac)
        case RealReduce():
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
            return Dyadic(np.asarray(reduced, dtype=object), xs[0].frac)
        case RealFunction():
            found = apply_function(op.kind, xs[0].floats(), op.parameters)
            with np.errstate(all="ignore"):
                single = found.astype(np.float32).astype(np.float64)
            return Dyadic.of(np.nan_to_num(single, nan=0.0, posinf=2.0**200, neginf=-(2.0**200)))
        case RealSoftmax():
            floats = xs[0].floats()
            shifted = np.exp(floats - floats.max(axis=op.axis + 1, keepdims=True))
            return Dyadic.of(np.asarray(shifted / shifted.sum(axis=op.axis + 1, keepdims=True)))
        case RealQuantize():
            return _quantize(op, xs[0], node.shape)
        case _:
            assert_never(op)


def _joined(op: RealAdd | RealExtremum, x: Numbers, y: Numbers) -> Numbers:
    if isinstance(op, RealAdd):
        return np.asarray(x - y if op.subtract else x + y, dtype=object)
    picked = np.maximum(x, y) if op.kind is ExtremumKind.MAX else np.minimum(x, y)
    return np.asarray(picked, dtype=object)


def _pair(x: Numbers, y: Numbers) -> tuple[Numbers, Numbers]:
    rank = max(x.ndim, y.ndim)
    return (
        x.reshape(x.shape[0], *(1,) * (rank - x.ndim), *x.shape[1:]),
        y.reshape(y.shape[0], *(1,) * (rank - y.ndim), *y.shape[1:]),
    )


def _rewire(op: RealRewire, xs: list[Dyadic]) -> Dyadic:
    frac = max(x.frac for x in xs)
    events = max(x.numbers.shape[0] for x in xs)
    flat = [x.at(frac).reshape(x.numbers.shape[0], -1) for x in xs]
    joined = np.concatenate([np.broadcast_to(part, (events, part.shape[1])) for part in flat], axis=1)
    padded = np.concatenate([joined, np.zeros((events, 1), dtype=object)], axis=1)
    return Dyadic(padded[:, op.index.array.ravel()].reshape(events, *op.shape), frac)


def _window(op: RealWindow, x: Dyadic) -> Dyadic:
    fill = x.numbers.min() if op.padding is Padding.LOWEST else 0
    events = x.numbers.shape[0]
    edge = np.full((events, 1), fill, dtype=object)
    padded = np.concatenate([x.numbers.reshape(events, -1), edge], axis=1)
    return Dyadic(padded[:, window_index(op, x.numbers.shape[1:])], x.frac)


def _quantize(op: RealQuantize, x: Dyadic, shape: tuple[int, ...]) -> Dyadic:
    size = math.prod(shape)
    scales = np.broadcast_to(op.scale.array, shape).ravel().tolist()
    los = np.broadcast_to(op.lo.array, shape).ravel().tolist()
    his = np.broadcast_to(op.hi.array, shape).ravel().tolist()
    steps = Dyadic.of(np.array(scales))
    rows = x.numbers.reshape(-1, size)
    found = np.empty(rows.shape, dtype=object)
    for element in range(size):
        step, lo, hi = int(steps.numbers[element]), int(los[element]), int(his[element])
        if op.overflow is Overflow.SAT_SYM and lo < 0:
            lo = -hi
        shift = steps.frac - x.frac
        top, bottom = (1 << shift, step) if shift >= 0 else (1, step << -shift)
        for event in range(len(rows)):
            code = _rounded(int(rows[event, element]) * top, bottom, op.rounding)
            found[event, element] = _bounded(code, lo, hi, op.overflow) * step
    return Dyadic(found.reshape(x.numbers.shape), steps.frac)


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
