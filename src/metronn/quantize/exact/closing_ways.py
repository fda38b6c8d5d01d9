"""Where a quantizer of the framework ends a chain: which integer ops give its codes, element by element, exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import assert_never

import numpy as np

from metronn.ir.arrays import INT64_LIMIT, Array
from metronn.ir.infer import overflowed
from metronn.ir.ops import Overflow, Rounding
from metronn.model.graph import FunctionKind
from metronn.quantize.exact.chains import ZERO, Affine, Chain, fraction_bits, nearest, power_of_two
from metronn.quantize.exact.staircase import Scaling, exact_scaling, round_fraction
from metronn.quantize.widths import MAX_ROUNDED_BITS

MAX_TABLE_BITS = 16
"""Codes of more bits have no table of their own."""
MAX_STEPS = 64
"""A function of more steps than this is no sum of steps."""
SMALL_TABLE = 1 << 9
"""A table over so few codes costs less than a product with many bits."""
MAX_WHOLE = 1 << 18
"""As many codes are quantized in integers of any size."""
ROUNDED = 2.0**-49
"""A product, a sum and a division in float64 are wrong by less than this part of their terms, in half steps."""
MAX_SCAN = 1 << 23
"""As many codes are looked at one by one to find the part of a function that is not flat."""


@dataclass(frozen=True, slots=True)
class Target:
    """A quantizer of one element: its scale is `scale` * 2**-frac, of which `frac` is the IR's part."""

    scale: Fraction
    lo: int
    hi: int
    frac: int
    rounding: Rounding
    overflow: Overflow

    @staticmethod
    def of(scale: float, lo: int, hi: int, rounding: Rounding, overflow: Overflow) -> Target:
        """Return the target; a scale that is a power of two goes into `frac` as a whole."""
        step = Fraction(scale)
        power = power_of_two(step)
        if overflow is Overflow.SAT_SYM:
            lo, overflow = (-hi if lo < 0 else lo), Overflow.SAT
        if power is not None:
            return Target(Fraction(1), lo, hi, -power, rounding, overflow)
        return Target(step, lo, hi, 0, rounding, overflow)

    @property
    def step(self) -> Fraction:
        """The quantizer's scale."""
        return self.scale * (Fraction(2) ** -self.frac)


@dataclass(frozen=True, slots=True)
class Source:
    """The code that enters: its exponent and bounds."""

    frac: int
    lo: int
    hi: int


@dataclass(frozen=True, slots=True)
class Plain:
    """y = overflow(round(x * factor + offset)) in the IR's own arithmetic; first saturated at the codes `within`.

    With `grain`, x * factor + offset is rounded to so many bits below a step before.
    """

    factor: Fraction
    offset: Fraction
    target: Target
    within: tuple[int, int] | None = None
    grain: int | None = None


@dataclass(frozen=True, slots=True)
class Scaled:
    """y = overflow((code * multiplier + addend) >> shift)."""

    scaling: Scaling
    target: Target


@dataclass(frozen=True, slots=True)
class Tabled:
    """y = table of the code, saturated at [lo, hi] first and its lowest `drop` bits left out."""

    lo: int
    hi: int
    drop: int
    entries: tuple[int, ...]
    target: Target


@dataclass(frozen=True, slots=True)
class Stepped:
    """y = base + the sum of jumps[j] over all j with code >= thresholds[j]."""

    base: int
    thresholds: tuple[int, ...]
    jumps: tuple[int, ...]
    target: Target


@dataclass(frozen=True, slots=True)
class Refused:
    """No exact way was found, and why."""

    reason: str


Way = Plain | Scaled | Tabled | Stepped | Refused


