"""Formats chosen from calibration events, shared by quantization after training and exact lowering."""

from __future__ import annotations

from dataclasses import dataclass

from metronn.ir.infer import aligned_bounds
from metronn.ir.ops import Lookup, Overflow, Requantize, Rounding
from metronn.ir.types import Range, width_bits
from metronn.model.graph import Floats, FunctionKind, RealFunction
from metronn.quantize.calibrated.emitter import Emitter
from metronn.quantize.calibrated.functions.intervals import emit_split, plan_split
from metronn.quantize.calibrated.functions.tables import (
    TableChoice,
    choose_table,
    result_bounds,
    result_range,
    table_domain,
    table_entries,
)
from metronn.quantize.calibrated.functions.wide import Argument, Map, is_factor, is_wide, wide_table
from metronn.quantize.options import Settings
from metronn.quantize.widths import INT64_BITS

FINEST_TABLE_ERROR = 2.0**-10
"""Default bound on a table's error where its result has a finer step than that."""
CURVED = frozenset((FunctionKind.LOG, FunctionKind.EXP))
"""Functions so steep at one end that one step may need too many entries, beside the factors."""
SPLIT_TABLES = 4
"""A sum of tables may have this many times as many entries as one table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatTable:
    """A function as a table or a sum of tables: its value, requantizations that may saturate, entries, largest error.

    The tables of a sum saturate by design, each at the ends of its interval; these are not named.
    """

    value: str
    requantize: str | None
    entries: int
    max_error: float


def float_table(
    emitter: Emitter,
    x: str,
    op: RealFunction,
    settings: Settings,
    *,
    table_bits: int,
    bits: int,
    name: str,
    source: str,
    argument: Argument | None = None,
) -> FloatTable:
    """Emit a function of `x` with results of `bits`, made for what calibration saw.

    It is one table, with its step and its error relative to the largest result; where the arguments span decades
    (`is_wide`), or an exponential or logarithm needs more than 2**table_bits entries, a sum of tables. That one reads
    the value of `argument` instead of `x`, if it is given and never negative in calibration.
    """
    values = emitter.real(x)
    wide = is_wide(op, values)
    if not wide:
        made = _one_table(emitter, x, op, settings, table_bits=table_bits, bits=bits)
        if made.choice.max_error <= made.allowed or not (is_factor(op) or op.kind in CURVED):
            return made.emit(emitter, x, op, name, source)
    allowed = settings.table_max_error
    if allowed is None:
        allowed = max(2.0 ** -(bits + 1), FINEST_TABLE_ERROR)
    of: Map = _same
    if argument is not None and (inner := emitter.real(argument.value)).min() >= 0:
        x, values, of = argument.value, inner, argument.of
    x = _narrow_enough(emitter, x, name, source)
    wanted = wide_table(op, of, values, emitter.type_of(x), bits=bits, max_error=allowed)
    limit = SPLIT_TABLES << table_bits
    split = plan_split(wanted.function, wanted.lo, wanted.hi, wanted.tolerance, wanted.frac, limit)
    value, entries = emit_split(emitter, x, split, name, source)
    return FloatTable(value=value, requantize=None, entries=entries, max_error=split.max_error)


def _same(x: Floats) -> Floats:
    return x


def _narrow_enough(emitter: Emitter, x: str, name: str, source: str) -> str:
    """Drop low bits of codes too wide for `plan_split`."""
    codes = emitter.type_of(x).range
    lo, hi = aligned_bounds(emitter.type_of(x), codes.max_frac)
    drop = width_bits(int(lo.min()), int(hi.max())) - INT64_BITS + 1
    if drop <= 0:
        return x
    bounds = (int(lo.min()) >> drop, (int(hi.max()) >> drop) + 1)
    out = Range(*bounds, codes.max_frac - drop)
    return emitter.add(Requantize(x=x, out=out, overflow=Overflow.SAT), f"{name}.high", source)


@dataclass(frozen=True, slots=True, kw_only=True)
class _OneTable:
    """One table for a function, chosen but not emitted."""

    choice: TableChoice
    allowed: float
    out: Range
    domain: tuple[float, float]
    bounds: tuple[float, float]

    def emit(self, emitter: Emitter, x: str, op: RealFunction, name: str, source: str) -> FloatTable:
        """Emit the requantization of x, where it needs one, and the table."""
        codes, grid = emitter.type_of(x).range, self.choice.range
        requantize = None
        if codes.frac != grid.frac or codes.lowest < grid.lowest or codes.highest > grid.highest:
            quantizer = Requantize(x=x, out=grid, rounding=Rounding.RND, overflow=Overflow.SAT)
            x = requantize = emitter.add(quantizer, f"{name}.in", source)
        table = table_entries(op, emitter.type_of(x), *self.domain, self.bounds, self.out)
        value = emitter.add(Lookup(x=x, table=table, frac=self.out.max_frac), name, source)
        entries = len(table.ints())
        return FloatTable(value=value, requantize=requantize, entries=entries, max_error=self.choice.max_error)


def _one_table(
    emitter: Emitter, x: str, op: RealFunction, settings: Settings, *, table_bits: int, bits: int
) -> _OneTable:
    codes = emitter.type_of(x).range
    values = emitter.real(x)
    lo, hi = table_domain(op, values, *(float(bound) for bound in codes.value_bounds()))
    bounds = result_bounds(op, lo, hi, values)
    out = result_range(op, bounds, bits)
    largest = max(map(abs, bounds)) or 1.0
    allowed = settings.table_max_error
    if allowed is None:
        allowed = max(2.0 ** -(out.max_frac + 1) / largest, FINEST_TABLE_ERROR)
    choice = choose_table(op, lo, hi, bounds, allowed * largest, table_bits)
    return _OneTable(choice=choice, allowed=allowed * largest, out=out, domain=(lo, hi), bounds=bounds)
