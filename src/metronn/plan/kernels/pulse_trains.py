"""Pulse trains: which cycles of an event a kernel acts in, as nested counters where they follow each other so.

A pattern of cycles is a nest when cycle = first + sum over levels of i_k * period_k, every i_k counting from 0 to
count_k - 1 with the innermost level fastest: beats of a row, rows of an image. Any other pattern is a ROM of bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from metronn.plan.hardware.fabric import Fabric
from metronn.plan.hardware.resources import Resources
from metronn.plan.hardware.timing import StagePath, Timing


@dataclass(frozen=True, slots=True, kw_only=True)
class Nest:
    """Cycles of a pulse train as nested counters.

    `first`: cycle of the first pulse. `levels`: (count, period in cycles) of each counter, the innermost one first; no
    level for a single pulse. `gaps[k]`: cycles from a pulse to the next one when counter k moves on and all counters
    inside it start again.
    """

    first: int
    levels: tuple[tuple[int, int], ...]

    @property
    def gaps(self) -> tuple[int, ...]:
        """Cycles to the next pulse, by the level that moves on."""
        inside, found = 0, []
        for count, period in self.levels:
            found.append(period - inside)
            inside += (count - 1) * period
        return tuple(found)

    @property
    def pulses(self) -> int:
        """Number of pulses."""
        total = 1
        for count, _ in self.levels:
            total *= count
        return total


def nest_of(cycles: Sequence[int]) -> Nest | None:
    """Return rising cycles as a nest of counters, or None when they are none.

    The levels are the fewest: no two of them could be one counter.
    """
    left = list(cycles)
    levels: list[tuple[int, int]] = []
    while len(left) > 1:
        period = left[1] - left[0]
        count = 2
        while count < len(left) and left[count] - left[count - 1] == period:
            count += 1
        if len(left) % count:
            return None
        offsets = [k * period for k in range(count)]
        for start in range(0, len(left), count):
            if any(left[start + k] - left[start] != offset for k, offset in enumerate(offsets)):
                return None
        levels.append((count, period))
        left = left[::count]
    return Nest(first=cycles[0], levels=tuple(levels))


def counter_bits(count: int) -> int:
    """Bits of a counter that counts to count - 1, at least 1."""
    return max(1, (count - 1).bit_length())


def wait_bits(nest: Nest) -> int:
    """Bits of the counter that waits for the next pulse; 0 when every gap is one cycle."""
    return (max([nest.first, *nest.gaps, 1]) - 1).bit_length()


def train_path(timing: Timing) -> StagePath:
    """From a counter over its end and that of those inside it to its next count."""
    return StagePath(what="counters of beats", ps=timing.luts(2).whole_ps + timing.sum(8).ps)


def train_resources(cycles: Sequence[int], fabric: Fabric, *, index: bool = False) -> Resources:
    """Estimate a train: a LUT and a flip-flop for each bit of its counters, a few LUTs to compare; a ROM its bits."""
    nest = nest_of(cycles)
    count = counter_bits(len(cycles))
    if nest is None:
        bits = counter_bits(cycles[-1] + 1)
        lut = fabric.rom_luts(cycles[-1] + 1) + bits + 2
        numbered = count if index else 0
        return Resources(lut=lut + numbered, ff=bits + 1 + numbered)
    if not nest.levels and not nest.first:
        return Resources()
    waits = wait_bits(nest)
    counters = sum(counter_bits(n) for n, _ in nest.levels)
    numbered = count if index and len(nest.levels) > 1 else 0
    ends = sum(-(-counter_bits(n) // fabric.lut_inputs) for n, _ in nest.levels)
    lut = waits + -(-waits // fabric.lut_inputs) + counters + ends + numbered + 1
    return Resources(lut=lut, ff=1 + waits + counters + numbered)
