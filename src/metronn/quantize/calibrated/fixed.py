"""Choosing binary exponents: how real numbers land on integers of a given width."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from metronn.ir.arrays import Array, exact_array, object_array
from metronn.ir.types import Range, width_bits
from metronn.model.graph import Floats
from metronn.quantize.options import Calibration

CLIPPED_BITS = 4
"""The search for the best exponent lets at most this many top bits saturate."""
GRID_FRACS = range(-16, 25)
"""Binary exponents in which inputs may turn out to be exact."""
DAMPING = 1e-3
"""Added to the inputs' second moments, relative to their mean, so that they can be inverted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounded:
    """Constants rounded to integer codes with `frac` fraction bits; `saturated` of them did not fit."""

    codes: Array
    frac: int
    saturated: int

    @property
    def values(self) -> Floats:
        """What the codes are worth."""
        return np.ldexp(self.codes.astype(np.float64), -self.frac)


def covering_frac(lo: float, hi: float, bits: int, *, signed: bool) -> int:
    """Return the largest frac at which codes of `bits` hold every rounded value in [lo, hi].

    Zero alone gives bits - 1.
    """
    reach = max(abs(lo), abs(hi))
    if reach == 0 or not math.isfinite(reach):
        return bits - 1
    frac = bits + 2 - math.frexp(reach)[1]
    full = Range.fixed(bits, 0, signed=signed)
    while _half_up(lo, frac) < full.lowest or _half_up(hi, frac) > full.highest:
        frac -= 1
    return frac


def _half_up(value: float, frac: int) -> int:
    return math.floor(math.ldexp(value, frac) + 0.5)


def rounded_codes(
    values: Floats, frac: int | npt.NDArray[np.int64], bits: int, *, signed: bool = True
) -> tuple[Array, int]:
    """Round half up to codes of `bits`; returns the codes and how many saturated. Widths up to 52 bits.

    `frac` is one for all, or one for each entry of the last axis.
    """
    full = Range.fixed(bits, 0, signed=signed)
    scaled = np.floor(np.ldexp(values, frac) + 0.5)
    clipped = np.clip(scaled, full.lowest, full.highest)
    return clipped.astype(np.int64), int((scaled != clipped).sum())


def round_weights(weight: Floats, gram: Floats, bits: int, frac: int | None, method: Calibration) -> Rounded:
    """Round a weight matrix [n_in, n_out] to signed codes of `bits` with one frac for all.

    `gram` holds the second moments of the layer's inputs, X^T X / events. Rounding feeds each weight's error forward
    into the weights still to be rounded, so that the layer's result keeps its mean squared error small (`fed_forward`).
    With MSE the frac is the one of the smallest such error, saturation included; otherwise no weight saturates.
    """
    if frac is None:
        first = covering_frac(float(weight.min()), float(weight.max()), bits, signed=True)
        candidates = range(first, first + CLIPPED_BITS + 1) if method is Calibration.MSE else range(first, first + 1)
    else:
        candidates = range(frac, frac + 1)
    order, spread = feedback_order(gram)
    best: Rounded | None = None
    best_error = math.inf
    for candidate in candidates:
        nearest, saturated = rounded_codes(weight, candidate, bits)
        for codes in (nearest, fed_forward(weight, order, spread, candidate, bits)):
            rounded = Rounded(codes=codes, frac=candidate, saturated=saturated)
            difference = rounded.values - weight
            error = float((difference * (gram @ difference)).sum())
            if best is None or error < best_error * (1 - 1e-9):
                best, best_error = rounded, error
    if best is None:
        raise AssertionError("no exponent was tried")
    return best


def feedback_order(gram: Floats) -> tuple[Array, Floats]:
    """Return the order in which inputs are rounded, strongest first, and how their errors spread.

    The matrix is the upper Cholesky factor of the inverse of the damped second moments, in that order.
    Source: E. Frantar et al., GPTQ, arXiv:2210.17323, algorithm 1.
    """
    power = np.diag(gram)
    order: Array = np.argsort(-power, kind="stable")
    damping = DAMPING * float(power.mean()) or 1.0
    damped = gram[np.ix_(order, order)] + damping * np.eye(len(gram))
    inverse = np.linalg.inv(damped)
    spread: Floats = np.linalg.cholesky((inverse + inverse.T) / 2).T.astype(np.float64)
    return order, spread


