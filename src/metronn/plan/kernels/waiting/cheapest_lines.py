"""How a delay line is built: the slots of an input that are read alike share one, in the cheapest of four ways.

- `constant`: a cell for each delay, every one continuing where the one before it ends (sliding windows);
- `queue`: one memory, written as beats come and read as they leave (other spacings of the same beats);
- `bank`: a register for each beat that waits at the same time as others (parallel outputs);
- `store`: a memory addressed by the number of the beat (beats in another order).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from metronn.plan.hardware.fabric import Fabric
from metronn.plan.hardware.resources import Resources
from metronn.plan.kernels.memories import takes_block
from metronn.plan.kernels.waiting.lines import (
    WIRE,
    Cell,
    Register,
    Ring,
    Shift,
    Store,
    cell_pulses,
    line_resources,
    value,
    word_cycles,
)
from metronn.plan.kernels.waiting.pulses import Pulse, in_flight, plan_pulses, pulses_resources

Index = npt.NDArray[np.int64]

MOST_REGISTERS, SHORTEST_RING = 8, 3
"""Registers in a row for one delay, and cycles from which on a memory is considered instead."""

MOST_BANK = 256
"""Registers of a bank."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """Beats of one input, `width` bits each: `cycles` after start; events come `period` cycles apart or more.

    `fabric`: what their line is built of.
    """

    cycles: tuple[int, ...]
    period: int
    width: int
    fabric: Fabric

    def gap(self, numbers: Index) -> int:
        """Fewest cycles from one of the beats `numbers` to the next of them, over the end of the event too."""
        at = np.asarray(self.cycles)[numbers]
        return int(np.diff(np.append(at, at[0] + self.period)).min())


@dataclass(frozen=True, slots=True)
class Reads:
    """One output slot reads beat `numbers[k]` in cycle `times[k]`, which rise."""

    numbers: Index
    times: Index

    @property
    def key(self) -> tuple[bytes, bytes]:
        """What makes two of them equal."""
        return self.numbers.tobytes(), self.times.tobytes()


@dataclass(frozen=True, slots=True)
class Built:
    """Cells of a line, and for each of its `Reads` the cell that gives each read."""

    cells: tuple[Cell, ...]
    given: tuple[Index, ...]


def build(arrivals: Arrivals, reads: Sequence[Reads], *, chooses: bool) -> Built:
    """Return the cheapest line; unless the kernel `chooses`, one whose every reader stays with one cell.

    What is quickly tried is tried first: the other ways give up when they cannot cost less.
    """
    best, least = None, float("inf")
    for way in (_queue, _store, _bank, _constant):
        for built in way(arrivals, reads, least):
            if not chooses and any((given != given[0]).any() for given in built.given):
                continue
            score = _score(arrivals, built)
            if score < least:
                best, least = built, score
    assert best is not None, "a line of constant delays can always be built"
    return best


def _score(arrivals: Arrivals, built: Built) -> float:
    pulses, counted = cell_pulses(built.cells)
    fabric = arrivals.fabric
    total = line_resources(built.cells, arrivals.width, fabric)
    total += pulses_resources(plan_pulses(pulses, counted, arrivals.period), fabric)
    total += Resources(lut=sum(fabric.mux_luts(len(set(given.tolist()))) for given in built.given) * arrivals.width)
    return value(total)


# A cell for each delay


def _constant(arrivals: Arrivals, reads: Sequence[Reads], least: float) -> Iterator[Built]:
    """Cells whose content lags by fixed numbers of cycles; each holds a beat until the next one comes."""
    cycles = np.asarray(arrivals.cycles)
    used = np.unique(np.concatenate([read.numbers for read in reads]))
    gap = arrivals.gap(used)
    at = tuple(cycles[used].tolist())
    delays = [read.times - cycles[read.numbers] for read in reads]
    waits = sorted({d for delay in delays for d in delay.tolist() if d})
    stages: list[tuple[int, list[int]]] = []
    for d in waits:
        if stages and d - gap + 1 <= stages[-1][1][0]:
            stages[-1][1].append(d)
        else:
            stages.append((0, [d]))
    if value(Resources(ff=len(stages) * arrivals.width)) >= least:
        return
    cells: list[Cell] = []
    cell_of = {0: WIRE}
    source, lag = WIRE, 0
    for _, served in stages:
        target = max(1, served[-1] - gap + 1)
        cells += _link(arrivals, at, gap, source, lag, target, len(cells))
        source, lag = len(cells) - 1, target
        cell_of.update(dict.fromkeys(served, source))
    given = tuple(np.asarray([cell_of[d] for d in delay.tolist()]) for delay in delays)
    yield Built(tuple(cells), given)


def _link(
    arrivals: Arrivals, at: tuple[int, ...], gap: int, source: int, lag: int, target: int, count: int
) -> list[Cell]:
    """Cells that make a lag of `target` from a source that lags `lag`; `count` cells are there already."""

    def pulse(cycles: int) -> Pulse | None:
        return None if gap == 1 else Pulse(tuple(c + cycles for c in at))

    def score(cells: Sequence[Cell]) -> float:
        pulses, _ = cell_pulses(cells)
        own = pulses_resources(plan_pulses(pulses, (), arrivals.period), arrivals.fabric)
        return value(line_resources(cells, arrivals.width, arrivals.fabric) + own)

    ways: list[list[Cell]] = []
    length = target - lag
    steps = [1] if source == WIRE else [lag + min(gap, length)]
    while steps[-1] < target:
        steps.append(min(steps[-1] + gap, target))
    if len(steps) <= MOST_REGISTERS and gap > 1:
        ways.append([Register(source if k == 0 else count + k - 1, pulse(step - 1)) for k, step in enumerate(steps)])
    if gap == 1:
        ways.append([Register(source, None) if length == 1 else Shift(source, length)])
    elif length > 1:
        ways.append([Shift(source, length - 1), Register(count, pulse(target - 1))])
    for block in (False, True) if length >= SHORTEST_RING else ():
        taken = target - word_cycles(block=block)
        push, pop = Pulse(tuple(c + lag for c in at)), Pulse(tuple(c + taken for c in at))
        depth = _depth(push, pop, arrivals.period)
        if block in takes_block(depth, arrivals.width):
            ways.append([Ring(source, push, pop, depth, block)])
        if gap == 1 and block in takes_block(taken - lag, arrivals.width):
            ways.append([Ring(source, None, None, taken - lag, block)])
    return min(ways, key=score)


def _depth(push: Pulse, pop: Pulse, period: int) -> int:
    """Words a ring needs; the word being taken may be the one being written."""
    return in_flight(push.at, [cycle - 1 for cycle in pop.at], period)


# A queue


def _queue(arrivals: Arrivals, reads: Sequence[Reads], least: float) -> Iterator[Built]:
    """One memory, read in the order it is written; what leaves sooner than it gives words does not go through it."""
    cycles = np.asarray(arrivals.cycles)
    numbers, times = np.concatenate([r.numbers for r in reads]), np.concatenate([r.times for r in reads])
    delays = times - cycles[numbers]
    for block in (False, True):
        ahead = word_cycles(block=block)
        queued = (delays > 0) & (_soon(arrivals, numbers, delays, ahead) == 0)
        if not queued.any():
            continue
        order = np.argsort(times[queued], kind="stable")
        n, t = numbers[queued][order], times[queued][order]
        if (np.diff(n) < 0).any() or ((np.diff(t) == 0) & (np.diff(n) != 0)).any():
            continue
        pushed, first = np.unique(n, return_index=True)
        pop = tuple((t[first] - ahead).tolist())
        push = tuple(cycles[pushed].tolist())
        if len(set(pop)) != len(pop) or t[-1] >= t[0] + arrivals.period or pop[-1] - pop[0] >= arrivals.period:
            continue
        depth = _depth(Pulse(push), Pulse(pop), arrivals.period)
        if block in takes_block(depth, arrivals.width):
            cells: list[Cell] = [Ring(WIRE, Pulse(push), Pulse(pop), depth, block)]
            yield _with_hold(arrivals, reads, cells, lambda read, k: np.zeros(len(k), dtype=np.int64), ahead)


def _soon(arrivals: Arrivals, numbers: Index, delays: Index, ahead: int) -> Index:
    """Which register in a row behind the wires gives each read, 0 where none does.

    None does unless some reads come sooner than a memory gives words that come out `ahead` cycles after they are taken.
    """
    register = np.zeros(len(delays), dtype=np.int64)
    fast = (delays > 0) & (delays <= ahead)
    if fast.any():
        register[(delays > 0) & (delays <= arrivals.gap(np.arange(len(arrivals.cycles))))] = 1
        register[fast & (register == 0)] = 2  # beats in every cycle, two cycles later
    return register


def _with_hold(
    arrivals: Arrivals, reads: Sequence[Reads], cells: list[Cell], others: Callable[[int, Index], Index], ahead: int
) -> Built:
    """Complete a line: wires for what leaves at once, registers for what leaves soon, `others` for the rest."""
    cycles = np.asarray(arrivals.cycles)
    delays = [read.times - cycles[read.numbers] for read in reads]
    every = _soon(arrivals, np.concatenate([r.numbers for r in reads]), np.concatenate(delays), ahead)
    given, start, hold = [], 0, len(cells)
    for number, delay in enumerate(delays):
        register = every[start : start + len(delay)]
        start += len(delay)
        cell = np.where(delay == 0, WIRE, hold - 1 + register)
        rest = np.flatnonzero((delay > 0) & (register == 0))
        cell[rest] = others(number, rest)
        given.append(cell)
    if every.any():
        cells = [*cells, Register(WIRE, Pulse(arrivals.cycles))]
    if (every == 2).any():
        cells = [*cells, Register(hold, None)]
    return Built(tuple(cells), tuple(given))


# A register for each beat that waits


def _bank(arrivals: Arrivals, reads: Sequence[Reads], least: float) -> Iterator[Built]:
    """Registers, each given to one beat after the other as they are free again."""
    cycles = np.asarray(arrivals.cycles)
    last = np.full(len(cycles), -1, dtype=np.int64)
    for read in reads:
        late = read.times > cycles[read.numbers]
        np.maximum.at(last, read.numbers[late], read.times[late])
    waiting = np.flatnonzero(last >= 0)
    if not waiting.size or (last - cycles)[waiting].max() > arrivals.period:
        return
    together = in_flight((cycles[waiting] + 1).tolist(), last[waiting].tolist(), arrivals.period)
    if together > MOST_BANK or value(Resources(ff=together * arrivals.width)) >= least:
        return
    of_beat = np.full(len(cycles), WIRE, dtype=np.int64)
    owners: list[list[int]] = []
    for n in waiting.tolist():
        for k, owned in enumerate(owners):
            if last[owned[-1]] <= cycles[n] and last[n] <= cycles[owned[0]] + arrivals.period:
                owned.append(n)
                of_beat[n] = k
                break
        else:
            of_beat[n] = len(owners)
            owners.append([n])
    at = arrivals.cycles
    cells: list[Cell] = []
    for owned in owners:
        own = tuple(at[n] for n in owned)
        cells.append(Register(WIRE, Pulse(own) if len(owners) == 1 else Pulse(own, of=at)))
    given = []
    for read in reads:
        cell = of_beat[read.numbers]
        cell[read.times == cycles[read.numbers]] = WIRE
        given.append(cell)
    yield Built(tuple(cells), tuple(given))


# A memory by number of the beat


def _store(arrivals: Arrivals, reads: Sequence[Reads], least: float) -> Iterator[Built]:
    """A memory for each reader, read in any order; what leaves sooner than it gives words does not go through it."""
    cycles = np.asarray(arrivals.cycles)
    numbers = np.concatenate([read.numbers for read in reads])
    delays = [read.times - cycles[read.numbers] for read in reads]
    for block in (False, True):
        ahead = word_cycles(block=block)
        every = _soon(arrivals, numbers, np.concatenate(delays), ahead)
        cells: list[Cell] = []
        of_reader: dict[int, int] = {}
        start = 0
        for number, (read, delay) in enumerate(zip(reads, delays, strict=True)):
            rest = np.flatnonzero((delay > 0) & (every[start : start + len(delay)] == 0))
            start += len(delay)
            if not rest.size:
                continue
            kinds = [kind for kind in (block, not block) if delay[rest].min() > word_cycles(block=kind)]
            stores = [_memory_of(arrivals, read.numbers[rest], read.times[rest], kind) for kind in kinds]
            found = [store for store in stores if store is not None]
            if not found:
                break
            of_reader[number] = len(cells)
            cells.append(found[0])
        else:
            if any(isinstance(cell, Store) and cell.block == block for cell in cells):
                yield _with_hold(arrivals, reads, cells, _cells_of(of_reader), ahead)


def _cells_of(of_reader: Mapping[int, int]) -> Callable[[int, Index], Index]:
    """Return the cell of a reader for each of so many reads."""
    return lambda read, k: np.full(len(k), of_reader.get(read, WIRE), dtype=np.int64)


def _memory_of(arrivals: Arrivals, numbers: Index, times: Index, block: bool) -> Store | None:
    """Return the memory from which beats `numbers` leave at `times`; None where it is too small or too large for it."""
    cycles = np.asarray(arrivals.cycles)
    pushed, words = np.unique(numbers, return_inverse=True)
    leave = times - word_cycles(block=block)
    if leave[-1] - leave[0] >= arrivals.period:
        return None
    banks = -(-int((leave - cycles[numbers]).max() + 1) // arrivals.period)
    banks = 1 << (banks - 1).bit_length()
    entries = banks << (len(pushed) - 1).bit_length()
    if block not in takes_block(entries, arrivals.width):
        return None
    push, pop = Pulse(tuple(cycles[pushed].tolist())), Pulse(tuple(leave.tolist()))
    return Store(push, pop, tuple(words.ravel().tolist()), banks, block)
