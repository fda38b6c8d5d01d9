"""The schedule: from chosen kernels and FPGAs to exact cycles, with gathers, delays, crossings and link frames put in.

As soon as possible, step by step in topological order; no search. The planner's choices come in, a Design comes out.
An FPGA that does not fit one super logic region is scheduled twice: a draft says what lies between its kernels, and by
that they are given regions (`metronn.plan.floorplan`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from metronn.errors import InfeasibleError
from metronn.ir.names import sanitized
from metronn.plan.candidates.convert import conversion
from metronn.plan.candidates.steps import Step
from metronn.plan.design import Design, DesignOutput, FpgaDesign, Frame, FrameField, KernelInstance, PortFrame, Signal
from metronn.plan.floorplan import RECEIVES, SENDS, Regions, floorplan, one_region
from metronn.plan.frames.packing import (
    TAIL_BITS,
    VERDICT_CYCLES,
    WORD_BITS,
    FramePlan,
    link_latency_cycles,
    plan_frame,
)
from metronn.plan.frames.pieces import pieces_of
from metronn.plan.frames.signals import PORT_CYCLES, PORT_WORDS
from metronn.plan.hardware.resources import Resources
from metronn.plan.hardware.system import Link, System
from metronn.plan.kernels.kernels import AnyKernel, Kernels
from metronn.plan.kernels.spec import (
    Crossing,
    Delay,
    KernelSpec,
)
from metronn.plan.layout import Layout
from metronn.plan.options import OutputForm
from metronn.plan.port_words import entering_frame, leaving_frame, too_few_lanes


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
    enters: PortFrame | None = None
    kernels: list[KernelInstance] = field(default_factory=list)
    signals: dict[str, Signal] = field(default_factory=dict)
    of_value: dict[str, list[str]] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)

    def in_regions(self, regions: Regions) -> _Place:
        """Return a place of its own with the same signals, each where its value comes in."""
        moved = {name: replace(s, region=regions.of.get(s.value, 0)) for name, s in self.signals.items()}
        carried = {value: list(names) for value, names in self.of_value.items()}
        return _Place(self.index, self.offset, self.enters, list(self.kernels), moved, carried, set(self.names))

    def found(self, value: str, region: int) -> list[str]:
        """Names of the signals of a value in a region."""
        return [name for name in self.of_value[value] if self.signals[name].region == region]

    def add_signal(self, value: str, layout: Layout, first_cycle: int, suffix: str = "", region: int = 0) -> str:
        """Declare a signal carrying `value`; returns its name, unique on this FPGA."""
        base = sanitized(value).replace(".", "_") + suffix
        name, count = base, 1
        while name in self.signals or name in STRONG:
            count += 1
            name = f"{base}_{count}"
        self.signals[name] = Signal(name=name, value=value, layout=layout, first_cycle=first_cycle, region=region)
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


@dataclass(frozen=True, slots=True)
class _Filled:
    """An FPGA with all its kernels: what leaves as results, or the next FPGA behind the link."""

    fpga: FpgaDesign
    outputs: tuple[DesignOutput, ...] = ()
    following: _Place | None = None


STRONG = frozenset(("always", "eventually", "nexttime", "until", "until_with"))
"""Names that no signal has: it is `s_NAME` in SystemVerilog, and these are words of that language then."""


class Scheduler:
    """Places the steps of one graph on the FPGAs of one system."""

    def __init__(
        self,
        kernels: Kernels,
        system: System,
        outputs: OutputForm,
        inputs: Mapping[str, Layout],
        reserve: Sequence[Resources] = (),
        regions: int | None = None,
        *,
        words: FramePlan | None = None,
        output_lanes: int | None = None,
    ) -> None:
        """Keep what every step needs; `inputs`: the layout in which each input arrives.

        `reserve`: of each FPGA, what is kept free in every region; `regions`: how many of them are used at most.
        `words`: what the inputs come as, `output_lanes`: on how many lanes results leave as words at most; None where
        each has its own port.
        """
        self.kernels, self.system, self.form, self.inputs = kernels, system, outputs, inputs
        self.graph, self.reserve, self.regions = kernels.graph, reserve, regions
        self.words, self.output_lanes = words, output_lanes

    def run(self, steps: Sequence[Step], choices: Mapping[str, Choice]) -> Design:
        """Return the design. Raises InfeasibleError when the values that cross a link do not fit its frame."""
        count = max(choice.fpga for choice in choices.values()) + 1 if choices else 1
        shown = [output.value for output in self.graph.outputs]
        place = self._first_place()
        finished: list[FpgaDesign] = []
        received: Frame | None = None
        for index in range(count):
            here = [(step, choices[step.value].spec) for step in steps if choices[step.value].fpga == index]
            later = [s for s in steps if choices[s.value].fpga > index]
            needed = None if index == count - 1 else list(dict.fromkeys([x for s in later for x in s.inputs] + shown))
            filled = self._floorplanned(place, here, needed, received)
            finished.append(filled.fpga)
            if filled.following is None:
                return Design(
                    kernels=self.kernels,
                    system=self.system,
                    ii_cycles=self.system.ii,
                    fpgas=tuple(finished),
                    outputs=filled.outputs,
                )
            received, place = filled.fpga.sends, filled.following
        raise AssertionError("the last FPGA returns")

    def _first_place(self) -> _Place:
        """Return the first FPGA with the signals of the inputs."""
        place = _Place(0, 0)
        arrives = {} if self.words is None else self.words.first_cycles
        names = {
            node.name: place.add_signal(node.name, self.inputs[node.name], arrives.get(node.name, 0))
            for node in self.graph.inputs
        }
        if self.words is not None:
            place.enters = entering_frame(self.words, names, self.inputs)
        return place

    def _floorplanned(
        self,
        place: _Place,
        steps: Sequence[tuple[Step, KernelSpec]],
        needed: Sequence[str] | None,
        received: Frame | None,
    ) -> _Filled:
        """Fill an FPGA, and give its kernels regions where one does not hold all.

        Raises InfeasibleError when the regions cannot hold the kernels, or their boundaries what crosses.
        """
        draft = self._filled(place, steps, needed, received, Regions(of={}))
        fpga = self.system.fpgas[place.index]
        if len(fpga.region_budgets) == 1:
            return draft
        kept = self.reserve[place.index] if self.reserve else Resources()
        budgets = tuple(budget.without(kept) for budget in fpga.region_budgets[: self.regions])
        leaving = [output.signal for output in draft.outputs]
        crossing = fpga.device.crossing
        ends = {RECEIVES: place.index - 1, SENDS: place.index}
        links = {end: self.system.links[k] for end, k in ends.items() if 0 <= k < len(self.system.links)}
        asked = {end: fpga.link_region(link.line_rate_gbps) for end, link in links.items()}
        fixed = {end: region for end, region in asked.items() if region is not None}
        regions = floorplan(draft.fpga, leaving, self.graph, budgets, crossing.cycles, crossing.lines, fixed)
        if regions is None:
            carried = f", whose boundaries carry {crossing.lines:,} bits each" if crossing.lines else ""
            raise InfeasibleError(
                f"{fpga.name}: its kernels do not fit its {len(budgets)} super logic regions together{carried}."
            )
        if regions == one_region(draft.fpga, 0):
            return draft
        return self._filled(place, steps, needed, received, regions)

    def _filled(
        self,
        place: _Place,
        steps: Sequence[tuple[Step, KernelSpec]],
        needed: Sequence[str] | None,
        received: Frame | None,
        regions: Regions,
    ) -> _Filled:
        """Put the steps on an FPGA; `needed`: values that others need behind the link, None on the last one."""
        place = place.in_regions(regions)
        for step, spec in steps:
            self._place_step(place, step, spec, regions.of.get(step.value, 0))
        if needed is None:
            if self.output_lanes is not None:
                outputs, leaves = self._leave(place, received, self.output_lanes, regions.sends)
                return _Filled(self._finish(place, received, None, leaves), outputs)
            outputs = self._outputs(place, received)
            return _Filled(self._finish(place, received, None), outputs)
        crossing = [value for value in needed if value in place.of_value]
        sent, following = self._cross(place, crossing, self.system.links[place.index], received, regions.sends)
        return _Filled(self._finish(place, received, sent), following=following)

    def _finish(
        self, place: _Place, receives: Frame | None, sends: Frame | None, leaves: PortFrame | None = None
    ) -> FpgaDesign:
        return FpgaDesign(
            index=place.index,
            name=self.system.fpgas[place.index].name,
            offset_cycles=place.offset,
            kernels=tuple(sorted(place.kernels, key=lambda kernel: kernel.start_cycle)),
            signals=tuple(place.signals.values()),
            receives=receives,
            sends=sends,
            fabric=self.system.fpgas[place.index].device.fabric,
            enters=place.enters,
            leaves=leaves,
        )

    def _place_step(self, place: _Place, step: Step, spec: KernelSpec, region: int) -> None:
        """Add the step's kernel at the earliest cycle at which all its inputs can be there, with what brings them."""
        kernel = self.kernels.of(spec)
        sources = [self._in_layout(place, value, layout, region) for value, layout in kernel.inputs]
        start = max(place.signals[name].first_cycle for name in sources)
        inputs = tuple(self._delayed(place, name, start) for name in sources)
        latency = kernel.latency_cycles
        output = place.add_signal(step.value, kernel.output, start + latency, region=region)
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

    def _in_region(self, place: _Place, value: str, region: int) -> list[str]:
        """Return the signals of a value in a region, brought there as it was made when there is none."""
        found = place.found(value, region)
        if found:
            return found
        made = place.signals[place.of_value[value][0]]
        nearer = region + (1 if made.region > region else -1)
        name = next(n for n in self._in_region(place, value, nearer) if place.signals[n].layout == made.layout)
        registers = self.system.fpgas[place.index].device.crossing.cycles
        kernel = self.kernels.of(Crossing(value=value, layout=made.layout, registers=registers))
        came = place.signals[name].first_cycle
        output = place.add_signal(value, made.layout, came + registers, f"_in_region_{region}", region)
        self._add(place, f"{output}_crossing", kernel, (name,), output, came, registers)
        return [output]

    def _in_layout(self, place: _Place, value: str, layout: Layout, region: int) -> str:
        """Return the earliest signal of the value in the layout, converting another one when there is none."""
        there = self._in_region(place, value, region)
        names = [name for name in there if place.signals[name].layout == layout]
        if names:
            return min(names, key=lambda name: place.signals[name].first_cycle)
        found: list[tuple[int, str, AnyKernel]] = []
        for name in there:
            source = place.signals[name]
            way = conversion(self.kernels, value, source.layout, layout, self.system.ii)
            if way is not None:
                found.append((source.first_cycle + way.latency_cycles, name, way))
        if not found:
            carried = ", ".join(place.signals[name].layout.describe() for name in there)
            raise AssertionError(f"{value}: {carried} cannot become {layout.describe()}")
        first_cycle, name, kernel = min(found, key=lambda entry: entry[:2])
        source = place.signals[name]
        suffix = "_gathered" if layout.is_parallel else "_reordered"
        output = place.add_signal(value, layout, first_cycle, suffix, region)
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
        for other in place.found(signal.value, signal.region):
            same = place.signals[other]
            if same.layout == signal.layout and same.first_cycle == first_cycle:
                return other
        period = self.system.ii if signal.layout.beat_count > 1 else 0
        kernel = self.kernels.of(Delay(value=signal.value, layout=signal.layout, cycles=cycles, period=period))
        output = place.add_signal(signal.value, signal.layout, first_cycle, f"_after_{cycles}", signal.region)
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
                made = place.signals[place.of_value[output.value][0]]
                names[output.name] = self._in_layout(place, output.value, whole, made.region)
        least = 0 if received is None else received.words + VERDICT_CYCLES
        if self.form is OutputForm.PARALLEL:
            least = max([least, *(place.signals[name].first_cycle for name in names.values())])
        return tuple(
            DesignOutput(name=output, signal=self._delayed(place, name, max(place.signals[name].first_cycle, least)))
            for output, name in names.items()
        )

    def _leave(
        self, place: _Place, received: Frame | None, lanes: int, region: int
    ) -> tuple[tuple[DesignOutput, ...], PortFrame]:
        """Pack the results into words, from a region and in the beats in which they are made.

        The first word leaves no sooner than the received event's error flag is known. Raises InfeasibleError when the
        beats do not fit the lanes.
        """
        least = 0 if received is None else received.words + VERDICT_CYCLES - PORT_CYCLES
        values = list(dict.fromkeys(output.value for output in self.graph.outputs))
        made = [place.signals[self._in_region(place, value, region)[0]] for value in values]
        signals = [place.signals[self._delayed(place, s.name, max(s.first_cycle, least))] for s in made]
        plan = plan_frame(self.graph, signals, self.system.ii, lanes, form=PORT_WORDS)
        if plan is None:
            bits = sum(piece.bits for piece in pieces_of(self.graph, signals))
            raise InfeasibleError(too_few_lanes("output", lanes, bits, self.system.ii))
        packed = {signal.value: self._young_enough(place, signal, plan) for signal in signals}
        outputs = tuple(DesignOutput(name=o.name, signal=packed[o.value].name) for o in self.graph.outputs)
        return outputs, leaving_frame(plan, packed)

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

    def _cross(
        self, place: _Place, values: Sequence[str], link: Link, received: Frame | None, region: int
    ) -> tuple[Frame, _Place]:
        """Send values over the next link, from a region; returns the frame and the next FPGA with what it receives."""
        signals = [place.signals[self._in_region(place, value, region)[0]] for value in values]
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
