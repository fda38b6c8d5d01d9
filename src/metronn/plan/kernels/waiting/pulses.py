"""Pulses that drive memories and registers: which trains make them, and what those cost.

A kernel knows only the start of each event. Every other moment is derived from it: trains of pulses at fixed cycles
after the start, the same train some cycles later, and chosen pulses of a train.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from metronn.plan.hardware.fabric import Fabric
from metronn.plan.hardware.resources import Resources
from metronn.plan.kernels.pulse_trains import train_resources

SHIFTED_CYCLES = 12
"""Pulses delayed by at most this many cycles come from flip-flops in a row, later ones from counters."""


@dataclass(frozen=True, slots=True)
class Pulse:
    """High in the cycles `at` after the start of every event, all within one period.

    With `of`, `at` are some of the pulses `of`, told apart by their number.
    """

    at: tuple[int, ...]
    of: tuple[int, ...] = ()

    @property
    def train(self) -> tuple[int, ...]:
        """Cycles of the train it belongs to."""
        return self.of or self.at


@dataclass(frozen=True, slots=True)
class DelayedStart:
    """The start `cycles` later, made from the start delayed by `source` (0: start_i), at most a period before."""

    cycles: int
    source: int


@dataclass(frozen=True, slots=True)
class Train:
    """Pulses `at` from a train that begins with the start delayed by `start`. `index`: they are counted."""

    at: tuple[int, ...]
    start: int
    index: bool

    @property
    def cycles(self) -> tuple[int, ...]:
        """Cycles after its own start."""
        return tuple(c - self.start for c in self.at)


@dataclass(frozen=True, slots=True)
class Shifted:
    """Pulses `at`: the pulses `source`, `cycles` later."""

    at: tuple[int, ...]
    source: tuple[int, ...]
    cycles: int


@dataclass(frozen=True, slots=True)
class PulsePlan:
    """How all pulses of a kernel are made, in an order in which each needs only earlier ones."""

    starts: tuple[DelayedStart, ...]
    trains: tuple[Train | Shifted, ...]
    chosen: tuple[Pulse, ...]


def plan_pulses(pulses: Iterable[Pulse], counted: Iterable[tuple[int, ...]], period: int) -> PulsePlan:
    """Return how to make `pulses`; of the trains `counted` the number of each pulse is needed too.

    Events start `period` cycles apart or more; no train is longer than that.
    """
    wanted = list(dict.fromkeys(pulses))
    indexed = {*counted, *(pulse.of for pulse in wanted if pulse.of)}
    starts: dict[int, DelayedStart] = {}
    made: dict[tuple[int, ...], Train | Shifted] = {}
    for at in sorted({*(pulse.train for pulse in wanted), *indexed}):
        near = next((other for other in made if at not in indexed and _later(other, at)), None)
        if near is not None:
            made[at] = Shifted(at=at, source=near, cycles=at[0] - near[0])
            continue
        start = 0 if at[-1] < period else at[0]
        _delay(start, period, starts)
        made[at] = Train(at=at, start=start, index=at in indexed)
    return PulsePlan(tuple(starts.values()), tuple(made.values()), tuple(p for p in wanted if p.of))


def _later(source: tuple[int, ...], at: tuple[int, ...]) -> bool:
    """Whether the pulses `at` are the pulses `source` a few cycles later."""
    by = at[0] - source[0]
    if not 0 < by <= SHIFTED_CYCLES or len(at) != len(source):
        return False
    return all(b - a == by for a, b in zip(source, at, strict=True))


def _delay(cycles: int, period: int, starts: dict[int, DelayedStart]) -> None:
    """Add the start delayed by `cycles`, in steps of at most `period`."""
    if cycles and cycles not in starts:
        near = max((k for k in starts if k < cycles), default=0)
        for step in range(near + period, cycles, period):
            starts[step] = DelayedStart(cycles=step, source=near)
            near = step
        starts[cycles] = DelayedStart(cycles=cycles, source=near)


def pulses_resources(plan: PulsePlan, fabric: Fabric) -> Resources:
    """Estimate all pulses of a plan."""
    total = Resources()
    for start in plan.starts:
        total += _train((start.cycles - start.source,), fabric, index=False)
    for train in plan.trains:
        match train:
            case Train():
                total += _train(train.cycles, fabric, index=train.index)
            case Shifted():
                total += Resources(ff=train.cycles)
    return total + Resources(lut=sum(fabric.rom_luts(len(pulse.of)) for pulse in plan.chosen))


@lru_cache(maxsize=1024)
def _train(cycles: tuple[int, ...], fabric: Fabric, *, index: bool) -> Resources:
    return train_resources(cycles, fabric, index=index)


def in_flight(enter: Sequence[int], leave: Sequence[int], period: int) -> int:
    """Most intervals [enter, leave] that hold one cycle, when each is repeated every `period` cycles for ever."""
    if not enter:
        return 0
    base = 0
    steps: list[tuple[int, int]] = []
    for first, last in zip(enter, leave, strict=True):
        whole, rest = divmod(last - first + 1, period)
        base += whole
        if rest:
            begin = first % period
            end = begin + rest
            steps.append((begin, 1))
            if end != period:
                steps.append((end % period, -1))
            base += int(end > period)
    most = now = base
    for _, step in sorted(steps):
        now += step
        most = max(most, now)
    return most