def way(chain: Chain, source: Source, target: Target) -> Way:
    """Choose how a quantizer that ends a chain becomes integer ops: the cheapest way that is exact."""
    if chain.calls:
        return tabled(chain, source, target)
    affine, target, within = merged_bounds(chain.affine, target)
    if affine.scale == 0:
        code = overflowed(
            round_fraction(affine.at(ZERO) / target.step, target.rounding), target.lo, target.hi, target.overflow
        )
        return Plain(Fraction(1), ZERO, _fixed_at(target, code))
    factor, offset = affine.scale / target.scale, affine.offset / target.scale
    power = power_of_two(factor)
    bits = fraction_bits(offset)
    if power is not None and bits is not None and bits <= source.frac - power:
        return Plain(factor, offset, target, within)
    levels = within or (target.lo, target.hi)
    if within is None and target.overflow is not Overflow.SAT:
        levels = (-(1 << 200), 1 << 200)
    scaling = exact_scaling(
        affine.scale * Fraction(2) ** -source.frac / target.step,
        affine.offset / target.step,
        target.rounding,
        (source.lo, source.hi),
        levels,
    )
    if scaling is not None and within is None:
        return Scaled(scaling, target)
    factor_bits = fraction_bits(factor)
    if factor_bits is not None and bits is not None and bits - source.frac <= factor_bits + 64:
        return Plain(factor, offset, target, within)
    small = source.hi - source.lo < SMALL_TABLE
    return (None if small else twice_rounded(affine, source, target, within)) or tabled(chain, source, target)


def twice_rounded(affine: Affine, source: Source, target: Target, within: tuple[int, int] | None) -> Plain | None:
    """Return a way with two roundings, for any rounding mode; None when its product has too many bits.

    In steps of the target the value is whole / D. So it is on an edge (a whole number or a half) or at least 1 / (2 D)
    beside it. Multiplier and addend are rounded so finely that the first rounding, to bits that are finer than that
    distance, puts what is on an edge onto it, and nothing else.
    """
    scale, offset = affine.scale * Fraction(2) ** -source.frac / target.step, affine.offset / target.step
    grain = (2 * math.lcm(scale.denominator, offset.denominator) - 1).bit_length()
    shift = grain + 3 + max(abs(source.lo), abs(source.hi), 1).bit_length()
    ends = (abs(scale * source.lo + offset), abs(scale * source.hi + offset), abs(offset))
    if math.ceil(max(ends)).bit_length() + shift + 2 > MAX_ROUNDED_BITS:
        return None
    fine = Fraction(2) ** shift
    unit = Fraction(2) ** -target.frac
    factor = nearest(scale * fine) / fine * Fraction(2) ** source.frac * unit
    return Plain(factor, nearest(offset * fine) / fine * unit, target, within, grain)


def _fixed_at(target: Target, code: int) -> Target:
    return Target(target.scale, code, code, target.frac, Rounding.TRN, Overflow.SAT)


def merged_bounds(affine: Affine, target: Target) -> tuple[Affine, Target, tuple[int, int] | None]:
    """Merge the bounds of a chain with those of a quantizer: rounding is monotone, so the order does not matter.

    Where the quantizer does not saturate, the bounds stay apart (as codes) unless they lie within its own.
    """
    if affine.low is None and affine.high is None:
        return affine, target, None
    low, high = (
        None if bound is None else round_fraction(bound / target.step, target.rounding)
        for bound in (affine.low, affine.high)
    )
    free = Affine(affine.scale, affine.offset)
    if target.overflow is Overflow.SAT:
        lo = target.lo if low is None else min(max(low, target.lo), target.hi)
        hi = target.hi if high is None else min(max(high, target.lo), target.hi)
        return free, Target(target.scale, lo, hi, target.frac, target.rounding, Overflow.SAT), None
    if low is not None and high is not None and target.lo <= low and high <= target.hi:
        return free, Target(target.scale, low, high, target.frac, target.rounding, Overflow.SAT), None
    far = 1 << 200
    return free, target, (-far if low is None else low, far if high is None else high)


