"""The design: after planning, every element of every tensor has a place and a time. A value; backends decide nothing.

Cycles inside an FPGA are local: 0 is the cycle in which the event starts there. FPGA 0 starts with the input beat, any
other with the first word of the received frame on the link receiver's output. Where inputs come as words, the input
beat is the first word. `offset_cycles` is the system cycle of an FPGA's local cycle 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from metronn.ir.graph import Graph
from metronn.plan.frames.paths import receiver_resources, sender_resources, words_in_resources, words_out_resources
from metronn.plan.frames.signals import PORT_CYCLES, AnyFrame, Frame, FrameField, PortFrame, Segment, Signal
from metronn.plan.hardware.fabric import Fabric
from metronn.plan.hardware.resources import Resources
from metronn.plan.hardware.system import System
from metronn.plan.hardware.timing import Timing
from metronn.plan.kernels.kernels import AnyKernel, Kernels
from metronn.plan.kernels.spec import Crossing, KernelSpec

__all__ = [
    "Design",
    "DesignOutput",
    "PortFrame",
    "FpgaDesign",
    "Frame",
    "FrameField",
    "KernelInstance",
    "Segment",
    "Signal",
]


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


@dataclass(frozen=True, kw_only=True)
class FpgaDesign:
    """One FPGA: its kernels in order of their start, its signals, and the frames it receives and sends.

    `fabric`: what the ends of its links are built of, its own device's. `enters`: the words that inputs come as, on the
    first FPGA; `leaves`: those that answers leave as, on the last one; None where ports are as wide as beats.
    """

    index: int
    name: str
    offset_cycles: int
    kernels: tuple[KernelInstance, ...]
    signals: tuple[Signal, ...]
    receives: Frame | None
    sends: Frame | None
    fabric: Fabric
    enters: PortFrame | None = None
    leaves: PortFrame | None = None

    @property
    def words_in(self) -> AnyFrame | None:
        """The frame whose words become signals here: what a link brings, or inputs that come as words."""
        return self.receives or self.enters

    @property
    def words_out(self) -> AnyFrame | None:
        """The frame that is made of signals here: what a link takes along, or answers that leave as words."""
        return self.sends or self.leaves

    @cached_property
    def signal(self) -> Mapping[str, Signal]:
        """Signals by name."""
        return {signal.name: signal for signal in self.signals}

    def region_of(self, kernel: KernelInstance) -> int:
        """Number of the region a kernel is in: where its result is, also for what crosses into it."""
        return self.signal[kernel.output].region

    @property
    def receiver_region(self) -> int:
        """Number of the region where words come in: that of the signals made of them."""
        return next((self.signal[f.target].region for f in self.words_in.fields), 0) if self.words_in else 0

    @property
    def sender_region(self) -> int:
        """Number of the region where words leave: that of the signals they are made of."""
        return next((self.signal[f.source].region for f in self.words_out.fields), 0) if self.words_out else 0

    @property
    def crossings(self) -> tuple[KernelInstance, ...]:
        """What brings values from one region into the next."""
        return tuple(kernel for kernel in self.kernels if isinstance(kernel.spec, Crossing))

    @property
    def resources(self) -> Resources:
        """Estimated resources of all kernels and links of the FPGA."""
        return sum((kernel.resources for kernel in self.kernels), Resources()) + self.link_resources

    def resources_in(self, region: int) -> Resources:
        """Estimated resources of what is in one region, by its number."""
        kernels = (kernel.resources for kernel in self.kernels if self.region_of(kernel) == region)
        total = sum(kernels, Resources())
        if self.receiver_region == region:
            total += self.words_in_resources
        if self.sender_region == region:
            total += self.words_out_resources
        return total

    @property
    def words_in_resources(self) -> Resources:
        """Estimate of what makes signals of words that come in, the link receiver included."""
        if self.receives is not None:
            return receiver_resources(self.receives, self.fabric)
        return words_in_resources(self.enters, self.fabric) if self.enters is not None else Resources()

    @property
    def words_out_resources(self) -> Resources:
        """Estimate of what makes the words that leave, the link transmitter included."""
        if self.sends is not None:
            return sender_resources(self.sends, self.signal, self.fabric)
        return words_out_resources(self.leaves, self.signal, self.fabric) if self.leaves is not None else Resources()

    @property
    def link_resources(self) -> Resources:
        """Estimate of the link transmitter and receiver, their frames, and the orbit counter; of words at the edge."""
        return self.words_in_resources + self.words_out_resources


@dataclass(frozen=True, slots=True, kw_only=True)
class DesignOutput:
    """A result: the graph output's name, and its signal on the last FPGA."""

    name: str
    signal: str


@dataclass(frozen=True, kw_only=True)
class Design:
    """A network placed and timed on a system. Kernels, cycles, FPGAs, lanes: all fixed.

    `kernels` are the planned kernels of the graph, whatever FPGA they are on. `prefix` begins the names of all emitted
    modules; a design that is nobody's build yet has none.
    """

    kernels: Kernels
    system: System
    ii_cycles: int
    fpgas: tuple[FpgaDesign, ...]
    outputs: tuple[DesignOutput, ...]
    prefix: str = ""

    @property
    def graph(self) -> Graph:
        """The network."""
        return self.kernels.graph

    @property
    def timing(self) -> Timing:
        """The rules that all its FPGAs keep."""
        return self.kernels.timing

    def planned(self, kernel: KernelInstance) -> AnyKernel:
        """Return the planned kernel of an instance."""
        return self.kernels.of(kernel.spec)

    @cached_property
    def inputs(self) -> Mapping[str, Signal]:
        """The signal on FPGA 0 that each input of the graph is, by its name: the one that no kernel makes."""
        first = self.fpgas[0]
        made = {kernel.output for kernel in first.kernels}
        own = {signal.value: signal for signal in reversed(first.signals) if signal.name not in made}
        return {node.name: own[node.name] for node in self.graph.inputs}

    @property
    def input_cycles(self) -> int:
        """Cycles in which an event comes in, from its first beat or word to the last."""
        enters = self.fpgas[0].enters
        if enters is not None:
            return enters.words
        return max((signal.first_cycle + signal.layout.span for signal in self.inputs.values()), default=1)

    @property
    def answer_cycle(self) -> int:
        """Local cycle of the last FPGA in which the answer begins: its first beat, or its first word."""
        last = self.fpgas[-1]
        if last.leaves is not None:
            return last.leaves.send_cycle + PORT_CYCLES
        return min(last.signal[output.signal].first_cycle for output in self.outputs)

    @property
    def latency_cycles(self) -> int:
        """System cycles from the first input beat to the last beat of the last output: the promise.

        Where inputs come as words it counts from the first word, where answers leave as words up to the last.
        """
        last = self.fpgas[-1]
        if last.leaves is not None:
            return last.offset_cycles + self.answer_cycle + last.leaves.words - 1
        return last.offset_cycles + max(last.signal[output.signal].last_cycle for output in self.outputs)

    @property
    def latency_ns(self) -> float:
        """The promise in nanoseconds."""
        return self.system.nanoseconds(self.latency_cycles)
