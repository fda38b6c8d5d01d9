"""Ranges and tensor types: which integers a value can hold, and what one step is worth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from metronn.ir.arrays import Array, exact_array, object_array

Ints = int | tuple[int, ...]


def width_bits(lo: int, hi: int) -> int:
    """Bits that hold every integer in [lo, hi]: two's complement when lo < 0, else unsigned; at least 1."""
    if lo < 0:
        return max(hi.bit_length() if hi > 0 else 0, (-lo - 1).bit_length()) + 1
    return max(hi.bit_length(), 1)


def normalised(values: Ints, name: str) -> Ints:
    """Return one integer where all are equal, so that equal descriptions compare equal. Raises ValueError if empty."""
    if not isinstance(values, tuple):
        return int(values)
    if not values:
        raise ValueError(f"{name} is an empty tuple")
    first = int(values[0])
    return first if all(value == first for value in values) else tuple(int(value) for value in values)


def spread(values: Ints, count: int) -> tuple[int, ...]:
    """Return one integer for each of `count` elements."""
    return values if isinstance(values, tuple) else (values,) * count


@dataclass(frozen=True, slots=True)
class Range:
    """Exact integer bounds and the binary exponent of one step: value = integer * 2**-frac.

    `lo`, `hi` and `frac` are each one integer for the whole tensor or a tuple with one integer per element
    (C order). A tuple whose entries are all equal is stored as one integer, so equal ranges compare equal.
    """

    lo: Ints
    hi: Ints
    frac: Ints = 0

    def __post_init__(self) -> None:
        """Normalise tuples and reject an empty interval."""
        for name in ("lo", "hi", "frac"):
            object.__setattr__(self, name, normalised(getattr(self, name), f"Range.{name}"))
        counts = {len(v) for v in (self.lo, self.hi, self.frac) if isinstance(v, tuple)}
        if len(counts) > 1:
            raise ValueError(f"Range fields have different element counts: {sorted(counts)}")
        count = counts.pop() if counts else 1
        for lo, hi in zip(self.los(count), self.his(count), strict=True):
            if lo > hi:
                raise ValueError(f"Range is empty: lo {lo} > hi {hi}")

    @staticmethod
    def fixed(width: int, frac: int, *, signed: bool = True) -> Range:
        """Return the full range of a two's complement (or unsigned) number of `width` bits."""
        if width < 1:
            raise ValueError(f"width must be at least 1 bit, got {width}")
        if signed:
            return Range(-(1 << (width - 1)), (1 << (width - 1)) - 1, frac)
        return Range(0, (1 << width) - 1, frac)

    @property
    def element_count(self) -> int | None:
        """Number of elements described one by one, or None when one description serves all."""
        for value in (self.lo, self.hi, self.frac):
            if isinstance(value, tuple):
                return len(value)
        return None

    @property
    def uniform(self) -> bool:
        """Whether all elements share bounds and exponent."""
        return self.element_count is None

    def los(self, count: int) -> tuple[int, ...]:
        """Lower bounds of `count` elements."""
        return spread(self.lo, count)

    def his(self, count: int) -> tuple[int, ...]:
        """Upper bounds of `count` elements."""
        return spread(self.hi, count)

    def fracs(self, count: int) -> tuple[int, ...]:
        """Binary exponents of `count` elements."""
        return spread(self.frac, count)

    @property
    def lowest(self) -> int:
        """The lowest integer code of any element."""
        return min(self.lo) if isinstance(self.lo, tuple) else self.lo

    @property
    def highest(self) -> int:
        """The highest integer code of any element."""
        return max(self.hi) if isinstance(self.hi, tuple) else self.hi

    @property
    def max_frac(self) -> int:
        """The largest binary exponent of any element."""
        return max(self.frac) if isinstance(self.frac, tuple) else self.frac

    @property
    def signed(self) -> bool:
        """Whether any element can be negative."""
        return self.lowest < 0

    @property
    def width_bits(self) -> int:
        """Bits that hold the code of any element."""
        return width_bits(self.lowest, self.highest)

    def element(self, index: int) -> Range:
        """Range of one element (flat index)."""

        def pick(value: Ints) -> int:
            return value[index] if isinstance(value, tuple) else value

        return Range(pick(self.lo), pick(self.hi), pick(self.frac))

    def lo_array(self, shape: tuple[int, ...]) -> Array:
        """Lower bounds as an exact array of `shape`."""
        return exact_array(object_array(self.los(math.prod(shape)), shape))

    def hi_array(self, shape: tuple[int, ...]) -> Array:
        """Upper bounds as an exact array of `shape`."""
        return exact_array(object_array(self.his(math.prod(shape)), shape))

    def frac_array(self, shape: tuple[int, ...]) -> Array:
        """Binary exponents as an int64 array of `shape`."""
        return exact_array(object_array(self.fracs(math.prod(shape)), shape))

    def value_bounds(self) -> tuple[Fraction, Fraction]:
        """Smallest and largest real value of any element, exact."""
        count = self.element_count or 1
        steps = [Fraction(2) ** -frac for frac in self.fracs(count)]
        lows = [lo * step for lo, step in zip(self.los(count), steps, strict=True)]
        highs = [hi * step for hi, step in zip(self.his(count), steps, strict=True)]
        return min(lows), max(highs)

    def describe(self) -> str:
        """Short human form: sign, width, exponent, e.g. `s8.6` or `u11.10 per element`."""
        sign = "s" if self.signed else "u"
        frac = str(self.frac) if isinstance(self.frac, int) else f"{min(self.frac)}..{max(self.frac)}"
        return f"{sign}{self.width_bits}.{frac}" + ("" if self.uniform else " per element")


@dataclass(frozen=True, slots=True)
class TensorType:
    """Shape (without a batch axis) and range of a value."""

    shape: tuple[int, ...]
    range: Range

    def __post_init__(self) -> None:
        """Reject a range whose element count is not the shape's."""
        if any(n < 1 for n in self.shape):
            raise ValueError(f"shape {self.shape} has an axis below 1")
        count = self.range.element_count
        if count is not None and count != self.size:
            raise ValueError(f"range describes {count} elements, shape {self.shape} has {self.size}")

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def element_widths(self) -> tuple[int, ...]:
        """Bits of each element, C order: the width each has on a wire."""
        return tuple(
            width_bits(lo, hi) for lo, hi in zip(self.range.los(self.size), self.range.his(self.size), strict=True)
        )

    @property
    def total_bits(self) -> int:
        """Bits of all elements together."""
        return sum(self.element_widths())

    def describe(self) -> str:
        """Short human form, e.g. `128 x s8.6`."""
        return f"{'x'.join(str(n) for n in self.shape) or 'scalar'} x {self.range.describe()}"
