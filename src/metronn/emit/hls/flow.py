"""The plan of one FPGA as the HLS of a streamed design sees it: kernels, signals between them, and queues."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import assert_never

import numpy as np

from metronn.emit.hls.window import window_form
from metronn.ir.graph import Graph
from metronn.plan.design import Design, FpgaDesign, KernelInstance, Signal
from metronn.plan.kernels.kernels import Kernels
from metronn.plan.kernels.spec import (
    Crossing,
    Delay,
    Elementwise,
    FoldInputs,
    FoldOutputs,
    Gather,
    MatvecAdders,
    ReduceSerial,
    ReduceTree,
    Reorder,
    Streamed,
    Table,
    WindowBuffer,
    Wiring,
)
from metronn.plan.kernels.waiting.taps import element_map, input_layouts_of
from metronn.plan.layout import Layout

HANDOVER_CYCLES = 2
"""Cycles that a queue between two processes may add to those of the kernels in the plan."""

PIPELINE_CYCLES = 4
"""Cycles by which the pipeline of a process may be longer than its kernel in the plan before a queue is full."""


@dataclass(frozen=True, kw_only=True)
class Flow:
    """Kernels of one FPGA, and the signals they read and make.

    `plans`: what is planned of the kernels. `inputs`: (value, signal) of what enters. `outputs`: (name, signal) of what
    leaves. `streams`: whether tensors travel in beats through queues; else the graph says it all.
    """

    plans: Kernels
    kernels: tuple[KernelInstance, ...]
    signals: Mapping[str, Signal]
    inputs: tuple[tuple[str, str], ...]
    outputs: tuple[tuple[str, str], ...]
    ii_cycles: int
    streams: bool = True

    @property
    def graph(self) -> Graph:
        """The graph of the whole design."""
        return self.plans.graph

    @cached_property
    def _makers(self) -> Mapping[str, KernelInstance]:
        """Kernel that makes each signal."""
        return {kernel.output: kernel for kernel in self.kernels}

    @cached_property
    def processes(self) -> Mapping[str, int]:
        """How many processes in a row make each signal, itself included; what only waits passes the number on."""
        found: dict[str, int] = {}
        for kernel in self.kernels:
            before = max((found.get(signal, 0) for signal in kernel.inputs), default=0)
            found[kernel.output] = before + self.process_count(kernel)
        return found

    def process_count(self, kernel: KernelInstance) -> int:
        """Processes that a kernel is: none where it only waits, two where windows with padding are split."""
        if self.only_waits(kernel):
            return 0
        form = window_form(kernel.spec, self.graph) if isinstance(kernel.spec, WindowBuffer) else None
        return 2 if form is not None and form.is_split(self.ii_cycles) else 1

    @property
    def process_slack_cycles(self) -> int:
        """Cycles by which a process may be slower than its kernel of the plan before a queue is full."""
        return HANDOVER_CYCLES + PIPELINE_CYCLES

    @property
    def slack_cycles(self) -> int:
        """Cycles by which a path of processes may be slower than the kernels of the plan before a queue is full."""
        return self.process_slack_cycles * max(self.processes.values(), default=0)

    def origin(self, signal: str) -> tuple[str, int]:
        """Return the signal whose beats these are, and how many of them wait on the way at most.

        Delays, crossings, beats sent at other times, other shapes of the same beats: queues and names, no processes.
        """
        waiting = 0
        while signal in self._makers and self.only_waits(self._makers[signal]):
            kernel = self._makers[signal]
            waiting += self._waiting(kernel)
            signal = kernel.inputs[0]
        return signal, waiting

    def only_waits(self, kernel: KernelInstance) -> bool:
        """Whether the kernel puts out the beats it gets, slot by slot, whatever they are called and whenever."""
        match kernel.spec:
            case Delay() | Crossing():
                return True
            case Reorder(layout=layout, output=output):
                return layout.beats == output.beats
            case WindowBuffer() as spec:
                return _same_beats(spec, self.graph)
            case MatvecAdders() | FoldOutputs() | FoldInputs() | Elementwise() | Table() | ReduceTree():
                return False
            case Wiring() | Gather() | Streamed() | ReduceSerial():
                return False
            case _:
                assert_never(kernel.spec)

    def _waiting(self, kernel: KernelInstance) -> int:
        """Beats that wait at most in a kernel that only waits."""
        spec = kernel.spec
        assert isinstance(spec, Delay | Crossing | Reorder | WindowBuffer), f"{kernel.name}: does more than wait"
        if isinstance(spec, Delay):
            return self.depth(spec.layout, spec.cycles)
        if isinstance(spec, Crossing):
            return self.depth(spec.layout, spec.registers)
        leave = np.asarray(spec.output.cycles) + spec.offset
        come = np.searchsorted(np.asarray(input_layouts_of(spec)[0].cycles), leave, side="right")
        return int((come - np.arange(len(leave))).max()) + 1

    def depth(self, layout: Layout, cycles: int, *, joins: bool = True) -> int:
        """Beats in flight when each waits for `cycles` cycles and the other path, where ways join, may be slower."""
        slack = self.slack_cycles if joins else self.process_slack_cycles
        whole, rest = divmod(cycles + slack, self.ii_cycles)
        times = np.asarray(layout.cycles)
        times = np.concatenate([times, times + self.ii_cycles])
        most = np.searchsorted(times, times[: layout.beat_count] + rest, side="right") - np.arange(layout.beat_count)
        return max(2, whole * layout.beat_count + int(most.max()) + 1)


def _same_beats(spec: WindowBuffer, graph: Graph) -> bool:
    """Whether each beat of the result holds the elements of a beat of the one operand, in order."""
    if len(spec.layouts) != 1 or spec.output.beat_count != spec.layouts[0].beat_count:
        return False
    _, index = element_map(spec, graph)
    return all(
        tuple(index[np.asarray(beat)].tolist()) == came
        for beat, came in zip(spec.output.beats, spec.layouts[0].beats, strict=True)
    )


def design_streams(design: Design) -> bool:
    """Whether anything on any FPGA of a design travels in beats or takes several cycles of an event.

    It is one answer for all FPGAs, so that the output of one is the same port as the input of the next.
    """
    if any(not signal.layout.is_parallel for fpga in design.fpgas for signal in fpga.signals):
        return True
    return any(design.planned(kernel).cycles_per_event > 1 for fpga in design.fpgas for kernel in fpga.kernels)


def flow_of(design: Design, fpga: FpgaDesign) -> Flow:
    """Return the flow of one FPGA of a design."""
    if fpga.receives is None:
        signals: dict[str, str] = {}
        made = {kernel.output for kernel in fpga.kernels}
        for signal in fpga.signals:
            if signal.name not in made:
                signals.setdefault(signal.value, signal.name)
        inputs = tuple((node.name, signals[node.name]) for node in design.graph.inputs)
    else:
        inputs = tuple((field.value, field.target) for field in fpga.receives.fields)
    if fpga.sends is None:
        outputs = tuple((output.name, output.signal) for output in design.outputs)
    else:
        outputs = tuple((field.value, field.source) for field in fpga.sends.fields)
    return Flow(
        plans=design.kernels,
        kernels=fpga.kernels,
        signals=fpga.signal,
        inputs=inputs,
        outputs=outputs,
        ii_cycles=design.ii_cycles,
        streams=design_streams(design),
    )
