"""One statement of generated C++ per op: which kernel, in which types, with which tables."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import assert_never

import numpy as np

from metronn.emulate.native.layout import BLOCK_EVENTS, Arena
from metronn.emulate.native.types import IntType, type_for, wrapped
from metronn.emulate.numpy import FLOAT32_EXACT, FLOAT64_EXACT, linear_reach
from metronn.ir.graph import Graph, Node
from metronn.ir.infer import aligned_bounds
from metronn.ir.ops import (
    Add,
    Constant,
    Extremum,
    ExtremumKind,
    Input,
    Linear,
    Lookup,
    Multiply,
    Overflow,
    Padding,
    Reduce,
    ReduceKind,
    Requantize,
    Rewire,
    Window,
)
from metronn.ir.types import TensorType
from metronn.ir.windows import window_index

SHIFT = IntType(32)


def storage(t: TensorType) -> IntType:
    """Type that a value's codes have in memory."""
    return type_for(t.range.lowest, t.range.highest)


@dataclass(slots=True)
class Emission:
    """The C++ of one graph while it grows: tables, kernel calls and the arena."""

    graph: Graph
    arena: Arena = field(default_factory=Arena)
    tables: list[str] = field(default_factory=list)
    prepare: list[str] = field(default_factory=list)
    statements: list[str] = field(default_factory=list)
    offsets: dict[str, int] = field(default_factory=dict)
    identifiers: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Give every value a C++ identifier that keeps its name readable."""
        for index, node in enumerate(self.graph.nodes):
            self.identifiers[node.name] = re.sub(r"[^A-Za-z0-9]+", "_", f"v{index}_{node.name}").rstrip("_")

    def place(self, node: Node) -> None:
        """Reserve memory for a value."""
        self.offsets[node.name] = self.arena.take(node.type.size * BLOCK_EVENTS * storage(node.type).size_bytes)

    def pointer(self, name: str) -> str:
        """C++ expression of a pointer to a placed value."""
        return f"metronn::at<{storage(self.graph.type_of(name)).cpp}>(arena, {self.offsets[name]})"

    def table(self, node: Node, what: str, values: Sequence[int], kind: IntType, cpp: str = "") -> str:
        """Add a table of integers and return its name."""
        name = f"{self.identifiers[node.name]}_{what}"
        body = wrapped(kind.literals(values))
        self.tables.append(f"const {cpp or kind.cpp} {name}[{len(values)}] = {{\n{body}\n}};")
        return name

    def per_element(self, node: Node, what: str, values: Sequence[int], kind: IntType) -> str:
        """C++ expression of a parameter given for each element: a table unless all are equal."""
        if all(value == values[0] for value in values):
            return f"{{nullptr, {kind.literal(values[0])}}}"
        return f"{{{self.table(node, what, values, kind)}, {kind.literal(0)}}}"

    def element_map(self, node: Node, what: str, values: Sequence[int]) -> str:
        """C++ expression of a map from elements to source elements."""
        if all(value == index for index, value in enumerate(values)):
            return "{nullptr, 1}"
        if not any(values):
            return "{nullptr, 0}"
        return f"{{{self.table(node, what, values, type_for(0), 'std::uint32_t')}, 0}}"

    def call(self, kernel: str, template: Sequence[str], arguments: Sequence[str]) -> None:
        """Append a kernel call."""
        parameters = f"<{', '.join(template)}>" if template else ""
        self.statements.append(f"  metronn::{kernel}{parameters}(\n{wrapped(arguments, '      ')[:-1]});")


def emit_node(emission: Emission, node: Node) -> str:
    """Append the statement that computes a node; returns the name of the type it computes in, for the comment."""
    op = node.op
    match op:
        case Input():
            return storage(node.type).cpp
        case Constant():
            table = emission.table(node, "values", op.values.ints(), storage(node.type))
            emission.prepare.append(f"  metronn::constant({table}, {node.type.size}, {emission.pointer(node.name)});")
            return storage(node.type).cpp
        case Rewire():
            return _rewire(emission, node, op)
        case Window():
            return _window(emission, node, op)
        case Linear():
            return _linear(emission, node, op)
        case Add():
            return _binary(emission, node, op.x, op.y, "subtract" if op.subtract else "add")
        case Multiply():
            return _binary(emission, node, op.x, op.y, "multiply")
        case Extremum():
            return _binary(emission, node, op.x, op.y, "maximum" if op.kind is ExtremumKind.MAX else "minimum")
        case Reduce():
            return _reduce(emission, node, op)
        case Requantize():
            return _requantize(emission, node, op)
        case Lookup():
            return _lookup(emission, node, op)
        case _:
            assert_never(op)


def _rewire(emission: Emission, node: Node, op: Rewire) -> str:
    index = np.asarray(op.index.ints())
    start = 0
    for position, name in enumerate(op.xs):
        stop = start + emission.graph.type_of(name).size
        targets = np.flatnonzero((index >= start) & (index < stop))
        if targets.size:
            source = emission.element_map(node, f"source{position}", [int(k) - start for k in index[targets]])
            target = emission.element_map(node, f"target{position}", [int(k) for k in targets])
            emission.call(
                "rewire", (), (emission.pointer(name), source, target, str(targets.size), emission.pointer(node.name))
            )
        start = stop
    zeros = np.flatnonzero(index < 0)
    if zeros.size:
        target = emission.element_map(node, "zero", [int(k) for k in zeros])
        emission.call("rewire_zero", (), (target, str(zeros.size), emission.pointer(node.name)))
    return storage(node.type).cpp


def _window(emission: Emission, node: Node, op: Window) -> str:
    x = emission.graph.type_of(op.x)
    index = window_index(op, x.shape).ravel()
    fill = x.range.lowest if op.padding is Padding.LOWEST else 0
    kind = storage(node.type)
    source = emission.table(node, "source", [int(k) for k in index], IntType(32))
    emission.call(
        "window", (), (emission.pointer(op.x), source, kind.literal(fill), str(index.size), emission.pointer(node.name))
    )
    return kind.cpp


def _shifted_reach(t: TensorType, shifts: Sequence[int]) -> list[int]:
    """Integers that bound the codes of `t` after moving each up by its shift, and the factors used for it."""
    los, his = t.range.los(t.size), t.range.his(t.size)
    moved = [bound << shift for bounds in (los, his) for bound, shift in zip(bounds, shifts, strict=True)]
    return [min(moved), max(moved), 1 << max(shifts)]


def _linear(emission: Emission, node: Node, op: Linear) -> str:
    x = emission.graph.type_of(op.x)
    shifts = [x.range.max_frac - frac for frac in x.range.fracs(x.size)]
    weight, bias = op.weight.ints(), op.bias.ints()
    bounds = [linear_reach(op, x), *_shifted_reach(x, shifts), *op.weight.bounds(), *op.bias.bounds()]
    reach = max(abs(bound) for bound in bounds)
    if reach < FLOAT32_EXACT:
        compute, size_bytes = "float", 4
    elif reach < FLOAT64_EXACT:
        compute, size_bytes = "double", 8
    else:
        wide = type_for(-reach, reach, least=64)
        compute, size_bytes = wide.cpp, wide.size_bytes
    n_in, n_out = op.weight.shape
    weight_table = emission.table(node, "weight", weight, type_for(*op.weight.bounds(), least=8))
    bias_table = emission.table(node, "bias", bias, type_for(*op.bias.bounds()))
    packed = f"{emission.identifiers[node.name]}_packed"
    offset = emission.arena.take(n_in * BLOCK_EVENTS * size_bytes)
    emission.arena.release(offset)
    rows = str(x.size // n_in)
    sizes = f"{weight_table}, {bias_table}, {n_in}, {n_out}"
    if compute == "float" and not any(shifts) and _fits_bytes(x, op):
        _packed_weights(emission, packed, "metronn::byte_weights", f"{sizes}, {x.range.lowest}")
        scratch = f"arena + {offset}"
        arguments = (emission.pointer(op.x), f"{packed}()", rows, scratch, emission.pointer(node.name))
        emission.call("linear_bytes", (), arguments)
        return "bytes or float"
    _packed_weights(emission, packed, f"metronn::linear_weights<{compute}>", sizes)
    shift = emission.per_element(node, "shift", shifts, SHIFT)
    scratch = f"metronn::at<{compute}>(arena, {offset})"
    x_pointer, y_pointer = emission.pointer(op.x), emission.pointer(node.name)
    emission.call("linear", (compute,), (x_pointer, shift, f"{packed}()", rows, scratch, y_pointer))
    return compute


def _fits_bytes(x: TensorType, op: Linear) -> bool:
    """Whether x less its lowest code fits an unsigned byte and every weight a signed one."""
    low, high = op.weight.bounds()
    return x.range.highest - x.range.lowest <= 255 and low >= -128 and high <= 127 and storage(x).bits == 32


def _packed_weights(emission: Emission, name: str, kind: str, arguments: str) -> None:
    """Add a function that gives the weights as the kernel wants them; they are rearranged at the first call."""
    emission.tables.append(
        f"const {kind}& {name}() {{\n  static const {kind} packed({arguments});\n  return packed;\n}}"
    )


def _broadcast_map(x: TensorType, out: TensorType) -> list[int]:
    """For each element of the result, the element of the operand it reads."""
    indices = np.broadcast_to(np.arange(x.size).reshape(x.shape), out.shape)
    return [int(k) for k in indices.ravel()]


def _binary(emission: Emission, node: Node, x: str, y: str, kernel: str) -> str:
    out = node.type
    bounds = [out.range.lowest, out.range.highest]
    arguments: list[str] = []
    for which, name in (("x", x), ("y", y)):
        t = emission.graph.type_of(name)
        source = _broadcast_map(t, out)
        fracs, los, his = t.range.fracs(t.size), t.range.los(t.size), t.range.his(t.size)
        aligned = kernel != "multiply"
        shifts = [frac - fracs[k] if aligned else 0 for frac, k in zip(out.range.fracs(out.size), source, strict=True)]
        for limits in (los, his):
            moved = [limits[k] << shift for k, shift in zip(source, shifts, strict=True)]
            bounds += [min(moved), max(moved)]
        bounds.append(1 << max(shifts))
        arguments.append(emission.pointer(name))
        arguments.append(emission.element_map(node, f"{which}_source", source))
        arguments.append(emission.per_element(node, f"{which}_shift", shifts, SHIFT))
    compute = type_for(*bounds).cpp
    emission.call(
        "binary",
        (f"metronn::binary_op::{kernel}", compute),
        (*arguments, str(out.size), emission.pointer(node.name)),
    )
    return compute


def _reduce(emission: Emission, node: Node, op: Reduce) -> str:
    x = emission.graph.type_of(op.x)
    shifts = [x.range.max_frac - frac for frac in x.range.fracs(x.size)]
    kept = [axis for axis in range(len(x.shape)) if axis not in op.axes]
    members = np.arange(x.size).reshape(x.shape).transpose(*kept, *op.axes).ravel()
    count = x.size // node.type.size
    lo, hi = aligned_bounds(x, x.range.max_frac)
    terms = count if op.kind is ReduceKind.SUM else 1
    bounds = [*_shifted_reach(x, shifts), min(int(lo.min()), 0) * terms, max(int(hi.max()), 0) * terms]
    compute = type_for(*bounds).cpp
    kernel = {ReduceKind.SUM: "sum", ReduceKind.MAX: "maximum", ReduceKind.MIN: "minimum"}[op.kind]
    emission.call(
        "reduce",
        (f"metronn::reduce_op::{kernel}", compute),
        (
            emission.pointer(op.x),
            emission.element_map(node, "member", [int(k) for k in members]),
            str(count),
            emission.per_element(node, "shift", shifts, SHIFT),
            str(node.type.size),
            emission.pointer(node.name),
        ),
    )
    return compute


def _requantize(emission: Emission, node: Node, op: Requantize) -> str:
    x = emission.graph.type_of(op.x)
    size = x.size
    shifts = [a - b for a, b in zip(x.range.fracs(size), op.out.fracs(size), strict=True)]
    los, his = op.out.los(size), op.out.his(size)
    least, most = _requantize_bounds(x, op, shifts)
    compute = type_for(least, most)
    overflow = "sat" if op.overflow is Overflow.SAT_SYM else op.overflow.value.lower()
    emission.call(
        "requantize",
        (f"metronn::rounding::{op.rounding.value.lower()}", f"metronn::overflow::{overflow}", compute.cpp),
        (
            emission.pointer(op.x),
            emission.per_element(node, "shift", shifts, SHIFT),
            emission.per_element(node, "lo", los, compute),
            emission.per_element(node, "hi", his, compute),
            str(size),
            emission.pointer(node.name),
        ),
    )
    return compute.cpp


def _requantize_bounds(x: TensorType, op: Requantize, shifts: Sequence[int]) -> tuple[int, int]:
    """Bounds of every intermediate result of the kernel, over all elements."""
    least = most = 0
    fields: tuple[Callable[[int], tuple[int, ...]], ...] = (x.range.los, x.range.his, op.out.los, op.out.his)
    for shift, lo, hi, out_lo, out_hi in set(zip(shifts, *(f(x.size) for f in fields), strict=True)):
        up, step = 1 << max(0, -shift), 1 << max(0, shift)
        reach = (max(abs(lo), abs(hi)) + step) * up
        span = out_hi - out_lo + max(abs(out_lo), abs(out_hi))
        bound = max(reach + span, up, step)
        least, most = min(least, -bound), max(most, bound)
    return least, most


def _lookup(emission: Emission, node: Node, op: Lookup) -> str:
    x = emission.graph.type_of(op.x)
    kind = storage(x)
    table = emission.table(node, "table", op.table.ints(), storage(node.type))
    lowest = f"{emission.identifiers[node.name]}_lowest"
    emission.tables.append(f"const {kind.cpp} {lowest} = {kind.literal(x.range.lowest)};")
    emission.call("lookup", (), (emission.pointer(op.x), lowest, table, str(x.size), emission.pointer(node.name)))
    return storage(node.type).cpp
