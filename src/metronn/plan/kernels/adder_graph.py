"""Constant matrices as shared graphs of additions: the type, its meaning as a matrix, its cost.

Where the graphs come from is in `adders.solver`, what constants they add beside in `adders.constants`; when each sum
happens, and the registers, are decided in `adders`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from metronn.ir.arrays import Array, exact_array
from metronn.ir.types import width_bits

NOTHING = -1
"""In the place of a value: no value, 0."""

MOST_COUNTED = 1 << 60
"""Weights below it are counted in machine integers."""

Bounds = Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Adder:
    """(left << left_shift) + or - (right << right_shift) + offset, of earlier values: inputs first, then adders.

    `right` may be NOTHING: a constant is added to one value.
    """

    left: int
    right: int
    left_shift: int
    right_shift: int
    subtract: bool
    offset: int = 0


@dataclass(frozen=True, slots=True)
class AdderOutput:
    """One output: + or - value * 2**shift; value -1 is no value: the output is 0.

    A negative shift is exact: the values have that many zero bits.
    """

    value: int
    shift: int
    negative: bool


@dataclass(frozen=True, slots=True)
class AdderGraph:
    """A matrix as additions: `inputs` values come in, each adder makes one more, outputs are shifted values."""

    inputs: int
    adders: tuple[Adder, ...]
    outputs: tuple[AdderOutput, ...]

    def forms(self) -> list[dict[int, int]]:
        """Every value as an exact integer combination of the inputs: coefficient by input."""
        forms: list[dict[int, int]] = [{k: 1} for k in range(self.inputs)]
        for adder in self.adders:
            form = {k: c << adder.left_shift for k, c in forms[adder.left].items()}
            right = {} if adder.right == NOTHING else forms[adder.right]
            for k, c in right.items():
                term = c << adder.right_shift
                form[k] = form.get(k, 0) + (-term if adder.subtract else term)
            forms.append({k: c for k, c in form.items() if c})
        return forms

    def constants(self) -> list[int]:
        """Return the constant in every value: what it is when all inputs are 0."""
        found = [0] * self.inputs
        for adder in self.adders:
            right = 0 if adder.right == NOTHING else found[adder.right] << adder.right_shift
            left = found[adder.left] << adder.left_shift
            found.append(left + (-right if adder.subtract else right) + adder.offset)
        return found

    def bounds(self, inputs: Bounds) -> list[tuple[int, int]]:
        """Return the exact bounds of every value over independent inputs of these bounds."""
        found = []
        for form, constant in zip(self.forms(), self.constants(), strict=True):
            ends = [sorted((c * inputs[k][0], c * inputs[k][1])) for k, c in form.items()]
            found.append((constant + sum(low for low, _ in ends), constant + sum(high for _, high in ends)))
        return found

    def levels(self) -> list[int]:
        """Return for every value the additions in a row it takes."""
        found = [0] * self.inputs
        for adder in self.adders:
            right = 0 if adder.right == NOTHING else found[adder.right]
            found.append(1 + max(found[adder.left], right))
        return found

    def cost(self, inputs: Bounds) -> tuple[int, int]:
        """Return the levels of the deepest output, and the LUTs of all additions."""
        levels, bounds = self.levels(), self.bounds(inputs)
        deepest = max((levels[o.value] for o in self.outputs if o.value != NOTHING), default=0)
        pairs = zip(self.adders, bounds[self.inputs :], strict=True)
        return deepest, sum(adder_luts(adder, width_bits(*reach)) for adder, reach in pairs)


def adder_luts(adder: Adder, width: int) -> int:
    """LUTs of an addition whose result has `width` bits: one for each bit in which both operands take part."""
    if adder.right == NOTHING:
        return max(1, width - (adder.offset & -adder.offset).bit_length() + 1)
    # Bits below the higher operand's lowest one pass through, unless they are negated.
    free = adder.right_shift
    if adder.left_shift and not adder.subtract:
        free = max(free, adder.left_shift)
    return max(1, width - free - 1)  # the carry out is the highest bit


def adder_graph_matrix(graph: AdderGraph) -> Array:
    """Return the matrix [inputs, outputs] the adder graph computes, by its linear form over exact integers.

    Raises ValueError when an output drops bits that are not zero.
    """
    matrix = np.zeros((graph.inputs, len(graph.outputs)), dtype=object)
    forms = graph.forms()
    for column, output in enumerate(graph.outputs):
        if output.value == NOTHING:
            continue
        for row, coefficient in forms[output.value].items():
            exact = Fraction(coefficient) * Fraction(2) ** output.shift
            if exact.denominator != 1:
                raise ValueError(f"adder graph: output {column} drops bits of input {row}")
            matrix[row, column] = -int(exact) if output.negative else int(exact)
    return matrix


def nonzero_digits(weight: Array) -> int:
    """Nonzero digits of all weights in canonical signed-digit form: the additions without sharing."""
    weight = exact_array(weight)
    if weight.dtype != object and weight.size and -MOST_COUNTED < weight.min() and weight.max() < MOST_COUNTED:
        size = np.abs(weight.astype(np.int64))
        return int(np.bitwise_count((3 * size) ^ size).sum())
    return sum((3 * abs(int(w)) ^ abs(int(w))).bit_count() for w in weight.ravel())
