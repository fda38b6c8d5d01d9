"""From specifications to planned kernels: `Kernels` owns those of one graph under one timing, so each is planned once.

The planner makes one, and hands it on from candidates to the design, which emission and reports ask.

The union of specifications is taken apart here (and in `streamed`, for what may be run for every group of beats): a
kernel that is forgotten is named by mypy.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import ClassVar, assert_never, overload

from metronn.ir.graph import Graph
from metronn.plan.hardware.timing import Timing
from metronn.plan.kernels.reduce_serial import PlannedReduceSerial
from metronn.plan.kernels.spec import (
    Crossing,
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
)
from metronn.plan.kernels.streamed import InnerKernel, PlannedStreamed, planned_inner
from metronn.plan.kernels.waiting.crossing import PlannedCrossing
from metronn.plan.kernels.waiting.delay import PlannedDelay
from metronn.plan.kernels.waiting.gather import PlannedGather
from metronn.plan.kernels.waiting.window_buffer import PlannedReorder, PlannedWindowBuffer
from metronn.plan.kernels.wiring import PlannedWiring

AnyKernel = (
    InnerKernel
    | PlannedWiring
    | PlannedGather
    | PlannedDelay
    | PlannedCrossing
    | PlannedStreamed
    | PlannedReduceSerial
    | PlannedWindowBuffer
    | PlannedReorder
)
"""All classes: what takes them apart ends in `assert_never`."""


def planned(spec: KernelSpec, graph: Graph, timing: Timing) -> AnyKernel:
    """Return the kernel of a specification, alone."""
    match spec:
        case Wiring():
            return PlannedWiring(spec, graph, timing)
        case Gather():
            return PlannedGather(spec, graph, timing)
        case Delay():
            return PlannedDelay(spec, graph, timing)
        case Crossing():
            return PlannedCrossing(spec, graph, timing)
        case Streamed():
            return PlannedStreamed(spec, graph, timing)
        case ReduceSerial():
            return PlannedReduceSerial(spec, graph, timing)
        case WindowBuffer():
            return PlannedWindowBuffer(spec, graph, timing)
        case Reorder():
            return PlannedReorder(spec, graph, timing)
        case MatvecAdders() | FoldOutputs() | FoldInputs() | Elementwise() | Table() | ReduceTree():
            return planned_inner(spec, graph, timing)
        case _:
            assert_never(spec)


@dataclass(frozen=True, slots=True)
class Kernels:
    """The kernels of one graph under one timing, each planned once. What is planned already makes no difference."""

    KEPT: ClassVar[int] = 4096
    """Kernels that are kept; the one not asked for longest goes first."""

    graph: Graph
    timing: Timing
    _known: OrderedDict[KernelSpec, AnyKernel] = field(
        default_factory=OrderedDict, init=False, repr=False, compare=False
    )

    @overload
    def of(self, spec: Streamed) -> PlannedStreamed: ...
    @overload
    def of(self, spec: Gather) -> PlannedGather: ...
    @overload
    def of(self, spec: WindowBuffer) -> PlannedWindowBuffer: ...
    @overload
    def of(self, spec: Reorder) -> PlannedReorder: ...
    @overload
    def of(self, spec: KernelSpec) -> AnyKernel: ...

    def of(self, spec: KernelSpec) -> AnyKernel:
        """Return the kernel of a specification."""
        found = self._known.get(spec)
        if found is None:
            found = self._known[spec] = planned(spec, self.graph, self.timing)
            if len(self._known) > self.KEPT:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(spec)
        return found
