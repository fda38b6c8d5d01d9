"""Frames of streams: every beat of a stream travels in the same columns of the lane words, as soon as it is there.

A stream whose beats are wider than the lanes takes several words a beat, at most as many as there are cycles between
its beats. Values of few beats, and the few beats of a stream that come before word 0 is sent, fill what is left free.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from metronn.plan.frames.pieces import (
    FramePlan,
    Key,
    Piece,
    first_cycles,
    frame_key,
    last_words,
)
from metronn.plan.frames.signals import Segment, Signal, WordForm

LOOSE_BEATS = 4
"""Values of at most so many beats are no streams."""

EARLY_BEATS = 2
"""So many beats of a stream may come before word 0 is sent and join it as they can; else the whole stream waits."""

Run = tuple[int, int, int]
"""Bits [bit +: width] of a lane: (lane, bit, width)."""


@dataclass(frozen=True, slots=True)
class _Stream:
    """Beats of one signal: bits of each, and the words each takes in columns of `column` bits."""

    signal: Signal
    bits: tuple[int, ...]
    words: int

    @property
    def column(self) -> int:
        """Bits of the lane words it owns."""
        return -(-max(self.bits) // self.words)

    @property
    def end(self) -> int:
        """Cycle of the last word when every beat is sent as it comes."""
        return self.signal.last_cycle + self.words - 1


def regular_frame(
    pieces: Sequence[Piece],
    signals: Sequence[Signal],
    ii_cycles: int,
    lanes_available: int,
    flag_cycle: int,
    form: WordForm,
) -> FramePlan | None:
    """Return the best frame with columns, or None when the columns do not fit the lanes or the words."""
    many = [signal for signal in signals if signal.layout.beat_count > LOOSE_BEATS]
    if not many:
        return None
    streamed = {signal.value for signal in many}
    bits = {signal.value: [0] * signal.layout.beat_count for signal in many}
    for piece in pieces:
        if piece.value in streamed:
            bits[piece.value][piece.beat] = piece.bits
    loose = [piece for piece in pieces if piece.value not in streamed]
    least = max(signal.first_cycle + signal.layout.span for signal in signals)
    best: tuple[Key, FramePlan] | None = None
    for lanes in range(1, lanes_available + 1):
        streams = _columns([_Stream(s, tuple(bits[s.value]), 1) for s in many], lanes * form.bits)
        if streams is None:
            continue
        plan = _earliest(streams, loose, signals, lanes, ii_cycles, flag_cycle, form)
        if plan is None:
            continue
        key = frame_key(signals, plan.first_cycles, plan.send_cycle, lanes)
        if best is None or key < best[0]:
            best = (key, plan)
        if key[0] == least:
            break
    return None if best is None else best[1]


def _columns(streams: list[_Stream], room: int) -> list[_Stream] | None:
    """Give the widest beats more words until all columns stand side by side."""
    while sum(stream.column for stream in streams) > room:
        widest = max(range(len(streams)), key=lambda k: (_grows(streams[k]), streams[k].column))
        stream = streams[widest]
        if not _grows(stream):
            return None
        streams[widest] = _Stream(stream.signal, stream.bits, stream.words + 1)
    return streams


def _grows(stream: _Stream) -> bool:
    return stream.column > 1 and stream.words < stream.signal.layout.spacing


def _earliest(
    streams: Sequence[_Stream],
    loose: Sequence[Piece],
    signals: Sequence[Signal],
    lanes: int,
    ii_cycles: int,
    flag_cycle: int,
    form: WordForm,
) -> FramePlan | None:
    first = min([*(stream.signal.first_cycle for stream in streams), *(piece.ready for piece in loose)])
    end = max(stream.end for stream in streams)
    least = max(first, flag_cycle - ii_cycles + 1, end - ii_cycles + 1)
    latest = max([least + 2, *(piece.ready for piece in loose), *(s.signal.first_cycle for s in streams)])
    tries = sorted({least, least + 1, least + 2, (least + latest + 1) // 2, latest})
    for send in tries:
        segments = _placed(streams, loose, lanes, send, ii_cycles, form)
        if segments is None:
            continue
        last = max(segment.word for segment in segments)
        over = any(s.word == last and s.bit + s.width > form.bits - form.tail_bits for s in segments)
        words = max(last + 1 + over, flag_cycle - send + 1)
        if words <= ii_cycles:
            known = first_cycles(signals, last_words(segments))
            return FramePlan(lanes=lanes, words=words, send_cycle=send, segments=tuple(segments), first_cycles=known)
    return None


def _placed(
    streams: Sequence[_Stream], loose: Sequence[Piece], lanes: int, send: int, ii_cycles: int, form: WordForm
) -> list[Segment] | None:
    """Place everything in words from cycle `send` on, or None when the columns or the free bits do not suffice."""
    early: list[Piece] = []
    begins: list[int] = []  # word of cycle 0 of each stream's layout
    skipped: list[int] = []
    for stream in streams:
        signal = stream.signal
        before = sum(signal.first_cycle + cycle < send for cycle in signal.layout.cycles)
        if before > EARLY_BEATS:
            before, begin = 0, 0
        else:
            begin = signal.first_cycle - send
            for beat, cycle in enumerate(signal.layout.cycles[:before]):
                early.append(Piece(signal.first_cycle + cycle, signal.value, beat, stream.bits[beat]))
        begins.append(begin)
        skipped.append(before)
    ends = [b + s.signal.layout.span - 1 + s.words - 1 for b, s in zip(begins, streams, strict=True)]
    if max(ends) >= ii_cycles:
        return None
    columns = _allocated([(s.column, end == ii_cycles - 1) for s, end in zip(streams, ends, strict=True)], lanes, form)
    if columns is None:
        return None
    placed = [
        _Placed(stream, begin, skip, runs, frozenset(stream.signal.layout.cycles[skip:]))
        for stream, begin, skip, runs in zip(streams, begins, skipped, columns, strict=True)
    ]
    rest = _filled([*loose, *early], placed, lanes, send, ii_cycles, form)
    if rest is None:
        return None
    return [segment for own in placed for segment in own.segments()] + rest


@dataclass(frozen=True, slots=True)
class _Placed:
    """A stream in its columns: cycle 0 of its layout is word `begin`, the first `skip` beats travel elsewhere."""

    stream: _Stream
    begin: int
    skip: int
    runs: list[Run]
    cycles: frozenset[int]

    def in_word(self, word: int) -> bool:
        """Whether a beat is in the columns in this word."""
        return any(word - self.begin - k in self.cycles for k in range(self.stream.words))

    def segments(self) -> Iterator[Segment]:
        """Yield the segments of all beats."""
        stream, layout = self.stream, self.stream.signal.layout
        for beat in range(self.skip, layout.beat_count):
            for k in range(stream.words):
                offset, left = k * stream.column, min(stream.column, stream.bits[beat] - k * stream.column)
                for lane, bit, width in self.runs:
                    if left <= 0:
                        break
                    part = min(width, left)
                    yield Segment(
                        word=self.begin + layout.cycles[beat] + k,
                        lane=lane,
                        bit=bit,
                        value=stream.signal.value,
                        beat=beat,
                        offset=offset,
                        width=part,
                    )
                    offset, left = offset + part, left - part


def _allocated(wanted: Sequence[tuple[int, bool]], lanes: int, form: WordForm) -> list[list[Run]] | None:
    """Give each (bits, also in the last possible word) its columns; those stay below the tail of their lanes."""
    free: list[Run] = [(lane, 0, form.bits) for lane in range(lanes)]
    found: list[list[Run]] = [[] for _ in wanted]
    for k in sorted(range(len(wanted)), key=lambda k: not wanted[k][1]):
        left, low = wanted[k]
        rest: list[Run] = []
        for lane, bit, width in free:
            room = min(width, form.bits - form.tail_bits - bit) if low else width
            part = max(0, min(room, left))
            if part:
                found[k].append((lane, bit, part))
            if width > part:
                rest.append((lane, bit + part, width - part))
            left -= part
        if left:
            return None
        free = rest
    return found


def _filled(
    pieces: Sequence[Piece], placed: Sequence[_Placed], lanes: int, send: int, ii_cycles: int, form: WordForm
) -> list[Segment] | None:
    """Fill the bits that no column takes with pieces, in the order in which they are there."""
    segments: list[Segment] = []
    waiting = sorted(pieces, key=lambda piece: piece.ready)
    position, done = 0, 0
    for word in range(ii_cycles):
        if position == len(waiting):
            break
        if waiting[position].ready > send + word:
            continue
        room = form.bits - (form.tail_bits if word == ii_cycles - 1 else 0)
        taken = [run for own in placed if own.in_word(word) for run in own.runs]
        for lane, start, width in _free(taken, lanes, room):
            bit = start
            while bit < start + width and position < len(waiting) and waiting[position].ready <= send + word:
                piece = waiting[position]
                part = min(piece.bits - done, start + width - bit)
                segments.append(
                    Segment(word=word, lane=lane, bit=bit, value=piece.value, beat=piece.beat, offset=done, width=part)
                )
                done, bit = done + part, bit + part
                if done == piece.bits:
                    position, done = position + 1, 0
    return segments if position == len(waiting) else None


def _free(taken: Sequence[Run], lanes: int, room: int) -> list[Run]:
    """Bits below `room` of every lane that are not taken."""
    found: list[Run] = []
    for lane in range(lanes):
        bit = 0
        for start, width in sorted((b, w) for own, b, w in taken if own == lane):
            if min(start, room) > bit:
                found.append((lane, bit, min(start, room) - bit))
            bit = start + width
        if bit < room:
            found.append((lane, bit, room - bit))
    return found
