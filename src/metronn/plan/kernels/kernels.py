"""From specifications to planned kernels: `Kernels` owns those of one graph under one timing, so each is planned once.

The union of specifications is taken apart here (and in `streamed`, for what may be run for every group of beats): a
kernel that is forgotten is named by mypy.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import assert_never, overload

from metronn.ir.graph import Graph
from metronn.plan.hardware.timing import Timing
from metronn.plan.kernels.reduce_serial import PlannedReduceSerial
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
)
from metronn.plan.kernels.streamed import InnerKernel, PlannedStreamed, planned_inner
from metronn.plan.kernels.waiting.delay import PlannedDelay
from metronn.plan.kernels.waiting.gather import PlannedGather
from metronn.plan.kernels.waiting.window_buffer import PlannedReorder, PlannedWindowBuffer
from metronn.plan.kernels.wiring import PlannedWiring

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
        case MatvecAdders() | FoldOutputs() | FoldInputs() | Elementwise() | Table() | ReduceTree():
            return planned_inner(spec, graph, timing)
        case _:
            assert_never(spec)


class Kernels:
    """The kernels of one graph under one timing, each planned once."""

    KEPT = 4096
    """Kernels that are kept; the one not asked for longest goes first."""

    def __init__(self, graph: Graph, timing: Timing) -> None:
        """Start without kernels."""
        self.graph, self.timing = graph, timing
        self._known: OrderedDict[KernelSpec, AnyKernel] = OrderedDict()

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
