"""Delays: the same beats, a number of cycles later, in shift registers of look-up tables."""

from __future__ import annotations

from metronn.ir.graph import Graph
from metronn.plan.kernels.spec import Delay
from metronn.plan.layout import Layout, wire_format
from metronn.plan.resources import Resources
from metronn.plan.timing import Timing

SRL_CYCLES = 32
"""Cycles one LUT delays one bit as a shift register (AMD UG574, SRLC32E)."""

SRL_FROM_CYCLES = 3
"""Delays shorter than this are flip-flops."""


def latency_cycles(spec: Delay, graph: Graph, timing: Timing) -> int:
    """The cycles asked for; 0 is wires."""
    return spec.cycles


def resources(spec: Delay, graph: Graph, timing: Timing) -> Resources:
    """A LUT per bit and 32 cycles or part of them; what is left below 3 cycles are flip-flops, as Yosys maps it."""
    width = wire_format(graph.type_of(spec.value), spec.layout).width
    full, rest = divmod(spec.cycles, SRL_CYCLES)
    if rest < SRL_FROM_CYCLES:
        return Resources(lut=width * full, ff=width * rest)
    return Resources(lut=width * (full + 1))


def input_layouts(spec: Delay, graph: Graph) -> tuple[tuple[str, Layout], ...]:
    """The value, in the layout that is delayed."""
    return ((spec.value, spec.layout),)


def output_layout(spec: Delay, graph: Graph) -> Layout:
    """The layout of the input."""
    return spec.layout
