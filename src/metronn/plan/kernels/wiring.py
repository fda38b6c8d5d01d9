"""Wiring: one Rewire. No logic, no cycle."""

from __future__ import annotations

from metronn.ir.graph import Graph
from metronn.ir.ops import Constant, Rewire
from metronn.plan.hardware.resources import Resources
from metronn.plan.hardware.timing import Timing
from metronn.plan.kernels.spec import Wiring
from metronn.plan.layout import Layout


def rewire_op(spec: Wiring, graph: Graph) -> Rewire:
    """Return the op of the kernel."""
    op = graph.by_name[spec.rewire].op
    assert isinstance(op, Rewire)
    return op


def latency_cycles(spec: Wiring, graph: Graph, timing: Timing) -> int:
    """Wires take no cycle."""
    return 0


def resources(spec: Wiring, graph: Graph, timing: Timing) -> Resources:
    """Wires cost nothing that is counted."""
    return Resources()


def input_layouts(spec: Wiring, graph: Graph) -> tuple[tuple[str, Layout], ...]:
    """The operands but constants, in parallel; one that appears twice has one port."""
    names = [x for x in dict.fromkeys(rewire_op(spec, graph).xs) if not isinstance(graph.by_name[x].op, Constant)]
    return tuple((x, Layout.parallel(graph.type_of(x).size)) for x in names)


def output_layout(spec: Wiring, graph: Graph) -> Layout:
    """All elements in one beat."""
    return Layout.parallel(graph.type_of(spec.rewire).size)
