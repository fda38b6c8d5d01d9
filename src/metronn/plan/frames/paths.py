"""Paths through the ends of a link: which bits go where in which cycles, and where they wait in between.

Bits with the same source, target and cycles are one path. What waits is kept by the least that can keep it: nothing,
one register that is written again in time, or a memory that holds what is in flight.
"""

from __future__ import annotations

import enum
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from metronn.plan.frames.pieces import TAIL_BITS, WORD_BITS
from metronn.plan.frames.signals import AnyFrame, Frame, PortFrame, Signal
from metronn.plan.hardware.fabric import Fabric
from metronn.plan.hardware.resources import Resources
from metronn.plan.kernels.memories import memory_resources, takes_block

FEW = 4
"""So few beats that wait longer than their successors take to come have a register each, no memory."""

WORDS = ""
"""As source or target of a path: what frames may use of the words, n bits a lane, lane k in bits [n k +: n]."""


BLOCK_FROM_BITS = 8192
"""Rings of more bits are block RAM, where they are deep enough for it."""


def ring_block(width: int, depth: int) -> bool:
    """Whether a ring is block RAM."""
    choices = takes_block(depth, width)
    return choices[-1] and (False not in choices or width * depth > BLOCK_FROM_BITS)


class Storage(enum.Enum):
    """Where the bits of a path wait."""

    WIRE = "wire"
    REGISTER = "register"
    RING = "ring"


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """Bits [source_bit +: width] of a source, there in the cycles `arrive`, on bits of a target in the cycles `leave`.

    `depth`: words of the ring, else 0.
    """

    source: str
    source_bit: int
    target: str
    target_bit: int
    width: int
    arrive: tuple[int, ...]
    leave: tuple[int, ...]
    storage: Storage
    depth: int = 0


Place = tuple[str, int, str, int, int]
Times = list[tuple[int, int]]


def sender_paths(frame: AnyFrame, signals: Mapping[str, Signal]) -> tuple[Path, ...]:
    """Paths from the sender's signals, by name, to the lane words; cycles are the sender's."""
    source = {field.value: signals[field.source] for field in frame.fields}
    moves: dict[Place, Times] = {}
    for s in frame.segments:
        signal = source[s.value]
        place = (signal.name, s.offset, WORDS, s.lane * frame.form.bits + s.bit, s.width)
        there = signal.first_cycle + signal.layout.cycles[s.beat]
        moves.setdefault(place, []).append((there, frame.send_cycle + s.word))
    return _paths(moves, _period(frame))


def receiver_paths(frame: AnyFrame) -> tuple[Path, ...]:
    """Paths from the lane words to the receiver's signals; cycles are the receiver's."""
    fields = {field.value: field for field in frame.fields}
    moves: dict[Place, Times] = {}
    for s in frame.segments:
        field = fields[s.value]
        place = (WORDS, s.lane * frame.form.bits + s.bit, field.target, s.offset, s.width)
        moves.setdefault(place, []).append((s.word, field.target_first_cycle + field.layout.cycles[s.beat]))
    return _paths(moves, _period(frame))


def _period(frame: AnyFrame) -> int:
    """Least distance of events that the frame itself implies."""
    return max([frame.words, *(field.layout.span for field in frame.fields)])


def _paths(moves: Mapping[Place, Times], period: int) -> tuple[Path, ...]:
    found: list[Path] = []
    for (source, source_bit, target, target_bit, width), times in _joined(moves):
        for storage, chosen, depth in _stored(times, period):
            found.append(
                Path(
                    source=source,
                    source_bit=source_bit,
                    target=target,
                    target_bit=target_bit,
                    width=width,
                    arrive=tuple(a for a, _ in chosen),
                    leave=tuple(b for _, b in chosen),
                    storage=storage,
                    depth=depth,
                )
            )
    return tuple(sorted(found, key=lambda path: (path.target, path.target_bit, path.leave[0])))


def _joined(moves: Mapping[Place, Times]) -> list[tuple[Place, Times]]:
    """Join neighbours that stay neighbours and move in the same cycles."""
    alike: dict[tuple[str, str, tuple[tuple[int, int], ...]], list[tuple[int, int, int]]] = {}
    for (source, source_bit, target, target_bit, width), times in moves.items():
        key = (source, target, tuple(sorted(times)))
        alike.setdefault(key, []).append((source_bit, target_bit, width))
    found: list[tuple[Place, Times]] = []
    for (source, target, together), runs in alike.items():
        joined: list[tuple[int, int, int]] = []
        for source_bit, target_bit, width in sorted(runs):
            a, b, n = joined[-1] if joined else (-1, -1, 0)
            if n and a + n == source_bit and b + n == target_bit:
                joined[-1] = (a, b, n + width)
            else:
                joined.append((source_bit, target_bit, width))
        found += [((source, a, target, b, n), list(together)) for a, b, n in joined]
    return found


