"""Streamed kernels: what stands around the inner kernel, which is planned as a kernel of the slice.

The starts of the inner folds come from a pulse train. `copies` instances stand side by side: copy i takes slots
[i * n_in, (i + 1) * n_in) of the input beats; an output beat carries the slots of copy 0 first, then those of copy 1.
"""

from __future__ import annotations

from functools import cached_property
from typing import assert_never

from metronn.ir.graph import Graph
from metronn.plan.hardware.resources import Resources
from metronn.plan.hardware.timing import StagePath, Timing
from metronn.plan.kernels.adders.matvec import PlannedAdders
from metronn.plan.kernels.elementwise import PlannedElementwise
from metronn.plan.kernels.folds.planned import PlannedFoldInputs, PlannedFoldOutputs
from metronn.plan.kernels.planned import Inputs, PlannedKernel
from metronn.plan.kernels.pulse_trains import train_resources
from metronn.plan.kernels.reduce import PlannedReduceTree
from metronn.plan.kernels.slices import Slice, slice_of, stream_inputs
from metronn.plan.kernels.spec import (
    Elementwise,
    FoldInputs,
    FoldOutputs,
    InnerSpec,
    MatvecAdders,
    ReduceTree,
    Streamed,
    Table,
)
from metronn.plan.kernels.table import PlannedTable
from metronn.plan.layout import Layout


def counts_phases(spec: Streamed) -> bool:
    """Whether the inner kernel works over several cycles and needs to know when a group starts."""
    return isinstance(spec.inner, FoldOutputs | FoldInputs)


def slots_by_beat(spec: Streamed, inner: Layout) -> tuple[tuple[tuple[int, int], ...], ...]:
    """(copy, slot of that copy) of every output slot, for each beat of the inner kernel's output layout."""
    return tuple(tuple((copy, k) for copy in range(spec.copies) for k in range(len(beat))) for beat in inner.beats)


InnerKernel = (
    PlannedAdders | PlannedFoldOutputs | PlannedFoldInputs | PlannedElementwise | PlannedTable | PlannedReduceTree
)
"""Kernels that may be run for every group of beats."""


def planned_inner(spec: InnerSpec, graph: Graph, timing: Timing) -> InnerKernel:
    """Return the planned kernel of a specification that may be streamed."""
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


class PlannedStreamed(PlannedKernel[Streamed]):
    """Another kernel, run once for every group of beats. Raises NotStreamableError when the groups differ."""

    kind = "streamed"

    @property
    def kind_name(self) -> str:
        """That of the inner kernel."""
        return self.inner.kind_name

    @cached_property
    def slice(self) -> Slice:
        """The graph of one group, when groups start, and what leaves when."""
        return slice_of(self.spec, self.graph)

    @cached_property
    def inner(self) -> InnerKernel:
        """The kernel of the slice."""
        return planned_inner(self.spec.inner, self.slice.graph, self.timing)

    @property
    def part(self) -> InnerKernel:
        """The inner kernel."""
        return self.inner

    @property
    def copies(self) -> int:
        """Instances of the inner kernel."""
        return self.spec.copies

    @property
    def latency_cycles(self) -> int:
        """That of the inner kernel."""
        return self.inner.latency_cycles

    @property
    def slowest(self) -> StagePath:
        """That of the inner kernel."""
        return self.inner.slowest

    @cached_property
    def resources(self) -> Resources:
        """All copies of the inner kernel and the pulse train."""
        return self.with_wrapper(self.inner.resources)

    def with_wrapper(self, inner: Resources) -> Resources:
        """Resources of the whole, when one copy of the inner kernel takes `inner`; widths are adapted by wires."""
        copies = inner.scaled(self.spec.copies)
        return copies + train_resources(self.slice.starts, self.timing.fabric) if counts_phases(self.spec) else copies

    @property
    def inputs(self) -> Inputs:
        """The values its ops read, each in its layout."""
        return tuple(zip(stream_inputs(self.spec, self.graph), self.spec.layouts, strict=True))

    @property
    def output(self) -> Layout:
        """What the inner kernel makes, group after group."""
        return self.slice.output

    @cached_property
    def cycles_per_event(self) -> int:
        """From the first group's start to the end of the last group's work, or the span of the longest input."""
        busy = self.slice.starts[-1] + self.inner.cycles_per_event
        return max(busy, *(layout.span for layout in self.spec.layouts))

    @property
    def multipliers(self) -> int:
        """Those of all copies."""
        return self.spec.copies * self.inner.multipliers
