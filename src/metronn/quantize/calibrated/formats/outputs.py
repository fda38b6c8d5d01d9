"""Formats of outputs that are rounded: they cover twice what calibration saw, but no more than the value can reach."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from metronn.ir.types import Range, TensorType
from metronn.model.graph import Floats
from metronn.quantize.calibrated.fixed import covering_frac
from metronn.quantize.calibrated.formats.per_channel import WASTED_BITS, Fracs, covering_fracs


def output_range(kind: TensorType, values: Floats, bits: int) -> Range:
    """Return the format of an output with these values, (events, *shape): one exponent for each element."""
    fracs = kind.range.frac_array(kind.shape)
    low, high = (
        np.array([math.ldexp(float(bound), -int(f)) for bound, f in zip(bounds, fracs.ravel(), strict=True)])
        for bounds in (kind.range.los(kind.size), kind.range.his(kind.size))
    )
    signed = kind.range.signed
    chosen = _fracs(kind.shape, values, bits, low, high, signed=signed)
    kept = np.minimum(chosen, fracs) if len(np.unique(chosen)) > 1 else np.minimum(chosen, fracs.max())
    return replace(Range.fixed(bits, 0, signed=signed), frac=tuple(int(frac) for frac in kept.ravel()))


def common_output_range(codes: Range, values: Floats, bits: int) -> Range:
    """Return the format of an output all of whose elements keep one exponent, as those of one scale do."""
    low, high = (np.asarray(float(bound)) for bound in codes.value_bounds())
    lo, hi = _held((np.asarray(values.min()), np.asarray(values.max())), (low, high))
    frac = min(covering_frac(float(lo), float(hi), bits, signed=codes.signed), codes.max_frac)
    return Range.fixed(bits, frac, signed=codes.signed)


def _held(seen: tuple[Floats, Floats], bounds: tuple[Floats, Floats]) -> tuple[Floats, Floats]:
    """Return what an output has to hold, lowest and highest: twice what was seen, and 0, but nothing out of reach."""
    low = np.maximum(bounds[0], np.minimum(0.0, 2 * seen[0]))
    high = np.minimum(bounds[1], np.maximum(0.0, 2 * seen[1]))
    return low, high


def _fracs(shape: tuple[int, ...], values: Floats, bits: int, low: Floats, high: Floats, *, signed: bool) -> Fracs:
    """Return fracs, of `shape`, one for all elements where they reach about equally far; `low`, `high` bound each."""
    flat = values.reshape(len(values), -1)
    lows, highs = _held((flat.min(axis=0), flat.max(axis=0)), (low.ravel(), high.ravel()))
    fracs = covering_fracs(lows, highs, bits, signed=signed)
    if int(fracs.max() - fracs.min()) <= WASTED_BITS:
        fracs = np.full(fracs.shape, fracs.min())
    return fracs.reshape(shape)
