"""What an integer graph costs at an II on a system, without a schedule and without solved adder graphs: milliseconds.

Made to be asked hundreds of times, by searches for widths and by pruning. Every step of the planner counts with one of
the kernels it may choose: the unrolled one where there is one (it has the least latency, which is what the planner goes
for), else the cheapest. Costs of kernels are those of `plan.kernels.model`; only unrolled matrices are estimated from
their nonzero digits. Delays, changes of layout and links are left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from metronn.ir.graph import Graph
from metronn.ir.ops import Requantize
from metronn.plan.kernels.adder_graph import nonzero_digits
from metronn.plan.kernels.adders import linear_op, row_matrix
from metronn.plan.kernels.elementwise import expanded, node_dsps, node_luts
from metronn.plan.kernels.model import resources
from metronn.plan.kernels.spec import KernelSpec, MatvecAdders, Streamed
from metronn.plan.kernels.stream import slice_of
from metronn.plan.kernels.streamed import wrapper_resources
from metronn.plan.options import PlanOptions
from metronn.plan.planner import timing_of
from metronn.plan.resources import Resources
from metronn.plan.steps import Step, input_layouts_of, steps
from metronn.plan.system import System
from metronn.plan.timing import Timing

LUT_EQUIVALENTS: Mapping[str, float] = {"lut": 1.0, "ff": 0.5, "dsp": 100.0, "bram36": 300.0, "uram": 1300.0}
"""LUTs that one of each resource counts as; their sum is the one number in which designs are compared.

A slice has two flip-flops for each LUT: half a LUT. A DSP block does what 80 to 110 LUTs do when they multiply 8 by 8
bits and add the product to a sum; the share of a device it takes is 120 (KU115) to 173 (VU9P) LUTs. A memory counts as
the LUTs that come with it on the device: 307 (KU115) to 643 (VU13P) for 36 Kb of block RAM, 1,350 (VU13P) for UltraRAM.
Where they differ the lower end is taken, so that DSP blocks and memories are used rather than spared.
"""

SHARED_DIGITS = (0.1227, -0.0812, -0.1110)
"""log2 of additions over nonzero digits: constant, per log2 of the digits, per log2 of digits per weight.

Least squares over 90 random matrices of 16 to 36 inputs, 5 to 64 outputs, 3 to 8 bits, 40 and 100 % of the weights not
zero, solved with alkaid 0.8.2; standard deviation 4 %, largest difference 11 %.
"""
ADDER_WIDTH = (-0.30, 0.557)
"""LUTs of an adder beyond its input's bits: constant, per log2 of digits per output. Same matrices: 5 %, 12 %."""
REGISTERS = 0.75
"""Flip-flops per LUT of adders at two adder levels a stage. Same matrices: standard deviation 12 %."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Resources of all kernels, and LUT-equivalents by layer."""

    resources: Resources
    layers: Mapping[str, float]

    @property
    def lut_equivalents(self) -> float:
        """The whole network as one number."""
        return lut_equivalents(self.resources)


def lut_equivalents(amount: Resources) -> float:
    """Return LUT + 0.5 FF + 100 DSP + 300 BRAM36 + 1300 URAM (`LUT_EQUIVALENTS`)."""
    return sum(LUT_EQUIVALENTS[name] * count for name, count in amount.as_dict().items())


def estimate(graph: Graph, system: System, options: PlanOptions) -> Estimate:
    """Estimate what the graph costs on the system at its II. Deterministic; no solver runs."""
    timing = timing_of(system)
    found = steps(graph, system.ii, timing, options, input_layouts_of(graph, system.ii, options.inputs))
    total = Resources()
    layers: dict[str, float] = {}
    for step in found:
        cost = _step_cost(step, graph, timing)
        total += cost
        layers[step.source] = layers.get(step.source, 0.0) + lut_equivalents(cost)
    return Estimate(resources=total, layers=layers)


def _step_cost(step: Step, graph: Graph, timing: Timing) -> Resources:
    """Cost of the unrolled kernel where there is one, else of the cheapest."""
    unrolled = [spec for spec in step.candidates if _is_unrolled(spec)]
    costs = [_kernel_cost(spec, graph, timing) for spec in unrolled or step.candidates]
    return min(costs, key=lut_equivalents)


def _is_unrolled(spec: KernelSpec) -> bool:
    return isinstance(spec.inner if isinstance(spec, Streamed) else spec, MatvecAdders)


def _kernel_cost(spec: KernelSpec, graph: Graph, timing: Timing) -> Resources:
    match spec:
        case MatvecAdders():
            return unrolled_cost(spec, graph, timing)
        case Streamed(inner=MatvecAdders() as inner):
            one = unrolled_cost(inner, slice_of(spec, graph).graph, timing)
            return one.scaled(spec.copies) + wrapper_resources(spec, graph)
        case _:
            return resources(spec, graph, timing)


def unrolled_cost(spec: MatvecAdders, graph: Graph, timing: Timing) -> Resources:
    """Estimate an unrolled matrix and its epilogue from the nonzero digits of its weights."""
    op = linear_op(spec, graph)
    kind = graph.type_of(spec.linear)
    rows = graph.type_of(op.x).size // op.weight.shape[0]
    total = Resources()
    for row in range(rows):
        weight, bounds, bias = row_matrix(spec, graph, row)
        widths = [(hi - lo).bit_length() for lo, hi in bounds if hi > lo]
        digits = nonzero_digits(weight)
        outputs = int((weight != 0).any(axis=0).sum())
        if digits > outputs > 0:
            bits = sum(widths) / max(1, len(widths))
            additions = min(digits - outputs, (digits - outputs) * shared(digits, weight.shape))
            lut = additions * max(1.0, bits + ADDER_WIDTH[0] + ADDER_WIDTH[1] * math.log2(digits / outputs))
            total += Resources(lut=round(lut), ff=round(lut * REGISTERS * 2 / timing.levels_per_stage))
        results = kind.element_widths()[row * len(bias) : (row + 1) * len(bias)]
        total += Resources(lut=sum(width for width, b in zip(results, bias, strict=True) if b))
    return total + _epilogue(spec, graph)


def shared(digits: int, shape: tuple[int, ...]) -> float:
    """Return additions over (digits - outputs) when sub-expressions are shared, at most 1 (`SHARED_DIGITS`)."""
    constant, size, density = SHARED_DIGITS
    return float(
        min(1.0, 2.0 ** (constant + size * math.log2(digits) + density * math.log2(digits / math.prod(shape))))
    )


def _epilogue(spec: MatvecAdders, graph: Graph) -> Resources:
    """LUTs and DSP blocks of the ops behind the sums, and the register of the result."""
    last = (spec.linear, *spec.epilogue)[-1]
    register = Resources(ff=graph.type_of(last).total_bits)
    if not spec.epilogue:
        return register
    own, nodes = expanded(graph, spec.epilogue)
    logic = Resources(lut=sum(node_luts(own, n) for n in nodes), dsp=sum(node_dsps(own, n) for n in nodes))
    between = sum(own.type_of(n).total_bits for n in nodes[:-1] if isinstance(own.by_name[n].op, Requantize))
    return register + logic + Resources(ff=between)
