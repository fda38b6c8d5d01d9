"""Tables for smooth functions: input grid, size and entries, chosen by their error."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from metronn.ir.arrays import IntArray
from metronn.ir.types import Range, TensorType
from metronn.model.graph import Floats, FunctionKind
from metronn.model.reference import apply_function
from metronn.quantize.fixed import covering_frac

SATURATING = (FunctionKind.SIGMOID, FunctionKind.TANH)
"""Functions that flatten at both ends: the table may stop where they do."""
SPARE_FRACS = 12
"""How many input exponents finer than the covering one the search tries."""
MAX_REACH = 64.0
"""Sigmoid and tanh have flattened to within 1e-27 long before this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableChoice:
    """The range of a table's input codes and the largest error over the inputs it was made for."""

    range: Range
    max_error: float


def choose_table(kind: FunctionKind, lo: float, hi: float, max_error: float, max_bits: int) -> TableChoice:
    """Return the input range with the fewest entries (a power of two) whose error stays below `max_error`.

    Inputs lie in [lo, hi]; they are rounded half up and saturated. When even 2**max_bits entries err more, the best
    of those is returned. The error is absolute and leaves out the rounding of the entries.
    """
    if kind in SATURATING:
        lo, hi = max(lo, -MAX_REACH), min(hi, MAX_REACH)
    signed = lo < 0
    best: TableChoice | None = None
    for bits in range(2, max_bits + 1):
        first = covering_frac(lo, hi, bits, signed=signed)
        for frac in range(first, first + SPARE_FRACS + 1):
            choice = Range.fixed(bits, frac, signed=signed)
            error = table_error(kind, choice, lo, hi)
            if best is None or error < best.max_error:
                best = TableChoice(range=choice, max_error=error)
        if best is not None and best.max_error <= max_error:
            return best
    if best is None:
        raise AssertionError("no table was tried")
    return best


def table_error(kind: FunctionKind, codes: Range, lo: float, hi: float) -> float:
    """Largest |f(x) - f(rounded and saturated x)| for x in [lo, hi].

    Exact for functions that are monotone between neighbouring rounding edges: it is met at an edge or an end.
    """
    step = math.ldexp(1.0, -codes.max_frac)
    centres: Floats = np.ldexp(np.arange(codes.lowest, codes.highest + 1).astype(np.float64), -codes.max_frac)
    centres = centres[(centres >= lo - step / 2) & (centres <= hi + step / 2)]
    if centres.size == 0:
        centres = np.array([codes.lowest * step if hi < codes.lowest * step else codes.highest * step])
    at_centres = table_function(kind, centres)
    error = 0.0
    for edges in (centres - step / 2, centres + step / 2):
        error = max(error, float(np.abs(table_function(kind, np.clip(edges, lo, hi)) - at_centres).max()))
    for end, centre in ((lo, centres[0]), (hi, centres[-1])):
        difference = table_function(kind, np.array([end])) - table_function(kind, np.array([centre]))
        error = max(error, float(np.abs(difference)[0]))
    return error


def table_function(kind: FunctionKind, x: Floats) -> Floats:
    """Evaluate the function where a table needs it; 1 / 0 counts as the largest finite neighbour, not infinity."""
    if kind is FunctionKind.RECIPROCAL:
        tiny = np.where(x == 0, np.inf, np.abs(x)).min(initial=np.inf)
        floor = tiny / 2 if np.isfinite(tiny) else 1.0
        return np.asarray(1.0 / np.where(x == 0, floor, x))
    return apply_function(kind, x)


def table_entries(kind: FunctionKind, x: TensorType, out: Range) -> IntArray:
    """Return the entries for every code of x, rounded half up to `out` and saturated."""
    codes = np.arange(x.range.lowest, x.range.highest + 1)
    values = table_function(kind, np.ldexp(codes.astype(np.float64), -x.range.max_frac))
    scaled = np.floor(np.ldexp(values, out.max_frac) + 0.5)
    return IntArray.of(np.clip(scaled, out.lowest, out.highest).astype(np.int64))


def result_range(kind: FunctionKind, lo: float, hi: float, bits: int) -> Range:
    """Return the range of the table's entries for inputs in [lo, hi].

    Sigmoid gets [0, 1) and tanh (-1, 1) in `bits`; what rounds to 1 becomes the largest code below.
    """
    match kind:
        case FunctionKind.SIGMOID:
            return Range.fixed(bits, bits, signed=False)
        case FunctionKind.TANH:
            return Range.fixed(bits, bits - 1)
        case FunctionKind.EXP | FunctionKind.RECIPROCAL:
            values = table_function(kind, np.array([lo, hi]))
            low, high = float(values.min()), float(values.max())
            return Range.fixed(bits, covering_frac(low, high, bits, signed=low < 0), signed=low < 0)
