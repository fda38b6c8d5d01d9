"""Latency and cost of kernels before anything is solved: what the solver compares.

All kernels but the unrolled ones answer at once. An unrolled matrix has to be solved as an adder graph for exact
figures; where that takes long it is estimated first, and solved only when a plan keeps it. The estimated latency is a
lower bound, so that a kernel the estimate leaves out would not have been faster.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from metronn.ir.graph import Graph
from metronn.plan.hardware.resources import Resources
from metronn.plan.hardware.timing import Timing
from metronn.plan.kernels.adders.matvec import row_count, row_matrix
from metronn.plan.kernels.adders.solver import solving_work
from metronn.plan.kernels.adders.trees import most_digits
from metronn.plan.kernels.adders.unrolled_cost import unrolled_cost
from metronn.plan.kernels.contract import latency_cycles, resources
from metronn.plan.kernels.slices import slice_of
from metronn.plan.kernels.spec import KernelSpec, MatvecAdders, Streamed
from metronn.plan.kernels.streamed import wrapper_resources

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
    return part is not None and _takes_long(part[0], _Content(part[1]))


def exact_figures(spec: KernelSpec, graph: Graph, timing: Timing) -> Figures:
    """Return what the kernel has; solves adder graphs."""
    part = unrolled_part(spec, graph)
    if part is None:
        return _folded(spec, _ById(graph), timing)
    return _wrapped(spec, _exact(part[0], _Content(part[1]), timing), graph, timing)


def estimated_figures(spec: KernelSpec, graph: Graph, timing: Timing) -> Figures:
    """Return the least latency and the estimated cost of an unrolled kernel that takes long, else exact figures."""
    part = unrolled_part(spec, graph)
    if part is None or not takes_long(spec, graph):
        return exact_figures(spec, graph, timing)
    return _wrapped(spec, _estimated(part[0], _Content(part[1]), timing), graph, timing)


def _wrapped(spec: KernelSpec, inner: Figures, graph: Graph, timing: Timing) -> Figures:
    """Return the figures of a kernel from those of its unrolled matrix."""
    if not isinstance(spec, Streamed):
        return inner
    return Figures(inner.latency, inner.cost.scaled(spec.copies) + wrapper_resources(spec, graph, timing))


class _ById:
    """A graph as a cache key: itself, not its content."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def __hash__(self) -> int:
        return id(self.graph)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ById) and other.graph is self.graph


class _Content(_ById):
    """A graph as a cache key: its nodes. Slices of a layer for other IIs are other graphs of the same content."""

    def __hash__(self) -> int:
        return hash(tuple(node.name for node in self.graph.nodes))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Content) and (other.graph is self.graph or other.graph.nodes == self.graph.nodes)


@lru_cache(maxsize=4096)
def _takes_long(inner: MatvecAdders, own: _Content) -> bool:
    return row_count(inner, own.graph) * solving_work(row_matrix(inner, own.graph, 0)[0]) > QUICK_WORK


@lru_cache(maxsize=4096)
def _exact(inner: MatvecAdders, own: _Content, timing: Timing) -> Figures:
    return Figures(latency_cycles(inner, own.graph, timing), resources(inner, own.graph, timing))


@lru_cache(maxsize=4096)
def _estimated(inner: MatvecAdders, own: _Content, timing: Timing) -> Figures:
    levels = math.ceil(math.log2(max(1, most_digits(row_matrix(inner, own.graph, 0)[0]))))
    return Figures(max(1, math.ceil(levels / timing.levels_per_stage)), unrolled_cost(inner, own.graph, timing))


@lru_cache(maxsize=4096)
def _folded(spec: KernelSpec, graph: _ById, timing: Timing) -> Figures:
    return Figures(latency_cycles(spec, graph.graph, timing), resources(spec, graph.graph, timing))