def quantized_codes(values: Array, target: Target) -> Array:
    """Return the codes of float64 values; what is no number counts as 0."""
    scaled = np.clip(
        np.nan_to_num(values / float(target.step), nan=0.0, posinf=2.0**100, neginf=-(2.0**100)), -(2.0**100), 2.0**100
    )
    down = np.floor(scaled)
    part = scaled - down
    match target.rounding:
        case Rounding.TRN:
            codes = down
        case Rounding.TRN_ZERO:
            codes = np.trunc(scaled)
        case Rounding.RND:
            codes = down + (part >= 0.5)
        case Rounding.RND_MIN_INF:
            codes = down + (part > 0.5)
        case Rounding.RND_ZERO:
            codes = down + np.where(scaled < 0, part >= 0.5, part > 0.5)
        case Rounding.RND_INF:
            codes = down + np.where(scaled < 0, part > 0.5, part >= 0.5)
        case Rounding.RND_CONV:
            codes = np.rint(scaled)
    lo, hi = float(target.lo), float(target.hi)
    match target.overflow:
        case Overflow.WRAP:
            codes = lo + np.mod(codes - lo, hi - lo + 1)
        case Overflow.SAT | Overflow.SAT_SYM:
            codes = np.clip(codes, lo, hi)
        case Overflow.SAT_ZERO:
            codes = np.where((codes < lo) | (codes > hi), 0.0, codes)
    return codes.astype(np.int64)


def chain_codes(chain: Chain, codes: Array, frac: int, target: Target) -> Array:
    """Return the target's codes for codes that enter a chain of functions.

    What follows the last function is computed in float64, and in fractions where that is too near to an edge.
    """
    values = chain.before_last(np.ldexp(codes.astype(np.float64), -frac))
    affine, step = chain.last, float(target.step)
    with np.errstate(all="ignore"):
        found = affine.floats(values)
        results = quantized_codes(found, target)
        if affine == Affine() and target.scale == 1:
            return results  # a float32 number and a power of two: nothing was rounded
        terms = np.abs(values * float(affine.scale)) + abs(float(affine.offset)) + np.abs(found)
        halves = 2 * found / step
        near = np.isfinite(halves) & (np.abs(halves - np.rint(halves)) <= ROUNDED * terms / step)
        if target.overflow is Overflow.SAT:
            near &= (found / step > target.lo - 1) & (found / step < target.hi + 1)
    several, which = np.unique(values[near], return_inverse=True)
    levels = (round_fraction(affine.at(Fraction(v)) / target.step, target.rounding) for v in several.tolist())
    exact = [overflowed(level, target.lo, target.hi, target.overflow) for level in levels]
    results[near] = np.array(exact, dtype=np.int64)[which]
    return results


def affine_codes(affine: Affine, source: Source, target: Target) -> Array | None:
    """Return the codes of an affine chain for every code that enters, exactly; None when there are too many."""
    affine, target, within = merged_bounds(affine, target)
    scale, offset = affine.scale * Fraction(2) ** -source.frac / target.step, affine.offset / target.step
    bottom = math.lcm(scale.denominator, offset.denominator)
    slope, base = int(scale * bottom), int(offset * bottom)
    small = 4 * (abs(slope) * max(abs(source.lo), abs(source.hi)) + abs(base) + bottom) < INT64_LIMIT
    if not small and source.hi - source.lo >= MAX_WHOLE:
        return None
    tops = np.arange(source.lo, source.hi + 1).astype(np.int64 if small else object) * slope + base
    down = tops // bottom
    twice, below, odd = 2 * (tops - down * bottom), tops < 0, down % 2 == 1
    match target.rounding:
        case Rounding.TRN:
            up = np.zeros(down.shape, dtype=bool)
        case Rounding.TRN_ZERO:
            up = below & (twice > 0)
        case Rounding.RND:
            up = twice >= bottom
        case Rounding.RND_MIN_INF:
            up = twice > bottom
        case Rounding.RND_ZERO:
            up = np.where(below, twice >= bottom, twice > bottom)
        case Rounding.RND_INF:
            up = np.where(below, twice > bottom, twice >= bottom)
        case Rounding.RND_CONV:
            up = (twice > bottom) | ((twice == bottom) & odd)
        case _:
            assert_never(target.rounding)
    codes = down + up.astype(np.int64)
    if within is not None:
        least, most = (max(-INT64_LIMIT, min(INT64_LIMIT, bound)) for bound in within)
        codes = np.minimum(np.maximum(codes, least), most)
    match target.overflow:
        case Overflow.WRAP:
            codes = (codes - target.lo) % (target.hi - target.lo + 1) + target.lo
        case Overflow.SAT | Overflow.SAT_SYM:
            codes = np.minimum(np.maximum(codes, target.lo), target.hi)
        case Overflow.SAT_ZERO:
            codes = np.where((codes < target.lo) | (codes > target.hi), 0, codes)
        case _:
            assert_never(target.overflow)
    return codes.astype(np.int64)


