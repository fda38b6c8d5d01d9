"""From one op to one call of the HLS library: its configuration, its stored constants and the call itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import assert_never

import numpy as np

from metronn.emit.hls.values import integer_type, literal, pattern, stored_array, stored_matrix
from metronn.ir.arrays import Array
from metronn.ir.graph import Graph, Node
from metronn.ir.infer import linear_shifts, reduce_shifts, round_shift, shifted_bounds
from metronn.ir.ops import (
    Add,
    Constant,
    Extremum,
    ExtremumKind,
    Input,
    Linear,
    Lookup,
    Multiply,
    Padding,
    Reduce,
    ReduceKind,
    Requantize,
    Rewire,
    Window,
)


@dataclass(slots=True)
class LibraryCall:
    """One call: the library header it needs, its configuration, its constants and its text.

    `sources` are values of the graph, `constants` C++ names; they are the call's arguments in this order, and the
    result comes last, or first with `result_first`. `template` replaces the configuration as template argument.
    `aligned_type`, when not empty, is the type to which the one source is aligned before the call. `unrolled`: the
    function is none of the library's.
    """

    function: str
    header: str
    sources: tuple[str, ...] = ()
    constants: tuple[str, ...] = ()
    members: list[str] = field(default_factory=list)
    stored: list[str] = field(default_factory=list)
    template: str = ""
    aligned_type: str = ""
    result_first: bool = False
    unrolled: Unrolled | None = None

    @property
    def called(self) -> str:
        """What stands before the arguments of a call that makes a value, without template arguments."""
        return self.function if self.unrolled else f"metronn::{self.function}"


@dataclass(frozen=True, slots=True)
class Unrolled:
    """A function of the project's own: the struct that holds it, what it does in a few words, and what it needs.

    `inner`: the calls of the library in it, by C++ name. `types`: definitions of types, by C++ name.
    """

    text: str
    note: str
    inner: Mapping[str, tuple[Node, LibraryCall]]
    types: Mapping[str, str]
    headers: frozenset[str]


def with_inner(calls: Mapping[str, tuple[Node, LibraryCall]]) -> Mapping[str, tuple[Node, LibraryCall]]:
    """Return calls by C++ name, and before each those in a function of the project's own."""
    found: dict[str, tuple[Node, LibraryCall]] = {}
    for name, (node, kernel) in calls.items():
        if kernel.unrolled:
            found |= kernel.unrolled.inner
        # the result's own op may be among them
        found[f"{name}_adders" if kernel.unrolled else name] = (node, kernel)
    return found


def kernel_of(graph: Graph, node: Node, name: str) -> LibraryCall | None:
    """Return the call that makes `node`, whose C++ name is `name`; None for an input."""
    op = node.op
    match op:
        case Input():
            return None
        case Constant():
            return LibraryCall(
                "load", "rewire", constants=(f"{name}_values",), template=f"<{node.type.size}>",
                stored=[stored_array(f"{name}_values", op.values.ints())],
            )  # fmt: skip
        case Rewire():
            sizes = "".join(f", {graph.type_of(x).size}" for x in op.xs)
            kernel = LibraryCall(
                "rewire", "rewire", sources=op.xs, result_first=True, members=_count(node),
                template=f"<{name}_cfg{sizes}>",
            )  # fmt: skip
            _index_function(kernel, name, "index", op.index.ints())
            return kernel
        case Window():
            return _window(graph, op, node)
        case Linear():
            return _linear(graph, op, node, name)
        case Add():
            function = "subtract" if op.subtract else "add"
            return _two_operands(graph, node, name, LibraryCall(function, "elementwise", sources=(op.x, op.y)))
        case Multiply():
            return _two_operands(graph, node, name, LibraryCall("multiply", "elementwise", sources=(op.x, op.y)))
        case Extremum():
            if op.kind is ExtremumKind.MAX and (relu := _relu(graph, op, node, name)) is not None:
                return relu
            function = "maximum" if op.kind is ExtremumKind.MAX else "minimum"
            return _two_operands(graph, node, name, LibraryCall(function, "elementwise", sources=(op.x, op.y)))
        case Reduce():
            return _reduce(graph, op, node, name)
        case Requantize():
            return _requantize(graph, op, node, name)
        case Lookup():
            return _lookup(graph, op, node, name)
        case _:
            assert_never(op)


def _count(node: Node) -> list[str]:
    return [f"static const int n = {node.type.size};"]


def _type_member(name: str, lo: int, hi: int, node: Node) -> str:
    return f"typedef {integer_type(lo, hi, node.source)} {name};"


def _index_function(
    kernel: LibraryCall, name: str, function: str, values: Sequence[int], result: str = "int", variable: str = "k"
) -> None:
    """Add `static <result> function(int k)` to the configuration: an expression where one is known, else a table."""
    known = pattern(values, variable)
    if known is None:
        array = f"{name}_{function}"
        kernel.stored.append(stored_array(array, values))
        entry = f"{array}[{variable}]"
        known = (entry if result == "int" else f"metronn::constant<{result}>({entry})"), True
    text, reads = known
    if result != "int" and not reads:
        text = f"metronn::constant<{result}>({text})"
    parameter = f"int {variable}" if reads else "int"
    kernel.members.append(f"static {result} {function}({parameter}) {{ return {text}; }}")


