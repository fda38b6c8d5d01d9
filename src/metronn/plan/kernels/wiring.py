"""Wiring: one Rewire. No logic, no cycle."""

from __future__ import annotations

from metronn.ir.graph import Graph
from metronn.ir.ops import Constant, Rewire
from metronn.plan.hardware.resources import Resources
from metronn.plan.kernels.planned import Inputs, PlannedKernel
from metronn.plan.kernels.spec import Wiring
from metronn.plan.layout import Layout


def rewire_op(spec: Wiring, graph: Graph) -> Rewire:
    """Return the op of the kernel."""
    op = graph.by_name[spec.rewire].op
    assert isinstance(op, Rewire)
    return op


class PlannedWiring(PlannedKernel[Wiring]):
    """Wires: no cycle, nothing that is counted."""

    kind = "wiring"
    cycles_per_event = 1
    multipliers = 0
    latency_cycles = 0
    resources = Resources()

    @property
    def inputs(self) -> Inputs:
        """The operands but constants, in parallel; one that appears twice has one port."""
        graph = self.graph
        names = dict.fromkeys(rewire_op(self.spec, graph).xs)
        moved = [x for x in names if not isinstance(graph.by_name[x].op, Constant)]
        return tuple((x, Layout.parallel(graph.type_of(x).size)) for x in moved)

    @property
    def output(self) -> Layout:
        """All elements in one beat."""
        return Layout.parallel(self.graph.type_of(self.spec.rewire).size)
