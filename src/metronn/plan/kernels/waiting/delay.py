"""Delays: the same beats, a number of cycles later, in a line that holds what is on its way."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from metronn.plan.hardware.resources import Resources
from metronn.plan.hardware.timing import StagePath
from metronn.plan.kernels.spec import Delay
from metronn.plan.kernels.waiting.cheapest_lines import Arrivals, Reads, build
from metronn.plan.kernels.waiting.lines import Cell, cell_pulses, kept_bits, line_path, line_resources
from metronn.plan.kernels.waiting.pulses import PulsePlan, plan_pulses, pulses_resources
from metronn.plan.kernels.waiting.same_beats import SameBeats


class PlannedDelay(SameBeats[Delay]):
    """The same beats, later."""

    kind = "delay"

    @property
    def latency_cycles(self) -> int:
        """The cycles asked for; 0 is wires."""
        return self.spec.cycles

    @cached_property
    def line(self) -> tuple[tuple[Cell, ...], PulsePlan]:
        """Cells of the line, the last one the output, and their pulses; nothing for a delay of 0.

        Events come as soon as they may: a period, or the layout's span, apart.
        """
        layout, period = self.spec.layout, self.cycles_per_event
        at = np.asarray(layout.cycles)
        arrivals = Arrivals(cycles=layout.cycles, period=period, width=self.width, fabric=self.timing.fabric)
        cells: tuple[Cell, ...] = ()
        if self.spec.cycles:
            cells = build(arrivals, [Reads(np.arange(len(at)), at + self.spec.cycles)], chooses=False).cells
        pulses, counted = cell_pulses(cells)
        return cells, plan_pulses(pulses, counted, period)

    @property
    def slowest(self) -> StagePath:
        """From the line to the next register."""
        return line_path(self.line[0], self.timing)

    @cached_property
    def resources(self) -> Resources:
        """Cells and pulses of the line."""
        (cells, pulses), fabric = self.line, self.timing.fabric
        return line_resources(cells, self.width, fabric) + pulses_resources(pulses, fabric)

    @property
    def buffer_bits(self) -> int:
        """Bits kept by the line."""
        return kept_bits(self.line[0], self.width)

    @property
    def cycles_per_event(self) -> int:
        """The period, or the span of the beats."""
        return max(self.spec.period, self.spec.layout.span)
