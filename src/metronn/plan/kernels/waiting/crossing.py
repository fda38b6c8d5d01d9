"""Crossings: the same beats in a neighbouring super logic region, a fixed number of registers later."""

from __future__ import annotations

from metronn.plan.hardware.resources import Resources
from metronn.plan.kernels.spec import Crossing
from metronn.plan.kernels.waiting.same_beats import SameBeats


class PlannedCrossing(SameBeats[Crossing]):
    """The same beats, in the next region. All its registers are flip-flops, never shift registers."""

    kind = "crossing"

    @property
    def latency_cycles(self) -> int:
        """A cycle for each register."""
        return self.spec.registers

    @property
    def resources(self) -> Resources:
        """Registers of every bit."""
        return Resources(ff=self.width * self.spec.registers)

    @property
    def cycles_per_event(self) -> int:
        """The span of the beats."""
        return self.spec.layout.span
