"""Latency and cost of kernels before anything is solved: what the solver compares.

All kernels but the unrolled ones answer at once. An unrolled matrix has to be solved as an adder graph for exact
figures; where that takes long it is estimated first, and solved only when a plan keeps it. The estimated latency is a
lower bound, so that a kernel the estimate leaves out would not have been faster.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from metronn.plan.hardware.resources import Resources
from metronn.plan.kernels.adders.matvec import PlannedAdders, row_count, row_matrix
from metronn.plan.kernels.adders.solver import solving_work
from metronn.plan.kernels.adders.trees import most_digits
from metronn.plan.kernels.adders.unrolled_cost import unrolled_cost
from metronn.plan.kernels.kernels import AnyKernel
from metronn.plan.kernels.streamed import PlannedStreamed

QUICK_WORK = 3e7
"""`solving_work` of all rows of a kernel up to which its adder graph is solved at once: a second or two."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Cycles from the first input beat to the first output beat, and resources."""

    latency: int
    cost: Resources


def unrolled_part(kernel: AnyKernel) -> PlannedAdders | None:
    """Return the unrolled matrix of a kernel, None for other kernels."""
    return kernel.part if isinstance(kernel.part, PlannedAdders) else None


def takes_long(kernel: AnyKernel) -> bool:
    """Whether exact figures of the kernel need an adder graph that takes more than a second or two to solve."""
    part = unrolled_part(kernel)
    return part is not None and _takes_long(_Content(part))


def exact_figures(kernel: AnyKernel) -> Figures:
    """Return what the kernel has; solves adder graphs."""
    part = unrolled_part(kernel)
    if part is None:
        return Figures(kernel.latency_cycles, kernel.resources)
    return _wrapped(kernel, _exact(_Content(part)))


def estimated_figures(kernel: AnyKernel) -> Figures:
    """Return the least latency and the estimated cost of an unrolled kernel that takes long, else exact figures."""
    part = unrolled_part(kernel)
    if part is None or not takes_long(kernel):
        return exact_figures(kernel)
    return _wrapped(kernel, _estimated(_Content(part)))


def _wrapped(kernel: AnyKernel, inner: Figures) -> Figures:
    """Return the figures of a kernel from those of its unrolled matrix."""
    if not isinstance(kernel, PlannedStreamed):
        return inner
    return Figures(inner.latency, kernel.with_wrapper(inner.cost))


class _Content:
    """An unrolled matrix as a cache key: its nodes. Slices of a layer for other IIs are other graphs of one content."""

    def __init__(self, kernel: PlannedAdders) -> None:
        self.kernel = kernel

    def __hash__(self) -> int:
        return hash((self.kernel.spec, self.kernel.timing, tuple(node.name for node in self.kernel.graph.nodes)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Content):
            return False
        mine, its = self.kernel, other.kernel
        if (mine.spec, mine.timing) != (its.spec, its.timing):
            return False
        return mine.graph is its.graph or mine.graph.nodes == its.graph.nodes


@lru_cache(maxsize=1024)
def _takes_long(key: _Content) -> bool:
    spec, graph = key.kernel.spec, key.kernel.graph
    return row_count(spec, graph) * solving_work(row_matrix(spec, graph, 0)[0]) > QUICK_WORK


@lru_cache(maxsize=1024)
def _exact(key: _Content) -> Figures:
    return Figures(key.kernel.latency_cycles, key.kernel.resources)


@lru_cache(maxsize=1024)
def _estimated(key: _Content) -> Figures:
    spec, graph, timing = key.kernel.spec, key.kernel.graph, key.kernel.timing
    levels = math.ceil(math.log2(max(1, most_digits(row_matrix(spec, graph, 0)[0]))))
    return Figures(max(1, math.ceil(levels / timing.levels(1))), unrolled_cost(spec, graph, timing))
