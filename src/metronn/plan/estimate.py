"""What an integer graph costs at an II on a system, without a schedule and without solved adder graphs: milliseconds.

Made to be asked hundreds of times, by searches for widths and by pruning. Every step of the planner counts with one of
the kernels it may choose: the unrolled one where there is one (it has the least latency, which is what the planner goes
for), else the cheapest. Costs of kernels are those of their plans; only unrolled matrices are estimated from
their nonzero digits. Delays, changes of layout and links are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from metronn.ir.graph import Graph
from metronn.plan.candidates.steps import Step, steps
from metronn.plan.figures import unrolled_part
from metronn.plan.hardware.resources import Resources, lut_equivalents
from metronn.plan.hardware.system import System
from metronn.plan.kernels.adders.unrolled_cost import unrolled_cost
from metronn.plan.kernels.kernels import AnyKernel, Kernels
from metronn.plan.kernels.streamed import PlannedStreamed
from metronn.plan.options import PlanOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Resources of all kernels, and LUT-equivalents by layer."""

    resources: Resources
    layers: Mapping[str, float]

    @property
    def lut_equivalents(self) -> float:
        """The whole network as one number."""
        return lut_equivalents(self.resources)


def estimate(graph: Graph, system: System, options: PlanOptions) -> Estimate:
    """Estimate what the graph costs on the system at its II. Deterministic; no solver runs."""
    kernels = Kernels(graph, system.timing)
    found = steps(kernels, system.ii, options)
    total = Resources()
    layers: dict[str, float] = {}
    for step in found:
        cost = _step_cost(step, kernels)
        total += cost
        layers[step.source] = layers.get(step.source, 0.0) + lut_equivalents(cost)
    return Estimate(resources=total, layers=layers)


def _step_cost(step: Step, kernels: Kernels) -> Resources:
    """Cost of the unrolled kernel where there is one, else of the cheapest."""
    candidates = [kernels.of(spec) for spec in step.candidates]
    unrolled = [kernel for kernel in candidates if unrolled_part(kernel) is not None]
    return min((_kernel_cost(kernel) for kernel in unrolled or candidates), key=lut_equivalents)


def _kernel_cost(kernel: AnyKernel) -> Resources:
    part = unrolled_part(kernel)
    if part is None:
        return kernel.resources
    cost = unrolled_cost(part.spec, part.graph, part.timing)
    return kernel.with_wrapper(cost) if isinstance(kernel, PlannedStreamed) else cost
