"""Planned kernels: one value for each kernel of a graph, which answers what planning, emission and reports ask.

`Kernels` owns the values of one graph under one timing, so that each is planned once. The union of specifications is
taken apart here alone: a new kernel is a class of this file, and mypy names what forgets it.
"""

# ruff: noqa: D102 - what an answer means is said once, in PlannedKernel

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Generic, TypeVar, assert_never

from metronn.ir.graph import Graph
from metronn.plan.hardware.resources import Resources
from metronn.plan.hardware.timing import Timing
from metronn.plan.kernels import elementwise, reduce, reduce_serial, streamed, table, wiring
from metronn.plan.kernels.adders import matvec
from metronn.plan.kernels.folds import cost as fold_cost
from metronn.plan.kernels.folds import fold
from metronn.plan.kernels.slices import Slice, slice_of, stream_inputs
from metronn.plan.kernels.spec import (
    Delay,
    Elementwise,
    FoldInputs,
    FoldOutputs,
    Gather,
    KernelSpec,
    MatvecAdders,
    ReduceSerial,
    ReduceTree,
    Reorder,
    Streamed,
    Table,
    WindowBuffer,
    Wiring,
    covered_nodes,
    result_value,
)
from metronn.plan.kernels.waiting import delay, gather, window_buffer
from metronn.plan.layout import Layout

S = TypeVar("S", bound=KernelSpec, covariant=True)
W = TypeVar("W", bound=WindowBuffer | Reorder, covariant=True)
Inputs = tuple[tuple[str, Layout], ...]


@dataclass(frozen=True, eq=False)
class PlannedKernel(ABC, Generic[S]):
    """A kernel of a graph under a timing, which holds the rules of the devices (`timing.fabric`).

    Answers are worked out when they are asked for, once. Raises NotStreamableError when a kernel in time is asked for
    what it has not: an element that would leave before it came, groups of beats that differ.
    """

    spec: S
    graph: Graph
    timing: Timing

    kind: ClassVar[str]

    @property
    def kind_name(self) -> str:
        """Name of the kind, as in reports and module names."""
        return self.kind

    @property
    def nodes(self) -> tuple[str, ...]:
        """Graph nodes the kernel implements; the last one is its result. Empty for what only waits."""
        return covered_nodes(self.spec)

    @property
    def result(self) -> str:
        """Name of the value the kernel makes."""
        return result_value(self.spec)

    @property
    @abstractmethod
    def latency_cycles(self) -> int:
        """Cycles from start_i (the first input beat) to the first output beat."""

    @property
    @abstractmethod
    def resources(self) -> Resources:
        """Estimated resources."""

    @property
    @abstractmethod
    def inputs(self) -> Inputs:
        """Values the kernel reads, in port order, and the layout it wants each in."""

    @property
    @abstractmethod
    def output(self) -> Layout:
        """Layout of the value the kernel makes."""

    @property
    def cycles_per_event(self) -> int:
        """Cycles the kernel is busy with one event: the smallest II it can keep."""
        return 1

    @property
    def multipliers(self) -> int:
        """Multipliers that are shared over the cycles of an event, those included that would only see zeros."""
        return 0


class PlannedAdders(PlannedKernel[MatvecAdders]):
    """A constant matrix as additions."""

    kind = "matvec_adders"

    @cached_property
    def latency_cycles(self) -> int:
        return matvec.latency_cycles(self.spec, self.graph, self.timing)

    @cached_property
    def resources(self) -> Resources:
        return matvec.resources(self.spec, self.graph, self.timing)

    @property
    def inputs(self) -> Inputs:
        return matvec.input_layouts(self.spec, self.graph)

    @property
    def output(self) -> Layout:
        return matvec.output_layout(self.spec, self.graph)


