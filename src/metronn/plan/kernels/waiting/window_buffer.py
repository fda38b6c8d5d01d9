"""WindowBuffer and Reorder: delay lines, and for each output slot a choice of what they hold."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from metronn.ir.graph import Graph
from metronn.plan.hardware.fabric import Fabric
from metronn.plan.hardware.resources import Resources
from metronn.plan.hardware.timing import StagePath
from metronn.plan.kernels.planned import Inputs, PlannedKernel
from metronn.plan.kernels.spec import Reorder, WindowBuffer
from metronn.plan.kernels.waiting.cheapest_lines import Arrivals, Reads, build
from metronn.plan.kernels.waiting.choices import Choices, choices_of, choices_resources
from metronn.plan.kernels.waiting.lines import WIRE, Cell, cell_pulses, kept_bits, line_path, line_resources
from metronn.plan.kernels.waiting.pulses import Pulse, PulsePlan, plan_pulses, pulses_resources
from metronn.plan.kernels.waiting.taps import (
    UNUSED,
    Taps,
    graph_value,
    input_layouts_of,
    input_names,
    taps_of,
)
from metronn.plan.layout import Layout, wire_format

Index = npt.NDArray[np.int64]
Spec = WindowBuffer | Reorder
S = TypeVar("S", bound=Spec, covariant=True)


@dataclass(frozen=True, slots=True)
class Line:
    """Slots of one input (its port number) that wait together; each cell holds all of them, the first lowest."""

    operand: int
    slots: tuple[int, ...]
    width: int
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Held:
    """Slot `slot` of input `operand` as it is in a cell of a line, or on the wires (cell WIRE)."""

    operand: int
    slot: int
    line: int
    cell: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Everything a WindowBuffer or Reorder is built of.

    `sources[slot]`: what an output slot may hold. `choices`: how each beat chooses among them. `beat`: the pulses that
    move the choice to the next beat, None when nothing changes. `ahead`: they come a cycle before the choice is used.
    """

    period: int
    lines: tuple[Line, ...]
    sources: tuple[tuple[Held, ...], ...]
    choices: Choices
    beat: Pulse | None
    ahead: bool
    pulses: PulsePlan
    fill: int
    chooses: bool


def period_of(spec: Spec) -> int:
    """Cycles from the start of one event to the earliest start of the next."""
    return max(spec.period, *(layout.span for layout in (*input_layouts_of(spec), spec.output)))


def _memory(spec: Spec, graph: Graph, taps: Taps, fabric: Fabric) -> Memory:
    period = period_of(spec)
    lines, sources, select = _lines(spec, graph, taps, period, fabric)
    choices = choices_of(sources, select, fabric)
    ahead = spec.offset > 0
    beat = None
    if choices.bits:
        first = spec.offset - 1 if ahead else 0
        beat = Pulse(tuple(first + c for c in spec.output.cycles))
    wanted = [beat] if beat else []
    counted: list[tuple[int, ...]] = []
    for line in lines:
        pulses, indexed = cell_pulses(line.cells)
        wanted += pulses
        counted += indexed
    return Memory(
        period=period,
        lines=lines,
        sources=sources,
        choices=choices,
        beat=beat,
        ahead=ahead,
        pulses=plan_pulses(wanted, counted, period),
        fill=taps.fill,
        chooses=taps.chooses,
    )


def _lines(
    spec: Spec, graph: Graph, taps: Taps, period: int, fabric: Fabric
) -> tuple[tuple[Line, ...], tuple[tuple[Held, ...], ...], Index]:
    """Lines, sources of each output slot, and which of them each beat takes, PADDING or UNUSED."""
    layouts = input_layouts_of(spec)
    arrive = [np.asarray(layout.cycles) for layout in layouts]
    leave = spec.offset + np.asarray(spec.output.cycles)
    readers: dict[tuple[int, int], list[tuple[int, Index, Reads]]] = {}  # by input slot: output slot, its beats
    for column, sources in enumerate(taps.sources):
        by_slot: dict[tuple[int, int], list[tuple[Index, int]]] = {}
        for number, tap in enumerate(sources):
            beats = np.flatnonzero(taps.select[:, column] == number)
            by_slot.setdefault((tap.operand, tap.slot), []).append((beats, tap.delay))
        for place, pieces in by_slot.items():
            beats = np.concatenate([b for b, _ in pieces])
            delays = np.concatenate([np.full(len(b), delay) for b, delay in pieces])
            rising = np.argsort(beats, kind="stable")
            beats, delays = beats[rising], delays[rising]
            numbers = np.searchsorted(arrive[place[0]], leave[beats] - delays)
            readers.setdefault(place, []).append((column, beats, Reads(numbers, leave[beats])))
    widths = lane_widths(spec, graph, taps)
    alike: dict[object, list[tuple[int, int]]] = {}
    for place, found in sorted(readers.items()):
        keys = sorted({read.key for _, _, read in found})
        alike.setdefault((place[0], tuple(keys)), []).append(place)
    joined: dict[tuple[int, tuple[Cell, ...]], list[int]] = {}
    given: list[tuple[int, tuple[Cell, ...], Index, int, int, Index]] = []
    for places in alike.values():
        operand = places[0][0]
        different = {read.key: read for _, _, read in readers[places[0]]}
        width = sum(widths[place] for place in places)
        arrivals = Arrivals(cycles=layouts[operand].cycles, period=period, width=width, fabric=fabric)
        built = build(arrivals, list(different.values()), chooses=taps.chooses)
        position = {key: number for number, key in enumerate(different)}
        key = (operand, built.cells)
        for _, slot in places:
            joined.setdefault(key, []).append(slot)
            for column, beats, read in readers[operand, slot]:
                given.append((operand, built.cells, built.given[position[read.key]], slot, column, beats))
    order = {key: number for number, key in enumerate(key for key in joined if key[1])}
    lines = tuple(
        Line(
            operand=operand,
            slots=tuple(sorted(joined[operand, cells])),
            width=sum(widths[operand, slot] for slot in joined[operand, cells]),
            cells=cells,
        )
        for operand, cells in order
    )
    select = np.where(taps.select >= 0, UNUSED, taps.select)
    held: list[dict[Held, int]] = [{} for _ in taps.sources]
    for operand, cells, cell_of, slot, column, beats in given:
        for cell in np.unique(cell_of).tolist():
            line = order.get((operand, cells), 0) if cell != WIRE else 0
            source = Held(operand, slot, line, cell)
            number = held[column].setdefault(source, len(held[column]))
            select[beats[cell_of == cell], column] = number
    return lines, tuple(tuple(sources) for sources in held), select


