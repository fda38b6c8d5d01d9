"""The design: after planning, every element of every tensor has a place and a time. A value; backends decide nothing.

Cycles inside an FPGA are local: 0 is the cycle in which the event starts there. FPGA 0 starts with the input beat, any
other with the first word of the received frame on the link receiver's output. `offset_cycles` is the system cycle of
an FPGA's local cycle 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from metronn.ir.graph import Graph
from metronn.plan.kernels.spec import KernelSpec
from metronn.plan.layout import Layout
from metronn.plan.resources import Resources
from metronn.plan.system import System
from metronn.plan.timing import Timing

LANE_TAIL_FROM_BIT = 24
"""Bits from here on hold a lane's check sum, event number and error flag in the last word (docs/links.md)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """A value on wires of one FPGA: beat b is there in local cycle first_cycle + b of an event."""

    name: str
    value: str
    layout: Layout
    first_cycle: int

    @property
    def last_cycle(self) -> int:
        """Local cycle of the last beat."""
        return self.first_cycle + self.layout.beat_count - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelInstance:
    """A kernel in its place: the signals it reads (in port order) and makes, and its start cycle."""

    name: str
    spec: KernelSpec
    inputs: tuple[str, ...]
    output: str
    start_cycle: int
    latency_cycles: int
    resources: Resources


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


@dataclass(frozen=True, kw_only=True)
class FpgaDesign:
    """One FPGA: its kernels in order of their start, its signals, and the frames it receives and sends."""

    index: int
    name: str
    offset_cycles: int
    kernels: tuple[KernelInstance, ...]
    signals: tuple[Signal, ...]
    receives: Frame | None
    sends: Frame | None

    @cached_property
    def signal(self) -> Mapping[str, Signal]:
        """Signals by name."""
        return {signal.name: signal for signal in self.signals}

    @property
    def resources(self) -> Resources:
        """Estimated resources of all kernels and links of the FPGA."""
        return sum((kernel.resources for kernel in self.kernels), Resources()) + self.link_resources

    @property
    def link_resources(self) -> Resources:
        """Estimate of the link transmitter and receiver, their frames, and the orbit counter."""
        total = Resources()
        if self.receives is not None:
            total += _receiver(self.receives)
        if self.sends is not None:
            total += _sender(self.sends, {field.value: self.signal[field.source] for field in self.sends.fields})
        return total


def _sender(frame: Frame, sources: Mapping[str, Signal]) -> Resources:
    """Frame and transmitter: per lane the check sum and the tail, per used bit two registers and its part of the sum.

    Bits that are always 0 cost nothing; one that is chosen among n sources takes (n - 1) / 2 LUTs, one sent later than
    it is there a register. Coefficients from `benchmarks/resources.py --kind link_tx`.
    """
    taken: dict[tuple[int, int], set[tuple[str, int, int]]] = {}
    kept = 0
    for s in frame.segments:
        late = sources[s.value].first_cycle + s.beat < frame.send_cycle + s.word
        kept += s.width * late
        for k in range(s.width):
            taken.setdefault((s.lane, s.bit + k), set()).add((s.value, s.beat if late else -1, s.offset + k))
    below_tail = sum(bit < LANE_TAIL_FROM_BIT for _, bit in taken)
    return Resources(
        lut=30 + 104 * frame.lanes + 15 * len(taken) // 4 + _choices(taken),
        ff=45 + 72 * frame.lanes + len(taken) + below_tail + kept,
    )


def _receiver(frame: Frame) -> Resources:
    """Receiver and frame: per lane the elastic buffer of 32 words, the check sum and the word that leaves.

    A bit that waits for later ones takes a register, one chosen among n places in the frame (n - 1) / 2 LUTs.
    Coefficients from `benchmarks/resources.py --kind link_rx`.
    """
    first = {field.value: field.target_first_cycle for field in frame.fields}
    found: dict[tuple[str, int], set[tuple[int, int, int]]] = {}
    kept = 0
    for s in frame.segments:
        early = s.word < first[s.value] + s.beat
        kept += s.width * early
        for k in range(s.width):
            found.setdefault((s.value, s.offset + k), set()).add((s.lane, s.bit + k, s.word if early else -1))
    return Resources(lut=70 + 400 * frame.lanes + _choices(found), ff=110 + 155 * frame.lanes + kept)


def _choices(sources: Mapping[tuple[Any, int], set[Any]]) -> int:
    """LUTs that choose each bit among its sources: each takes two more."""
    return -(-sum(len(some) - 1 for some in sources.values()) // 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class DesignOutput:
    """A result: the graph output's name, and its signal on the last FPGA."""

    name: str
    signal: str


@dataclass(frozen=True, kw_only=True)
class Design:
    """A network placed and timed on a system. Kernels, cycles, FPGAs, lanes: all fixed."""

    graph: Graph
    system: System
    timing: Timing
    ii_cycles: int
    fpgas: tuple[FpgaDesign, ...]
    outputs: tuple[DesignOutput, ...]

    @property
    def latency_cycles(self) -> int:
        """System cycles from the input beat to the last beat of the last output: the promise."""
        last = self.fpgas[-1]
        return last.offset_cycles + max(last.signal[output.signal].last_cycle for output in self.outputs)

    @property
    def latency_ns(self) -> float:
        """The promise in nanoseconds."""
        return self.system.nanoseconds(self.latency_cycles)
