"""Quantizing a sum of two codes of different scales exactly: clip((x * M + y * N + B) >> S) for every pair of codes.

A residual sum in front of a quantizer is of this kind. Levels are computed for all pairs, in float64, and in fractions
where that is too close to an edge; a pair of multipliers fits when one addend serves all pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from metronn.ir.arrays import Array
from metronn.ir.ops import Overflow, Rounding
from metronn.model.reference import round_real
from metronn.quantize.exact.chains import nearest
from metronn.quantize.exact.closing_ways import Target
from metronn.quantize.exact.staircase import choose_addend, round_fraction

MAX_PAIRS = 1 << 22
"""More pairs of codes than this are not looked at one by one."""
MAX_PAIR_SHIFT = 40
"""Most fraction bits of the two multipliers: MAX_PAIRS leaves codes of 22 bits, and products fit int64."""
DOUBT = 2.0**-20
"""What lies closer to an edge than this, in steps, is computed in fractions."""


@dataclass(frozen=True, slots=True)
class Pair:
    """(x, y) -> (x * first + y * second + addend) >> shift."""

    first: int
    second: int
    addend: int
    shift: int


def exact_pair(
    scales: tuple[Fraction, Fraction], offset: Fraction, bounds: tuple[tuple[int, int], tuple[int, int]], target: Target
) -> Pair | None:
    """Return integers that quantize scales[0] * x + scales[1] * y + offset, in steps, for all codes within bounds.

    None when there are too many pairs, or none of up to MAX_PAIR_SHIFT bits are found.
    """
    (x_lo, x_hi), (y_lo, y_hi) = bounds
    if (x_hi - x_lo + 1) * (y_hi - y_lo + 1) > MAX_PAIRS:
        return None
    grid = np.meshgrid(np.arange(x_lo, x_hi + 1), np.arange(y_lo, y_hi + 1), indexing="ij")
    x, y = (np.asarray(codes).ravel() for codes in grid)
    levels = _levels(scales, offset, x, y, target.rounding)
    if levels is None:
        return None
    low, high = np.ones(x.shape, dtype=bool), np.ones(x.shape, dtype=bool)
    if target.overflow is Overflow.SAT:
        levels = np.clip(levels, target.lo, target.hi)
        low, high = levels > target.lo, levels < target.hi
    least, most = 0, MAX_PAIR_SHIFT
    found = _at(scales, x, y, levels, low, high, most)
    if found is None:
        return None
    while least < most:
        middle = (least + most) // 2
        tried = _at(scales, x, y, levels, low, high, middle)
        if tried is None:
            least = middle + 1
        else:
            found, most = tried, middle
    return found


def _levels(
    scales: tuple[Fraction, Fraction], offset: Fraction, x: Array, y: Array, rounding: Rounding
) -> Array | None:
    """Return the exact codes of all pairs."""
    values = float(scales[0]) * x + float(scales[1]) * y + float(offset)
    if np.abs(values).max() >= 2.0**24:
        return None
    levels = round_real(values, rounding).astype(np.int64)
    doubtful = np.flatnonzero(np.abs(2 * values - np.rint(2 * values)) < DOUBT)
    for k in doubtful.tolist():
        levels[k] = round_fraction(scales[0] * int(x[k]) + scales[1] * int(y[k]) + offset, rounding)
    return levels


def _at(
    scales: tuple[Fraction, Fraction], x: Array, y: Array, levels: Array, low: Array, high: Array, shift: int
) -> Pair | None:
    first, second = (nearest(scale * (1 << shift)) for scale in scales)
    reach = (
        abs(first) * int(np.abs(x).max())
        + abs(second) * int(np.abs(y).max())
        + (int(np.abs(levels).max()) + 1 << shift)
    )
    if reach >= 2**62:
        return None
    sums = first * x + second * y
    need = (levels << shift) - sums
    allow = need + ((1 << shift) - 1)
    least = int(need[low].max()) if low.any() else None
    most = int(allow[high].min()) if high.any() else None
    if least is None:
        least = most if most is not None else 0
    if most is None:
        most = least
    return Pair(first, second, choose_addend(least, most, shift), shift) if least <= most else None
