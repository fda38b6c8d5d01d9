"""The schedule: from chosen kernels and FPGAs to exact cycles, with gathers, delays and link frames put in.

As soon as possible, step by step in topological order; no search. The planner's choices come in, a Design comes out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from metronn.errors import InfeasibleError
from metronn.ir.names import sanitized
from metronn.plan.candidates.convert import conversion
from metronn.plan.candidates.steps import Step
from metronn.plan.design import Design, DesignOutput, FpgaDesign, Frame, FrameField, KernelInstance, Signal
from metronn.plan.frames.packing import (
    TAIL_BITS,
    VERDICT_CYCLES,
    WORD_BITS,
    FramePlan,
    link_latency_cycles,
    plan_frame,
)
from metronn.plan.hardware.system import Link, System
from metronn.plan.kernels.kernels import AnyKernel, Kernels
from metronn.plan.kernels.spec import (
    Delay,
    KernelSpec,
)
from metronn.plan.layout import Layout
from metronn.plan.options import OutputForm


@dataclass(frozen=True, slots=True)
class Choice:
    """What the solver decided for a step: its kernel and the index of its FPGA."""

    spec: KernelSpec
    fpga: int


@dataclass(slots=True)
class _Place:
    """An FPGA while it is being filled."""

    index: int
    offset: int
    kernels: list[KernelInstance] = field(default_factory=list)
    signals: dict[str, Signal] = field(default_factory=dict)
    of_value: dict[str, list[str]] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)

    def add_signal(self, value: str, layout: Layout, first_cycle: int, suffix: str = "") -> str:
        """Declare a signal carrying `value`; returns its name, unique on this FPGA."""
        base = sanitized(value).replace(".", "_") + suffix
        name, count = base, 1
        while name in self.signals or name in STRONG:
            count += 1
            name = f"{base}_{count}"
        self.signals[name] = Signal(name=name, value=value, layout=layout, first_cycle=first_cycle)
        self.of_value.setdefault(value, []).append(name)
        return name

    def kernel_name(self, base: str) -> str:
        """Return an instance name, unique on this FPGA."""
        name, count = base, 1
        while name in self.names:
            count += 1
            name = f"{base}_{count}"
        self.names.add(name)
        return name


STRONG = frozenset(("always", "eventually", "nexttime", "until", "until_with"))
"""Names that no signal has: it is `s_NAME` in SystemVerilog, and these are words of that language then."""


class Scheduler:
    """Places the steps of one graph on the FPGAs of one system."""

    def __init__(self, kernels: Kernels, system: System, outputs: OutputForm, inputs: Mapping[str, Layout]) -> None:
        """Keep what every step needs; `inputs`: the layout in which each input arrives."""
        self.kernels, self.system, self.form, self.inputs = kernels, system, outputs, inputs
        self.graph = kernels.graph

    def run(self, steps: Sequence[Step], choices: Mapping[str, Choice]) -> Design:
        """Return the design. Raises InfeasibleError when the values that cross a link do not fit its frame."""
        count = max(choice.fpga for choice in choices.values()) + 1 if choices else 1
        shown = [output.value for output in self.graph.outputs]
        place = _Place(0, 0)
        for node in self.graph.inputs:
            place.add_signal(node.name, self.inputs[node.name], 0)
        finished: list[FpgaDesign] = []
        received: Frame | None = None
        for index in range(count):
            for step in steps:
                if choices[step.value].fpga == index:
                    self._place_step(place, step, choices[step.value].spec)
            later = [s for s in steps if choices[s.value].fpga > index]
            if index == count - 1:
                outputs = self._outputs(place, received)
                finished.append(self._finish(place, received, None))
                return Design(
                    kernels=self.kernels,
                    system=self.system,
                    ii_cycles=self.system.ii,
                    fpgas=tuple(finished),
                    outputs=outputs,
                )
            needed = dict.fromkeys([x for s in later for x in s.inputs] + shown)
            crossing = [value for value in needed if value in place.of_value]
            sent, following = self._cross(place, crossing, self.system.links[index], received)
            finished.append(self._finish(place, received, sent))
            received, place = sent, following
        raise AssertionError("the last FPGA returns")

    def _finish(self, place: _Place, receives: Frame | None, sends: Frame | None) -> FpgaDesign:
        return FpgaDesign(
            index=place.index,
            name=self.system.fpgas[place.index].name,
            offset_cycles=place.offset,
            kernels=tuple(sorted(place.kernels, key=lambda kernel: kernel.start_cycle)),
            signals=tuple(place.signals.values()),
            receives=receives,
            sends=sends,
            fabric=self.system.fpgas[place.index].device.fabric,
        )

    def _place_step(self, place: _Place, step: Step, spec: KernelSpec) -> None:
        """Add the step's kernel at the earliest cycle at which all its inputs can be there, with what brings them."""
        kernel = self.kernels.of(spec)
        sources = [self._in_layout(place, value, layout) for value, layout in kernel.inputs]
        start = max(place.signals[name].first_cycle for name in sources)
        inputs = tuple(self._delayed(place, name, start) for name in sources)
        latency = kernel.latency_cycles
        output = place.add_signal(step.value, kernel.output, start + latency)
        base = f"{sanitized(step.source).replace('.', '_').lower()}_{kernel.kind_name}"
        self._add(place, base, kernel, inputs, output, start, latency)

    def _add(
        self,
        place: _Place,
        base: str,
        kernel: AnyKernel,
        inputs: tuple[str, ...],
        output: str,
        start: int,
        latency: int,
    ) -> None:
        place.kernels.append(
            KernelInstance(
                name=place.kernel_name(base),
                spec=kernel.spec,
                inputs=inputs,
                output=output,
                start_cycle=start,
                latency_cycles=latency,
                resources=kernel.resources,
            )
        )

    def _in_layout(self, place: _Place, value: str, layout: Layout) -> str:
        """Return the earliest signal of the value in the layout, converting another one when there is none."""
        names = [name for name in place.of_value[value] if place.signals[name].layout == layout]
        if names:
            return min(names, key=lambda name: place.signals[name].first_cycle)
        found: list[tuple[int, str, AnyKernel]] = []
        for name in place.of_value[value]:
            source = place.signals[name]
            way = conversion(self.kernels, value, source.layout, layout, self.system.ii)
            if way is not None:
                found.append((source.first_cycle + way.latency_cycles, name, way))
        if not found:
            carried = ", ".join(place.signals[name].layout.describe() for name in place.of_value[value])
            raise AssertionError(f"{value}: {carried} cannot become {layout.describe()}")
        first_cycle, name, kernel = min(found, key=lambda entry: entry[:2])
        source = place.signals[name]
        output = place.add_signal(value, layout, first_cycle, "_gathered" if layout.is_parallel else "_reordered")
        self._add(
            place, f"{output}_reorder", kernel, (name,), output, source.first_cycle, first_cycle - source.first_cycle
        )
        return output

    def _delayed(self, place: _Place, name: str, first_cycle: int) -> str:
        """Return a signal with the same beats that starts at `first_cycle`, delaying the given one if need be."""
        signal = place.signals[name]
        cycles = first_cycle - signal.first_cycle
        if cycles == 0:
            return name
        for other in place.of_value[signal.value]:
            same = place.signals[other]
            if same.layout == signal.layout and same.first_cycle == first_cycle:
                return other
        period = self.system.ii if signal.layout.beat_count > 1 else 0
        kernel = self.kernels.of(Delay(value=signal.value, layout=signal.layout, cycles=cycles, period=period))
        output = place.add_signal(signal.value, signal.layout, first_cycle, f"_after_{cycles}")
        self._add(place, f"{output}_delay", kernel, (name,), output, signal.first_cycle, cycles)
        return output

    def _outputs(self, place: _Place, received: Frame | None) -> tuple[DesignOutput, ...]:
        """Return the signals that leave as results, never before the received event's error flag is known.

        In the parallel form all results leave in the same cycle.
        """
        names = {}
        for output in self.graph.outputs:
            if self.form is OutputForm.STREAM:
                names[output.name] = place.of_value[output.value][0]
            else:
                whole = Layout.parallel(self.graph.type_of(output.value).size)
                names[output.name] = self._in_layout(place, output.value, whole)
        least = 0 if received is None else received.words + VERDICT_CYCLES
        if self.form is OutputForm.PARALLEL:
            least = max([least, *(place.signals[name].first_cycle for name in names.values())])
        return tuple(
            DesignOutput(name=output, signal=self._delayed(place, name, max(place.signals[name].first_cycle, least)))
            for output, name in names.items()
        )

    def _young_enough(self, place: _Place, signal: Signal, plan: FramePlan) -> Signal:
        """Delay a signal whose beats would wait more than one II to be sent: the next event is due by then."""
        waits = [
            plan.send_cycle + s.word - signal.first_cycle - signal.layout.cycles[s.beat]
            for s in plan.segments
            if s.value == signal.value
        ]
        late = max(waits) - self.system.ii
        if late <= 0:
            return signal
        return place.signals[self._delayed(place, signal.name, signal.first_cycle + late)]

    def _cross(self, place: _Place, values: Sequence[str], link: Link, received: Frame | None) -> tuple[Frame, _Place]:
        """Send values over the next link; returns the frame and the next FPGA with the received signals."""
        signals = [place.signals[place.of_value[value][0]] for value in values]
        flag_cycle = 0 if received is None else received.words + VERDICT_CYCLES
        plan = plan_frame(self.graph, signals, self.system.ii, link.lanes, flag_cycle)
        if plan is None:
            bits = sum(self.graph.type_of(value).total_bits for value in values)
            room = link.lanes * (WORD_BITS * self.system.ii - TAIL_BITS)
            raise InfeasibleError(
                f"link {link.from_fpga} -> {link.to_fpga}: {bits} bits an event cross here, "
                f"{link.lanes} lanes carry {room} in {self.system.ii} cycles."
            )
        signals = [self._young_enough(place, signal, plan) for signal in signals]
        latency = link_latency_cycles(link.latency_max_cycles)
        following = _Place(place.index + 1, place.offset + plan.send_cycle + latency)
        fields = []
        for signal in signals:
            target = following.add_signal(signal.value, signal.layout, plan.first_cycles[signal.value])
            fields.append(
                FrameField(
                    value=signal.value,
                    source=signal.name,
                    target=target,
                    layout=signal.layout,
                    target_first_cycle=plan.first_cycles[signal.value],
                )
            )
        frame = Frame(
            link=place.index,
            lanes=plan.lanes,
            words=plan.words,
            send_cycle=plan.send_cycle,
            latency_cycles=latency,
            fields=tuple(fields),
            segments=plan.segments,
        )
        return frame, following
