"""What a float64 constant of a quantized network means: 1/6 is a sixth, 1/0.1f the reciprocal of the float32 number.

Constants of files are float32 numbers, which are taken literally. Frontends compute some constants in float64, such as
the 1/count of a mean, where the framework divides; there the nearest float64 would put a value that is exactly on an
edge between two steps beside it.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

import numpy as np

from metronn.model.graph import Floats

MAX_DENOMINATOR = 1 << 16
"""A float32 number differs from every other fraction up to this denominator by 2**-40 of itself: none is mistaken."""


@lru_cache(maxsize=1 << 16)
def meant(value: float) -> Fraction:
    """Return the real number that a constant stands for.

    A number of 24 significant bits is itself. Any other one is the fraction of denominator up to MAX_DENOMINATOR, or
    the reciprocal of a float32 number, to which it is the nearest float64; else itself.
    """
    exact = Fraction(value)
    top = abs(exact.numerator)
    if not top or (top // (top & -top)).bit_length() <= 24:
        return exact
    simple = exact.limit_denominator(MAX_DENOMINATOR)
    if float(simple) == value:
        return simple
    with np.errstate(all="ignore"):
        inverse = float(np.float32(1 / value))
    return 1 / Fraction(inverse) if np.isfinite(inverse) and inverse and 1 / inverse == value else exact


def quotient(values: Floats) -> tuple[Floats, Floats] | None:
    """Return numerators and denominators of constants among which are fractions that no float64 is; None without any.

    Products with them, computed as x * numerator / denominator, are right wherever they are float64 numbers and
    x * numerator is one.
    """
    fractions = [meant(value) for value in values.ravel().tolist()]
    if all(fraction.denominator & (fraction.denominator - 1) == 0 for fraction in fractions):
        return None
    pairs = [_pair(fraction) for fraction in fractions]
    tops, bottoms = (np.array([pair[k] for pair in pairs]).reshape(values.shape) for k in (0, 1))
    return tops, bottoms


def _pair(fraction: Fraction) -> tuple[float, float]:
    top, bottom = fraction.numerator, fraction.denominator
    if bottom & (bottom - 1) == 0 or max(abs(top), bottom) >= 1 << 53:
        return float(fraction), 1.0
    return float(top), float(bottom)