class PlannedFoldOutputs(PlannedKernel[FoldOutputs]):
    """A matrix folded over its outputs."""

    kind = "matvec_fold_outputs"

    @cached_property
    def latency_cycles(self) -> int:
        return fold.outputs_latency(self.spec, self.graph, self.timing)

    @cached_property
    def resources(self) -> Resources:
        return fold_cost.outputs_resources(self.spec, self.graph, self.timing)

    @property
    def inputs(self) -> Inputs:
        value = fold.linear_of(self.graph, self.spec.linear).x
        return ((value, Layout.parallel(self.graph.type_of(value).size)),)

    @cached_property
    def output(self) -> Layout:
        return fold.outputs_layout(self.spec)

    @property
    def cycles_per_event(self) -> int:
        return self.spec.beats

    @property
    def multipliers(self) -> int:
        return fold.outputs_multipliers(self.spec, self.graph, self.timing)


class PlannedFoldInputs(PlannedKernel[FoldInputs]):
    """A matrix folded over its inputs."""

    kind = "matvec_fold_inputs"

    @cached_property
    def latency_cycles(self) -> int:
        return fold.inputs_latency(self.spec, self.graph, self.timing)

    @cached_property
    def resources(self) -> Resources:
        return fold_cost.inputs_resources(self.spec, self.graph, self.timing)

    @property
    def inputs(self) -> Inputs:
        return ((fold.linear_of(self.graph, self.spec.linear).x, self.spec.layout),)

    @property
    def output(self) -> Layout:
        return Layout.parallel(self.graph.type_of(self.spec.linear).size)

    @property
    def cycles_per_event(self) -> int:
        return self.spec.layout.span

    @property
    def multipliers(self) -> int:
        return fold.inputs_multipliers(self.spec, self.graph, self.timing)


class PlannedElementwise(PlannedKernel[Elementwise]):
    """Ops element by element in one pipeline."""

    kind = "elementwise"

    @cached_property
    def latency_cycles(self) -> int:
        return elementwise.latency_cycles(self.spec, self.graph, self.timing)

    @cached_property
    def resources(self) -> Resources:
        return elementwise.resources(self.spec, self.graph, self.timing)

    @property
    def inputs(self) -> Inputs:
        return elementwise.input_layouts(self.spec, self.graph)

    @property
    def output(self) -> Layout:
        return elementwise.output_layout(self.spec, self.graph)


class PlannedTable(PlannedKernel[Table]):
    """A ROM for each element."""

    kind = "table"

    @property
    def latency_cycles(self) -> int:
        return table.latency_cycles(self.spec, self.graph, self.timing)

    @cached_property
    def resources(self) -> Resources:
        return table.resources(self.spec, self.graph, self.timing)

    @property
    def inputs(self) -> Inputs:
        return table.input_layouts(self.spec, self.graph)

    @property
    def output(self) -> Layout:
        return table.output_layout(self.spec, self.graph)


class PlannedReduceTree(PlannedKernel[ReduceTree]):
    """A pipelined tree for each result."""

    kind = "reduce"

    @property
    def latency_cycles(self) -> int:
        return reduce.latency_cycles(self.spec, self.graph, self.timing)

    @cached_property
    def resources(self) -> Resources:
        return reduce.resources(self.spec, self.graph, self.timing)

    @property
    def inputs(self) -> Inputs:
        return reduce.input_layouts(self.spec, self.graph)

    @property
    def output(self) -> Layout:
        return reduce.output_layout(self.spec, self.graph)


class PlannedWiring(PlannedKernel[Wiring]):
    """Wires."""

    kind = "wiring"

    @property
    def latency_cycles(self) -> int:
        return wiring.latency_cycles(self.spec, self.graph, self.timing)

    @property
    def resources(self) -> Resources:
        return wiring.resources(self.spec, self.graph, self.timing)

    @property
    def inputs(self) -> Inputs:
        return wiring.input_layouts(self.spec, self.graph)

    @property
    def output(self) -> Layout:
        return wiring.output_layout(self.spec, self.graph)


