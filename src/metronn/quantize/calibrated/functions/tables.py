"""Tables for functions of one variable: domain, input grid, size, entries and range, chosen by their error.

A table is made for inputs in [lo, hi] (`table_domain`); what lies beyond reads the entry of the nearer end. The range
of the result follows from the function's values there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from metronn.ir.arrays import IntArray
from metronn.ir.types import Range, TensorType
from metronn.model.functions import apply_function
from metronn.model.graph import Floats, FunctionKind, RealFunction
from metronn.quantize.calibrated.fixed import covering_frac

SATURATING = frozenset((FunctionKind.SIGMOID, FunctionKind.TANH, FunctionKind.ERF))
"""Functions that flatten at both ends: the table may stop where they do."""
JUMPING = frozenset(
    (
        FunctionKind.FLOOR,
        FunctionKind.CEIL,
        FunctionKind.ROUND,
        FunctionKind.SIGN,
        FunctionKind.THRESHOLDED,
        FunctionKind.SHRINK,
        FunctionKind.TABLE,
    )
)
"""Functions with steps: no rounding of the input keeps the largest error small, so the mean error counts."""
SPARE_FRACS = 12
"""How many input exponents finer than the covering one the search tries."""
MAX_REACH = 64.0
"""Sigmoid, tanh and erf have flattened to within 1e-27 long before this."""
OUTSIDE = 65
"""Points at which a function is looked at on each side where a table's inputs saturate."""
EXP_REACH = 18 * math.log(2)
"""exp of this much less than the largest argument is a quarter of a step of 16 bits."""
EXP_MARGIN = 2 * math.log(2)
"""Farther beyond the largest argument exp would take bits from the results that were seen."""
SAMPLES = 2049
"""Points at which a function is looked at for its bounds and its mean error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableChoice:
    """The range of a table's input codes and the largest error over the inputs it was made for."""

    range: Range
    max_error: float


def table_domain(function: RealFunction, values: Floats, low: float, high: float) -> tuple[float, float]:
    """Return the inputs [lo, hi] that the table serves, for values seen in calibration and codes in [low, high].

    Functions that saturate, and those given as values, are known everywhere. Others are made for the values with a
    quarter of their span on both sides, zero not crossed where no values lie beyond it, and within the function's
    domain. An exponential looks no farther down than its results show, and grows no more than fourfold beyond what was
    seen.
    """
    if function.kind is FunctionKind.TABLE:
        end = float(len(function.parameters) - 1)
        return min(max(low, 0.0), end), max(min(high, end), 0.0)
    if function.kind in SATURATING:
        return max(low, -MAX_REACH), min(high, MAX_REACH)
    lo, hi = float(values.min()), float(values.max())
    if function.kind is FunctionKind.EXP:
        lo = max(lo, hi - EXP_REACH)
    margin = (hi - lo) / 4 or abs(hi) / 4
    wide_lo = max(lo - margin, lo / 2) if lo >= 0 else lo - margin
    if function.kind is FunctionKind.EXP:
        margin = min(margin, EXP_MARGIN)
    wide_hi = min(hi + margin, hi / 2) if hi <= 0 else hi + margin
    first, last = _domain(function, lo, hi)
    return max(low, wide_lo, first), max(min(high, wide_hi, last), max(low, wide_lo, first))


def _domain(function: RealFunction, lo: float, hi: float) -> tuple[float, float]:
    """Return where the function is real and finite around values in [lo, hi], with room to open ends."""
    match function.kind:
        case FunctionKind.SQRT:
            return 0.0, math.inf
        case FunctionKind.ASIN | FunctionKind.ACOS:
            return -1.0, 1.0
        case FunctionKind.ATANH:
            return (lo - 1) / 2, (hi + 1) / 2
        case FunctionKind.ACOSH:
            return 1.0, math.inf
        case FunctionKind.TAN if not _has_pole(function, lo, hi):
            pole = (math.floor(lo / math.pi + 0.5) + 0.5) * math.pi
            return (lo + pole - math.pi) / 2, (hi + pole) / 2
        case FunctionKind.POWER if not function.parameters[0].is_integer() and function.parameters[0] > 0:
            return 0.0, math.inf
        case _:
            return -math.inf, math.inf


def result_bounds(function: RealFunction, lo: float, hi: float, values: Floats) -> tuple[float, float]:
    """Return the function's least and largest value for inputs in [lo, hi].

    Where it has a pole inside, they are those of the calibration values, and as much again.
    """
    if function.kind is FunctionKind.TABLE:
        seen = apply_function(function.kind, np.arange(math.floor(lo), math.ceil(hi) + 1.0), function.parameters)
    elif _has_pole(function, lo, hi):
        seen = 2 * apply_function(function.kind, values, function.parameters)
    else:
        inside = np.concatenate([np.linspace(lo, hi, SAMPLES), np.clip([0.0], lo, hi)])
        seen = apply_function(function.kind, inside, function.parameters)
    finite = seen[np.isfinite(seen)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)


