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
from metronn.plan.candidates.steps import input_layouts_of, steps
from metronn.plan.figures import unrolled_part
from metronn.plan.hardware.resources import lut_equivalents
from metronn.plan.hardware.system import System
from metronn.plan.hardware.timing import Timing
from metronn.plan.kernels.adders.matvec import PlannedAdders
from metronn.plan.kernels.folds.fold import input_slots, linear_of, packing, slice_inputs
from metronn.plan.kernels.folds.planned import PlannedFoldInputs, PlannedFoldOutputs
from metronn.plan.kernels.kernels import AnyKernel, kernels_of
from metronn.plan.kernels.spec import FoldInputs, FoldOutputs, KernelSpec, MatvecAdders, Streamed
from metronn.plan.kernels.streamed import PlannedStreamed
from metronn.plan.options import PlanOptions
from metronn.plan.placing import timing_of

Groups = npt.NDArray[np.int64]

ALONE = -1
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


def outputs_groups(spec: FoldOutputs, graph: Graph, timing: Timing) -> Groups:
    """Multiplier of each weight [n_in, n_out] of a FoldOutputs: input and pair of lanes, over all its cycles."""
    n_in, n_out = linear_of(graph, spec.linear).weight.shape
    ways = packing(graph, spec.linear, timing).ways
    count = slice_inputs(spec, graph)
    i, o = np.meshgrid(np.arange(n_in), np.arange(n_out), indexing="ij")
    main = spec.lanes * spec.beats
    pairs = spec.lanes // ways
    shared = i * max(pairs, 1) + (o % max(spec.lanes, 1)) // ways
    rest = n_in * pairs + (o - main) // ways * count + i % count
    return np.where(o < main, shared, rest).astype(np.int64)


def inputs_groups(spec: FoldInputs, graph: Graph, timing: Timing) -> Groups:
    """Multiplier of each weight [n_in, n_out] of a FoldInputs: slot of the beats and pair of outputs."""
    n_in, n_out = linear_of(graph, spec.linear).weight.shape
    pairs = -(-n_out // (ways := packing(graph, spec.linear, timing).ways))
    groups = np.full((n_in, n_out), ALONE, dtype=np.int64)
    for position, slot in enumerate(input_slots(spec.layout).multiplied):
        carried = [beat[slot] for beat in spec.layout.beats if slot < len(beat)]
        groups[carried] = position * pairs + np.arange(n_out) // ways  # every element of the slot: the same row
    return groups


def kernel_groups(kernel: AnyKernel) -> Groups:
    """Return the multiplier of each weight of the Linear a kernel makes."""
    match kernel:
        case PlannedFoldOutputs():
            return outputs_groups(kernel.spec, kernel.graph, kernel.timing)
        case PlannedFoldInputs():
            return inputs_groups(kernel.spec, kernel.graph, kernel.timing)
        case PlannedAdders():
            return np.full(linear_of(kernel.graph, kernel.spec.linear).weight.shape, ALONE, dtype=np.int64)
        case PlannedStreamed():
            return kernel_groups(kernel.inner)
        case _:
            raise AssertionError(f"{kernel.spec}: makes no Linear")


def graph_groups(graph: Graph, system: System, options: PlanOptions) -> tuple[FoldGroups, ...]:
    """Return the groups of every Linear of a graph at the II of a system, in topological order.

    The kernel is the unrolled one where the planner may take one, else the cheapest fold: as `plan.estimate` counts.
    Whether the system holds the network plays no part.
    """
    timing = timing_of(system)
    kernels = kernels_of(graph, timing)
    found = []
    for step in steps(graph, system.ii, timing, options, input_layouts_of(graph, system.ii, options.inputs)):
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
