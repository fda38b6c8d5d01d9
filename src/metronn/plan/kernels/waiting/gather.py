"""Gather: beats are kept until the last one is on the wires; all elements leave with it."""

from __future__ import annotations

from functools import cached_property

from metronn.plan.hardware.resources import Resources
from metronn.plan.kernels.planned import Inputs, PlannedKernel
from metronn.plan.kernels.pulse_trains import counter_bits, train_resources
from metronn.plan.kernels.spec import Gather
from metronn.plan.layout import Layout

SHIFTED_CYCLES = 16
"""A start is followed through this many cycles by a shift register; over more of them a train tells the beats."""


class PlannedGather(PlannedKernel[Gather]):
    """Registers for all beats but the last."""

    kind = "reorder"
    multipliers = 0

    @property
    def latency_cycles(self) -> int:
        """Cycles from the first beat to the last: the last one passes through on wires."""
        return self.spec.layout.span - 1

    @cached_property
    def kept_bits(self) -> tuple[int, ...]:
        """Bits kept of each beat but the last: its elements' own widths."""
        widths = self.graph.type_of(self.spec.value).element_widths()
        return tuple(sum(widths[k] for k in beat) for beat in self.spec.layout.beats[:-1])

    @property
    def phase_bits(self) -> int | None:
        """Bits of the shift register that follows the start to the last beat kept; None where a train tells beats."""
        layout = self.spec.layout
        last = layout.cycles[-2] if layout.beat_count > 1 else 0
        return last if last <= SHIFTED_CYCLES else None

    @cached_property
    def resources(self) -> Resources:
        """A flip-flop for each bit kept (enabled once per event), and the phase or the train with a LUT a beat."""
        kept, bits, fabric = sum(self.kept_bits), self.phase_bits, self.timing.fabric
        if bits is not None:
            return Resources(ff=kept + bits, lut=bits)
        cycles = self.spec.layout.cycles[:-1]
        luts = len(cycles) * (1 if counter_bits(len(cycles)) < fabric.lut_inputs else 2)
        return train_resources(cycles, fabric, index=True) + Resources(ff=kept, lut=luts)

    @property
    def inputs(self) -> Inputs:
        """The value, in beats."""
        return ((self.spec.value, self.spec.layout),)

    @property
    def output(self) -> Layout:
        """All elements in one beat."""
        return Layout.parallel(self.spec.layout.size)

    @property
    def cycles_per_event(self) -> int:
        """The span of the beats."""
        return self.spec.layout.span
