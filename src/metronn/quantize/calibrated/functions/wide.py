"""Functions whose argument spans decades: what they are composed of, where they must be right, how finely.

1/x, 1/sqrt(x), sqrt(x) and other powers are read as factors: their error counts relative to their value. They are made
for arguments WIDENING times beyond what calibration saw on both sides, in magnitude. Between the smallest magnitudes of
both signs 1/x keeps the value of the nearer one; 0 counts as positive.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from metronn.ir.arrays import Array
from metronn.ir.infer import aligned_bounds
from metronn.ir.ops import Add, Extremum, ExtremumKind, Multiply
from metronn.ir.types import TensorType
from metronn.model.functions import apply_function
from metronn.model.graph import Floats, FunctionKind, RealFunction, RealGraph, RealNode
from metronn.quantize.calibrated.fixed import covering_frac
from metronn.quantize.calibrated.functions.intervals import CodeFunction, Tolerance
from metronn.quantize.calibrated.functions.tables import table_domain

WIDENING = 16.0
"""How far beyond the magnitudes of calibration a function of wide range is made."""
WIDE_RATIO = 16.0
"""Up to this ratio between the largest and the smallest magnitude one table with one step serves."""
FACTOR_BITS = 26
"""Widest result, without sign: with a factor of up to 18 bits it fits one multiplier of 27 x 18 bits, elsewhere two."""
RESULT_GUARD_BITS = 3
"""The smallest result has this many bits more than its table's error asks for, if its width allows."""
LEAST_BITS = 8
"""Significant bits of the smallest result below which rare magnitudes are left out."""

Map = Callable[[Floats], Floats]


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """A function's argument as a growing function of a value further up, where that is not negative."""

    value: str
    of: Map


def is_factor(function: RealFunction) -> bool:
    """Whether the function's error counts relative to its value."""
    if function.kind is FunctionKind.POWER:
        return function.parameters[0] < 0 or not function.parameters[0].is_integer()
    return function.kind in (FunctionKind.RECIPROCAL, FunctionKind.RSQRT, FunctionKind.SQRT)


def is_root(function: RealFunction) -> bool:
    """Whether the function is a factor that is 0 at 0."""
    return function.kind is FunctionKind.SQRT or (is_factor(function) and (*function.parameters, -1.0)[0] > 0)


def _two_sided(function: RealFunction) -> bool:
    """Whether negative arguments have a value too."""
    if function.kind is FunctionKind.POWER:
        return function.parameters[0].is_integer()
    return function.kind is FunctionKind.RECIPROCAL


def is_wide(function: RealFunction, values: Floats) -> bool:
    """Whether one step cannot serve arguments such as these: magnitudes far apart, on a pole, or on both its sides."""
    if not is_factor(function) and function.kind is not FunctionKind.LOG:
        return False
    if _two_sided(function):
        seen = np.abs(values[values != 0])
        edge = bool((values == 0).any()) or values.min() < 0 < values.max()
    else:
        seen = values[values > 0]
        edge = not is_root(function) and bool((values <= 0).any())
    return edge or bool(seen.size and seen.max() > WIDE_RATIO * seen.min())


def argument_of(graph: RealGraph, constants: Mapping[str, Floats], node: RealNode, op: RealFunction) -> Argument:
    """Look through scales, shifts, floors and roots of one non-negative value above a function that read nothing else.

    The constants must be single numbers: scales positive, shifts and floors not negative. Then 1 / sqrt(sum / n + e) is
    one function of the sum.
    """
    value, steps = op.x, list[Map]()
    reader = node
    while graph.uses[value] == (reader.name,) and all(shown != value for _, shown in graph.outputs):
        above = graph.by_name[value]
        found = _step(constants, above)
        if found is None:
            break
        value, step = found
        steps.append(step)
        reader = above

    def of(x: Floats) -> Floats:
        with np.errstate(invalid="ignore"):  # roots of codes below zero, which do not occur
            for step in reversed(steps):
                x = step(x)
        return x

    return Argument(value=value, of=of)


def _step(constants: Mapping[str, Floats], node: RealNode) -> tuple[str, Map] | None:
    op = node.op
    if isinstance(op, RealFunction) and op.kind is FunctionKind.SQRT:
        return op.x, np.sqrt
    if not isinstance(op, Add | Multiply | Extremum) or (op.x in constants) == (op.y in constants):
        return None
    other, constant = (op.y, op.x) if op.x in constants else (op.x, op.y)
    numbers = np.unique(constants[constant])
    if numbers.size != 1 or len(np.shape(constants[constant])) > len(node.shape):
        return None
    number = float(numbers[0])
    match op:
        case Multiply() if number > 0:
            return other, lambda x: x * number
        case Add(subtract=False) if number >= 0:
            return other, lambda x: x + number
        case Extremum(kind=ExtremumKind.MAX) if number >= 0:
            return other, lambda x: np.maximum(x, number)
        case _:
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class WideTable:
    """What a split is planned from: the function of codes in [lo, hi], its tolerance, the exponent of its results."""

    function: CodeFunction
    lo: int
    hi: int
    tolerance: Tolerance
    frac: int


