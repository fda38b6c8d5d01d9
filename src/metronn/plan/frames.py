"""Frames: how the values that cross a link are cut into lane words, and when each bit is there on both sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from metronn.ir.graph import Graph
from metronn.plan.design import Segment, Signal
from metronn.plan.layout import WireFormat, wire_format

WORD_BITS = 64
TAIL_BITS = 40
"""Bits of the last word of every lane that hold CRC, event counter and error flag (docs/links.md)."""

TRANSMITTER_CYCLES = 2
RECEIVER_CYCLES = 2
MARGIN_CYCLES = 2
"""Registers of mnn_link_tx and mnn_link_rx, and the margin between the latest arrival and the release."""


def link_latency_cycles(latency_max_cycles: int) -> int:
    """Cycles from a word at the transmitter's input to the same word at the receiver's output (docs/links.md)."""
    return TRANSMITTER_CYCLES + latency_max_cycles + MARGIN_CYCLES + RECEIVER_CYCLES


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


@dataclass(frozen=True, slots=True)
class _Piece:
    """The bits of one beat, waiting to be packed."""

    ready: int
    value: str
    beat: int
    bits: int


def _pieces(graph: Graph, signals: Sequence[Signal]) -> list[_Piece]:
    pieces = []
    for signal in signals:
        wires = wire_format(graph.type_of(signal.value), signal.layout)
        for beat, elements in enumerate(signal.layout.beats):
            bits = beat_bits(wires, len(elements))
            pieces.append(_Piece(signal.first_cycle + beat, signal.value, beat, bits))
    return sorted(pieces, key=lambda piece: piece.ready)


def _pack(pieces: Sequence[_Piece], lanes: int, send: int, words: int) -> tuple[Segment, ...] | None:
    """Fill words in order with what is there in time; None when the last word is full before everything is sent."""
    segments: list[Segment] = []
    position, done = 0, 0
    for word in range(words):
        room = WORD_BITS - (TAIL_BITS if word == words - 1 else 0)
        lane, bit = 0, 0
        while position < len(pieces) and pieces[position].ready <= send + word and lane < lanes:
            piece = pieces[position]
            width = min(piece.bits - done, room - bit)
            segments.append(
                Segment(word=word, lane=lane, bit=bit, value=piece.value, beat=piece.beat, offset=done, width=width)
            )
            done, bit = done + width, bit + width
            if done == piece.bits:
                position, done = position + 1, 0
            if bit == room:
                lane, bit = lane + 1, 0
    return tuple(segments) if position == len(pieces) else None


def _first_cycles(signals: Sequence[Signal], segments: Sequence[Segment]) -> dict[str, int]:
    """Each value's first beat: the earliest cycle from which every beat is complete one cycle after the other."""
    complete: dict[tuple[str, int], int] = {}
    for segment in segments:
        key = (segment.value, segment.beat)
        complete[key] = max(complete.get(key, 0), segment.word)
    return {
        signal.value: max(complete[signal.value, beat] - beat for beat in range(signal.layout.beat_count))
        for signal in signals
    }


def plan_frame(
    graph: Graph, signals: Sequence[Signal], ii_cycles: int, lanes_available: int, flag_cycle: int = 0
) -> FramePlan | None:
    """Pack the signals of one event into a frame of at most `ii_cycles` words a lane, or None when they do not fit.

    Over all lane counts and sending cycles the one whose last beat is complete first on the far side is taken, then
    the one whose beats start first, then the fewest lanes.
    """
    pieces = _pieces(graph, signals)
    total = sum(piece.bits for piece in pieces)
    earliest, latest = pieces[0].ready, pieces[-1].ready
    best: tuple[tuple[int, int, int], FramePlan] | None = None
    for lanes in range(1, lanes_available + 1):
        if total > lanes * (WORD_BITS * ii_cycles - TAIL_BITS):
            continue
        found = _earliest(pieces, lanes, earliest, max(latest, flag_cycle), ii_cycles, flag_cycle)
        if found is None:
            continue
        send, words, segments = found
        first = _first_cycles(signals, segments)
        ends = max(send + first[signal.value] + signal.layout.beat_count for signal in signals)
        key = (ends, send + max(first.values()), lanes)
        if best is None or key < best[0]:
            plan = FramePlan(lanes=lanes, words=words, send_cycle=send, segments=segments, first_cycles=first)
            best = (key, plan)
    return None if best is None else best[1]


def _earliest(
    pieces: Sequence[_Piece], lanes: int, earliest: int, latest: int, ii_cycles: int, flag_cycle: int
) -> tuple[int, int, tuple[Segment, ...]] | None:
    """Find the earliest sending cycle, and for it the fewest words, that carry everything."""
    for send in range(earliest, latest + 1):
        for words in range(max(1, flag_cycle - send + 1), ii_cycles + 1):
            segments = _pack(pieces, lanes, send, words)
            if segments is not None:
                return send, words, segments
    return None
