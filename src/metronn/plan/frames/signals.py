"""Signals and frames: values on wires of one FPGA, and what a link carries of them."""

from __future__ import annotations

from dataclasses import dataclass

from metronn.plan.layout import Layout


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

    @property
    def payload_bits(self) -> int:
        """Bits of payload per event."""
        return sum(segment.width for segment in self.segments)