def _window(graph: Graph, op: Window, node: Node) -> LibraryCall:
    """Return the call that copies all windows at once; where an element comes from is computed, not stored."""
    shape = graph.type_of(op.x).shape
    rank, channels = len(op.kernel), shape[-1]
    spatial, out = shape[-rank - 1 : -1], node.type.shape[-rank - 1 : -1]
    positions = math.prod(op.kernel)
    low = graph.type_of(op.x).range.lowest if op.padding is Padding.LOWEST else 0
    kernel = LibraryCall("window", "window", sources=(op.x,), members=_count(node))
    kernel.members += [
        f"static const int n_in = {graph.type_of(op.x).size};",
        _type_member("fill_t", low, low, node),
        f"static fill_t fill() {{ return metronn::constant<fill_t>({literal(low)}); }}",
        "static int index(int k) {",
        f"  const int position = k / {channels} % {positions}, place = k / {channels * positions};",
    ]
    total = f"place / {math.prod(out)}"
    for axis in range(rank):
        along = f"place / {math.prod(out[axis + 1 :])} % {out[axis]} * {op.strides[axis]}"
        inside = f"position / {math.prod(op.kernel[axis + 1 :])} % {op.kernel[axis]} * {op.dilations[axis]}"
        kernel.members += [
            f"  const int at_{axis} = {along} + {inside} - {op.before[axis]};",
            f"  if (at_{axis} < 0 || at_{axis} >= {spatial[axis]}) return -1;",
        ]
        total = f"({total}) * {spatial[axis]} + at_{axis}"
    kernel.members += [f"  return ({total}) * {channels} + k % {channels};", "}"]
    return kernel


def _hull(*arrays: Array) -> tuple[int, int]:
    """Smallest and largest of all elements."""
    return min(int(a.min()) for a in arrays), max(int(a.max()) for a in arrays)


def _linear(graph: Graph, op: Linear, node: Node, name: str) -> LibraryCall:
    x = graph.type_of(op.x)
    n_in, n_out = op.weight.shape
    rows = math.prod(x.shape[:-1])
    shift = linear_shifts(op, x)
    lo, hi = shifted_bounds(x, shift.astype(object))
    weight = op.weight.array.astype(object)
    bias = op.bias.array.astype(object)
    grow, shrink = np.maximum(weight, 0), np.maximum(-weight, 0)
    # the sum of all positive (all negative) terms bounds every partial sum, whatever the order
    most = np.maximum(hi, 0) @ grow + np.maximum(-lo, 0) @ shrink + np.maximum(bias, 0)
    least = np.minimum(lo, 0) @ grow + np.minimum(-hi, 0) @ shrink + np.minimum(bias, 0)
    constants = (f"{name}_weight", f"{name}_bias")
    kernel = LibraryCall("dense", "dense", sources=(op.x,), constants=constants)
    kernel.members += [
        f"static const int rows = {rows};",
        f"static const int n_in = {n_in};",
        f"static const int n_out = {n_out};",
        _type_member("weight_t", *op.weight.bounds(), node),
        _type_member("acc_t", *_hull(np.asarray(least), np.asarray(most)), node),
    ]
    if shift.any():
        kernel.aligned_type = integer_type(*_hull(lo, hi), node.source)
        kernel.members.insert(0, f"static const int n = {x.size};")
        _index_function(kernel, name, "x_shift", shift.ravel().tolist())
    by_output = [[int(v) for v in column] for column in op.weight.array.T]
    kernel.stored += [stored_matrix(f"{name}_weight", by_output), stored_array(f"{name}_bias", op.bias.ints())]
    return kernel


def _aligned(graph: Graph, source: str, node: Node) -> tuple[list[int], list[int], int, int]:
    """Broadcast an operand: source element and shift of each result element, and the bounds after the shift."""
    t = graph.type_of(source)
    place = np.arange(t.size).reshape(t.shape)
    index = [int(k) for k in np.broadcast_to(place, node.type.shape).ravel()]
    frac, out = t.range.fracs(t.size), node.type.range.fracs(node.type.size)
    los, his = t.range.los(t.size), t.range.his(t.size)
    shift = [f - frac[k] for f, k in zip(out, index, strict=True)]
    return (
        index,
        shift,
        min(los[k] << max(s, 0) for k, s in zip(index, shift, strict=True)),
        max(his[k] << max(s, 0) for k, s in zip(index, shift, strict=True)),
    )


def _two_operands(graph: Graph, node: Node, name: str, kernel: LibraryCall) -> LibraryCall:
    kernel.members += _count(node)
    lows, highs = [node.type.range.lowest], [node.type.range.highest]
    for letter, source in zip("xy", kernel.sources, strict=True):
        index, shift, lo, hi = _aligned(graph, source, node)
        _index_function(kernel, name, f"{letter}_index", index)
        if kernel.function != "multiply":
            _index_function(kernel, name, f"{letter}_shift", shift)
        lows.append(lo)
        highs.append(hi)
    if kernel.function != "multiply":
        kernel.members.insert(1, _type_member("work_t", min(lows), max(highs), node))
    return kernel


