"""What devices allow at a clock: how much logic fits between two registers, and what it is made of.

The one place where clock period and device meet the kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from metronn.plan.hardware.boards import Device
from metronn.plan.hardware.fabric import Fabric, common

CLOCK_OVERHEAD_PS = 300
"""Clock-to-output, setup and skew: what a clock period has less for logic."""

MOST_LEVELS = 6
"""Adder levels of a stage however slow the clock: deeper ones save no register that matters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Rules of a design, the same on all its devices.

    `levels_per_stage`: adder levels (binary additions in a row) between two registers, at least 1. `fabric`: what
    kernels are built of.
    """

    levels_per_stage: int = 2
    fabric: Fabric

    @property
    def radix(self) -> int:
        """Terms one adder-tree stage sums into one: 2 ** levels_per_stage."""
        return 1 << self.levels_per_stage

    @staticmethod
    def of(devices: Sequence[Device], period_ps: float) -> Timing:
        """Return the rules that every one of the devices keeps at a clock period in picoseconds."""
        level = max(device.adder_level_ps for device in devices)
        levels = int((period_ps - CLOCK_OVERHEAD_PS) // level)
        return Timing(
            levels_per_stage=max(1, min(MOST_LEVELS, levels)), fabric=common(device.fabric for device in devices)
        )


def tree_stages(terms: int, timing: Timing) -> int:
    """Register stages of an adder tree that sums `terms` values to one (0 for a single value)."""
    stages = 0
    while terms > 1:
        terms = -(-terms // timing.radix)
        stages += 1
    return stages
