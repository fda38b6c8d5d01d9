"""The value of a planned kernel: what planning, emission and reports ask of every kernel, each class answers.

Classes stand with their kernels; `metronn.plan.kernels.kernels` makes them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

from metronn.ir.graph import Graph
from metronn.plan.hardware.resources import Resources
from metronn.plan.hardware.timing import StagePath, Timing
from metronn.plan.kernels.spec import KernelSpec, covered_nodes, result_value
from metronn.plan.layout import Layout

S = TypeVar("S", bound=KernelSpec, covariant=True)
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
    def part(self) -> PlannedKernel[KernelSpec]:
        """What makes one group of beats; the kernel itself where it is not run for one after another."""
        return self

    @property
    def copies(self) -> int:
        """How many of its part stand side by side."""
        return 1

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
    def slowest(self) -> StagePath:
        """The slowest path between two registers: here from one to the next."""
        return StagePath(what="register to register", ps=self.timing.arcs.net_ps)

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
    @abstractmethod
    def cycles_per_event(self) -> int:
        """Cycles the kernel is busy with one event: the smallest II it can keep."""

    @property
    @abstractmethod
    def multipliers(self) -> int:
        """Multipliers that are shared over the cycles of an event, those included that would only see zeros."""