def _relu(graph: Graph, op: Extremum, node: Node, name: str) -> LibraryCall | None:
    """Return the maximum with a constant zero that does not change the shape, or None when the op is none."""
    for x, y in ((op.x, op.y), (op.y, op.x)):
        other = graph.by_name[y].op
        zero = isinstance(other, Constant) and other.values.bounds() == (0, 0)
        if zero and graph.type_of(x).shape == node.type.shape:
            _, shift, lo, hi = _aligned(graph, x, node)
            kernel = LibraryCall("relu", "activation", sources=(x,), members=_count(node))
            kernel.members.append(_type_member("work_t", lo, hi, node))
            _index_function(kernel, name, "x_shift", shift)
            return kernel
    return None


def _reduce(graph: Graph, op: Reduce, node: Node, name: str) -> LibraryCall:
    x = graph.type_of(op.x)
    kept = [axis for axis in range(len(x.shape)) if axis not in op.axes]
    place = np.arange(x.size).reshape(x.shape).transpose([*kept, *sorted(op.axes)])
    n_out = node.type.size
    n_terms = x.size // n_out
    index = place.reshape(n_out, n_terms)
    shifts = reduce_shifts(op, x)
    lo, hi = shifted_bounds(x, shifts.astype(object))
    match op.kind:
        case ReduceKind.SUM:
            by_result_lo, by_result_hi = lo.ravel()[index], hi.ravel()[index]
            most = np.maximum(by_result_hi, 0).sum(axis=1)
            least = np.minimum(by_result_lo, 0).sum(axis=1)
            bounds = _hull(np.asarray(least), np.asarray(most))
        case ReduceKind.MAX | ReduceKind.MIN:
            bounds = _hull(lo, hi)
        case _:
            assert_never(op.kind)
    kernel = LibraryCall(f"reduce_{op.kind.value}", "reduce", sources=(op.x,))
    kernel.members += [
        f"static const int n_out = {n_out};",
        f"static const int n_terms = {n_terms};",
        _type_member("acc_t", *bounds, node),
    ]
    flat = np.arange(x.size)
    if (index == flat.reshape(n_out, n_terms)).all():
        expression = "o * n_terms + t"
    elif (index == flat.reshape(n_terms, n_out).T).all():
        expression = "t * n_out + o"
    else:
        kernel.stored.append(stored_array(f"{name}_x_index", [int(k) for k in index.ravel()]))
        expression = f"{name}_x_index[o * n_terms + t]"
    kernel.members.append(f"static int x_index(int o, int t) {{ return {expression}; }}")
    _index_function(kernel, name, "x_shift", shifts.ravel().tolist())
    return kernel


def _requantize(graph: Graph, op: Requantize, node: Node, name: str) -> LibraryCall:
    x, count = graph.type_of(op.x), node.type.size
    los, his = op.out.los(count), op.out.his(count)
    shift = [a - b for a, b in zip(x.range.fracs(count), op.out.fracs(count), strict=True)]
    reach, fits = 0, True
    for x_lo, x_hi, bits, lo, hi in set(zip(x.range.los(count), x.range.his(count), shift, los, his, strict=True)):
        largest = (max(abs(x_lo), abs(x_hi)) + (1 << max(bits, 0))) << max(-bits, 0)
        reach = max(reach, largest + abs(lo) + abs(hi))
        fits &= lo <= round_shift(x_lo, bits, op.rounding) and round_shift(x_hi, bits, op.rounding) <= hi
    mode = "none" if fits else op.overflow.value.lower()
    kernel = LibraryCall("requantize", "requantize", sources=(op.x,), members=_count(node))
    kernel.members += [
        f"static const metronn::rounding rounding_mode = metronn::rounding::{op.rounding.value.lower()};",
        f"static const metronn::overflow overflow_mode = metronn::overflow::{mode};",
        _type_member("work_t", -reach, reach, node),
    ]
    _index_function(kernel, name, "shift", shift)
    _index_function(kernel, name, "lo", los, "work_t")
    _index_function(kernel, name, "hi", his, "work_t")
    return kernel


def _lookup(graph: Graph, op: Lookup, node: Node, name: str) -> LibraryCall:
    r = graph.type_of(op.x).range
    kernel = LibraryCall("lookup", "table", sources=(op.x,), constants=(f"{name}_table",), members=_count(node))
    kernel.members += [
        f"static const int n_entries = {op.table.shape[0]};",
        _type_member("work_t", min(r.lowest, 0), max(r.highest, r.highest - r.lowest), node),
        f"static work_t lowest() {{ return metronn::constant<work_t>({literal(r.lowest)}); }}",
    ]
    kernel.stored.append(stored_array(f"{name}_table", op.table.ints()))
    return kernel
