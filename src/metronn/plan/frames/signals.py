"""Signals and frames: values on wires of one FPGA, and what words carry of them, over links or at ports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from metronn.plan.layout import Layout


@dataclass(frozen=True, slots=True, kw_only=True)
class WordForm:
    """What a frame may use of its words: `bits` of each, less `tail_bits` at the end of every lane's last one."""

    bits: int
    tail_bits: int

    def room_bits(self, lanes: int, words: int) -> int:
        """Bits that a frame of so many words on so many lanes carries."""
        return lanes * (self.bits * words - self.tail_bits)


LINK_WORDS = WordForm(bits=63, tail_bits=40)
"""Words of links: a start flag in each; CRC, event counter and error flag in the last (docs/links.md)."""

PORT_WORDS = WordForm(bits=64, tail_bits=0)
"""Words of inputs and answers: data alone (docs/words.md)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """A value on wires of one FPGA: beat b is there in local cycle first_cycle + layout.cycles[b] of an event.

    `region`: number of the super logic region where it is made and read, 0 for the lowest.
    """

    name: str
    value: str
    layout: Layout
    first_cycle: int
    region: int = 0

    @property
    def last_cycle(self) -> int:
        """Local cycle of the last beat."""
        return self.first_cycle + self.layout.span - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Bits [offset +: width] of a beat of a value travel in bits [bit +: width] of a lane's word."""

    word: int
    lane: int
    bit: int
    value: str
    beat: int
    offset: int
    width: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameField:
    """A value in a frame: the sender's signal, and the signal the receiver makes of it."""

    value: str
    source: str
    target: str
    layout: Layout
    target_first_cycle: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What one link carries per event: `words` consecutive words on each of `lanes` lanes.

    Word 0 is given to the link transmitter in the sender's local cycle `send_cycle`; it is on the receiver's output in
    the receiver's local cycle 0, `latency_cycles` later, whatever the raw latency of the medium was.
    """

    link: int
    lanes: int
    words: int
    send_cycle: int
    latency_cycles: int
    fields: tuple[FrameField, ...]
    segments: tuple[Segment, ...]
    form: ClassVar[WordForm] = LINK_WORDS

    @property
    def payload_bits(self) -> int:
        """Bits of payload per event."""
        return sum(segment.width for segment in self.segments)


@dataclass(frozen=True, slots=True, kw_only=True)
class PortFrame:
    """What comes into the first FPGA, or leaves the last one, per event: consecutive words of data on each of `lanes`.

    Of inputs, word k is on the port in local cycle k; the source of a field is the input's name, and `send_cycle` is
    when word 0 can come, counted from the first beat, where the inputs are made in the beats of their layouts. Of
    answers, word k is made in local cycle `send_cycle` + k and is on the port PORT_CYCLES later; the target of a field
    is the value's name.
    """

    lanes: int
    words: int
    send_cycle: int
    fields: tuple[FrameField, ...]
    segments: tuple[Segment, ...]
    form: ClassVar[WordForm] = PORT_WORDS

    @property
    def payload_bits(self) -> int:
        """Bits of inputs or answers per event."""
        return sum(segment.width for segment in self.segments)


AnyFrame = Frame | PortFrame
"""A frame of either kind: what makes words of signals, and signals of words, is the same."""

PORT_CYCLES = 1
"""Words of answers leave from registers."""