def wide_table(
    function: RealFunction, of: Map, values: Floats, kind: TensorType, *, bits: int, max_error: float
) -> WideTable:
    """Say what the table of f(of(x)) must be, for x of this type and values in calibration; results of about `bits`.

    `max_error` is relative to each value for factors, to the largest for others.
    """
    seen = of(values)
    inputs = _clip_of(function, seen)
    found = np.abs(apply_function(function.kind, inputs.seen, function.parameters))
    ends = apply_function(function.kind, inputs.ends(), function.parameters)
    if is_factor(function):
        significant = min(bits, math.ceil(-math.log2(max_error)) + RESULT_GUARD_BITS)
        top, low = _window(found, significant)
        room = FACTOR_BITS - significant - math.log2(top / low)
        top = min(float(np.abs(ends).max()), top * 2.0 ** max(0.0, room))
        frac = min(covering_frac(0.0, top, FACTOR_BITS, signed=False), math.ceil(significant - math.log2(low)))
        # Towards 0 a root keeps the error that it has at the smallest argument widened.
        near_zero = max_error * low / WIDENING if is_root(function) else 0.0
        tolerance = Tolerance(relative=max_error, absolute=near_zero)
    else:
        top = float(np.abs(ends).max()) or 1.0
        signed = bool(ends.min() < 0)
        frac = covering_frac(min(0.0, float(ends.min())), float(ends.max()), bits, signed=signed)
        tolerance = Tolerance(absolute=max_error * (float(found.max()) or top))
    step = kind.range.max_frac

    def argument(code: Array) -> Floats:
        return of(np.ldexp(np.asarray(code).astype(np.float64), -step))

    def value(code: Array) -> Floats:
        y = inputs.clip(argument(code))
        return np.clip(apply_function(function.kind, y, function.parameters), -top, top)

    lows, highs = aligned_bounds(kind, step)
    lo, hi = int(lows.min()), int(highs.max())
    first = _first(lambda code: float(argument(np.array(code))) >= inputs.lowest, lo, hi)
    last = _first(lambda code: float(argument(np.array(code))) > inputs.highest, first, hi + 1) - 1
    return WideTable(function=value, lo=first, hi=max(first, last), tolerance=tolerance, frac=frac)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Clip:
    """Arguments that a function is made for: those seen, bounds; with a gap, both signs and no magnitude below it."""

    seen: Floats
    lowest: float
    highest: float
    gap: float | None = None

    def clip(self, y: Floats) -> Floats:
        """Return the nearest argument that the function is made for, 0 counting as positive."""
        y = np.clip(y, self.lowest, self.highest)
        return y if self.gap is None else np.where(y < 0, -1.0, 1.0) * np.maximum(np.abs(y), self.gap)

    def ends(self) -> Floats:
        """Return the arguments of the farthest results."""
        gap = [] if self.gap is None else [self.gap, -self.gap]
        return np.array([self.seen.min(), self.seen.max(), self.lowest, self.highest, *gap])


def _clip_of(function: RealFunction, seen: Floats) -> _Clip:
    if function.kind is FunctionKind.EXP:
        lowest, highest = table_domain(function, seen, -math.inf, math.inf)
        return _Clip(seen=np.clip(seen, lowest, highest), lowest=lowest, highest=highest)
    two_sided = _two_sided(function)
    kept = seen[seen != 0] if two_sided else seen[seen > 0]
    kept = kept if kept.size else np.ones(1)
    low, high = float(np.abs(kept).min()), float(np.abs(kept).max()) * WIDENING
    # A power of two: there end the cells of the split.
    low = math.ldexp(1.0, math.frexp(low / WIDENING)[1] - 1)
    if kept.min() < 0 < kept.max():
        return _Clip(seen=kept, lowest=-high, highest=high, gap=low)
    if kept.min() < 0:
        return _Clip(seen=kept, lowest=-high, highest=-low)
    return _Clip(seen=kept, lowest=0.0 if is_root(function) else low, highest=high)


def _window(found: Floats, significant: int) -> tuple[float, float]:
    """Return the largest and the smallest result that the format is made for: all, or the most that leave LEAST_BITS.

    One event far off must not take the bits of all others.
    """
    sizes = np.sort(np.log2(found[(found > 0) & np.isfinite(found)]))
    if not sizes.size:
        return 1.0, 1.0
    span = float(FACTOR_BITS - min(significant, LEAST_BITS))
    if sizes[-1] - sizes[0] <= span:
        return 2.0 ** float(sizes[-1]), 2.0 ** float(sizes[0])
    counts = np.searchsorted(sizes, sizes, side="right") - np.searchsorted(sizes, sizes - span, side="left")
    best = int(np.flatnonzero(counts == counts.max())[-1])
    top = float(sizes[best])
    return 2.0**top, 2.0 ** float(sizes[np.searchsorted(sizes, top - span, side="left")])


def _first(holds: Callable[[int], bool], lo: int, hi: int) -> int:
    """Return the first whole number in [lo, hi] at which a condition holds that stays true; hi if it never does."""
    while lo < hi:
        middle = (lo + hi) // 2
        if holds(middle):
            hi = middle
        else:
            lo = middle + 1
    return lo