class PlannedGather(PlannedKernel[Gather]):
    """Beats kept until the last one is there."""

    kind = "reorder"

    @property
    def latency_cycles(self) -> int:
        return gather.latency_cycles(self.spec, self.graph, self.timing)

    @cached_property
    def resources(self) -> Resources:
        return gather.resources(self.spec, self.graph, self.timing)

    @property
    def inputs(self) -> Inputs:
        return gather.input_layouts(self.spec, self.graph)

    @property
    def output(self) -> Layout:
        return gather.output_layout(self.spec, self.graph)

    @property
    def cycles_per_event(self) -> int:
        return self.spec.layout.span


class PlannedDelay(PlannedKernel[Delay]):
    """The same beats, later."""

    kind = "delay"

    @property
    def latency_cycles(self) -> int:
        return delay.latency_cycles(self.spec, self.graph, self.timing)

    @cached_property
    def resources(self) -> Resources:
        return delay.resources(self.spec, self.graph, self.timing)

    @property
    def inputs(self) -> Inputs:
        return delay.input_layouts(self.spec, self.graph)

    @property
    def output(self) -> Layout:
        return delay.output_layout(self.spec, self.graph)

    @property
    def cycles_per_event(self) -> int:
        return max(self.spec.period, self.spec.layout.span)


class PlannedStreamed(PlannedKernel[Streamed]):
    """Another kernel, run once for every group of beats."""

    kind = "streamed"

    @property
    def kind_name(self) -> str:
        return self.inner.kind_name

    @cached_property
    def slice(self) -> Slice:
        """The graph of one group, when groups start, and what leaves when."""
        return slice_of(self.spec, self.graph)

    @cached_property
    def inner(self) -> InnerKernel:
        """The kernel of the slice."""
        return _planned_inner(self.spec.inner, self.slice.graph, self.timing)

    @cached_property
    def latency_cycles(self) -> int:
        return self.inner.latency_cycles

    @cached_property
    def resources(self) -> Resources:
        return self.with_wrapper(self.inner.resources)

    def with_wrapper(self, inner: Resources) -> Resources:
        """Resources of the whole kernel, when one instance of the inner kernel takes `inner`."""
        wrapper = streamed.wrapper_resources(self.spec, self.graph, self.timing)
        return inner.scaled(self.spec.copies) + wrapper

    @property
    def inputs(self) -> Inputs:
        return tuple(zip(stream_inputs(self.spec, self.graph), self.spec.layouts, strict=True))

    @property
    def output(self) -> Layout:
        return self.slice.output

    @cached_property
    def cycles_per_event(self) -> int:
        """From the first group's start to the end of the last group's work, or the span of the longest input."""
        busy = self.slice.starts[-1] + self.inner.cycles_per_event
        return max(busy, *(layout.span for layout in self.spec.layouts))

    @property
    def multipliers(self) -> int:
        return self.spec.copies * self.inner.multipliers


class PlannedReduceSerial(PlannedKernel[ReduceSerial]):
    """Accumulators over beats."""

    kind = "reduce"

    @cached_property
    def latency_cycles(self) -> int:
        return reduce_serial.latency_cycles(self.spec, self.graph, self.timing)

    @cached_property
    def resources(self) -> Resources:
        return reduce_serial.resources(self.spec, self.graph, self.timing)

    @property
    def inputs(self) -> Inputs:
        return reduce_serial.input_layouts(self.spec, self.graph)

    @property
    def output(self) -> Layout:
        return reduce_serial.output_layout(self.spec, self.graph)

    @property
    def cycles_per_event(self) -> int:
        return self.spec.layout.span


class PlannedWaiting(PlannedKernel[W]):
    """Delay lines, and a choice of what they hold."""

    @cached_property
    def latency_cycles(self) -> int:
        return window_buffer.latency_cycles(self.spec, self.graph, self.timing)

    @cached_property
    def resources(self) -> Resources:
        return window_buffer.resources(self.spec, self.graph, self.timing)

    @property
    def inputs(self) -> Inputs:
        return window_buffer.input_layouts(self.spec, self.graph)

    @property
    def output(self) -> Layout:
        return self.spec.output

    @property
    def cycles_per_event(self) -> int:
        return window_buffer.period_of(self.spec)


