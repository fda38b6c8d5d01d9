"""Gather: beats are kept until the last one is on the wires; all elements leave with it."""

from __future__ import annotations

from metronn.ir.graph import Graph
from metronn.plan.hardware.resources import Resources
from metronn.plan.hardware.timing import Timing
from metronn.plan.kernels.pulse_trains import counter_bits, train_resources
from metronn.plan.kernels.spec import Gather
from metronn.plan.layout import Layout

SHIFTED_CYCLES = 16
"""A start is followed through this many cycles by a shift register; over more of them a train tells the beats."""


def latency_cycles(spec: Gather, graph: Graph, timing: Timing) -> int:
    """Cycles from the first beat to the last: the last one passes through on wires."""
    return spec.layout.span - 1


def kept_bits(spec: Gather, graph: Graph) -> tuple[int, ...]:
    """Bits kept of each beat but the last: its elements' own widths."""
    widths = graph.type_of(spec.value).element_widths()
    return tuple(sum(widths[k] for k in beat) for beat in spec.layout.beats[:-1])


def phase_bits(spec: Gather) -> int | None:
    """Bits of the shift register that follows the start to the last beat kept; None where a train tells the beats."""
    last = spec.layout.cycles[-2] if spec.layout.beat_count > 1 else 0
    return last if last <= SHIFTED_CYCLES else None


def resources(spec: Gather, graph: Graph, timing: Timing) -> Resources:
    """A flip-flop for each bit kept (enabled once per event), and the phase or the train with a LUT for each beat."""
    kept, bits = sum(kept_bits(spec, graph)), phase_bits(spec)
    if bits is not None:
        return Resources(ff=kept + bits, lut=bits)
    cycles = spec.layout.cycles[:-1]
    luts = len(cycles) * (1 if counter_bits(len(cycles)) < timing.fabric.lut_inputs else 2)
    return train_resources(cycles, timing.fabric, index=True) + Resources(ff=kept, lut=luts)


def input_layouts(spec: Gather, graph: Graph) -> tuple[tuple[str, Layout], ...]:
    """The value, in beats."""
    return ((spec.value, spec.layout),)


def output_layout(spec: Gather, graph: Graph) -> Layout:
    """All elements in one beat."""
    return Layout.parallel(spec.layout.size)
