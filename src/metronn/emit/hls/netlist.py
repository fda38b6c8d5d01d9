"""A planned netlist of additions as straight-line C++: one statement for each cell, in functions of bounded size.

A value is a native integer, cut to the bits of its cell (`metronn/adders.hpp`), or one of the vendor's where it does
not fit 64 bits. Cells stand in the order in which the outputs, one after another, need them, so that most are read in
the function that makes them. What another function reads goes through an array of exactly its width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import assert_never

from metronn.emit.hls.values import literal, stored_type
from metronn.ir.types import width_bits
from metronn.plan.kernels.netlist import (
    Affine,
    Cell,
    CellOp,
    ConstantCell,
    EpilogueCell,
    Keep,
    Netlist,
    Pick,
    Source,
    Sum,
    cell_reads,
)

PART_CELLS = 500
"""Cells of one function at most."""

NATIVE = ((31, "int"), (63, "metronn::long_t"))
"""Bits, the sign among them, of numbers that are computed in a native type."""


@dataclass(frozen=True, slots=True)
class Part:
    """One function: its parameters by name with their text, and its statements."""

    parameters: Mapping[str, str]
    statements: Sequence[str]


@dataclass(frozen=True, slots=True)
class StraightLine:
    """A netlist, or one row of it, as functions that are called in order.

    `arrays`: what goes from one to another, name and type with size. `sums`: outputs whose sum is made for an epilogue
    that follows. `done`: those that are made wholly.
    """

    parts: tuple[Part, ...]
    arrays: Mapping[str, tuple[str, int]]
    sums: tuple[int, ...]
    done: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Ports:
    """C++ types of the elements of input, sums and results."""

    x: str
    sums: str
    y: str


def rows_of(netlist: Netlist, rows: int, n_in: int) -> tuple[Netlist, int]:
    """Return the netlist of one row where all rows are the same, and how many there are of it; else all as one."""
    if rows == 1:
        return netlist, 1
    width = len(netlist.results) // rows
    found = [
        _alone(netlist, netlist.results[row * width : (row + 1) * width], row * n_in, row * width)
        for row in range(rows)
    ]
    nameless = [(tuple(replace(cell, name="") for cell in one.cells), one.results) for one in found]
    return (found[0], rows) if all(one == nameless[0] for one in nameless) else (netlist, 1)


def _alone(netlist: Netlist, results: Sequence[int], first_in: int, first_out: int) -> Netlist:
    """Return the cells of some results, whose inputs and outputs are counted from the first ones on."""
    order = needed(netlist, results)
    place = {cell: number for number, cell in enumerate(order)}
    cells = tuple(_moved(netlist.cells[k], place, first_in, first_out) for k in order)
    return Netlist(cells=cells, results=tuple(place[k] for k in results))


def _moved(cell: Cell, place: Mapping[int, int], first_in: int, first_out: int) -> Cell:
    op: CellOp = cell.op
    match op:
        case Source():
            op = replace(op, element=op.element - first_in)
        case Sum() | Pick():
            op = replace(op, left=place[op.left], right=place[op.right])
        case Affine() | Keep():
            op = replace(op, cell=place[op.cell])
        case ConstantCell():
            pass
        case EpilogueCell():
            op = replace(op, element=op.element - first_out, reads=tuple((v, place[c]) for v, c in op.reads))
        case _:
            assert_never(op)
    return replace(cell, op=op)


def needed(netlist: Netlist, results: Sequence[int]) -> list[int]:
    """Return the cells that the results depend on, in the order in which one after another needs them."""
    order: list[int] = []
    known: set[int] = set()
    for result in results:
        waiting = [result]
        while waiting:
            k = waiting[-1]
            first = [read for read in cell_reads(netlist.cells[k].op) if read not in known]
            if first and k not in known:
                waiting += reversed(first)
                continue
            waiting.pop()
            if k not in known:
                known.add(k)
                order.append(k)
    return order


def straight_line(netlist: Netlist, linear: str, ports: Ports, part_cells: int = PART_CELLS) -> StraightLine:
    """Return a netlist as functions: parameters are x_, sum_ and y_, flat, and arrays of their own.

    `linear` is the value of sums whose epilogue is none of the netlist's cells.
    """
    return _Writer(netlist, linear, ports, part_cells).write()


class _Writer:
    """Writes one netlist."""

    def __init__(self, netlist: Netlist, linear: str, ports: Ports, part_cells: int) -> None:
        """Decide which function makes each cell, and what goes from one to another."""
        self.cells, self.ports = netlist.cells, ports
        self.leaving: dict[int, list[str]] = {}
        self.sums: list[int] = []
        self.done: list[int] = []
        roots = []
        for element, result in enumerate(netlist.results):
            root, target = result, f"y_[{element}]"
            if isinstance(self.cells[root].op, EpilogueCell):
                root, target = self._sum_of(root, linear), f"sum_[{element}]"
                self.sums.append(element)
            else:
                self.done.append(element)
            roots.append(root)
            self.leaving.setdefault(root, []).append(target)
        order = [k for k in needed(netlist, roots) if not isinstance(self.cells[k].op, Source)]
        self.parts = [order[first : first + part_cells] for first in range(0, len(order), part_cells)] or [[]]
        self.part_of = {k: number for number, part in enumerate(self.parts) for k in part}
        # an output that is an input: the first function hands it on
        self.passed = [root for root in self.leaving if isinstance(self.cells[root].op, Source)]
        self.arrays: dict[str, tuple[str, int]] = {}
        self.slots: dict[int, tuple[str, int]] = {}
        for k in order:
            for read in cell_reads(self.cells[k].op):
                if self.part_of.get(read, self.part_of[k]) != self.part_of[k] and read not in self.slots:
                    self._slot(read)

    def _sum_of(self, result: int, linear: str) -> int:
        """Return the sum that an output's epilogue begins with."""
        waiting = [result]
        while waiting:
            op = self.cells[waiting.pop()].op
            if isinstance(op, EpilogueCell):
                for value, cell in op.reads:
                    if value == linear:
                        return cell
                    waiting.append(cell)
        raise AssertionError(f"cell {result}: an epilogue without {linear}")

    def _slot(self, k: int) -> None:
        cell = self.cells[k]
        name = f"{'s' if cell.lo < 0 else 'u'}{cell.width}_{self.part_of[k]}_"
        kind, count = self.arrays.get(name, (_vendor(cell), 0))
        self.arrays[name] = (kind, count + 1)
        self.slots[k] = (name, count)

    def write(self) -> StraightLine:
        """Return the functions."""
        parts = tuple(self._part(number) for number in range(len(self.parts)))
        return StraightLine(parts, self.arrays, tuple(self.sums), tuple(self.done))

    def _part(self, number: int) -> Part:
        statements: list[str] = []
        used: dict[str, str] = {}
        local: set[int] = set()

        def fetch(k: int) -> None:
            """Make a value known that this function does not make."""
            if k in local or self.part_of.get(k) == number:
                return
            local.add(k)
            cell = self.cells[k]
            if isinstance(cell.op, Source):
                used["x_"] = f"const {self.ports.x} x_[]"
                value = _cut(cell, _as(cell, f"x_[{cell.op.element}]"), _signed_bits(cell))
            else:
                array, slot = self.slots[k]
                used[array] = f"const {self.arrays[array][0]} {array}[{self.arrays[array][1]}]"
                value = _as(cell, f"{array}[{slot}]")
            statements.append(f"const {carrier(cell)} {cell.name} = {value};")

        def leave(k: int) -> None:
            for target in self.leaving.get(k, []):
                array = target.partition("[")[0]
                used[array] = f"{self.ports.y if array == 'y_' else self.ports.sums} {array}[]"
                statements.append(f"{target} = {self.cells[k].name};")

        if number == 0:
            for k in self.passed:
                fetch(k)
                leave(k)
        for k in self.parts[number]:
            cell = self.cells[k]
            for read in cell_reads(cell.op):
                fetch(read)
            statements.append(f"const {carrier(cell)} {cell.name} = {self._made(cell)};")
            if k in self.slots:
                array, slot = self.slots[k]
                used[array] = f"{self.arrays[array][0]} {array}[{self.arrays[array][1]}]"
                statements.append(f"{array}[{slot}] = {cell.name};")
            leave(k)
        ports = ("x_", "sum_", "y_")
        order = [*(name for name in ports[:1] if name in used), *(name for name in self.arrays if name in used)]
        order += [name for name in ports[1:] if name in used]
        return Part({name: used[name] for name in order}, statements)

    def _made(self, cell: Cell) -> str:
        """Text that makes a cell."""
        op = cell.op
        match op:
            case ConstantCell():
                bits = _signed(op.value, op.value)
                return _cut(
                    cell,
                    f"{_computed(bits)}({literal(op.value)})" if _computed(bits) else _literal(op.value, bits),
                    bits,
                )
            case Sum():
                left, right = self.cells[op.left], self.cells[op.right]
                bits = 1 + max(
                    _signed_bits(left) + op.left_shift,
                    _signed_bits(right) + op.right_shift,
                    _signed(op.offset, op.offset),
                    _signed_bits(cell),
                )
                text = (
                    f"{_term(left, op.left_shift, bits)} {'-' if op.subtract else '+'} "
                    f"{_term(right, op.right_shift, bits)}{_added(op.offset, bits)}"
                )
                return _cut(cell, text, bits)
            case Affine():
                source = self.cells[op.cell]
                bits = 1 + max(
                    _signed_bits(source) + max(0, op.shift), _signed(op.offset, op.offset), _signed_bits(cell)
                )
                sign = "-" if op.negative else ""
                return _cut(cell, f"{sign}{_term(source, op.shift, bits)}{_added(op.offset, bits)}", bits)
            case Keep():
                source = self.cells[op.cell]
                bits = max(_signed_bits(source) + max(0, -op.shift), _signed_bits(cell))
                text = _term(source, -op.shift, bits)
                if op.ramp and source.lo < 0:
                    text = f"{source.name} < 0 ? {_literal(0, bits)} : {_native(text, bits)}"
                return _cut(cell, text, bits)
            case Pick() | Source() | EpilogueCell():
                raise AssertionError(f"{cell.name}: no addition")
            case _:
                assert_never(op)


