"""Formats chosen from calibration events, shared by quantization after training and exact lowering."""

from __future__ import annotations

from dataclasses import dataclass

from metronn.ir.ops import Lookup, Overflow, Requantize, Rounding
from metronn.ir.types import Range
from metronn.model.graph import Floats, RealFunction, RealNode
from metronn.quantize.emitter import Emitter
from metronn.quantize.fixed import covering_frac, exact_grid
from metronn.quantize.options import InputOptions, QuantizeOptions, Settings
from metronn.quantize.tables import choose_table, result_bounds, result_range, table_domain, table_entries

INPUT_BITS = 16
"""Widest automatic input."""
FINEST_TABLE_ERROR = 2.0**-10
"""Default bound on a table's error where its result has a finer step than that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatTable:
    """A function as a table: its value, the requantization of its input if there is one, entries, largest error."""

    value: str
    requantize: str | None
    entries: int
    max_error: float


def input_range(node: RealNode, values: Floats, options: QuantizeOptions) -> Range:
    """Return the range of an input: as the options say, else the exact grid of its values, else 16 bits."""
    chosen = options.inputs.get(node.name)
    if chosen is None and isinstance(options.input, InputOptions):
        chosen = options.input
    if chosen is None:
        grid = exact_grid(values, INPUT_BITS)
        if grid is not None:
            return grid
        chosen = InputOptions(bits=INPUT_BITS)
    lo, hi = float(values.min()), float(values.max())
    frac = covering_frac(lo, hi, chosen.bits, signed=lo < 0) if chosen.frac is None else chosen.frac
    return Range.fixed(chosen.bits, frac, signed=lo < 0)


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
) -> FloatTable:
    """Emit a function of `x` as a table with results of `bits`, made for what calibration saw."""
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
    grid = choice.range
    requantize = None
    if codes.frac != grid.frac or codes.lowest < grid.lowest or codes.highest > grid.highest:
        quantizer = Requantize(x=x, out=grid, rounding=Rounding.RND, overflow=Overflow.SAT)
        x = requantize = emitter.add(quantizer, f"{name}.in", source)
    table = table_entries(op, emitter.type_of(x), lo, hi, bounds, out)
    value = emitter.add(Lookup(x=x, table=table, frac=out.max_frac), name, source)
    return FloatTable(value=value, requantize=requantize, entries=len(table.ints()), max_error=choice.max_error)
