"""What an unrolled constant matrix costs, from its digits and the bits of its inputs: no adder graph is solved.

The matrix is laid out as one tree of additions for each output, with no sum shared: exact widths, milliseconds. What
sharing saves of it, and what biases cost beside, is fitted to solved graphs (`plan.kernels.unrolled_cost`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from metronn.ir.arrays import Array, exact_array

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trees:
    """Trees of additions, one for each output, no sum shared.

    `luts` of all additions; `bits` alive behind every level, from the inputs' digits to the sums; `weights` and
    `digits` that are not zero; `inputs` that are read, and their bits; `outputs` that read any; `most`: digits of one
    output.
    """

    luts: int
    bits: tuple[int, ...]
    weights: int
    digits: int
    inputs: int
    input_bits: int
    outputs: int
    most: int


def trees(weight: Array, bounds: Sequence[tuple[int, int]]) -> Trees:
    """Lay out an integer matrix [n_in, n_out] whose inputs have these code bounds.

    Terms of an output are added in the order of their lowest bits, neighbours first.
    """
    spans = np.array([float(hi - lo) for lo, hi in bounds])
    row, column, low = _digits(np.where((spans > 0)[:, None], weight, 0))
    order = np.lexsort((row, low, column))
    column, low, span = column[order], low[order], np.ldexp(spans[row[order]], low[order])
    read = np.unique(row)
    counts = np.bincount(column) if column.size else np.zeros(1, dtype=np.int64)
    luts, bits = 0, [int(_widths(low, span).sum())]
    while column.size and np.bincount(column).max() > 1:
        starts = np.searchsorted(column, column)
        first = np.flatnonzero((np.arange(column.size) - starts) % 2 == 0)
        following = np.minimum(first + 1, column.size - 1)
        paired = (following > first) & (column[following] == column[first])
        total = span[first] + np.where(paired, span[following], 0.0)
        lowest = np.where(paired, np.minimum(low[first], low[following]), low[first])
        alone = np.where(paired, np.abs(low[first] - low[following]), 0)
        luts += int(np.maximum(1, _widths(lowest, total) - alone - 1)[paired].sum())
        column, low, span = column[first], lowest, total
        bits.append(int(_widths(low, span).sum()))
    return Trees(
        luts=luts,
        bits=tuple(bits),
        weights=int((weight != 0)[spans > 0].sum()),
        digits=int(row.size),
        inputs=int(read.size),
        input_bits=int(np.frexp(spans[read])[1].sum()),
        outputs=int((counts > 0).sum()),
        most=int(counts.max()),
    )


def most_digits(weight: Array) -> int:
    """Return the nonzero digits of the output [n_in, n_out] that has most of them."""
    _, columns, _ = _digits(weight)
    return int(np.bincount(columns).max()) if columns.size else 0


def _digits(weight: Array) -> tuple[Numbers, Numbers, Numbers]:
    """Return row, column and place of every nonzero digit in canonical signed-digit form."""
    size = np.abs(exact_array(weight))
    longest = int(size.max()).bit_length() if size.size else 0
    if longest >= 60:
        size = size.astype(object)
    marks = (3 * size) ^ size
    found = [np.nonzero((marks >> (place + 1)) & 1) for place in range(longest + 1)]
    places = [np.full(rows.size, place, dtype=np.int64) for place, (rows, _) in enumerate(found)]
    rows, columns = ([part[axis] for part in found] for axis in (0, 1))
    return np.concatenate(rows), np.concatenate(columns), np.concatenate(places)


def _widths(low: Numbers, span: Floats) -> Numbers:
    return np.asarray(np.frexp(span)[1].astype(np.int64) - low)
