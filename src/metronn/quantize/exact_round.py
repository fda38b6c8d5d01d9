"""Quantizing an affine function of an integer code exactly, with integers: clip((code * M + B) >> S).

A quantizer applied to scale * code + offset is a staircase in the code. It is known exactly by its thresholds: for each
level the smallest code that reaches it. Multiplier and addend with S fraction bits fit when the line is on or above
level k * 2**S at every threshold and below it one code earlier: linear constraints in two integers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from metronn.ir.arrays import Array
from metronn.ir.ops import Rounding

HALF = Fraction(1, 2)
MAX_LEVELS = 1 << 17
"""More levels than this are not looked at one by one."""
MAX_SHIFT = 48
"""Most fraction bits of a multiplier."""


def round_fraction(x: Fraction, rounding: Rounding) -> int:
    """Round a real number as `ap_fixed` does in this mode, exactly."""
    down = math.floor(x)
    part = x - down
    match rounding:
        case Rounding.TRN:
            return down
        case Rounding.TRN_ZERO:
            return down + (1 if x < 0 and part else 0)
        case Rounding.RND:
            return down + (part >= HALF)
        case Rounding.RND_MIN_INF:
            return down + (part > HALF)
        case Rounding.RND_ZERO:
            return down + (part >= HALF if x < 0 else part > HALF)
        case Rounding.RND_INF:
            return down + (part > HALF if x < 0 else part >= HALF)
        case Rounding.RND_CONV:
            return down + (part > HALF or (part == HALF and bool(down & 1)))


def edge(level: int, rounding: Rounding) -> tuple[Fraction, bool]:
    """Return the least real number that rounds to `level` or more, and whether it is one of them itself."""
    tie = Fraction(2 * level - 1, 2)
    match rounding:
        case Rounding.TRN:
            return Fraction(level), True
        case Rounding.TRN_ZERO:
            return (Fraction(level), True) if level > 0 else (Fraction(level - 1), False)
        case Rounding.RND:
            return tie, True
        case Rounding.RND_MIN_INF:
            return tie, False
        case Rounding.RND_ZERO:
            return tie, level <= 0
        case Rounding.RND_INF:
            return tie, level > 0
        case Rounding.RND_CONV:
            return tie, level % 2 == 0


@dataclass(frozen=True, slots=True)
class Scaling:
    """code -> (code * multiplier + addend) >> shift."""

    multiplier: int
    addend: int
    shift: int

    def shifted(self, shift: int) -> Scaling:
        """Return the same with more fraction bits."""
        grow = shift - self.shift
        return Scaling(self.multiplier << grow, self.addend << grow, shift)


@dataclass(frozen=True, slots=True)
class Staircase:
    """A rising staircase over codes: at each code of `reached` the level is at least that of `least`.

    At each code of `before` it is below that of `below`.
    """

    reached: Array
    least: Array
    before: Array
    below: Array

    @property
    def flat(self) -> bool:
        """Whether there is only one level."""
        return not self.reached.size and not self.before.size


def staircase(
    scale: Fraction, offset: Fraction, rounding: Rounding, codes: tuple[int, int], levels: tuple[int, int]
) -> Staircase | None:
    """Return the thresholds of round(scale * code + offset), scale > 0, for codes within bounds.

    Only levels within the bounds of `levels`, at which the result is cut, are told apart. Where the codes do not reach
    them nothing is cut: then the ends of the codes are points of the staircase. None when there are too many levels.
    """
    bottom = max(round_fraction(scale * codes[0] + offset, rounding), levels[0])
    top = min(round_fraction(scale * codes[1] + offset, rounding), levels[1])
    if top - bottom > MAX_LEVELS:
        return None
    reached: list[int] = []
    least: list[int] = []
    before: list[int] = []
    below: list[int] = []
    for level in range(bottom + 1, top + 1):
        edge_at, included = edge(level, rounding)
        at = (edge_at - offset) / scale
        code = math.ceil(at) if included else math.floor(at) + 1
        reached.append(code)
        least.append(level)
        before.append(code - 1)
        below.append(level)
    if reached and bottom > levels[0]:
        reached.append(codes[0])
        least.append(bottom)
    if before and top < levels[1]:
        before.append(codes[1])
        below.append(top + 1)
    return Staircase(*(np.array(values, dtype=object) for values in (reached, least, before, below)))


def fit(stairs: Staircase, slope: Fraction) -> Scaling | None:
    """Return the scaling of fewest fraction bits that is exactly the staircase, or None up to MAX_SHIFT bits."""
    least, most = 0, MAX_SHIFT
    found = _fit_at(stairs, slope, most)
    if found is None:
        return None
    while least < most:
        middle = (least + most) // 2
        tried = _fit_at(stairs, slope, middle)
        if tried is None:
            least = middle + 1
        else:
            found, most = tried, middle
    return found


def _fit_at(stairs: Staircase, slope: Fraction, shift: int) -> Scaling | None:
    """Return a scaling with these fraction bits. The room for the addend is concave in the multiplier."""
    guess = slope * (1 << shift)
    most = 2 * math.ceil(guess) + 2
    farthest = max(int(abs(stairs.reached).max()), int(abs(stairs.before).max())) + 1
    highest = max(int(abs(stairs.least).max()), int(abs(stairs.below).max())) + 1
    kind: npt.DTypeLike = np.int64 if most * farthest + (highest << shift) < 2**62 else object
    reached, before = stairs.reached.astype(kind), stairs.before.astype(kind)
    need = (stairs.least * (1 << shift)).astype(kind)
    allow = (stairs.below * (1 << shift) - 1).astype(kind)

    def room(multiplier: int) -> tuple[int, int]:
        return int((need - multiplier * reached).max()), int((allow - multiplier * before).min())

    low, high = 0, most
    near = math.floor(guess)
    for multiplier in (near, near + 1):
        bounds = room(multiplier)
        if bounds[0] <= bounds[1]:
            return Scaling(multiplier, choose_addend(*bounds, shift), shift)
    while low < high:
        middle = (low + high) // 2
        here, after = room(middle), room(middle + 1)
        if here[0] <= here[1]:
            return Scaling(middle, choose_addend(*here, shift), shift)
        if here[1] - here[0] < after[1] - after[0]:
            low = middle + 1
        else:
            high = middle
    bounds = room(low)
    return Scaling(low, choose_addend(*bounds, shift), shift) if bounds[0] <= bounds[1] else None


def choose_addend(low: int, high: int, shift: int) -> int:
    """Return the cheapest whole number of [low, high]: half a step (plain rounding), 0, else few digits."""
    half = (1 << shift) >> 1
    if low <= half <= high:
        return half
    if low <= 0 <= high:
        return 0
    for zeros in range(max(abs(low), abs(high)).bit_length(), -1, -1):
        value = -(-low >> zeros) << zeros
        if value <= high:
            return value
    raise AssertionError("the interval is empty")


def exact_scaling(
    scale: Fraction, offset: Fraction, rounding: Rounding, codes: tuple[int, int], levels: tuple[int, int]
) -> Scaling | None:
    """Return integers for which clip((code * M + B) >> S) = clip(round(scale * code + offset)) for every code.

    `codes` are the bounds of the code, `levels` those of the clip. None when no such integers are found.
    """
    if scale < 0:
        mirrored = exact_scaling(-scale, offset, rounding, (-codes[1], -codes[0]), levels)
        return None if mirrored is None else Scaling(-mirrored.multiplier, mirrored.addend, mirrored.shift)
    stairs = staircase(scale, offset, rounding, codes, levels)
    if stairs is None:
        return None
    if stairs.flat:
        level = min(max(round_fraction(scale * codes[0] + offset, rounding), levels[0]), levels[1])
        return Scaling(0, level, 0)
    return fit(stairs, scale)