def _stored(times: Times, period: int) -> Iterator[tuple[Storage, Times, int]]:
    """Split a path's beats by where they wait."""
    passing = [(a, b) for a, b in times if a == b]
    if passing:
        yield Storage.WIRE, passing, 0
    late = [(a, b) for a, b in times if a < b]
    if not late:
        return
    if _outlasts(late, period):
        yield Storage.REGISTER, late, 0
        return
    by_wait: dict[int, Times] = {}
    for a, b in late:
        by_wait.setdefault(b - a, []).append((a, b))
    for wait, same in by_wait.items():
        if len(same) > FEW and _outlasts(same, period):
            yield Storage.REGISTER, same, 0
        elif len(same) > FEW:
            yield Storage.RING, same, _depth([a for a, _ in same], wait, period)
        else:
            yield from ((Storage.REGISTER, [one], 0) for one in same)


def _outlasts(times: Times, period: int) -> bool:
    """Whether one register, written at every arrival, still holds each beat when it leaves."""
    if len(times) == 1:
        return True
    following = [a for a, _ in times[1:]] + [times[0][0] + period]
    return all(b <= after for (_, b), after in zip(times, following, strict=True))


def _depth(arrivals: Sequence[int], wait: int, period: int) -> int:
    """Most beats on their way at once, the one that leaves and the one that comes both counted."""
    events = -(-wait // period) + 1
    times = [a + n * period for n in range(events) for a in arrivals]
    return max(bisect_right(times, a + wait - 1) - k for k, a in enumerate(arrivals))


# What the ends of a link cost


def sender_resources(frame: Frame, signals: Mapping[str, Signal], fabric: Fabric) -> Resources:
    """Frame and transmitter: per lane the check sum and the tail, per used bit three registers and its part of the sum.

    Bits that are always 0 cost nothing; one that is chosen among n sources takes (n - 1) / 2 LUTs, one that waits a
    register or its part of a memory. Coefficients from `benchmarks/resources.py --kind link_tx`.
    """
    paths = sender_paths(frame, signals)
    taken = _choices(paths)
    below_tail = sum(bit % WORD_BITS < WORD_BITS - TAIL_BITS for _, bit in taken)
    return _kept(paths, fabric) + Resources(
        lut=30 + 264 * frame.lanes + 15 * len(taken) // 4 + _choice_luts(taken.values()),
        ff=65 + 122 * frame.lanes + 2 * len(taken) + below_tail,
    )


def receiver_resources(frame: Frame, fabric: Fabric) -> Resources:
    """Receiver and frame: per lane the elastic buffer of 32 words, its word in four stages, the check sum.

    A bit that waits for later ones takes a register or its part of a memory, one chosen among n places in the frame
    (n - 1) / 2 LUTs. Coefficients from `benchmarks/resources.py --kind link_rx`.
    """
    paths = receiver_paths(frame)
    return _kept(paths, fabric) + Resources(
        lut=65 + 500 * frame.lanes + _choice_luts(_choices(paths).values()),
        ff=118 + 414 * frame.lanes,
    )


def words_in_resources(frame: PortFrame, fabric: Fabric) -> Resources:
    """What makes signals of the words of inputs: bits that wait for later words, and those chosen among words."""
    paths = receiver_paths(frame)
    return _kept(paths, fabric) + Resources(lut=_choice_luts(_choices(paths).values()))


def words_out_resources(frame: PortFrame, signals: Mapping[str, Signal], fabric: Fabric) -> Resources:
    """What makes the words of answers: bits that wait, and for each used bit a register and its choice of sources.

    A source is let through in its cycles and is 0 else.
    """
    paths = sender_paths(frame, signals)
    taken = _choices(paths)
    luts = sum(_gated_luts(count, fabric) for count in taken.values())
    return _kept(paths, fabric) + Resources(lut=luts, ff=len(taken))


def _gated_luts(sources: int, fabric: Fabric) -> int:
    """LUTs of a bit that is any of its sources, each in its cycles: in LUTs of 6 inputs 5 for 8 sources, 1 at least.

    Counted with Yosys for 2 to 7 sources (1, 1, 2, 3, 3 and 4).
    """
    return max(1, 15 * sources // (4 * fabric.lut_inputs))


def _choices(paths: Iterable[Path]) -> dict[tuple[str, int], int]:
    """How many paths end on each bit."""
    found: dict[tuple[str, int], int] = {}
    for path in paths:
        for k in range(path.width):
            key = (path.target, path.target_bit + k)
            found[key] = found.get(key, 0) + 1
    return found


def _choice_luts(counts: Iterable[int]) -> int:
    return -(-sum(count - 1 for count in counts) // 2)


def _kept(paths: Iterable[Path], fabric: Fabric) -> Resources:
    total = Resources()
    for path in paths:
        if path.storage is Storage.REGISTER:
            total += Resources(ff=path.width)
        elif path.storage is Storage.RING:
            total += _ring_resources(path.width, path.depth, fabric)
    return total


def _ring_resources(width: int, depth: int, fabric: Fabric) -> Resources:
    """A memory of `depth` words, its two pointers and their increments."""
    pointers = 2 * (depth - 1).bit_length()
    memory = memory_resources(depth, width, fabric, block=ring_block(width, depth))
    return memory + Resources(lut=2 * pointers, ff=pointers)
