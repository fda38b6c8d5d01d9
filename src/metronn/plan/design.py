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
from metronn.plan.frames.paths import receiver_resources, sender_resources
from metronn.plan.frames.signals import Frame, FrameField, Segment, Signal
from metronn.plan.hardware.fabric import Fabric
from metronn.plan.hardware.resources import Resources
from metronn.plan.hardware.system import System
from metronn.plan.hardware.timing import Timing
from metronn.plan.kernels.kernels import AnyKernel, Kernels
from metronn.plan.kernels.spec import Crossing, KernelSpec

__all__ = [
    "Design",
    "DesignOutput",
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

    `fabric`: what the ends of its links are built of, its own device's.
    """

    index: int
    name: str
    offset_cycles: int
    kernels: tuple[KernelInstance, ...]
    signals: tuple[Signal, ...]
    receives: Frame | None
    sends: Frame | None
    fabric: Fabric

    @cached_property
    def signal(self) -> Mapping[str, Signal]:
        """Signals by name."""
        return {signal.name: signal for signal in self.signals}

    def region_of(self, kernel: KernelInstance) -> int:
        """Number of the region a kernel is in: where its result is, also for what crosses into it."""
        return self.signal[kernel.output].region

    @property
    def receiver_region(self) -> int:
        """Number of the region of the link receiver: that of the signals it makes."""
        return next((self.signal[f.target].region for f in self.receives.fields), 0) if self.receives else 0

    @property
    def sender_region(self) -> int:
        """Number of the region of the link transmitter: that of the signals it takes."""
        return next((self.signal[f.source].region for f in self.sends.fields), 0) if self.sends else 0

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
        if self.receives is not None and self.receiver_region == region:
            total += receiver_resources(self.receives, self.fabric)
        if self.sends is not None and self.sender_region == region:
            total += sender_resources(self.sends, self.signal, self.fabric)
        return total

    @property
    def link_resources(self) -> Resources:
        """Estimate of the link transmitter and receiver, their frames, and the orbit counter."""
        total = Resources()
        if self.receives is not None:
            total += receiver_resources(self.receives, self.fabric)
        if self.sends is not None:
            total += sender_resources(self.sends, self.signal, self.fabric)
        return total


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
        """Cycles in which the beats of an event come in, from the first beat to the last of the longest input."""
        return max((signal.layout.span for signal in self.inputs.values()), default=1)

    @property
    def latency_cycles(self) -> int:
        """System cycles from the first input beat to the last beat of the last output: the promise."""
        last = self.fpgas[-1]
        return last.offset_cycles + max(last.signal[output.signal].last_cycle for output in self.outputs)

    @property
    def latency_ns(self) -> float:
        """The promise in nanoseconds."""
        return self.system.nanoseconds(self.latency_cycles)
