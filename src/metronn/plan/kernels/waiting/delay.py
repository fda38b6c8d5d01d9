"""Delays: the same beats, a number of cycles later, in a line that holds what is on its way."""

from __future__ import annotations

import numpy as np

from metronn.ir.graph import Graph
from metronn.plan.hardware.resources import Resources
from metronn.plan.hardware.timing import Timing
from metronn.plan.kernels.spec import Delay
from metronn.plan.kernels.waiting.cheapest_lines import Arrivals, Reads, build
from metronn.plan.kernels.waiting.lines import Cell, cell_pulses, kept_bits, line_resources
from metronn.plan.kernels.waiting.pulses import PulsePlan, plan_pulses, pulses_resources
from metronn.plan.layout import Layout, wire_format


def latency_cycles(spec: Delay, graph: Graph, timing: Timing) -> int:
    """The cycles asked for; 0 is wires."""
    return spec.cycles


def line_of(spec: Delay, width: int, timing: Timing) -> tuple[tuple[Cell, ...], PulsePlan]:
    """Return the cells of the line, the last one the output, and their pulses; nothing for a delay of 0.

    Events come as soon as they may: a period, or the layout's span, apart.
    """
    at = np.asarray(spec.layout.cycles)
    period = max(spec.period, spec.layout.span)
    arrivals = Arrivals(cycles=spec.layout.cycles, period=period, width=width, fabric=timing.fabric)
    cells: tuple[Cell, ...] = ()
    if spec.cycles:
        cells = build(arrivals, [Reads(np.arange(len(at)), at + spec.cycles)], chooses=False).cells
    pulses, counted = cell_pulses(cells)
    return cells, plan_pulses(pulses, counted, arrivals.period)


def resources(spec: Delay, graph: Graph, timing: Timing) -> Resources:
    """Cells and pulses of the line."""
    width = wire_format(graph.type_of(spec.value), spec.layout).width
    cells, pulses = line_of(spec, width, timing)
    return line_resources(cells, width, timing.fabric) + pulses_resources(pulses, timing.fabric)


def line_buffer_bits(spec: Delay, graph: Graph, timing: Timing) -> int:
    """Bits kept by the line."""
    width = wire_format(graph.type_of(spec.value), spec.layout).width
    return kept_bits(line_of(spec, width, timing)[0], width)


def input_layouts(spec: Delay, graph: Graph) -> tuple[tuple[str, Layout], ...]:
    """The value, in the layout that is delayed."""
    return ((spec.value, spec.layout),)


def output_layout(spec: Delay, graph: Graph) -> Layout:
    """The layout of the input."""
    return spec.layout