class PlannedWindowBuffer(PlannedWaiting[WindowBuffer]):
    """A Window or Rewire in time."""

    kind = "window_buffer"


class PlannedReorder(PlannedWaiting[Reorder]):
    """The same value in another layout."""

    kind = "reorder"


InnerKernel = (
    PlannedAdders | PlannedFoldOutputs | PlannedFoldInputs | PlannedElementwise | PlannedTable | PlannedReduceTree
)
AnyKernel = (
    InnerKernel
    | PlannedWiring
    | PlannedGather
    | PlannedDelay
    | PlannedStreamed
    | PlannedReduceSerial
    | PlannedWindowBuffer
    | PlannedReorder
)
"""All classes: what takes them apart ends in `assert_never`."""


def _planned_inner(
    spec: MatvecAdders | FoldOutputs | FoldInputs | Elementwise | Table | ReduceTree, graph: Graph, timing: Timing
) -> InnerKernel:
    match spec:
        case MatvecAdders():
            return PlannedAdders(spec, graph, timing)
        case FoldOutputs():
            return PlannedFoldOutputs(spec, graph, timing)
        case FoldInputs():
            return PlannedFoldInputs(spec, graph, timing)
        case Elementwise():
            return PlannedElementwise(spec, graph, timing)
        case Table():
            return PlannedTable(spec, graph, timing)
        case ReduceTree():
            return PlannedReduceTree(spec, graph, timing)
        case _:
            assert_never(spec)


def _planned(spec: KernelSpec, graph: Graph, timing: Timing) -> AnyKernel:
    match spec:
        case Wiring():
            return PlannedWiring(spec, graph, timing)
        case Gather():
            return PlannedGather(spec, graph, timing)
        case Delay():
            return PlannedDelay(spec, graph, timing)
        case Streamed():
            return PlannedStreamed(spec, graph, timing)
        case ReduceSerial():
            return PlannedReduceSerial(spec, graph, timing)
        case WindowBuffer():
            return PlannedWindowBuffer(spec, graph, timing)
        case Reorder():
            return PlannedReorder(spec, graph, timing)
        case _:
            return _planned_inner(spec, graph, timing)


class Kernels:
    """The kernels of one graph under one timing, each planned once."""

    KEPT = 4096
    """Kernels that are kept; the one not asked for longest goes first."""

    def __init__(self, graph: Graph, timing: Timing) -> None:
        """Start without kernels."""
        self.graph, self.timing = graph, timing
        self._known: OrderedDict[KernelSpec, AnyKernel] = OrderedDict()

    def of(self, spec: KernelSpec) -> AnyKernel:
        """Return the kernel of a specification."""
        found = self._known.get(spec)
        if found is None:
            found = self._known[spec] = _planned(spec, self.graph, self.timing)
            if len(self._known) > self.KEPT:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(spec)
        return found


RECENT_GRAPHS = 32
_RECENT: OrderedDict[tuple[int, Timing], Kernels] = OrderedDict()


def kernels_of(graph: Graph, timing: Timing) -> Kernels:
    """Return the kernels of a graph: those planned before, when it is one of the graphs asked for last.

    A graph is itself here, not its content: stages of one run, from candidates to emission, share what is planned.
    """
    key = (id(graph), timing)
    found = _RECENT.get(key)
    if found is None or found.graph is not graph:
        found = _RECENT[key] = Kernels(graph, timing)
        while len(_RECENT) > RECENT_GRAPHS:
            _RECENT.popitem(last=False)
    _RECENT.move_to_end(key)
    return found


def planned(spec: KernelSpec, graph: Graph, timing: Timing) -> AnyKernel:
    """Return one kernel of a graph: see `kernels_of`."""
    return kernels_of(graph, timing).of(spec)