def carrier(cell: Cell) -> str:
    """C++ type of the variable that holds a cell."""
    return _computed(_signed_bits(cell)) or _vendor(cell)


def _computed(bits: int) -> str:
    """Native type of numbers of so many bits, empty where there is none."""
    return next((kind for most, kind in NATIVE if bits <= most), "")


def _vendor(cell: Cell) -> str:
    return f"metronn::{'sint' if cell.lo < 0 else 'uint'}<{cell.width}>"


def _signed(lo: int, hi: int) -> int:
    """Bits of [lo, hi], the sign bit always counted."""
    return width_bits(lo, hi) + (lo >= 0)


def _signed_bits(cell: Cell) -> int:
    return _signed(cell.lo, cell.hi)


def _as(cell: Cell, text: str) -> str:
    """Return one of the vendor's integers, of which a cell's bits count, as the cell's variable holds it."""
    match carrier(cell):
        case "int":
            return f"{text}.to_int()"
        case "metronn::long_t":
            return f"{text}.to_int64()"
        case kind:
            return f"{kind}({text})"


def _native(text: str, bits: int) -> str:
    """Return an expression in the type in which so many bits are computed."""
    return text if _computed(bits) else f"metronn::sint<{bits}>({text})"


def _term(cell: Cell, shift: int, bits: int) -> str:
    """Return a cell, shifted up, in the type in which so many bits are computed."""
    kind = _computed(bits) or f"metronn::sint<{bits}>"
    text = cell.name if carrier(cell) == kind else f"{kind}({cell.name})"
    return f"({text} {'<<' if shift > 0 else '>>'} {abs(shift)})" if shift else text


def _literal(value: int, bits: int) -> str:
    if _computed(bits) and stored_type(value, value).startswith("std"):
        return f"({literal(value)})" if value < 0 else literal(value)
    return f"metronn::constant<metronn::sint<{bits}> >({literal(value)})"


def _added(offset: int, bits: int) -> str:
    if not offset:
        return ""
    return f" {'-' if offset < 0 else '+'} {_literal(abs(offset), bits)}"


def _cut(cell: Cell, text: str, bits: int) -> str:
    """Return an expression, computed in so many bits, cut to those of a cell."""
    kind, computed = carrier(cell), _computed(bits)
    if kind != _vendor(cell):
        if not computed:
            return _as(cell, f"{_vendor(cell)}({text})")
        if kind != computed:
            text = f"{kind}({text})"
        return f"metronn::{'signed' if cell.lo < 0 else 'unsigned'}_bits<{cell.width}>({text})"
    return f"{kind}({text})"
