"""How much logic fits between two registers: the one place where clock period and device meet the kernels."""

from __future__ import annotations

from dataclasses import dataclass

ADDER_LEVEL_PS = {"xcup": 1100, "xcu": 1300, "xc7": 1700, "cyclonev": 1600, "ecp5": 3200}
"""Delay of one adder level (LUT, carry chain of about 20 bits, routing) in picoseconds, by the device's Yosys family.

Taken as a planning margin: logic and carry delays of the vendors' data sheets plus as much again for routing; two
levels at 360 MHz on UltraScale+ leaves 578 ps of 2,778 for clock-to-output, setup and skew. Implementation (rung 7)
is what confirms it.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Pipelining rules of a design.

    `levels_per_stage`: adder levels (binary additions in a row) between two registers, at least 1.
    """

    levels_per_stage: int = 2

    @property
    def radix(self) -> int:
        """Terms one adder-tree stage sums into one: 2 ** levels_per_stage."""
        return 1 << self.levels_per_stage

    @staticmethod
    def of(family: str, period_ps: float) -> Timing:
        """Return the rules for a device's Yosys family (see ADDER_LEVEL_PS) at a clock period in picoseconds."""
        level = ADDER_LEVEL_PS[family]
        return Timing(levels_per_stage=max(1, min(6, int((period_ps - 300) // level))))


def tree_stages(terms: int, timing: Timing) -> int:
    """Register stages of an adder tree that sums `terms` values to one (0 for a single value)."""
    stages = 0
    while terms > 1:
        terms = -(-terms // timing.radix)
        stages += 1
    return stages
