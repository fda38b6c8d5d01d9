"""Quantizing an affine function of an integer code exactly, with integers: clip((code * M + B) >> S).

A quantizer applied to scale * code + offset is a staircase in the code. It is known exactly by its thresholds: for each
level the smallest code that reaches it. Multiplier and addend with S fraction bits fit when the line is on or above
level k * 2**S at every threshold and below it one code earlier: linear constraints in two integers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from metronn.ir.ops import Rounding

HALF = Fraction(1, 2)
MAX_LEVELS = 1 << 17
"""More levels than this are not looked at one by one."""
MAX_SHIFT = 128
"""Most fraction bits of a multiplier; integers of any size find it."""
SPARE_BITS = 8
"""Slopes of lines between two codes of n bits differ by 2**-2n at least: multipliers of 2n bits and these tell all."""


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


def edge(level: int, rounding: Rounding) -> tuple[int, bool]:
    """Return twice the least real number that rounds to `level` or more, and whether it is one of them itself."""
    tie = 2 * level - 1
    match rounding:
        case Rounding.TRN:
            return 2 * level, True
        case Rounding.TRN_ZERO:
            return (2 * level, True) if level > 0 else (2 * level - 2, False)
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
    """A rising staircase over codes, as points (code, level) that matter to a line.

    At the code of each point of `reached` the level is at least that of the point, at the code of each point of
    `before` it is below that of the point.
    """

    reached: tuple[tuple[int, int], ...]
    before: tuple[tuple[int, int], ...]

    @property
    def flat(self) -> bool:
        """Whether there is only one level."""
        return not self.reached


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
    reached: list[tuple[int, int]] = []
    before: list[tuple[int, int]] = []
    top_part = scale.denominator * offset.denominator
    base, bottom_part = 2 * offset.numerator * scale.denominator, 2 * offset.denominator * scale.numerator
    for level in range(bottom + 1, top + 1):
        least, included = edge(level, rounding)
        at = least * top_part - base
        code = -(-at // bottom_part) if included else at // bottom_part + 1
        reached.append((code, level))
        before.append((code - 1, level))
    if reached and bottom > levels[0]:
        reached.insert(0, (codes[0], bottom))
    if before and top < levels[1]:
        before.append((codes[1], top + 1))
    return Staircase(_hull(reached, 1), _hull(before, -1))


def _hull(points: list[tuple[int, int]], side: int) -> tuple[tuple[int, int], ...]:
    """Return the upper (side 1) or lower (-1) convex hull of points whose codes do not fall: the rest says nothing."""
    kept: list[tuple[int, int]] = []
    for x, y in points:
        while len(kept) > 1:
            (ax, ay), (bx, by) = kept[-2], kept[-1]
            if side * ((bx - ax) * (y - ay) - (by - ay) * (x - ax)) < 0:
                break
            kept.pop()
        kept.append((x, y))
    return tuple(kept)


def fit(stairs: Staircase, slope: Fraction, code_bits: int) -> Scaling | None:
    """Return the scaling of fewest fraction bits that is exactly the staircase of codes of some bits, or None."""
    found, most, limit = None, -1, min(MAX_SHIFT, 2 * code_bits + SPARE_BITS)
    while found is None:
        if most == limit:
            return None
        most = min(limit, most + 8)
        found = _fit_at(stairs, slope, most)
    least = max(0, most - 7)
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
    low, high = 0, 2 * math.ceil(guess) + 2

    def room(multiplier: int) -> tuple[int, int]:
        need = max((level << shift) - multiplier * code for code, level in stairs.reached)
        return need, min((level << shift) - 1 - multiplier * code for code, level in stairs.before)

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
    return fit(stairs, scale, (codes[1] - codes[0]).bit_length())
