"""Crossings: the same beats in a neighbouring super logic region, a fixed number of registers later."""

from __future__ import annotations

from metronn.plan.hardware.resources import Resources
from metronn.plan.kernels.planned import Inputs, PlannedKernel
from metronn.plan.kernels.spec import Crossing
from metronn.plan.layout import Layout, wire_format


class PlannedCrossing(PlannedKernel[Crossing]):
    """The same beats, in the next region. All its registers are flip-flops, never shift registers."""

    kind = "crossing"
    multipliers = 0

    @property
    def latency_cycles(self) -> int:
        """A cycle for each register."""
        return self.spec.registers

    @property
    def width(self) -> int:
        """Bits of a beat."""
        return wire_format(self.graph.type_of(self.spec.value), self.spec.layout).width

    @property
    def resources(self) -> Resources:
        """Registers of every bit."""
        return Resources(ff=self.width * self.spec.registers)

    @property
    def inputs(self) -> Inputs:
        """The value, as it is in the region it comes from."""
        return ((self.spec.value, self.spec.layout),)

    @property
    def output(self) -> Layout:
        """The layout of the input."""
        return self.spec.layout

    @property
    def cycles_per_event(self) -> int:
        """The span of the beats."""
        return self.spec.layout.span
