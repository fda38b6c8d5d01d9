"""Pipelined netlists of scalar cells: what unrolled kernels (adder graphs, reductions) are planned as.

Each cell makes one number in one stage from cells of the same or earlier stages. A cell read in a later stage passes
through one register per stage between; results pass through the register at the end of the last stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from metronn.ir.types import width_bits
from metronn.plan.hardware.fabric import Fabric
from metronn.plan.hardware.resources import Resources
from metronn.plan.hardware.timing import Span, StagePath, Timing, slower
from metronn.plan.kernels.adder_graph import Adder, adder_luts


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Element `element` of input port `port`."""

    port: int
    element: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum:
    """(left << left_shift) + (right << right_shift), or their difference, of codes; and a constant beside."""

    left: int
    right: int
    left_shift: int = 0
    right_shift: int = 0
    subtract: bool = False
    offset: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Affine:
    """offset + or - (cell << shift); a negative shift drops bits that are zero."""

    cell: int
    shift: int
    negative: bool
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """The bits of (cell >> shift) that the result has room for; 0 where the cell is negative and `ramp` is set.

    A negative shift is one to the left. Bits above the result's are dropped: it wraps.
    """

    cell: int
    shift: int
    ramp: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ConstantCell:
    """A constant."""

    value: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """The larger (or smaller) of (left << left_shift) and (right << right_shift)."""

    left: int
    right: int
    left_shift: int = 0
    right_shift: int = 0
    largest: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class EpilogueCell:
    """Elementwise nodes of the netlist's epilogue graph, for element `element` of the last one.

    `reads` pairs each value that enters with the cell that holds it.
    """

    nodes: tuple[str, ...]
    element: int
    reads: tuple[tuple[str, int], ...]


CellOp = Source | Sum | Affine | Keep | ConstantCell | Pick | EpilogueCell


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One number: its name, how it is made, its exact code bounds, and when.

    `ready_ps`: from the beginning of its stage until it is there; `end_ps`: from there to a register.
    """

    name: str
    op: CellOp
    lo: int
    hi: int
    stage: int
    ready_ps: int
    end_ps: int = 0

    @property
    def width(self) -> int:
        """Bits of the cell."""
        return width_bits(self.lo, self.hi)


def cell_reads(op: CellOp) -> tuple[int, ...]:
    """Return the cells an op reads."""
    match op:
        case Source() | ConstantCell():
            return ()
        case Sum() | Pick():
            return (op.left, op.right)
        case Affine() | Keep():
            return (op.cell,)
        case EpilogueCell():
            return tuple(cell for _, cell in op.reads)


@dataclass(frozen=True, slots=True, kw_only=True)
class Netlist:
    """Cells in topological order and the cells that are the results, in the order of the output's elements."""

    cells: tuple[Cell, ...]
    results: tuple[int, ...]

    @property
    def stage_count(self) -> int:
        """Stages, each ending in a register: the latency in cycles. At least 1."""
        return 1 + max((self.cells[k].stage for k in self.results), default=0)

    def delays(self) -> tuple[int, ...]:
        """For each cell, how many registers in a row follow it."""
        longest = [0] * len(self.cells)
        for cell in self.cells:
            for read in cell_reads(cell.op):
                longest[read] = max(longest[read], cell.stage - self.cells[read].stage)
        stages = self.stage_count
        for result in self.results:
            longest[result] = max(longest[result], stages - self.cells[result].stage)
        return tuple(0 if isinstance(c.op, ConstantCell) else n for c, n in zip(self.cells, longest, strict=True))

    @property
    def slowest(self) -> StagePath:
        """The slowest path between two registers, named by the cell it ends at."""
        none = StagePath(what="register to register", ps=0)
        return slower([none, *(StagePath(what=_said(cell), ps=cell.ready_ps + cell.end_ps) for cell in self.cells)])

    def register_bits(self) -> int:
        """Flip-flops of the netlist."""
        return sum(cell.width * n for cell, n in zip(self.cells, self.delays(), strict=True))

    def adder_bits(self) -> int:
        """LUTs of sums, differences and selections: one per bit in which both operands take part."""
        return sum(_cell_luts(self.cells, cell) for cell in self.cells)

    def joined_bits(self) -> int:
        """LUTs of the sums that nothing reads but another sum of their stage: three numbers or more are added there."""
        readers: dict[int, list[Cell]] = {}
        for cell in self.cells:
            for read in cell_reads(cell.op):
                readers.setdefault(read, []).append(cell)
        shown = set(self.results)
        alone = [k for k, found in readers.items() if len(found) == 1 and k not in shown]
        inner = [k for k in alone if isinstance(self.cells[k].op, Sum) and isinstance(readers[k][0].op, Sum)]
        return sum(_cell_luts(self.cells, self.cells[k]) for k in inner if readers[k][0].stage == self.cells[k].stage)

    def resources(self, fabric: Fabric) -> Resources:
        """Cost without that of calls. Where an adder takes no other logic, full adders before it join more numbers."""
        lut = self.adder_bits() + (0 if fabric.adder_takes_logic else self.joined_bits())
        return Resources(lut=lut, ff=self.register_bits())


