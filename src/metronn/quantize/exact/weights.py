"""Weights of quantized layers as whole numbers, exactly."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from metronn.model.graph import RealLinear
from metronn.quantize.exact.chains import ONE, fraction_bits
from metronn.quantize.widths import MAX_WEIGHT_BITS

SIGNIFICANT_BITS = 20
"""Weights of a float layer have 24 significant bits, those of a quantized one fewer than these."""


@dataclass(frozen=True, slots=True)
class IntegerWeights:
    """weight[i, o] = codes[i, o] * 2**-frac * steps[o]."""

    codes: npt.NDArray[np.object_]
    frac: int
    steps: npt.NDArray[np.object_]


@lru_cache(maxsize=64)
def integer_weights(op: RealLinear) -> IntegerWeights | None:
    """Return the weights as whole numbers, or None when they are on no grid: the layer was not quantized."""
    outputs = op.weight.shape[1]
    steps = np.full(outputs, ONE, dtype=object)
    if op.step is not None:
        codes = np.empty(op.weight.shape, dtype=object)
        for column, step in enumerate(op.step.array.tolist()):
            steps[column] = Fraction(step)
            codes[:, column] = [int(ratio) for ratio in np.rint(op.weight.array[:, column] / step).tolist()]
        return IntegerWeights(codes, 0, steps)
    exact = {value: Fraction(value) for value in set(op.weight.array.ravel().tolist())}
    fracs = [bits for value in exact.values() if value and (bits := fraction_bits(value)) is not None]
    frac = max(fracs, default=0)
    whole = {value: int(number * Fraction(2) ** frac) for value, number in exact.items()}
    widest = max((abs(number) for number in whole.values()), default=0).bit_length()
    significant = max(((abs(n) // (abs(n) & -abs(n))).bit_length() for n in whole.values() if n), default=0)
    if widest > MAX_WEIGHT_BITS or significant > SIGNIFICANT_BITS:
        return None
    codes = np.empty(op.weight.array.size, dtype=object)
    codes[:] = [whole[value] for value in op.weight.array.ravel().tolist()]
    return IntegerWeights(codes.reshape(op.weight.shape), frac, steps)
