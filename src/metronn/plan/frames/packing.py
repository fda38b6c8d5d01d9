"""Frames: how the values that cross a link are cut into lane words, and when each bit is there on both sides.

Few beats are packed as they come, every word filled. Streams of many beats keep to columns of their own: every beat
travels in the same bits of the lane words, a constant number of cycles after it came, so that both ends of the link
are wires and a few pulses (`regular`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from metronn.ir.graph import Graph
from metronn.plan.frames.pieces import (
    LANE_BITS,
    TAIL_BITS,
    WORD_BITS,
    FramePlan,
    Key,
    Piece,
    beat_bits,
    first_cycles,
    frame_key,
    pieces_of,
)
from metronn.plan.frames.regular import regular_frame
from metronn.plan.frames.signals import LINK_WORDS, Segment, Signal, WordForm

__all__ = [
    "LANE_BITS",
    "TAIL_BITS",
    "WORD_BITS",
    "FramePlan",
    "beat_bits",
    "link_latency_cycles",
    "plan_frame",
]

TRANSMITTER_CYCLES = 3
RECEIVER_CYCLES = 5
MARGIN_CYCLES = 2
"""Registers of mnn_link_tx and mnn_link_rx, and the margin between the latest arrival and the release."""

VERDICT_CYCLES = 2
"""The receiver's error flag is there so many cycles after the cycle behind the last word of a frame (docs/links.md)."""

FEW_BEATS = 32
"""Frames of at most so many beats fill their words; each bit that waits does so in a register of its own."""


def link_latency_cycles(latency_max_cycles: int) -> int:
    """Cycles from a word at the transmitter's input to the same word at the receiver's output (docs/links.md)."""
    return TRANSMITTER_CYCLES + latency_max_cycles + MARGIN_CYCLES + RECEIVER_CYCLES


def plan_frame(
    graph: Graph,
    signals: Sequence[Signal],
    ii_cycles: int,
    lanes_available: int,
    flag_cycle: int = 0,
    form: WordForm = LINK_WORDS,
) -> FramePlan | None:
    """Pack the signals of one event into a frame of at most `ii_cycles` words a lane, or None when they do not fit.

    Over all lane counts and sending cycles the one whose last beat is complete first on the far side is taken, then
    the one whose beats start first, then the fewest lanes.
    """
    pieces = pieces_of(graph, signals)
    if len(pieces) > FEW_BEATS and any(signal.layout.beat_count > 1 for signal in signals):
        plan = regular_frame(pieces, signals, ii_cycles, lanes_available, flag_cycle, form)
        if plan is not None:
            return plan
    return _filled_frame(pieces, signals, ii_cycles, lanes_available, flag_cycle, form)


# Words filled one after the other

Bits = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Filling:
    """Pieces in order of readiness, as running totals: how many bits may go, and where each piece ends."""

    ready: Bits
    ends: Bits
    form: WordForm

    def done(self, lanes: int, send: int, words: int) -> Bits:
        """Bits sent by the end of each word: as many as are there, or as the words so far hold."""
        room = np.full(words, lanes * self.form.bits, dtype=np.int64)
        room[-1] = self.form.room_bits(lanes, 1)
        held = np.cumsum(room)
        count = np.searchsorted(self.ready, np.arange(send, send + words), side="right")
        there = np.concatenate([np.zeros(1, dtype=np.int64), self.ends])[count]
        return np.minimum(held, np.minimum.accumulate(there - held) + held)

    def fits(self, lanes: int, send: int, words: int) -> bool:
        """Whether everything is sent by the end of the last word."""
        return bool(self.done(lanes, send, words)[-1] == self.ends[-1])


def _filled_frame(
    pieces: Sequence[Piece],
    signals: Sequence[Signal],
    ii_cycles: int,
    lanes_available: int,
    flag_cycle: int,
    form: WordForm,
) -> FramePlan | None:
    filling = _Filling(
        np.array([piece.ready for piece in pieces]), np.array(list(accumulate(piece.bits for piece in pieces))), form
    )
    best: tuple[Key, int, int, dict[str, int]] | None = None
    for lanes in range(1, lanes_available + 1):
        found = _earliest(filling, lanes, ii_cycles, flag_cycle)
        if found is None:
            continue
        send, words = found
        word = np.searchsorted(filling.done(lanes, send, words), filling.ends).tolist()
        complete = {(piece.value, piece.beat): w for piece, w in zip(pieces, word, strict=True)}
        first = first_cycles(signals, complete)
        key = frame_key(signals, first, send, lanes)
        if best is None or key < best[0]:
            best = (key, send, words, first)
    if best is None:
        return None
    (_, _, lanes), send, words, first = best
    segments = _pack(pieces, lanes, send, words, form)
    return FramePlan(lanes=lanes, words=words, send_cycle=send, segments=segments, first_cycles=first)


def _earliest(filling: _Filling, lanes: int, ii_cycles: int, flag_cycle: int) -> tuple[int, int] | None:
    """Find the earliest sending cycle, and for it the fewest words, that carry everything.

    More words never make it worse, nor does sending later: both are found by bisection.
    """
    if int(filling.ends[-1]) > filling.form.room_bits(lanes, ii_cycles):
        return None
    low = max(int(filling.ready[0]), flag_cycle - ii_cycles + 1)
    high = max(int(filling.ready[-1]), low)
    if not filling.fits(lanes, high, ii_cycles):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if filling.fits(lanes, middle, ii_cycles) else (middle + 1, high)
    send = low
    few, many = max(1, flag_cycle - send + 1), ii_cycles
    while few < many:
        middle = (few + many) // 2
        few, many = (few, middle) if filling.fits(lanes, send, middle) else (middle + 1, many)
    return send, few


def _pack(pieces: Sequence[Piece], lanes: int, send: int, words: int, form: WordForm) -> tuple[Segment, ...]:
    """Fill words in order with what is there in time."""
    segments: list[Segment] = []
    position, done = 0, 0
    for word in range(words):
        room = form.bits - (form.tail_bits if word == words - 1 else 0)
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
    assert position == len(pieces), "a frame that fits holds all pieces"
    return tuple(segments)
