"""The kernels a design is made of: a closed union of frozen dataclasses naming the ops each one implements.

A kernel reads its operands' signals and makes one value. Backends decide nothing: what is not fixed by the ops it
names is a field here. Every kernel counts cycles from `start_i`, the cycle in which its first input beat is on the
wires; every beat is on the wires for exactly one cycle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from metronn.plan.layout import Layout


@dataclass(frozen=True, slots=True, kw_only=True)
class MatvecAdders:
    """One Linear and its epilogue as an unrolled, pipelined adder graph. Parallel in and out, any II."""

    linear: str
    epilogue: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldOutputs:
    """One Linear and its epilogue; each cycle `lanes` outputs from all inputs. Parallel in, `beats` beats out.

    `lanes * beats` outputs leave `lanes` a beat; the `remainder` outputs beyond them are summed in slices of the
    inputs over the same cycles and join the last beat, so that no multiplier idles.
    """

    linear: str
    epilogue: tuple[str, ...] = ()
    lanes: int
    beats: int
    remainder: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldInputs:
    """One Linear and its epilogue; each cycle one beat of inputs into all accumulators. `layout` in, parallel out."""

    linear: str
    epilogue: tuple[str, ...] = ()
    layout: Layout


@dataclass(frozen=True, slots=True, kw_only=True)
class Elementwise:
    """Add, Multiply, Extremum and Requantize ops, element by element, in one pipeline; `nodes` in topological order.

    The last node is the result; operands that are neither constants nor earlier nodes are inputs, all parallel.
    """

    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One Lookup: a ROM per element. Parallel in and out."""

    lookup: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReduceTree:
    """One Reduce as a pipelined tree per result element. Parallel in and out."""

    reduce: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """One Rewire: no logic, no cycle. Parallel in and out."""

    rewire: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Gather:
    """Serial to parallel (`reorder`): beats are kept until the last one is there; all elements leave with it."""

    value: str
    layout: Layout


@dataclass(frozen=True, slots=True, kw_only=True)
class Delay:
    """The same beats, `cycles` later. Events are at least `period` cycles apart; 0 stands for the layout's span."""

    value: str
    layout: Layout
    cycles: int
    period: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossing:
    """The same beats in a neighbouring super logic region of the FPGA, through `registers` registers."""

    value: str
    layout: Layout
    registers: int


InnerSpec = MatvecAdders | FoldOutputs | FoldInputs | Elementwise | Table | ReduceTree
"""Kernels that may be run for every group of beats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Streamed:
    """Another kernel, run once for every group of beats: `layouts` in, one for each port, what it makes out.

    `inner` is a kernel of the slice: the same ops on the elements of one group (`metronn.plan.kernels.slices`). A group
    is one beat, or as many beats as the layout of an inner FoldInputs has. Of a beat that carries several rows, each is
    given to one of `copies` equal instances, in order.
    """

    inner: InnerSpec
    layouts: tuple[Layout, ...]
    copies: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowBuffer:
    """One Window or Rewire in time: each element waits until its beat of `output` leaves, `offset` cycles after start.

    Where an element is chosen among several, or replaced by the padding, a register follows: the latency is one more.
    Events are at least `period` cycles apart (0: as near as the layouts let them): what is known to be far apart needs
    less memory.
    """

    node: str
    layouts: tuple[Layout, ...]
    output: Layout
    offset: int
    period: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reorder:
    """The same value in another layout, whose first beat leaves `offset` cycles after start; `period` as above."""

    value: str
    layout: Layout
    output: Layout
    offset: int
    period: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReduceSerial:
    """One Reduce over elements that arrive in different beats; all results leave together after the last one."""

    reduce: str
    layout: Layout


KernelSpec = (
    MatvecAdders
    | FoldOutputs
    | FoldInputs
    | Elementwise
    | Table
    | ReduceTree
    | Wiring
    | Gather
    | Delay
    | Crossing
    | Streamed
    | WindowBuffer
    | Reorder
    | ReduceSerial
)


def covered_nodes(spec: KernelSpec) -> tuple[str, ...]:
    """Return the graph nodes the kernel implements; the last one is its result. Empty for what only waits."""
    match spec:
        case MatvecAdders() | FoldOutputs() | FoldInputs():
            return (spec.linear, *spec.epilogue)
        case Elementwise():
            return spec.nodes
        case Table():
            return (spec.lookup,)
        case ReduceTree():
            return (spec.reduce,)
        case Wiring():
            return (spec.rewire,)
        case ReduceSerial():
            return (spec.reduce,)
        case WindowBuffer():
            return (spec.node,)
        case Streamed():
            return covered_nodes(spec.inner)
        case Gather() | Delay() | Crossing() | Reorder():
            return ()
        case _:
            assert_never(spec)


def result_value(spec: KernelSpec) -> str:
    """Return the name of the value the kernel makes."""
    match spec:
        case Gather() | Delay() | Crossing() | Reorder():
            return spec.value
        case MatvecAdders() | FoldOutputs() | FoldInputs() | Streamed():
            return covered_nodes(spec)[-1]
        case Elementwise() | Table() | ReduceTree() | ReduceSerial() | Wiring() | WindowBuffer():
            return covered_nodes(spec)[-1]
        case _:
            assert_never(spec)
