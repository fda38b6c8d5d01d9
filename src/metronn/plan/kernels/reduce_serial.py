"""Reductions over a stream: the elements of one beat meet in a tree, the beats in an accumulator.

A lane is the hardware of one result, or of several results that take turns beat by beat (parts of the channels of an
image): one tree and one adder or comparator, and a ring of as many accumulators as it serves. The accumulators start
from the neutral element: zero for sums, the lowest result for max, the highest for min. They are as wide as the
results; sums wrap in between, which the last addition undoes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from metronn.ir.graph import Graph
from metronn.ir.infer import reduce_shifts
from metronn.ir.ops import Reduce, ReduceKind
from metronn.ir.types import width_bits
from metronn.plan.hardware.resources import Resources
from metronn.plan.hardware.timing import StagePath, Timing, slower
from metronn.plan.kernels.folds.fold import sum_stages
from metronn.plan.kernels.planned import Inputs, PlannedKernel
from metronn.plan.kernels.pulse_trains import train_path, train_resources
from metronn.plan.kernels.reduce import terms
from metronn.plan.kernels.spec import ReduceSerial, ReduceTree
from metronn.plan.layout import Layout, wire_format


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """Slot `slot` of the input, shifted up by `shift` bits, in the lane's beats that `beats` lists (in all if None)."""

    slot: int
    shift: int
    beats: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """Hardware of the results `results`, which take turns in that order in the beats `beats`.

    `terms`: what a beat brings. `lo`, `hi`: bounds of the results' codes.
    """

    results: tuple[int, ...]
    beats: tuple[int, ...]
    terms: tuple[Term, ...]
    lo: int
    hi: int

    @property
    def width(self) -> int:
        """Bits of an accumulator."""
        return width_bits(self.lo, self.hi)

    @property
    def first_beats(self) -> tuple[int, ...]:
        """Beats in which an accumulator starts."""
        return self.beats[: len(self.results)]


def reduce_op(spec: ReduceSerial, graph: Graph) -> Reduce:
    """Return the op of the kernel."""
    op = graph.by_name[spec.reduce].op
    assert isinstance(op, Reduce)
    return op


Brought = list[dict[int, list[tuple[int, int]]]]


def _brought(spec: ReduceSerial, graph: Graph) -> Brought:
    """For each result and beat, the (slot, shift) of its elements."""
    op = reduce_op(spec, graph)
    x = graph.type_of(op.x)
    shifts = reduce_shifts(op, x).ravel().tolist()
    owner = [0] * x.size
    for result, row in enumerate(terms(ReduceTree(reduce=spec.reduce), graph)):
        for element in row:
            owner[element] = result
    brought: Brought = [{} for _ in range(graph.type_of(spec.reduce).size)]
    for beat, elements in enumerate(spec.layout.beats):
        for slot, element in enumerate(elements):
            brought[owner[element]].setdefault(beat, []).append((slot, shifts[element]))
    return brought


def _bounds(spec: ReduceSerial, graph: Graph, results: tuple[int, ...]) -> tuple[int, int]:
    kind = graph.type_of(spec.reduce)
    los, his = kind.range.los(kind.size), kind.range.his(kind.size)
    return min(los[r] for r in results), max(his[r] for r in results)


