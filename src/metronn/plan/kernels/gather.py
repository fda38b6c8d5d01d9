"""Gather: beats are kept until the last one is on the wires; all elements leave with it."""

from __future__ import annotations

from metronn.ir.graph import Graph
from metronn.plan.kernels.spec import Gather
from metronn.plan.layout import Layout
from metronn.plan.resources import Resources
from metronn.plan.timing import Timing


def latency_cycles(spec: Gather, graph: Graph, timing: Timing) -> int:
    """Cycles from the first beat to the last: the last one passes through on wires."""
    return spec.layout.beat_count - 1


def kept_bits(spec: Gather, graph: Graph) -> tuple[int, ...]:
    """Bits kept of each beat but the last: its elements' own widths."""
    widths = graph.type_of(spec.value).element_widths()
    return tuple(sum(widths[k] for k in beat) for beat in spec.layout.beats[:-1])


def phase_bits(spec: Gather) -> int:
    """Flip-flops that follow the phase: one per beat after the first but the last."""
    return max(0, spec.layout.beat_count - 2)


def resources(spec: Gather, graph: Graph, timing: Timing) -> Resources:
    """A flip-flop for each bit kept (enabled once per event), and the phase."""
    return Resources(ff=sum(kept_bits(spec, graph)) + phase_bits(spec), lut=phase_bits(spec))


def input_layouts(spec: Gather, graph: Graph) -> tuple[tuple[str, Layout], ...]:
    """The value, in beats."""
    return ((spec.value, spec.layout),)


def output_layout(spec: Gather, graph: Graph) -> Layout:
    """All elements in one beat."""
    return Layout.parallel(spec.layout.size)