def fed_forward(weight: Floats, order: Array, spread: Floats, frac: int | npt.NDArray[np.int64], bits: int) -> Array:
    """Round row by row in the given order; the rows that follow make up for each row's error as well as they can.

    `frac` is one for all columns, or one for each.
    """
    full = Range.fixed(bits, 0)
    left = np.ldexp(weight[order], frac)
    codes = np.empty(weight.shape, dtype=np.int64)
    for position in range(len(order)):
        row = np.clip(np.floor(left[position] + 0.5), full.lowest, full.highest)
        codes[order[position]] = row.astype(np.int64)
        error = (left[position] - row) / spread[position, position]
        left[position + 1 :] -= spread[position, position + 1 :, np.newaxis] * error
    return codes


def shortened(codes: Array, frac: int) -> tuple[Array, int]:
    """Drop trailing zero bits that all codes share."""
    if not codes.any():
        return codes, 0
    common = int(np.bitwise_or.reduce(np.abs(codes), axis=None))
    zeros = (common & -common).bit_length() - 1
    return codes >> zeros, frac - zeros


def round_constant(values: Floats, bits: int) -> Rounded:
    """Round constants to at most `bits`, exactly where that is possible; trailing zeros are dropped."""
    signed = bool(values.size) and float(values.min()) < 0
    width = bits if signed else bits - 1
    frac = covering_frac(float(values.min()), float(values.max()), width, signed=signed)
    codes, saturated = rounded_codes(values, frac, width, signed=signed)
    codes, frac = shortened(codes, frac)
    return Rounded(codes=codes, frac=frac, saturated=saturated)


def round_at(values: Floats, frac: int) -> Rounded:
    """Round constants half up at a given frac, at any width; shared trailing zeros are dropped."""
    codes = codes_at(values, frac)
    if codes.dtype != object:
        codes, frac = shortened(codes, frac)
    return Rounded(codes=codes, frac=frac, saturated=0)


def codes_at(values: Floats, frac: int | npt.NDArray[np.int64]) -> Array:
    """Round constants half up, at any width, at one frac or at one for each entry of the last axis."""
    fracs = np.broadcast_to(frac, values.shape)
    pairs = zip(values.ravel().tolist(), fracs.ravel().tolist(), strict=True)
    return exact_array(object_array([math.floor(math.ldexp(value, own) + 0.5) for value, own in pairs], values.shape))


def exact_grid(values: Floats, max_bits: int) -> Range | None:
    """Return the smallest full range on whose codes every value lies exactly, or None beyond `max_bits`.

    Values that are all zero say nothing about the grid: None.
    """
    lo, hi = float(values.min()), float(values.max())
    if lo == hi == 0:
        return None
    for frac in GRID_FRACS:
        scaled_lo, scaled_hi = math.ldexp(lo, frac), math.ldexp(hi, frac)
        if max(abs(scaled_lo), abs(scaled_hi)) > 2.0**max_bits:
            return None
        scaled = np.ldexp(values, frac)
        if (scaled == np.rint(scaled)).all():
            bits = width_bits(int(scaled_lo), int(scaled_hi))
            return Range.fixed(bits, frac, signed=lo < 0) if bits <= max_bits else None
    return None


def choose_range(
    values: Floats, bits: int, *, signed: bool, method: Calibration, percentile: float, frac: int | None = None
) -> Range:
    """Return the full range of `bits` whose frac suits the values best in the way `method` says."""
    if frac is not None:
        return Range.fixed(bits, frac, signed=signed)
    lo, hi = float(values.min()), float(values.max())
    first = covering_frac(lo, hi, bits, signed=signed)
    match method:
        case Calibration.MAX:
            return Range.fixed(bits, first, signed=signed)
        case Calibration.PERCENTILE:
            reach = float(np.percentile(np.abs(values), percentile))
            within = covering_frac(-reach if signed else 0.0, reach, bits, signed=signed) if reach > 0 else first
            return Range.fixed(bits, max(first, within), signed=signed)
        case Calibration.MSE:
            tried = range(first, first + CLIPPED_BITS + 1)
            best = min(tried, key=lambda f: squared_error(values, f, bits, signed=signed))
            return Range.fixed(bits, best, signed=signed)


def squared_error(values: Floats, frac: int, bits: int, *, signed: bool) -> float:
    """Mean squared error of rounding half up and saturating to codes of `bits`."""
    full = Range.fixed(bits, frac, signed=signed)
    codes = np.clip(np.floor(np.ldexp(values, frac) + 0.5), full.lowest, full.highest)
    return float(np.square(np.ldexp(codes, -frac) - values).mean())
