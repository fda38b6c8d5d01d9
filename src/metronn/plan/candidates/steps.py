"""Steps: the graph cut into groups of ops that one kernel makes, and the kernels each group could become.

Candidates are found front to back: what a step could make depends on the layouts in which its operands could be
offered. Each value has a few offers, from its kernels; conversions (`plan.convert`) reach a few more.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import assert_never

from metronn.errors import ModelError
from metronn.ir.graph import Graph, Node
from metronn.ir.ops import (
    Add,
    Constant,
    Extremum,
    Input,
    Linear,
    Lookup,
    Multiply,
    Reduce,
    Requantize,
    Rewire,
    Window,
    is_elementwise,
    operands,
)
from metronn.passes.rewriting import grow
from metronn.plan.candidates.convert import conversion
from metronn.plan.candidates.groups import closes, stage_holds
from metronn.plan.candidates.layouts_in_time import evenly, raster_layout, split_beats, whole_blocks
from metronn.plan.candidates.reuse import divisors, impossible_reuse, keeps_reuse
from metronn.plan.hardware.resources import lut_equivalents
from metronn.plan.kernels.adders import matvec as adders
from metronn.plan.kernels.adders.unrolled_cost import unrolled_cost
from metronn.plan.kernels.folds.fold import fold_outputs_spec, linear_of
from metronn.plan.kernels.kernels import Kernels
from metronn.plan.kernels.slices import NotStreamableError, row_beats, rows_of
from metronn.plan.kernels.spec import (
    Elementwise,
    FoldInputs,
    FoldOutputs,
    KernelSpec,
    MatvecAdders,
    ReduceSerial,
    ReduceTree,
    Streamed,
    Table,
    WindowBuffer,
    Wiring,
    covered_nodes,
    result_value,
)
from metronn.plan.kernels.waiting.taps import rewire_output, window_output
from metronn.plan.layout import Layout
from metronn.plan.options import Fold, InputForm, Objective, PlanOptions
from metronn.plan.progress import Progress, silent

MOST_OFFERS = 6
"""Layouts kept for each value; the first ones found are the cheapest to make."""

LARGEST_PARALLEL = 16_384
"""Elements of the largest value that may stand on wires at once between kernels of an image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A group of ops, the value it makes, the values it reads, and the kernels that could make it."""

    value: str
    source: str
    inputs: tuple[str, ...]
    candidates: tuple[KernelSpec, ...]


def arrival_layouts(graph: Graph, ii_cycles: int, form: InputForm) -> dict[str, Layout]:
    """Return the layout in which each input of the graph arrives; first beats of all inputs come together."""
    windowed = _windowed(graph) if form is InputForm.AUTO else set()
    found = {}
    for node in graph.inputs:
        whole = Layout.parallel(node.type.size)
        streams = form is InputForm.STREAM or node.name in windowed
        layout = raster_layout(node.type.shape, ii_cycles) if streams else None
        found[node.name] = layout or whole
    return found


def _windowed(graph: Graph) -> set[str]:
    """Inputs that reach a sliding window element by element."""
    reaching: set[str] = set()
    for node in reversed(graph.nodes):
        through = isinstance(node.op, Rewire) or is_elementwise(node.op)
        if isinstance(node.op, Window) or (through and node.name in reaching):
            reaching.update(operands(node.op))
    return {node.name for node in graph.inputs if node.name in reaching}


def steps(
    kernels: Kernels,
    ii_cycles: int,
    options: PlanOptions,
    inputs: Mapping[str, Layout] | None = None,
    log: Progress = silent,
) -> tuple[Step, ...]:
    """Cut the graph of the kernels into steps in topological order. Every op but Input and Constant is in exactly one.

    Raises ModelError that lists every layer that no kernel makes with the reuse asked for.
    """
    given = inputs if inputs is not None else arrival_layouts(kernels.graph, ii_cycles, options.inputs)
    return _Builder(kernels, ii_cycles, options, given).run(log)


def external_inputs(graph: Graph, nodes: tuple[str, ...]) -> tuple[str, ...]:
    """Values the nodes read that they do not make and that are no constants, in order of first use."""
    inside = set(nodes)
    names = dict.fromkeys(
        name
        for node in nodes
        for name in operands(graph.by_name[node].op)
        if name not in inside and not isinstance(graph.by_name[name].op, Constant)
    )
    return tuple(names)


class _Builder:
    """Finds the steps of one graph and the offers of every value."""

    def __init__(self, kernels: Kernels, ii_cycles: int, options: PlanOptions, inputs: Mapping[str, Layout]) -> None:
        """Start from the layouts of the inputs."""
        self.kernels, self.ii, self.options = kernels, ii_cycles, options
        self.graph, self.timing = kernels.graph, kernels.timing
        self.shorter = options.fold is Fold.LATENCY or options.objective is Objective.RESOURCES
        self.offers: dict[str, tuple[Layout, ...]] = {name: (layout,) for name, layout in inputs.items()}
        self.problems: list[str] = []

    def run(self, log: Progress) -> tuple[Step, ...]:
        """Find all steps; `log` is told how many of the nodes are done."""
        taken: set[str] = set()
        found: list[Step] = []
        for number, node in enumerate(self.graph.nodes):
            log(f"kernels that could make {node.source}: {number} of {len(self.graph.nodes)} nodes done")
            if node.name in taken or isinstance(node.op, Input | Constant):
                continue
            step = self._step(node)
            found.append(step)
            taken.update(covered_nodes(step.candidates[0]))
            made = dict.fromkeys(self.kernels.of(spec).output for spec in step.candidates)
            self.offers[step.value] = self._kept(tuple(made))
        if self.problems:
            raise ModelError("\n".join(self.problems))
        return tuple(found)

    @staticmethod
    def _kept(layouts: tuple[Layout, ...]) -> tuple[Layout, ...]:
        """The offers worth following: the first of each number of beats and spacing."""
        best: dict[tuple[int, int], Layout] = {}
        for layout in layouts:
            best.setdefault((layout.beat_count, layout.spacing), layout)
        return tuple(best.values())[:MOST_OFFERS]

    def _step(self, node: Node) -> Step:
        match node.op:
            case Linear():
                return self._matvec(node)
            case Add() | Multiply() | Extremum() | Requantize():
                group = grow(self.graph, node.name, (Add, Multiply, Extremum, Requantize))
                return self._made(node, Elementwise(nodes=group), self._maps(Elementwise(nodes=group)))
            case Lookup():
                return self._made(node, Table(lookup=node.name), self._maps(Table(lookup=node.name)))
            case Reduce():
                tree = ReduceTree(reduce=node.name)
                return self._made(node, tree, itertools.chain(self._maps(tree), self._serial(node, node.op)))
            case Rewire():
                return self._made(node, Wiring(rewire=node.name), self._moves(node))
            case Window():
                return self._window(node, node.op)
            case Input() | Constant():
                raise AssertionError(f"{node.name}: inputs and constants are no steps")
            case _:
                assert_never(node.op)

    def _made(self, node: Node, parallel: KernelSpec, streamed: Iterator[KernelSpec]) -> Step:
        """Make a step from the kernel for parallel operands and those for streams."""
        reads = external_inputs(self.graph, covered_nodes(parallel))
        found = self._fitting(streamed)
        if not found or all(self._reaches_parallel(x) for x in reads):
            found.append(parallel)
        return Step(value=result_value(parallel), source=node.source, inputs=reads, candidates=tuple(found))

    def _fitting(self, specs: Iterator[KernelSpec]) -> list[KernelSpec]:
        """Keep the kernels that work and keep the II; of those the ones that keep the clock, where there are any."""
        found = []
        for spec in dict.fromkeys(specs):
            try:
                kernel = self.kernels.of(spec)
                if kernel.cycles_per_event <= self.ii:
                    found.append(spec)
            except NotStreamableError:
                continue
        return [spec for spec in found if closes(self.kernels.of(spec))] or found

    # Layouts an operand can come in

    def _reaches_parallel(self, value: str) -> bool:
        """Whether a value is, or may be gathered into, one beat."""
        offers = self.offers[value]
        return any(layout.is_parallel for layout in offers) or self.graph.type_of(value).size <= LARGEST_PARALLEL

    def _variants(self, value: str, *, spread: bool = False, raster: bool = False) -> list[Layout]:
        """Layouts of many beats in which a kernel may ask for a value: its offers and what conversions make of them.

        With `spread` the pixels of a row are spread evenly over the row's time (only so when multipliers are to be
        used in every cycle). With `raster` a value offered in one beat is also taken apart into its pixels.
        """
        shape = self.graph.type_of(value).shape
        found: dict[Layout, None] = {}
        for offer in self.offers[value]:
            if offer.beat_count == 1:
                pixels = raster_layout(shape, self.ii) if raster else None
                if pixels is not None:
                    found[pixels] = None
                continue
            even = evenly(offer, shape, self.ii) if spread else None
            if even is None or self.shorter:
                found[offer] = None
            if even is not None:
                found[even] = None
            joined = whole_blocks(even or offer, shape)
            if joined is not None:
                found[joined] = None
        return [layout for layout in found if self._reachable(value, layout)]

    def _reachable(self, value: str, layout: Layout) -> bool:
        return any(
            offer == layout or conversion(self.kernels, value, offer, layout, self.ii) is not None
            for offer in self.offers[value]
        )

    # Kernels of each kind of op

    def _maps(self, inner: Elementwise | Table | ReduceTree) -> Iterator[KernelSpec]:
        """Streams of an op on single beats: every operand in corresponding beats of the same cycles."""
        reads = external_inputs(self.graph, covered_nodes(inner))
        choices = [self._variants(x) for x in reads]
        for layouts in itertools.islice(itertools.product(*choices), 256):
            if any(layout.cycles != layouts[0].cycles for layout in layouts):
                continue
            yield Streamed(inner=inner, layouts=tuple(layouts))
        if len(reads) > 1:
            yield from self._alike(inner, reads, choices)

    def _serial(self, node: Node, op: Reduce) -> Iterator[KernelSpec]:
        """Accumulators, for streams whose beats do not hold all that is reduced."""
        for layout in self._variants(op.x):
            try:
                _ = self.kernels.of(Streamed(inner=ReduceTree(reduce=node.name), layouts=(layout,))).slice
            except NotStreamableError:
                yield ReduceSerial(reduce=node.name, layout=layout)

    def _alike(
        self, inner: Elementwise | Table | ReduceTree, reads: Sequence[str], choices: Sequence[list[Layout]]
    ) -> Iterator[KernelSpec]:
        """Streams whose operands of one shape are all brought into the layout of one of them."""
        shapes = {self.graph.type_of(x).shape for x in reads}
        if len(shapes) != 1:
            return
        for layout in dict.fromkeys(layout for some in choices for layout in some):
            if all(self._reachable(x, layout) for x in reads):
                yield Streamed(inner=inner, layouts=(layout,) * len(reads))

    def _moves(self, node: Node) -> Iterator[KernelSpec]:
        """Streams of a Rewire: every element leaves with the beat it came in."""
        reads = external_inputs(self.graph, (node.name,))
        choices = [self._variants(x) for x in reads]
        for layouts in itertools.islice(itertools.product(*choices), 64):
            found = rewire_output(node.name, self.graph, layouts)
            if found is not None:
                output, offset = found
                yield WindowBuffer(node=node.name, layouts=tuple(layouts), output=output, offset=offset, period=self.ii)

    def _window(self, node: Node, op: Window) -> Step:
        shape = self.graph.type_of(op.x).shape
        found: list[KernelSpec] = []
        for layout in self._variants(op.x, spread=True, raster=True):
            made = window_output(op, shape, layout)
            if made is not None:
                output, offset = made
                found.append(
                    WindowBuffer(node=node.name, layouts=(layout,), output=output, offset=offset, period=self.ii)
                )
        found = self._fitting(iter(found))
        small = node.type.size <= LARGEST_PARALLEL and self._reaches_parallel(op.x)
        if not found or (small and self.ii == 1) or (small and any(x.is_parallel for x in self.offers[op.x])):
            whole, windows = Layout.parallel(self.graph.type_of(op.x).size), Layout.parallel(node.type.size)
            found.append(WindowBuffer(node=node.name, layouts=(whole,), output=windows, offset=0))
        return Step(value=node.name, source=node.source, inputs=(op.x,), candidates=tuple(found))

    def _matvec(self, node: Node) -> Step:
        op = linear_of(self.graph, node.name)
        fits = partial(stage_holds, self.graph, timing=self.timing) if self.ii > 1 else None
        epilogue = grow(self.graph, node.name, (Extremum, Requantize), fits)[1:]
        reuse = self.options.reuse_of(node.source)
        kept = self._matvec_kernels(node, op, epilogue, reuse)
        if reuse is not None and (not kept or self.ii % reuse):
            allowed = [k for k in divisors(self.ii) if self._matvec_kernels(node, op, epilogue, k)]
            self.problems.append(impossible_reuse(self.graph, node.name, reuse, self.ii, allowed))
            kept = self._matvec_kernels(node, op, epilogue, None)
        value = (node.name, *epilogue)[-1]
        unrolled = MatvecAdders(linear=node.name, epilogue=epilogue)
        return Step(value=value, source=node.source, inputs=(op.x,), candidates=tuple(kept) or (unrolled,))

    def _matvec_kernels(self, node: Node, op: Linear, epilogue: tuple[str, ...], reuse: int | None) -> list[KernelSpec]:
        """Kernels of a matrix: those worth trying, or with `reuse` those that use their multipliers so often."""
        graph = self.graph
        vector = len(graph.type_of(op.x).shape) == 1
        found: list[KernelSpec] = []
        unrolled = MatvecAdders(linear=node.name, epilogue=epilogue)
        large = not self._reaches_parallel(op.x)
        if not large and (self.ii == 1 or adders.is_candidate(unrolled, graph)):
            found.append(unrolled)
        if self.ii > 1 and vector:
            found.extend(self._vector_folds(node, op, epilogue, reuse, large=large))
        if self.ii > 1 and not vector:
            found.extend(self._row_kernels(node, op, epilogue, reuse))
        kept = self._fitting(iter(found))
        if not kept and self.ii > 1 and not vector:
            # A row in every cycle leaves no time to fold: what is too large to be tried beside folds is all there is.
            kept = self._fitting(self._row_kernels(node, op, epilogue, reuse, alone=True))
        if reuse is None:
            if not vector and not self.shorter:
                kept = self._busiest(kept)
            if not large and self._cheaper_unrolled(unrolled, kept):
                kept.insert(0, unrolled)
            return kept
        asked = [spec for spec in kept if keeps_reuse(self.kernels.of(spec), reuse)]
        return asked or ([unrolled] if not large and keeps_reuse(self.kernels.of(unrolled), reuse) else [])

    def _cheaper_unrolled(self, unrolled: MatvecAdders, others: list[KernelSpec]) -> bool:
        """Whether a matrix of many digits (sparse, or narrow) would cost less unrolled than in any other way."""
        if unrolled in others or not others:
            return False
        if not adders.is_candidate(unrolled, self.graph, adders.LARGEST_CANDIDATE_DIGITS):
            return False
        least = min(lut_equivalents(self.kernels.of(spec).resources) for spec in others)
        return lut_equivalents(unrolled_cost(unrolled, self.graph, self.timing)) < least

    def _busiest(self, specs: list[KernelSpec]) -> list[KernelSpec]:
        """Drop folds whose multipliers idle: those that need more of them than another fold, with 5 % to spare."""
        dsps: dict[KernelSpec, int] = {
            spec: self.kernels.of(spec).resources.dsp
            for spec in specs
            if isinstance(spec, Streamed) and isinstance(spec.inner, FoldOutputs | FoldInputs)
        }
        most = 1.05 * min(dsps.values(), default=0)
        return [spec for spec in specs if dsps.get(spec, 0) <= most]

    def _vector_folds(
        self, node: Node, op: Linear, epilogue: tuple[str, ...], reuse: int | None, *, large: bool
    ) -> Iterator[KernelSpec]:
        """Folds of a product with one vector: of all inputs at once, or of the beats in which they come."""
        if not large:
            for beats in self._fold_lengths(self.ii, reuse):
                yield fold_outputs_spec(self.graph, node.name, epilogue, beats, self.timing)
        for layout in self.offers[op.x]:
            if layout.beat_count == 1:
                continue
            split = split_beats(layout, self.ii)
            if split is not None and split.span <= self.ii:
                yield FoldInputs(linear=node.name, epilogue=epilogue, layout=split)
            if split is None or self.shorter or layout.spacing == 1:
                yield FoldInputs(linear=node.name, epilogue=epilogue, layout=layout)

    def _row_kernels(
        self, node: Node, op: Linear, epilogue: tuple[str, ...], reuse: int | None, *, alone: bool = False
    ) -> Iterator[KernelSpec]:
        """Products with every row of a tensor, row after row (a convolution, or a dense layer at each place).

        `alone`: there is no other way, so that rows are unrolled however many digits that takes.
        """
        width = op.weight.shape[0]
        for layout in self._variants(op.x, spread=True, raster=True):
            rows = rows_of(layout, width)
            if rows is not None:
                yield from self._whole_rows(node, layout, epilogue, reuse, copies=rows.shape[1], alone=alone)
                continue
            parts = row_beats(layout, width)
            if parts is not None:
                inner = FoldInputs(linear=node.name, epilogue=epilogue, layout=parts)
                yield Streamed(inner=inner, layouts=(layout,))

    def _whole_rows(
        self,
        node: Node,
        layout: Layout,
        epilogue: tuple[str, ...],
        reuse: int | None,
        *,
        copies: int,
        alone: bool,
    ) -> Iterator[KernelSpec]:
        unrolled = MatvecAdders(linear=node.name, epilogue=epilogue)
        probe = Streamed(inner=unrolled, layouts=(layout,), copies=copies)
        try:
            own = self.kernels.of(probe).slice.graph
        except NotStreamableError:
            return
        wanted = alone or reuse == layout.beat_count
        if adders.is_candidate(unrolled, own, sys.maxsize if wanted else adders.CANDIDATE_DIGITS):
            yield probe
        gap = min(layout.spacing or self.ii, self.ii - layout.cycles[-1])
        for beats in self._fold_lengths(gap, None if reuse is None else -(-reuse // layout.beat_count)):
            if beats > 1:
                inner = fold_outputs_spec(own, node.name, epilogue, beats, self.timing)
                yield Streamed(inner=inner, layouts=(layout,), copies=copies)

    def _fold_lengths(self, cycles: int, asked: int | None = None) -> tuple[int, ...]:
        """Beats a fold may take: those asked for, else all cycles, or fewer too where latency may cost multipliers."""
        if asked is not None:
            return (asked,) if 1 < asked <= cycles else ()
        if not self.shorter:
            return (cycles,)
        shares = [1, 2, 3, 4]
        shares += [4**k for k in range(2, max(3, int(math.log(max(cycles, 2), 4)) + 1))]
        return tuple(dict.fromkeys(max(2, -(-cycles // share)) for share in shares if share <= cycles))