def lane_widths(spec: Spec, graph: Graph, taps: Taps) -> dict[tuple[int, int], int]:
    """Bits that are kept of each slot (input, slot): no more than the widest output slot that takes it."""
    out = wire_format(graph.type_of(graph_value(spec)), spec.output).slots
    have = [
        [slot.width for slot in wire_format(graph.type_of(name), layout).slots]
        for name, layout in zip(input_names(spec, graph), input_layouts_of(spec), strict=True)
    ]
    needed: dict[tuple[int, int], int] = {}
    for slot, sources in zip(out, taps.sources, strict=True):
        for tap in sources:
            place = (tap.operand, tap.slot)
            needed[place] = max(needed.get(place, 0), min(slot.width, have[tap.operand][tap.slot]))
    return needed


class PlannedWaiting(PlannedKernel[S]):
    """Delay lines, and a choice of what they hold. Raises NotStreamableError when an element would leave too early."""

    multipliers = 0

    @cached_property
    def taps(self) -> Taps:
        """Which slot of which input, how many cycles ago, makes each slot of an output beat."""
        return taps_of(self.spec, self.graph)

    @cached_property
    def memory(self) -> Memory:
        """What the kernel is built of."""
        return _memory(self.spec, self.graph, self.taps, self.timing.fabric)

    @cached_property
    def lane_widths(self) -> dict[tuple[int, int], int]:
        """Bits that are kept of each slot (input, slot)."""
        return lane_widths(self.spec, self.graph, self.taps)

    @property
    def buffer_bits(self) -> int:
        """Bits kept by all delay lines; the register behind the choice is not one of them."""
        return sum(kept_bits(line.cells, line.width) for line in self.memory.lines)

    @property
    def latency_cycles(self) -> int:
        """The offset; one more where something is chosen."""
        return self.spec.offset + int(self.taps.chooses)

    @property
    def slowest(self) -> StagePath:
        """From a line, through the choice of what a slot holds where there is one."""
        memory = self.memory
        cells = [cell for line in memory.lines for cell in line.cells]
        read = [c.sources + len(c.pick) + (c.keep is not None) for c in memory.choices.columns]
        choice = self.timing.function(max(read, default=1)) if memory.chooses else None
        return line_path(cells, self.timing, choice)

    @cached_property
    def resources(self) -> Resources:
        """Lines, pulses, and the choice with its register; slots that hold the same in every beat share theirs."""
        memory, fabric = self.memory, self.timing.fabric
        total = pulses_resources(memory.pulses, fabric) + choices_resources(memory.choices, fabric, ahead=memory.ahead)
        for line in memory.lines:
            total += line_resources(line.cells, line.width, fabric)
        if memory.chooses:
            slots = wire_format(self.graph.type_of(self.result), self.spec.output).slots
            widths = [slot.width for slot in slots]
            for _, column, width in set(zip(memory.sources, memory.choices.columns, widths, strict=True)):
                total += Resources(ff=width, lut=column.luts(fabric) * width)
        return total

    @property
    def inputs(self) -> Inputs:
        """The operands, each in the layout it comes in."""
        return tuple(zip(input_names(self.spec, self.graph), input_layouts_of(self.spec), strict=True))

    @property
    def output(self) -> Layout:
        """The layout asked for."""
        return self.spec.output

    @property
    def cycles_per_event(self) -> int:
        """Cycles from the start of one event to the earliest start of the next."""
        return period_of(self.spec)


class PlannedWindowBuffer(PlannedWaiting[WindowBuffer]):
    """A Window or Rewire in time."""

    kind = "window_buffer"


class PlannedReorder(PlannedWaiting[Reorder]):
    """The same value in another layout."""

    kind = "reorder"