def _cell_luts(cells: Sequence[Cell], cell: Cell) -> int:
    match cell.op:
        case Sum():
            op = cell.op
            return adder_luts(Adder(op.left, op.right, op.left_shift, op.right_shift, op.subtract), cell.width)
        case Affine():
            # Bits below the lowest one of the constant pass through, unless they are negated.
            low = 0 if cell.op.negative else (cell.op.offset & -cell.op.offset).bit_length() - 1
            return max(1, cell.width - low) if cell.op.offset or cell.op.negative else 0
        case Pick():
            return 2 * cell.width
        case Source() | Keep() | ConstantCell() | EpilogueCell():
            return 0  # a ramp is the reset of the register behind it


def _said(cell: Cell) -> str:
    match cell.op:
        case Pick():
            return f"choice of {cell.width} bits"
        case EpilogueCell():
            return f"sum and {', '.join(cell.op.nodes)}"
        case Keep():
            return f"sum and its reset at 0, {cell.width} bits"
        case Source() | ConstantCell() | Sum() | Affine():
            return f"sum of {cell.width} bits"


def _logic(op: CellOp, width: int, timing: Timing) -> Span:
    """What stands between the operands of a cell and its result."""
    match op:
        case Sum():
            return timing.sum(width)
        case Affine():
            return timing.sum(width) if op.offset or op.negative else Span(ps=0)
        case Pick():
            return timing.pick(width)
        case Keep():  # a ramp is the reset of the register behind it, or a LUT where tools save a set of controls
            return timing.luts(int(op.ramp))
        case Source() | ConstantCell() | EpilogueCell():
            return Span(ps=0)


@dataclass(slots=True)
class NetlistBuilder:
    """Adds cells one by one, each as early as its operands and the time of a stage allow.

    A slower clock never makes a later stage of any cell. `loads`: how many cells read those that many read, by index.
    """

    timing: Timing
    cells: list[Cell] = field(default_factory=list)
    loads: dict[int, int] = field(default_factory=dict)

    def add(self, name: str, op: CellOp, bounds: tuple[int, int]) -> int:
        """Append a cell and return its index."""
        reads = cell_reads(op)
        stage = max((self.cells[k].stage for k in reads), default=0)
        ready = max((self._ready_ps(k, reads) for k in reads if self.cells[k].stage == stage), default=0)
        logic = _logic(op, width_bits(*bounds), self.timing)
        wide = self.timing.arcs.wide_ps(max((self.loads.get(k, 0) for k in reads), default=0)) if logic.ps else 0
        logic = Span(ps=logic.ps + wide, end_ps=logic.end_ps)
        if ready and not self.timing.fits(ready, logic):
            stage, ready = stage + 1, 0
        return self.place(name, op, bounds, stage, ready + logic.ps, logic.end_ps)

    def _ready_ps(self, index: int, reads: Sequence[int]) -> int:
        """When an operand is there for an addition that tools may join with one in front of it.

        A sum that only this addition reads becomes full adders in front of one carry chain; the other operand goes
        through them too: two LUTs more, where it comes from a chain of its own.
        """
        cell = self.cells[index]
        joined = any(
            k != index
            and self.loads.get(k, 1) == 1
            and self.cells[k].stage == cell.stage
            and isinstance(self.cells[k].op, Sum | Affine)
            and self.cells[k].ready_ps
            for k in reads
        )
        late = joined and cell.ready_ps and self.loads.get(index, 1) > 1
        return cell.ready_ps + (2 * self.timing.arcs.net_ps if late else 0)

    def place(self, name: str, op: CellOp, bounds: tuple[int, int], stage: int, ready_ps: int, end_ps: int = 0) -> int:
        """Append a cell at a given place and return its index."""
        low, high = bounds
        self.cells.append(Cell(name=name, op=op, lo=low, hi=high, stage=stage, ready_ps=ready_ps, end_ps=end_ps))
        return len(self.cells) - 1

    def source(self, port: int, element: int, bounds: tuple[int, int], loads: int = 1) -> int:
        """Append an input element that so many cells read."""
        cell = self.place(f"x{port}_{element}", Source(port=port, element=element), bounds, 0, 0)
        self.loads[cell] = loads
        return cell

    def build(self, results: Sequence[int]) -> Netlist:
        """Return the netlist of the cells the results depend on."""
        wanted, queue = set(results), list(results)
        while queue:
            for read in cell_reads(self.cells[queue.pop()].op):
                if read not in wanted:
                    wanted.add(read)
                    queue.append(read)
        assert len(wanted) == len(self.cells), "a cell is read by no result"
        return Netlist(cells=tuple(self.cells), results=tuple(results))
