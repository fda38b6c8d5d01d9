"""What devices allow at a clock: how much logic fits between two registers, and what it is made of.

The one place where clock period and device meet the kernels: they say what they do (additions of so many bits, choices,
functions of so many inputs), and it says what that takes and how much of it a stage holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from metronn.plan.hardware.arcs import Arcs, slowest
from metronn.plan.hardware.devices import Device
from metronn.plan.hardware.fabric import Fabric, common

MOST_LEVELS, MOST_LEVEL_BITS = 6, 32
"""Additions of a stage, and their bits, however slow the clock: more in a stage save no register that matters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """What a piece of logic takes in ps: `ps` until its result is there, `end_ps` from there to a register.

    The result of a carry chain reaches the register beside it; that of a LUT goes over a net of its own.
    """

    ps: int
    end_ps: int = 0

    @property
    def whole_ps(self) -> int:
        """From register to register."""
        return self.ps + self.end_ps


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePath:
    """The slowest path of a kernel between two registers: what it goes through, and what that takes without the clock's
    own part (`Arcs.overhead_ps`).
    """

    what: str
    ps: int

    def __str__(self) -> str:
        """The path in a few words."""
        return f"{self.what}: {self.ps / 1000:.2f} ns"


def slower(paths: Sequence[StagePath]) -> StagePath:
    """Return the slowest of some paths; of equally slow ones the first."""
    return max(paths, key=lambda path: path.ps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Rules of a design, the same on all its devices.

    `period_ps`: of the clock. `arcs`: what the steps of a path take. `fabric`: what kernels are built of.
    """

    period_ps: float
    arcs: Arcs
    fabric: Fabric

    @staticmethod
    def of(devices: Sequence[Device], period_ps: float) -> Timing:
        """Return the rules that every one of the devices keeps at a clock period in picoseconds."""
        return Timing(
            period_ps=period_ps,
            arcs=slowest(device.arcs for device in devices),
            fabric=common(device.fabric for device in devices),
        )

    @property
    def logic_ps(self) -> int:
        """What the clock leaves for a path between two registers."""
        return int(self.period_ps - self.arcs.overhead_ps)

    @property
    def stage_ps(self) -> int:
        """What a stage is filled up to: the clock's time, and no more than MOST_LEVELS additions."""
        return min(self.logic_ps, MOST_LEVELS * self.arcs.sum_ps(MOST_LEVEL_BITS))

    def fits(self, ready_ps: int, logic: Span) -> bool:
        """Whether logic may stand in a stage behind what is there `ready_ps` after the stage's beginning."""
        return ready_ps + logic.whole_ps <= self.stage_ps

    # What logic takes

    def sum(self, width_bits: int) -> Span:
        """An addition of two numbers with a result of so many bits."""
        return Span(ps=self.arcs.sum_ps(width_bits))

    def pick(self, width_bits: int) -> Span:
        """The larger of two numbers of so many bits: LUTs and a chain that compare, and the LUT that chooses."""
        return Span(ps=self.arcs.sum_ps(width_bits) + 2 * self.arcs.net_ps, end_ps=self.arcs.net_ps)

    def luts(self, levels: int) -> Span:
        """So many LUTs in a row; none is no logic."""
        return Span(ps=levels * self.arcs.net_ps, end_ps=self.arcs.net_ps) if levels else Span(ps=0)

    def function(self, inputs: int) -> Span:
        """A function of so many bits that LUTs make level by level, as a comparison with a constant is."""
        levels, left = 0, inputs
        while left > 1:
            levels, left = levels + 1, -(-left // self.fabric.lut_inputs)
        return self.luts(max(1, levels))

    def table(self, address_bits: int, luts: int = 0) -> Span:
        """A table of LUTs that is read by so many bits, each of which goes to so many LUTs.

        The first level resolves what joined LUTs take, each later one what a multiplexer in a LUT chooses by.
        """
        more = max(0, address_bits - self.fabric.joined_lut_inputs)
        made = self.luts(1 + -(-more // self.fabric.select_bits))
        return Span(ps=made.ps + self.arcs.wide_ps(luts), end_ps=made.end_ps)

    # How much of it a stage holds

    def levels(self, width_bits: int, begin_ps: int = 0) -> int:
        """Additions in a row with sums of so many bits that a stage holds, at least 1.

        `begin_ps`: what is over before the first, as from the clock to the output of a DSP block.
        """
        return self._levels(self.sum(width_bits), begin_ps)

    def picks(self, width_bits: int) -> int:
        """Choices in a row of the larger of two numbers of so many bits that a stage holds, at least 1."""
        return self._levels(self.pick(width_bits), 0)

    def radix(self, width_bits: int, begin_ps: int = 0) -> int:
        """Terms that one stage sums into one of so many bits: 2 ** levels."""
        return 1 << self.levels(width_bits, begin_ps)

    def _levels(self, each: Span, begin_ps: int) -> int:
        return max(1, min(MOST_LEVELS, (self.stage_ps - begin_ps - each.end_ps) // max(1, each.ps)))
