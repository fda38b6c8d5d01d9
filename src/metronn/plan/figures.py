"""Latency and cost of kernels before anything is solved: what the solver compares.

All kernels but the unrolled ones answer at once. An unrolled matrix has to be solved as an adder graph for exact
figures; where that takes long it is estimated first, and solved only when a plan keeps it. The estimated latency is a
lower bound, so that a kernel the estimate leaves out would not have been faster.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from metronn.ir.graph import Graph
from metronn.plan.kernels.adder_solver import solving_work
from metronn.plan.kernels.adder_trees import most_digits
from metronn.plan.kernels.adders import row_count, row_matrix
from metronn.plan.kernels.model import latency_cycles, resources
from metronn.plan.kernels.spec import KernelSpec, MatvecAdders, Streamed
from metronn.plan.kernels.stream import slice_of
from metronn.plan.kernels.streamed import wrapper_resources
from metronn.plan.kernels.unrolled_cost import unrolled_cost
from metronn.plan.resources import Resources
from metronn.plan.timing import Timing

QUICK_WORK = 3e7
"""`solving_work` of all rows of a kernel up to which its adder graph is solved at once: a second or two."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Cycles from the first input beat to the first output beat, and resources."""

    latency: int
    cost: Resources


def unrolled_part(spec: KernelSpec, graph: Graph) -> tuple[MatvecAdders, Graph] | None:
    """Return the unrolled matrix of a kernel and the graph it is in, None for other kernels."""
    match spec:
        case MatvecAdders():
            return spec, graph
        case Streamed(inner=MatvecAdders() as inner):
            return inner, slice_of(spec, graph).graph
        case _:
            return None


def takes_long(spec: KernelSpec, graph: Graph) -> bool:
    """Whether exact figures of the kernel need an adder graph that takes more than a second or two to solve."""
    part = unrolled_part(spec, graph)
    if part is None:
        return False
    inner, own = part
    return row_count(inner, own) * solving_work(row_matrix(inner, own, 0)[0]) > QUICK_WORK


def exact_figures(spec: KernelSpec, graph: Graph, timing: Timing) -> Figures:
    """Return what the kernel has; solves adder graphs."""
    return Figures(latency_cycles(spec, graph, timing), resources(spec, graph, timing))


def estimated_figures(spec: KernelSpec, graph: Graph, timing: Timing) -> Figures:
    """Return the least latency and the estimated cost of an unrolled kernel that takes long, else exact figures."""
    part = unrolled_part(spec, graph)
    if part is None or not takes_long(spec, graph):
        return exact_figures(spec, graph, timing)
    inner, own = part
    cost = unrolled_cost(inner, own, timing)
    if isinstance(spec, Streamed):
        cost = cost.scaled(spec.copies) + wrapper_resources(spec, graph)
    levels = math.ceil(math.log2(max(1, most_digits(row_matrix(inner, own, 0)[0]))))
    return Figures(max(1, math.ceil(levels / timing.levels_per_stage)), cost)
