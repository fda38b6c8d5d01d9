"""The design: after planning, every element of every tensor has a place and a time. A value; backends decide nothing.

Cycles inside an FPGA are local: 0 is the cycle in which the event starts there. FPGA 0 starts with the input beat, any
other with the first word of the received frame on the link receiver's output. `offset_cycles` is the system cycle of
an FPGA's local cycle 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from metronn.ir.graph import Graph
from metronn.plan.kernels.spec import KernelSpec
from metronn.plan.layout import Layout
from metronn.plan.resources import Resources
from metronn.plan.system import System
from metronn.plan.timing import Timing


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
        """Estimate of the link transmitters and receivers."""
        total = Resources()
        for frame in (self.receives, self.sends):
            if frame is not None:
                total += Resources(
                    lut=420 * frame.lanes + 2 * frame.payload_bits, ff=330 * frame.lanes + frame.payload_bits
                )
        return total


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