def _has_pole(function: RealFunction, lo: float, hi: float) -> bool:
    match function.kind:
        case FunctionKind.RECIPROCAL:
            return lo <= 0 <= hi
        case FunctionKind.POWER:
            return function.parameters[0] < 0 and lo <= 0 <= hi
        case FunctionKind.TAN:
            return math.floor(lo / math.pi + 0.5) != math.floor(hi / math.pi + 0.5)
        case _:
            return False


def result_range(function: RealFunction, bounds: tuple[float, float], bits: int) -> Range:
    """Return the range of the table's entries for results within `bounds`.

    Sigmoid gets [0, 1), tanh and erf (-1, 1) in `bits`; what rounds to 1 becomes the largest code below.
    """
    match function.kind:
        case FunctionKind.SIGMOID:
            return Range.fixed(bits, bits, signed=False)
        case FunctionKind.TANH | FunctionKind.ERF:
            return Range.fixed(bits, bits - 1)
        case _:
            low, high = bounds
            return Range.fixed(bits, covering_frac(low, high, bits, signed=low < 0), signed=low < 0)


def choose_table(
    function: RealFunction, lo: float, hi: float, bounds: tuple[float, float], max_error: float, max_bits: int
) -> TableChoice:
    """Return the input range with the fewest entries (a power of two) whose error stays below `max_error`.

    Inputs lie in [lo, hi]; they are rounded half up and saturated, and so are results to `bounds`. When even
    2**max_bits entries err more, the best of those is returned. The error is absolute and leaves out the rounding of
    the entries; it is the largest one, or the mean for functions with jumps or a pole in [lo, hi].
    """
    if function.kind is FunctionKind.TABLE:
        return TableChoice(range=Range(math.floor(lo + 0.5), math.floor(hi + 0.5), 0), max_error=0.0)
    signed = lo < 0
    judge = _mean_error if function.kind in JUMPING or _has_pole(function, lo, hi) else table_error
    best, best_error = None, math.inf
    for bits in range(2, max_bits + 1):
        first = covering_frac(lo, hi, bits, signed=signed)
        for frac in range(first, first + SPARE_FRACS + 1):
            choice = Range.fixed(bits, frac, signed=signed)
            error = judge(function, choice, lo, hi, bounds)
            if best is None or error < best_error:
                best, best_error = choice, error
        if best is not None and best_error <= max_error:
            break
    if best is None:
        raise AssertionError("no table was tried")
    return TableChoice(range=best, max_error=table_error(function, best, lo, hi, bounds))


def table_error(function: RealFunction, codes: Range, lo: float, hi: float, bounds: tuple[float, float]) -> float:
    """Largest |f(x) - f(rounded and saturated x)| for x in [lo, hi], results saturated to `bounds`.

    Exact for functions that are monotone between neighbouring rounding edges, where it is met at an edge; where inputs
    saturate, the function is sampled.
    """
    step = math.ldexp(1.0, -codes.max_frac)
    centres: Floats = np.ldexp(np.arange(codes.lowest, codes.highest + 1).astype(np.float64), -codes.max_frac)
    centres = centres[(centres >= lo - step / 2) & (centres <= hi + step / 2)]
    if centres.size == 0:
        centres = np.array([codes.lowest * step if hi < codes.lowest * step else codes.highest * step])
    at_centres = table_function(function, centres, lo, hi, bounds)
    error = 0.0
    for edges in (centres - step / 2, centres + step / 2):
        error = max(error, float(np.abs(table_function(function, edges, lo, hi, bounds) - at_centres).max()))
    for end, centre, value in ((lo, centres[0], at_centres[0]), (hi, centres[-1], at_centres[-1])):
        beyond = table_function(function, np.linspace(end, float(centre), OUTSIDE), lo, hi, bounds)
        error = max(error, float(np.abs(beyond - value).max()))
    return error


def _mean_error(function: RealFunction, codes: Range, lo: float, hi: float, bounds: tuple[float, float]) -> float:
    x = np.linspace(lo, hi, SAMPLES)
    rounded = np.clip(np.floor(np.ldexp(x, codes.max_frac) + 0.5), codes.lowest, codes.highest)
    found = table_function(function, np.ldexp(rounded, -codes.max_frac), lo, hi, bounds)
    return float(np.abs(found - table_function(function, x, lo, hi, bounds)).mean())


def table_function(function: RealFunction, x: Floats, lo: float, hi: float, bounds: tuple[float, float]) -> Floats:
    """Evaluate the function where a table needs it: at the nearest x in [lo, hi], saturated to `bounds`.

    At a pole it counts as the bound on the side of the next larger x.
    """
    values = apply_function(function.kind, np.clip(x, lo, hi), function.parameters)
    return np.clip(np.where(np.isnan(values), 0.0, values), *bounds)


def table_entries(
    function: RealFunction, x: TensorType, lo: float, hi: float, bounds: tuple[float, float], out: Range
) -> IntArray:
    """Return the entries for every code of x, rounded half up to `out` and saturated."""
    codes = np.arange(x.range.lowest, x.range.highest + 1)
    values = table_function(function, np.ldexp(codes.astype(np.float64), -x.range.max_frac), lo, hi, bounds)
    scaled = np.floor(np.ldexp(values, out.max_frac) + 0.5)
    return IntArray.of(np.clip(scaled, out.lowest, out.highest).astype(np.int64))