def tabled(chain: Chain, source: Source, target: Target) -> Way:
    """Evaluate the chain and the quantizer on every code."""
    count = source.hi - source.lo + 1
    if count > MAX_SCAN:
        return _bisected(chain, source, target) or Refused(f"a table over {count:,} codes is too large")
    codes = np.arange(source.lo, source.hi + 1)
    if chain.calls:
        found = chain_codes(chain, codes, source.frac, target)
    else:
        exact = affine_codes(chain.affine, source, target)
        if exact is None:
            return Refused(f"a table over {count:,} codes is too large")
        found = exact
    return table_of(found, source, target)


def table_of(found: Array, source: Source, target: Target) -> Way:
    """Return the way for the results of every code: flat ends are cut off, and low bits that change nothing."""
    changes = np.flatnonzero(found[1:] != found[:-1])
    if not changes.size:
        return Plain(Fraction(1), ZERO, _fixed_at(target, int(found[0])))
    first, last = int(changes[0]), int(changes[-1]) + 1
    lo, hi = source.lo + first, source.lo + last
    drop = 0
    inner = changes + source.lo + 1
    if inner.size:
        common = int(np.bitwise_or.reduce(np.abs(inner)))
        drop = (common & -common).bit_length() - 1 if common else 0
    lo, hi = lo >> drop, hi >> drop
    if hi - lo + 1 > 1 << MAX_TABLE_BITS:
        if changes.size > MAX_STEPS:
            return Refused(f"a table over {hi - lo + 1:,} codes is too large")
        jumps = found[changes + 1] - found[changes]
        return Stepped(int(found[0]), tuple(inner.tolist()), tuple(jumps.tolist()), target)
    at = np.clip(np.arange(lo, hi + 1) << drop, source.lo, source.hi) - source.lo
    return Tabled(lo, hi, drop, tuple(int(v) for v in found[at]), target)


RISING = frozenset((FunctionKind.SIGMOID, FunctionKind.TANH, FunctionKind.EXP, FunctionKind.ERF, FunctionKind.SOFTPLUS))
"""Functions that only rise, also as float32 computes them: their steps are found without looking at every code."""


def _bisected(chain: Chain, source: Source, target: Target) -> Stepped | None:
    """Find the few steps of a rising or falling function over many codes."""
    if any(call.kind not in RISING for call in chain.calls) or target.overflow is not Overflow.SAT:
        return None

    def levels(codes: Array) -> Array:
        return chain_codes(chain, codes, source.frac, target)

    first, last = (int(level) for level in levels(np.array([source.lo, source.hi], dtype=object)))
    if not 0 < abs(last - first) <= MAX_STEPS:
        return None
    jump = 1 if last > first else -1
    wanted = np.arange(first + jump, last + jump, jump)
    small = max(abs(source.lo), abs(source.hi)) < INT64_LIMIT
    low = np.full(wanted.shape, source.lo, dtype=np.int64 if small else object)
    high = np.full(wanted.shape, source.hi, dtype=np.int64 if small else object)
    while (high - low > 1).any():
        middle = low + (high - low) // 2
        there = (levels(middle) - wanted) * jump >= 0
        low, high = np.where(there, low, middle), np.where(there, middle, high)
    return Stepped(first, tuple(high.tolist()), (jump,) * len(wanted), target)