def _shared(spec: ReduceSerial, graph: Graph, brought: Brought) -> tuple[Lane, ...]:
    """Lanes when group g of the results comes in beats g, g + groups, ... with the same slots each time; else none."""
    count = spec.layout.beat_count
    opening = min(brought, key=lambda own: min(own))
    beats = sorted(opening)
    groups = beats[1] - beats[0] if len(beats) > 1 else count
    if count % groups:
        return ()
    by_group: list[list[tuple[list[tuple[int, int]], int]]] = [[] for _ in range(groups)]
    for result, own in enumerate(brought):
        first = min(own)
        if first >= groups or sorted(own) != list(range(first, count, groups)):
            return ()
        if any(pairs != own[first] for pairs in own.values()):
            return ()
        by_group[first].append((own[first], result))
    for members in by_group:
        members.sort()
        if [pairs for pairs, _ in members] != [pairs for pairs, _ in by_group[0]]:
            return ()
    lanes = []
    for position, (pairs, _) in enumerate(by_group[0]):
        results = tuple(members[position][1] for members in by_group)
        lo, hi = _bounds(spec, graph, results)
        brings = tuple(Term(slot=slot, shift=shift) for slot, shift in pairs)
        lanes.append(Lane(results=results, beats=tuple(range(count)), terms=brings, lo=lo, hi=hi))
    return tuple(lanes)


def _single(spec: ReduceSerial, graph: Graph, result: int, own: dict[int, list[tuple[int, int]]]) -> Lane:
    beats = tuple(sorted(own))
    when: dict[tuple[int, int], list[int]] = {}
    for beat in beats:
        for pair in own[beat]:
            when.setdefault(pair, []).append(beat)
    found = tuple(
        Term(slot=slot, shift=shift, beats=None if tuple(at) == beats else tuple(at))
        for (slot, shift), at in sorted(when.items())
    )
    lo, hi = _bounds(spec, graph, (result,))
    return Lane(results=(result,), beats=beats, terms=found, lo=lo, hi=hi)


def _first_ps(spec: ReduceSerial, graph: Graph, timing: Timing) -> int:
    """What the pulse of the first beats takes beyond a net of few loads: every bit of the accumulators reads it."""
    return timing.arcs.wide_ps(graph.type_of(spec.reduce).total_bits)


def lane_levels(spec: ReduceSerial, graph: Graph, lane: Lane, timing: Timing) -> int:
    """Additions, or choices, that stand in a row in a stage of a lane."""
    if reduce_op(spec, graph).kind is ReduceKind.SUM:
        return timing.levels(lane.width, _first_ps(spec, graph, timing))
    return timing.picks(max(lane.width, *(term_width(spec, graph, lane, term) for term in lane.terms)))


def lane_stages(spec: ReduceSerial, graph: Graph, lane: Lane, timing: Timing) -> tuple[int, ...]:
    """Terms left after each register stage of a lane; the accumulator enters in the last."""
    return sum_stages(len(lane.terms), 1, 1 << lane_levels(spec, graph, lane, timing))


def term_width(spec: ReduceSerial, graph: Graph, lane: Lane, term: Term) -> int:
    """Bits of a term in the tree: signed, its zeros below included; a sum needs no more than the result."""
    op = reduce_op(spec, graph)
    slot = wire_format(graph.type_of(op.x), spec.layout).slots[term.slot]
    width = slot.width + (not slot.signed) + term.shift
    return min(width, lane.width) if op.kind is ReduceKind.SUM else width


def stage_widths(spec: ReduceSerial, graph: Graph, lane: Lane, timing: Timing) -> tuple[int, ...]:
    """Bits of the terms of a lane before each of its stages."""
    width = max(term_width(spec, graph, lane, term) for term in lane.terms)
    total = reduce_op(spec, graph).kind is ReduceKind.SUM
    found = [width]
    for _ in lane_stages(spec, graph, lane, timing)[1:]:
        width = min(lane.width, width + lane_levels(spec, graph, lane, timing)) if total else width
        found.append(width)
    return tuple(found)


