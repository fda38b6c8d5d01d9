"""Which weights share a multiplier: the groups that must be zero together for a multiplier to vanish.

A folded kernel uses a multiplier in every cycle of an event, with another weight each time, and where two narrow
products share a DSP block with two of them. Zeros scattered over a layer save nothing there; a multiplier is dropped
only when all weights it would ever see are zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from metronn.ir.graph import Graph
from metronn.plan.candidates.steps import steps
from metronn.plan.figures import unrolled_part
from metronn.plan.hardware.resources import lut_equivalents
from metronn.plan.hardware.system import System
from metronn.plan.kernels.adders.matvec import PlannedAdders
from metronn.plan.kernels.folds.fold import linear_of
from metronn.plan.kernels.folds.lanes import NONE
from metronn.plan.kernels.folds.planned import PlannedFoldInputs, PlannedFoldOutputs
from metronn.plan.kernels.kernels import AnyKernel, Kernels
from metronn.plan.kernels.spec import FoldInputs, FoldOutputs, KernelSpec, MatvecAdders, Streamed
from metronn.plan.options import PlanOptions

Groups = npt.NDArray[np.int64]

ALONE = NONE
"""The group of a weight that shares its hardware with no other: constant multiples and adder graphs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldGroups:
    """Groups of one Linear: `groups` int64 [n_in, n_out], the number of the multiplier each weight goes through.

    `source` is the layer, `linear` the node; `multipliers` counts the groups. An unrolled layer has ALONE everywhere
    and no multipliers. Of a convolution, n_in counts the elements of a window.
    """

    linear: str
    source: str
    groups: Groups
    multipliers: int


def kernel_groups(kernel: AnyKernel) -> Groups:
    """Return the multiplier of each weight of the Linear a kernel makes."""
    match kernel.part:
        case PlannedFoldOutputs() | PlannedFoldInputs() as fold:
            return fold.groups
        case PlannedAdders() as adders:
            return np.full(linear_of(adders.graph, adders.spec.linear).weight.shape, ALONE, dtype=np.int64)
        case _:
            raise AssertionError(f"{kernel.spec}: makes no Linear")


def graph_groups(graph: Graph, system: System, options: PlanOptions) -> tuple[FoldGroups, ...]:
    """Return the groups of every Linear of a graph at the II of a system, in topological order.

    The kernel is the unrolled one where the planner may take one, else the cheapest fold: as `plan.estimate` counts.
    Whether the system holds the network plays no part.
    """
    kernels = Kernels(graph, system.timing)
    found = []
    for step in steps(kernels, system.ii, options):
        made = [kernels.of(spec) for spec in step.candidates if linear_of_kernel(spec) is not None]
        if not made:
            continue
        unrolled = [kernel for kernel in made if unrolled_part(kernel) is not None]
        kernel = unrolled[0] if unrolled else min(made, key=lambda kernel: lut_equivalents(kernel.resources))
        groups = kernel_groups(kernel)
        used = np.unique(groups[groups != ALONE])
        name = kernel.nodes[0]
        source = graph.by_name[name].source
        found.append(FoldGroups(linear=name, source=source, groups=groups, multipliers=len(used)))
    return tuple(found)


def linear_of_kernel(spec: KernelSpec) -> str | None:
    """Return the node of the Linear that a kernel makes, None for other kernels."""
    inner = spec.inner if isinstance(spec, Streamed) else spec
    return inner.linear if isinstance(inner, MatvecAdders | FoldOutputs | FoldInputs) else None
