"""Which ops a stage holds, and which kernels keep the clock."""

from __future__ import annotations

from collections.abc import Sequence

from metronn.ir.graph import Graph
from metronn.plan.figures import unrolled_part
from metronn.plan.hardware.timing import Timing
from metronn.plan.kernels.elementwise import chain, expanded
from metronn.plan.kernels.kernels import AnyKernel


def stage_holds(graph: Graph, nodes: Sequence[str], *, timing: Timing) -> bool:
    """Whether one stage holds all these ops, as the epilogue of a fold does."""
    own, expanded_nodes = expanded(graph, nodes)
    return chain(own, expanded_nodes, timing).whole_ps <= timing.logic_ps


def closes(kernel: AnyKernel) -> bool:
    """Whether a kernel keeps the clock; an unrolled matrix is taken to, since it is cut wherever a stage is full."""
    return unrolled_part(kernel) is not None or kernel.slowest.ps <= kernel.timing.logic_ps
