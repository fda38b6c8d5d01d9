"""What frames are packed from: the beats of signals, when they are there, and how good a packing is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from metronn.ir.graph import Graph
from metronn.plan.frames.signals import LINK_WORDS, Segment, Signal
from metronn.plan.layout import WireFormat, wire_format

LANE_BITS = 66
WORD_BITS, TAIL_BITS = LINK_WORDS.bits, LINK_WORDS.tail_bits
"""A lane's word with marker, valid and start flag; what a frame may use of it; and how much of this CRC, event counter
and error flag take at the end of every lane's last word (docs/links.md)."""


def beat_bits(wires: WireFormat, slots: int) -> int:
    """Bits of a beat that uses the first `slots` slots: they lie together at the low end of the vector."""
    last = wires.slots[slots - 1]
    return last.offset + last.width


@dataclass(frozen=True, slots=True, kw_only=True)
class FramePlan:
    """How values travel: words per lane, when word 0 is sent, and each value's first beat on the receiving side."""

    lanes: int
    words: int
    send_cycle: int
    segments: tuple[Segment, ...]
    first_cycles: Mapping[str, int]


Key = tuple[int, int, int]
"""What is least in the best frame: the end of the last value on the far side, the latest start, the lanes."""


@dataclass(frozen=True, slots=True)
class Piece:
    """The bits of one beat, waiting to be packed."""

    ready: int
    value: str
    beat: int
    bits: int


def pieces_of(graph: Graph, signals: Sequence[Signal]) -> list[Piece]:
    """Return all beats of the signals in the order in which they are there."""
    pieces = []
    for signal in signals:
        wires = wire_format(graph.type_of(signal.value), signal.layout)
        for beat, (cycle, elements) in enumerate(zip(signal.layout.cycles, signal.layout.beats, strict=True)):
            pieces.append(Piece(signal.first_cycle + cycle, signal.value, beat, beat_bits(wires, len(elements))))
    return sorted(pieces, key=lambda piece: piece.ready)


def first_cycles(signals: Sequence[Signal], complete: Mapping[tuple[str, int], int]) -> dict[str, int]:
    """Each value's first beat: the earliest cycle from which every beat is complete when its layout says.

    `complete`: the last word of each (value, beat).
    """
    return {
        signal.value: max(complete[signal.value, beat] - cycle for beat, cycle in enumerate(signal.layout.cycles))
        for signal in signals
    }


def frame_key(signals: Sequence[Signal], first: Mapping[str, int], send: int, lanes: int) -> Key:
    """Return what is compared between frames."""
    ends = max(send + first[signal.value] + signal.layout.span for signal in signals)
    return ends, send + max(first.values()), lanes


def last_words(segments: Iterable[Segment]) -> dict[tuple[str, int], int]:
    """Return the last word of each (value, beat)."""
    complete: dict[tuple[str, int], int] = {}
    for segment in segments:
        key = (segment.value, segment.beat)
        complete[key] = max(complete.get(key, 0), segment.word)
    return complete
