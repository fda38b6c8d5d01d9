"""What an output slot takes in which beat: bits that two counters, of rows and of columns of the beats, decide.

Every choice comes down to bits with a value for each beat: whether a slot holds an element or the padding, and the
number of the source it takes. A bit that is a row's and a column's (inside the image when both are) costs two small
ROMs; equal bits are made once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from metronn.plan.hardware.fabric import Fabric
from metronn.plan.hardware.resources import Resources
from metronn.plan.kernels.waiting.taps import PADDING, UNUSED

Index = npt.NDArray[np.int64]
Values = npt.NDArray[np.int8]

FREE = -1
"""Value of a bit in a beat in which it does not matter."""


@dataclass(frozen=True, slots=True)
class Bit:
    """`rows[r]` and `columns[c]` in beat r * columns + c; or, when not `both`, one or the other. Empty: not asked."""

    rows: tuple[bool, ...]
    columns: tuple[bool, ...]
    both: bool


@dataclass(frozen=True, slots=True)
class Column:
    """How an output slot is chosen: numbers of the bit that keeps the element (None: always), and of its source."""

    sources: int
    keep: int | None
    pick: tuple[int, ...]

    def luts(self, fabric: Fabric) -> int:
        """LUTs for each bit of the slot; padding instead of one source is a reset of the register."""
        return fabric.mux_luts(self.sources + int(self.keep is not None and self.sources > 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """`rows` times `columns` beats; `bits` that differ from beat to beat; a Column for each output slot."""

    rows: int
    columns_count: int
    bits: tuple[Bit, ...]
    columns: tuple[Column, ...]


def choices_of(sources: Sequence[Sequence[object]], select: Index, fabric: Fabric) -> Choices:
    """Return the bits; `select[beat, slot]` is the number of a source, PADDING or UNUSED."""
    found: dict[bytes, int] = {}
    arrays: list[Values] = []

    def bit(values: Values) -> int:
        number = found.setdefault(values.tobytes(), len(found))
        if number == len(arrays):
            arrays.append(values)
        return number

    columns = []
    for slot, held in enumerate(sources):
        taken = select[:, slot]
        keep = None
        if (taken == PADDING).any() and held:
            keep = bit(np.where(taken == UNUSED, FREE, taken >= 0).astype(np.int8))
        pick = (
            [
                bit(np.where(taken < 0, FREE, taken >> k & 1).astype(np.int8))
                for k in range((len(held) - 1).bit_length())
            ]
            if len(held) > 1
            else []
        )
        columns.append(Column(len(held), keep, tuple(pick)))
    beats = len(select)
    best, least = None, float("inf")
    for rows in range(1, beats + 1):
        if beats % rows or not arrays:
            continue
        bits = [_bit(values.reshape(rows, -1)) for values in arrays]
        score = _luts(bits, fabric) + 2 * (rows.bit_length() + (beats // rows).bit_length())
        if score < least:
            best, least = (rows, bits), score
    if best is None:
        return Choices(rows=1, columns_count=beats, bits=(), columns=tuple(columns))
    return _shared(best[0], beats // best[0], best[1], columns)


def _shared(rows: int, count: int, bits: Sequence[Bit], columns: Sequence[Column]) -> Choices:
    """Make each bit once, though other beats in which it does not matter told them apart."""
    unique = {bit: number for number, bit in enumerate(dict.fromkeys(bits))}
    moved = [unique[bit] for bit in bits]
    renamed = [
        Column(c.sources, None if c.keep is None else moved[c.keep], tuple(moved[k] for k in c.pick)) for c in columns
    ]
    return Choices(rows=rows, columns_count=count, bits=tuple(unique), columns=tuple(renamed))


def _bit(grid: Values) -> Bit:
    """Return the cheapest form of a bit over [row, column]."""
    zero, one = grid == 0, grid == 1
    row_zero, row_one = zero.any(axis=1), one.any(axis=1)
    column_zero, column_one = zero.any(axis=0), one.any(axis=0)
    if not (row_zero & row_one).any():
        return Bit(_flags(row_one), (), both=True)
    if not (column_zero & column_one).any():
        return Bit((), _flags(column_one), both=True)
    if not (zero & row_one[:, None] & column_one).any():
        return Bit(_flags(row_one), _flags(column_one), both=True)
    if not (one & row_zero[:, None] & column_zero).any():
        return Bit(_flags(~row_zero), _flags(~column_zero), both=False)
    if grid.shape[1] == 1:
        raise AssertionError("a bit of one column is a row's")
    return Bit((), _flags(one.ravel()), both=True)


def _flags(values: npt.NDArray[np.bool_]) -> tuple[bool, ...]:
    return tuple(values.tolist())


def _luts(bits: Sequence[Bit], fabric: Fabric) -> int:
    """LUTs of the ROMs, equal ones made once, and of the gates that join them."""
    roms = {("row", bit.rows) for bit in bits} | {("column", bit.columns) for bit in bits}
    gates = len({bit for bit in bits if bit.rows and bit.columns})
    return sum(fabric.rom_luts(len(flags)) for _, flags in roms) + gates


def choices_resources(choices: Choices, fabric: Fabric, *, ahead: bool) -> Resources:
    """Counters, ROMs, and a register for each bit when the choice is made a cycle before it is used."""
    if not choices.bits:
        return Resources()
    counters = (choices.rows - 1).bit_length() + (choices.columns_count - 1).bit_length()
    held = len(choices.bits) if ahead else 0
    return Resources(lut=_luts(choices.bits, fabric) + counters + 3, ff=counters + held)
