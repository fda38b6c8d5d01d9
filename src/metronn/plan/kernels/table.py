"""Tables: one ROM per element, from LUTs where it is small, else from block RAM."""

from __future__ import annotations

from metronn.ir.graph import Graph
from metronn.ir.ops import Lookup
from metronn.ir.types import width_bits
from metronn.plan.hardware.resources import Resources
from metronn.plan.hardware.timing import Timing
from metronn.plan.kernels.memories import block_parts
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


def in_block_ram(spec: Table, graph: Graph, timing: Timing) -> bool:
    """Whether the table is too large for LUTs at this many levels per stage.

    The first level resolves what joined LUTs take, each later one what a multiplexer in a LUT chooses by.
    """
    fabric = timing.fabric
    reach = fabric.joined_lut_inputs + (timing.levels_per_stage - 1) * fabric.select_bits
    return width_bits(*code_bounds(spec, graph)) > min(LOGIC_ADDRESS_BITS, reach)


def latency_cycles(spec: Table, graph: Graph, timing: Timing) -> int:
    """One cycle from LUTs, two from block RAM (its output register)."""
    return 2 if in_block_ram(spec, graph, timing) else 1


def resources(spec: Table, graph: Graph, timing: Timing) -> Resources:
    """Cost of one ROM and its registers, times the elements. Regular tables come out smaller, multiplexers add some."""
    op = lookup_op(spec, graph)
    size, width = graph.type_of(spec.lookup).size, width_bits(*op.table.bounds())
    entries = 1 << width_bits(*code_bounds(spec, graph))
    if not in_block_ram(spec, graph, timing):
        return Resources(lut=size * width * timing.fabric.rom_luts(entries), ff=size * width)
    return Resources(bram36=size * block_parts(entries, width, timing.fabric) / 2, ff=size * width)


def input_layouts(spec: Table, graph: Graph) -> tuple[tuple[str, Layout], ...]:
    """The operand, in parallel."""
    x = lookup_op(spec, graph).x
    return ((x, Layout.parallel(graph.type_of(x).size)),)


def output_layout(spec: Table, graph: Graph) -> Layout:
    """All elements in one beat."""
    return Layout.parallel(graph.type_of(spec.lookup).size)
