"""Which power of two all of some floats are whole multiples of."""

from __future__ import annotations

import numpy as np

from metronn.model.graph import Floats

DEEPEST = -200
"""Exponent given to a grid that is finer than anything float arithmetic adds exactly."""


def grid_exponent(values: Floats) -> int:
    """Return the largest k such that all values are whole multiples of 2**k; 0 for zeros, at least DEEPEST."""
    nonzero = np.abs(values[values != 0])
    if not nonzero.size:
        return 0
    mantissa, exponent = np.frexp(nonzero)
    whole = np.ldexp(mantissa, 53).astype(np.int64)
    zeros = np.log2((whole & -whole).astype(np.float64)).astype(np.int64)
    return max(DEEPEST, int((exponent - 53 + zeros).min()))
