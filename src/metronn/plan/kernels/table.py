"""Tables: one ROM per element, from LUTs where it is small, else from block RAM."""

from __future__ import annotations

from metronn.ir.graph import Graph
from metronn.ir.ops import Lookup
from metronn.ir.types import width_bits
from metronn.plan.kernels.spec import Table
from metronn.plan.layout import Layout
from metronn.plan.resources import Resources
from metronn.plan.timing import Timing

LUT_ADDRESS_BITS = 6
ONE_LEVEL_ADDRESS_BITS = 9
"""Address bits one slice resolves: six in a LUT, three in its multiplexers F7, F8, F9 (AMD UG574)."""

LOGIC_ADDRESS_BITS = 10
"""Largest table built from LUTs; larger ones are block RAM."""

BLOCK_KBIT = 18
"""Capacity of half a block RAM, in units of 1,024 bits."""


def lookup_op(spec: Table, graph: Graph) -> Lookup:
    """Return the op of the kernel."""
    op = graph.by_name[spec.lookup].op
    assert isinstance(op, Lookup)
    return op


def code_bounds(spec: Table, graph: Graph) -> tuple[int, int]:
    """Lowest and highest code of any element: the first and last entry of the table."""
    x = graph.type_of(lookup_op(spec, graph).x)
    return x.range.lowest, x.range.highest


def in_block_ram(spec: Table, graph: Graph, timing: Timing) -> bool:
    """Whether the table is too large for LUTs at this many levels per stage."""
    limit = LOGIC_ADDRESS_BITS if timing.levels_per_stage > 1 else ONE_LEVEL_ADDRESS_BITS
    return width_bits(*code_bounds(spec, graph)) > limit


def latency_cycles(spec: Table, graph: Graph, timing: Timing) -> int:
    """One cycle from LUTs, two from block RAM (its output register)."""
    return 2 if in_block_ram(spec, graph, timing) else 1


def _logic_luts(spec: Table, graph: Graph) -> int:
    """LUTs of one ROM: 64 entries of one output bit each. Regular tables come out smaller, multiplexers add some."""
    address = width_bits(*code_bounds(spec, graph))
    return width_bits(*lookup_op(spec, graph).table.bounds()) << max(0, address - LUT_ADDRESS_BITS)


def resources(spec: Table, graph: Graph, timing: Timing) -> Resources:
    """Cost of one ROM and its registers, times the elements."""
    op = lookup_op(spec, graph)
    size, width = graph.type_of(spec.lookup).size, width_bits(*op.table.bounds())
    if not in_block_ram(spec, graph, timing):
        return Resources(lut=size * _logic_luts(spec, graph), ff=size * width)
    entries = 1 << width_bits(*code_bounds(spec, graph))
    halves = max(-(-(entries * width) // (BLOCK_KBIT * 1024)), -(-width // 36))
    return Resources(bram36=size * halves / 2, ff=size * width)


def input_layouts(spec: Table, graph: Graph) -> tuple[tuple[str, Layout], ...]:
    """The operand, in parallel."""
    x = lookup_op(spec, graph).x
    return ((x, Layout.parallel(graph.type_of(x).size)),)


def output_layout(spec: Table, graph: Graph) -> Layout:
    """All elements in one beat."""
    return Layout.parallel(graph.type_of(spec.lookup).size)
