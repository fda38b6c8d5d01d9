"""Tables: one ROM per element, from LUTs where it is small, else from block RAM."""

from __future__ import annotations

from functools import cached_property

from metronn.ir.graph import Graph
from metronn.ir.ops import Lookup
from metronn.ir.types import width_bits
from metronn.plan.hardware.resources import Resources
from metronn.plan.hardware.timing import StagePath
from metronn.plan.kernels.memories import block_parts
from metronn.plan.kernels.planned import Inputs, PlannedKernel
from metronn.plan.kernels.spec import Table
from metronn.plan.layout import Layout

LOGIC_ADDRESS_BITS = 10
"""Address bits of the largest table built from LUTs where levels allow it; larger ones are block RAM."""


def lookup_op(spec: Table, graph: Graph) -> Lookup:
    """Return the op of the kernel."""
    op = graph.by_name[spec.lookup].op
    assert isinstance(op, Lookup)
    return op


def code_bounds(spec: Table, graph: Graph) -> tuple[int, int]:
    """Lowest and highest code of any element: the first and last entry of the table."""
    x = graph.type_of(lookup_op(spec, graph).x)
    return x.range.lowest, x.range.highest


class PlannedTable(PlannedKernel[Table]):
    """One ROM and its registers for each element."""

    kind = "table"
    cycles_per_event = 1
    multipliers = 0

    @cached_property
    def in_block_ram(self) -> bool:
        """Whether the table is too large for LUTs, or too slow for a stage of them."""
        too_slow = not self.timing.fits(0, self.timing.table(self.address_bits, self._luts))
        return self.address_bits > LOGIC_ADDRESS_BITS or (self.address_bits > 1 and too_slow)

    @property
    def address_bits(self) -> int:
        """Bits of an entry's code."""
        return width_bits(*code_bounds(self.spec, self.graph))

    @property
    def _luts(self) -> int:
        """LUTs of one element's table."""
        width = width_bits(*lookup_op(self.spec, self.graph).table.bounds())
        return width * self.timing.fabric.rom_luts(1 << self.address_bits)

    @property
    def slowest(self) -> StagePath:
        """Through the LUTs, or from the memory's output register on."""
        if self.in_block_ram:
            return StagePath(what="word of block RAM", ps=self.timing.arcs.block_ram_ps + self.timing.arcs.net_ps)
        table = self.timing.table(self.address_bits, self._luts)
        return StagePath(what=f"table of {self.address_bits} address bits", ps=table.whole_ps)

    @property
    def latency_cycles(self) -> int:
        """One cycle from LUTs, two from block RAM (its output register)."""
        return 2 if self.in_block_ram else 1

    @cached_property
    def resources(self) -> Resources:
        """Cost of one ROM and its registers, times the elements. Regular ones come out smaller, multiplexers add."""
        spec, graph, fabric = self.spec, self.graph, self.timing.fabric
        op = lookup_op(spec, graph)
        size, width = graph.type_of(spec.lookup).size, width_bits(*op.table.bounds())
        entries = 1 << self.address_bits
        if not self.in_block_ram:
            return Resources(lut=size * width * fabric.rom_luts(entries), ff=size * width)
        return Resources(bram36=size * block_parts(entries, width, fabric) / 2, ff=size * width)

    @property
    def inputs(self) -> Inputs:
        """The operand, in parallel."""
        x = lookup_op(self.spec, self.graph).x
        return ((x, Layout.parallel(self.graph.type_of(x).size)),)

    @property
    def output(self) -> Layout:
        """All elements in one beat."""
        return Layout.parallel(self.graph.type_of(self.spec.lookup).size)
