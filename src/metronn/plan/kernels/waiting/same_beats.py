"""What delays and crossings share: the beats that come in leave later, unchanged."""

from __future__ import annotations

from functools import cached_property
from typing import TypeVar

from metronn.plan.kernels.planned import Inputs, PlannedKernel
from metronn.plan.kernels.spec import Crossing, Delay
from metronn.plan.layout import Layout, wire_format

S = TypeVar("S", Delay, Crossing)


class SameBeats(PlannedKernel[S]):
    """A kernel that puts out the beats of its one input as they are."""

    multipliers = 0

    @cached_property
    def width(self) -> int:
        """Bits of a beat."""
        return wire_format(self.graph.type_of(self.spec.value), self.spec.layout).width

    @property
    def inputs(self) -> Inputs:
        """The value, in the layout in which it leaves."""
        return ((self.spec.value, self.spec.layout),)

    @property
    def output(self) -> Layout:
        """The layout of the input."""
        return self.spec.layout
