"""A function as a sum of tables over neighbouring intervals, each with a step of its own.

One table has one step: over a variance that spans decades it is either too coarse at the low end or too long. With
edges b_0 < b_1 < ... the function is f(x) = f(clip(x, b_0, b_1)) + sum over k of f(clip(x, b_k, b_k+1)) - f(b_k).
A summand is `Requantize` (saturating, to the step and the bounds of its interval) and `Lookup`. Entries are differences
of rounded values, so that intervals which x has passed add up to the rounded f at their end exactly.

Codes are rounded down; a cell is the codes of x that share one entry, the entry the middle of the function's values at
the cell's first and last code. Functions must be monotone between neighbouring powers of two of x's codes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from metronn.ir.arrays import Array, IntArray
from metronn.ir.ops import Add, Lookup, Overflow, Requantize, Rounding
from metronn.ir.types import Range, width_bits
from metronn.model.graph import Floats
from metronn.quantize.calibrated.emitter import Emitter
from metronn.quantize.widths import INT64_BITS

CodeFunction = Callable[[Array], Floats]
"""Codes of x (int64) to values of the function."""

ADDRESS_BITS = (4, 5, 6, 7, 8, 9, 10)
"""Sizes of a summand's table that are tried; larger ones would be block RAM."""
SUMMAND_LUTS = 60
"""What a summand costs beside its entries: saturation, its part of the sum, a register."""
LUT_ENTRIES = 64
"""Entries of one bit in one LUT."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """How far entries may be off: `relative` of the function's value, `absolute` where that is more."""

    relative: float = 0.0
    absolute: float = 0.0

    def doubled(self) -> Tolerance:
        """Return twice the tolerance."""
        return Tolerance(relative=2 * self.relative, absolute=2 * self.absolute)


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Codes c = floor(x / 2**shift) from `lo`; `entries[c - lo]` is this interval's summand."""

    shift: int
    lo: int
    entries: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Segments in the order of x, the exponent of their entries, the largest error, rounding of entries included."""

    segments: tuple[Segment, ...]
    frac: int
    max_error: float

    @property
    def entries(self) -> int:
        """Count the entries of all tables."""
        return sum(len(segment.entries) for segment in self.segments)


@dataclass(frozen=True, slots=True)
class _Run:
    """Neighbouring codes [start, end) that need cells of at most 2**shift codes."""

    start: int
    end: int
    shift: int


def plan_split(function: CodeFunction, lo: int, hi: int, tolerance: Tolerance, frac: int, max_entries: int) -> Split:
    """Split the function of codes in [lo, hi] into the tables that cost least; codes beyond read the nearer end.

    Where more than `max_entries` entries would be needed in all, the tolerance is doubled until they suffice.
    """
    if max(abs(lo), abs(hi)) >> INT64_BITS:
        raise AssertionError(f"codes {lo}..{hi} are too wide for a table")
    half = math.ldexp(1.0, -frac - 1)
    while True:
        runs = _runs(function, lo, hi, Tolerance(relative=tolerance.relative, absolute=max(half, tolerance.absolute)))
        plans = [_cut(runs, bits) for bits in ADDRESS_BITS]
        cuts = min(plans, key=_luts)
        if sum(count + 1 for _, count, _ in cuts) <= max_entries:
            return _entries(function, lo, hi, cuts, frac)
        tolerance = tolerance.doubled()


def _runs(function: CodeFunction, lo: int, hi: int, tolerance: Tolerance) -> list[_Run]:
    """Halve cells until the function changes by at most twice the tolerance in each; join equal neighbours."""
    shift = max(hi - lo, 1).bit_length()
    cells: Array = np.arange(lo >> shift, (hi >> shift) + 1, dtype=np.int64)
    starts, shifts = [], []
    while cells.size:
        first, last = np.maximum(cells << shift, lo), np.minimum(((cells + 1) << shift) - 1, hi)
        at_first, at_last = function(first), function(last)
        smaller = np.minimum(np.abs(at_first), np.abs(at_last))
        allowed = np.maximum(tolerance.absolute, tolerance.relative * smaller)
        fine = (np.abs(at_first - at_last) <= 2 * allowed) & ((first >= 0) | (last < 0))
        fine = fine | (shift == 0)
        starts.append(cells[fine] << shift)
        shifts.append(np.full(int(fine.sum()), shift, dtype=np.int64))
        halves = cells[~fine]
        shift -= 1
        cells = np.stack([2 * halves, 2 * halves + 1], axis=-1).ravel()
        cells = cells[(((cells + 1) << max(shift, 0)) - 1 >= lo) & ((cells << max(shift, 0)) <= hi)]
    start, own = np.concatenate(starts), np.concatenate(shifts)
    order = np.argsort(start, kind="stable")
    start, own = start[order], own[order]
    edges = np.flatnonzero(np.concatenate([[True], own[1:] != own[:-1]]))
    runs = [_Run(int(start[e]), 0, int(own[e])) for e in edges]
    ends = [run.start for run in runs[1:]] + [int(start[-1]) + (1 << int(own[-1]))]
    return [_Run(run.start, end, run.shift) for run, end in zip(runs, ends, strict=True)]


def _cut(runs: list[_Run], bits: int) -> list[tuple[int, int, int]]:
    """Cut the runs into pieces (start, cells, shift) of less than 2**bits cells, each as long as it can be."""
    position, stop = runs[0].start, runs[-1].end
    pieces: list[tuple[int, int, int]] = []
    while position < stop:
        count = (1 << bits) - 1 if pieces else 1 << bits
        best_end, best_shift = position, 0
        for shift in sorted({run.shift for run in runs}):
            if position % (1 << shift):
                continue
            end = min(position + (count << shift), _reach(runs, position, shift))
            if end > best_end or (end >= best_end and end == stop):
                best_end, best_shift = end, shift
        if best_end == position:  # every run here needs cells finer than the alignment of the others
            best_shift = _at(runs, position).shift
            best_shift = min(best_shift, (position & -position).bit_length() - 1) if position else best_shift
            best_end = min(position + (count << best_shift), _reach(runs, position, best_shift))
        if best_end < stop:  # the next piece begins on a multiple of its cells
            step = 1 << _at(runs, best_end).shift
            aligned = best_end // step * step
            if aligned > position:
                best_end = aligned
        pieces.append((position, (best_end - position) >> best_shift, best_shift))
        position = best_end
    return pieces


def _at(runs: list[_Run], position: int) -> _Run:
    return next(run for run in runs if run.start <= position < run.end)


def _reach(runs: list[_Run], position: int, shift: int) -> int:
    """Return how far cells of 2**shift codes serve from here."""
    end = position
    for run in runs:
        if run.end <= position:
            continue
        if run.shift < shift:
            break
        end = run.end
    return end


def _luts(pieces: list[tuple[int, int, int]]) -> int:
    """Estimate what the tables cost, in LUTs, per 20 bits of result."""
    codes = [count + (place > 0) for place, (_, count, _) in enumerate(pieces)]
    tables = [max(1, (1 << (n - 1).bit_length()) // LUT_ENTRIES) for n in codes]
    return 20 * sum(tables) + SUMMAND_LUTS * len(pieces)


def _entries(function: CodeFunction, lo: int, hi: int, pieces: list[tuple[int, int, int]], frac: int) -> Split:
    segments: list[Segment] = []
    before, error = 0, 0.0
    for position, count, shift in pieces:
        cell: Array = (position >> shift) + np.arange(count, dtype=np.int64)
        first, last = np.clip(cell << shift, lo, hi), np.clip(((cell + 1) << shift) - 1, lo, hi)
        at_first, at_last = function(first), function(last)
        rounded = np.floor(np.ldexp((at_first + at_last) / 2, frac) + 0.5)
        middle = np.ldexp(rounded, -frac)
        error = max(error, float(np.maximum(np.abs(middle - at_first), np.abs(middle - at_last)).max()))
        own = [int(value) - before for value in rounded.tolist()]
        below = [0] if segments else []
        segments.append(Segment(shift=shift, lo=int(cell[0]) - len(below), entries=(*below, *own)))
        before = int(rounded[-1])
    return Split(segments=tuple(segments), frac=frac, max_error=error)


def emit_split(emitter: Emitter, x: str, split: Split, name: str, source: str) -> tuple[str, int]:
    """Emit the tables and their sum, for the codes of x in its finest frac; returns the sum and the tables' entries.

    A sum whose bounds add up to more than its values reach is cut to these: the bits above them are copies.
    """
    frac = emitter.type_of(x).range.max_frac
    terms, entries = [], 0
    for position, segment in enumerate(split.segments):
        part = name if len(split.segments) == 1 else f"{name}.part{position}"
        code = _clipped(emitter, x, segment, frac, part, source)
        lookup = _lookup(emitter, code, segment, split.frac, part, source)
        entries += len(lookup.table.ints())
        terms.append(emitter.add(lookup, part, source))
    while len(terms) > 1:
        pairs = [
            emitter.add(Add(x=a, y=b), name if len(terms) == 2 else f"{name}.sum", source)
            for a, b in zip(terms[::2], terms[1::2], strict=False)
        ]
        terms = pairs + terms[2 * len(pairs) :]
    lo, hi = _reached(split)
    bounds = emitter.type_of(terms[0]).range
    width = width_bits(lo, hi)
    if bounds.width_bits <= width:
        return terms[0], entries
    out = Range.fixed(width, split.frac, signed=lo < 0)
    narrow = Requantize(x=terms[0], out=out, rounding=Rounding.TRN, overflow=Overflow.WRAP)
    return emitter.add(narrow, f"{name}.cut", source), entries


def _reached(split: Split) -> tuple[int, int]:
    """Return the least and largest sum there is."""
    low, high, base = math.inf, -math.inf, 0
    for segment in split.segments:
        low, high = min(low, base + min(segment.entries)), max(high, base + max(segment.entries))
        base += segment.entries[-1]
    return int(low), int(high)


def _clipped(emitter: Emitter, x: str, segment: Segment, frac: int, name: str, source: str) -> str:
    """Return x rounded down to cells and held between the first and the last of the segment."""
    last = segment.lo + len(segment.entries) - 1
    out = Range(segment.lo, last, frac - segment.shift)
    return emitter.add(Requantize(x=x, out=out, rounding=Rounding.TRN, overflow=Overflow.SAT), f"{name}.in", source)


def _lookup(emitter: Emitter, code: str, segment: Segment, frac: int, name: str, source: str) -> Lookup:
    """Return the summand's table, addressed with the low bits of the code, which tell its cells apart."""
    kind = emitter.type_of(code).range
    first, last = kind.lowest, kind.highest
    entries = list(segment.entries[first - segment.lo : last - segment.lo + 1])
    bits = max(1, (last - first).bit_length())
    if bits < kind.width_bits:
        low = Range.fixed(bits, kind.max_frac, signed=False)
        code = emitter.add(
            Requantize(x=code, out=low, rounding=Rounding.TRN, overflow=Overflow.WRAP), f"{name}.address", source
        )
        table = [entries[-1]] * (1 << bits)
        for place, entry in enumerate(entries, first):
            table[place % (1 << bits)] = entry
        kind = emitter.type_of(code).range
        entries = table[kind.lowest : kind.highest + 1]
    # One array of machine integers: entries have at most 27 bits.
    values = IntArray.of(np.array(entries, dtype=np.int64))
    return Lookup(x=code, table=values, frac=frac)