class PlannedReduceSerial(PlannedKernel[ReduceSerial]):
    """Accumulators over beats."""

    kind = "reduce"
    multipliers = 0

    @cached_property
    def lanes(self) -> tuple[Lane, ...]:
        """Shared lanes where the results take turns regularly, else one for each result."""
        spec, graph = self.spec, self.graph
        brought = _brought(spec, graph)
        return _shared(spec, graph, brought) or tuple(_single(spec, graph, r, own) for r, own in enumerate(brought))

    @cached_property
    def depth(self) -> int:
        """Cycles from a beat to its effect on the results."""
        return max(len(lane_stages(self.spec, self.graph, lane, self.timing)) for lane in self.lanes)

    @property
    def slowest(self) -> StagePath:
        """The stage of most additions or choices: as many as are summed in one, or meet the accumulator."""
        return slower([train_path(self.timing), *(self._lane_path(lane) for lane in self.lanes)])

    def _lane_path(self, lane: Lane) -> StagePath:
        spec, graph, timing = self.spec, self.graph, self.timing
        levels = lane_levels(spec, graph, lane, timing)
        deepest = min(levels, len(lane.terms).bit_length())
        if reduce_op(spec, graph).kind is ReduceKind.SUM:
            return StagePath(
                what=f"sum of {lane.width} bits, {deepest} in a row",
                ps=deepest * timing.sum(lane.width).ps + _first_ps(spec, graph, timing),
            )
        pick = timing.pick(max(lane.width, *(term_width(spec, graph, lane, term) for term in lane.terms)))
        return StagePath(what=f"choice of {lane.width} bits, {deepest} in a row", ps=deepest * pick.ps + pick.end_ps)

    @property
    def latency_cycles(self) -> int:
        """Cycles from the first beat to the results, which come after the last."""
        return self.spec.layout.span - 1 + self.depth

    @cached_property
    def pulse_sets(self) -> tuple[tuple[int, ...], ...]:
        """Different sets of beats that the kernel tells apart, one pulse train each."""
        sets: dict[tuple[int, ...], None] = {}
        for lane in self.lanes:
            sets[lane.beats] = None
            sets[lane.first_beats] = None
            sets.update({term.beats: None for term in lane.terms if term.beats is not None})
        return tuple(sets)

    @cached_property
    def resources(self) -> Resources:
        """A LUT per bit of each addition, two of each comparison; flip-flops of stages and accumulators; the trains.

        Terms that count in some beats only cost nothing more: the LUTs of the addition have inputs left. Where an adder
        takes no other logic, each number of a sum beyond two is a row of full adders, and the accumulator's start a
        choice.
        """
        spec, graph, timing = self.spec, self.graph, self.timing
        each = 1 if reduce_op(spec, graph).kind is ReduceKind.SUM else 2
        joins = each == 1 and not timing.fabric.adder_takes_logic
        total = Resources()
        waits: dict[tuple[tuple[int, ...], int], None] = {}
        for lane in self.lanes:
            stages, widths = lane_stages(spec, graph, lane, timing), stage_widths(spec, graph, lane, timing)
            radix = 1 << lane_levels(spec, graph, lane, timing)
            lut = ff = 0
            before = len(lane.terms)
            for after, grown in zip(stages[:-1], widths[1:], strict=True):
                lut, ff = lut + each * (before - after) * grown, ff + after * grown
                if joins:
                    pairs = before // radix + (before % radix > 1)
                    lut += (before - after - pairs) * grown
                before = after
            lut += (each + joins) * before * lane.width
            ff += lane.width * (len(lane.results) + self.depth - len(stages))
            total += Resources(lut=lut, ff=ff)
            waits[lane.beats, len(stages) - 1] = waits[lane.first_beats, len(stages) - 1] = None
        for beats in self.pulse_sets:
            total += train_resources([spec.layout.cycles[beat] for beat in beats], timing.fabric)
        return total + Resources(ff=sum(cycles for _, cycles in waits))

    @property
    def inputs(self) -> Inputs:
        """The operand, in beats."""
        return ((reduce_op(self.spec, self.graph).x, self.spec.layout),)

    @property
    def output(self) -> Layout:
        """All results in one beat."""
        return Layout.parallel(self.graph.type_of(self.spec.reduce).size)

    @property
    def cycles_per_event(self) -> int:
        """The span of the beats."""
        return self.spec.layout.span
