"""The top of an HLS project: the C++ function that reads like the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import assert_never

from metronn.emit.hls.calls import TopCall, TopCalls
from metronn.emit.hls.ops import HlsDirective
from metronn.ir.graph import Graph, Node
from metronn.ir.ops import Add, Constant, Extremum, Input, Linear, Lookup, Multiply, Reduce, Requantize, Rewire, Window

LINE = 108


def signature(name: str, layout: TopCalls) -> str:
    """Return the top's signature, one port per line when they do not fit one."""
    parts = [f"const {p.type_name} {p.name}[{p.type.size}]" for p in layout.inputs]
    return declaration(f"void {name}", [*parts, *(f"{p.type_name} {p.name}[{p.type.size}]" for p in layout.outputs)])


def declaration(function: str, parts: Sequence[str]) -> str:
    """Return a function's head, one parameter per line when they do not fit one."""
    line = f"{function}({', '.join(parts)})"
    return line if len(line) <= LINE else f"{function}(\n    " + ",\n    ".join(parts) + ")"


def call(function: str, arguments: Sequence[str]) -> str:
    """Return a call, one argument per line when they do not fit one."""
    line = f"  {function}({', '.join(arguments)});"
    return line if len(line) <= LINE else f"  {function}(\n      " + ",\n      ".join(arguments) + ");"


def top_source(
    graph: Graph,
    name: str,
    layout: TopCalls,
    directives: Mapping[str, HlsDirective],
    ii_cycles: int,
    latency_cycles: int,
) -> str:
    """Return the source file: the processes' functions, then the top with one call per step."""
    lines = [f'#include "{name}.hpp"', "", '#include "config.hpp"', ""]
    for step in layout.steps:
        if step.function:
            lines += [*_step_function(graph, layout, step), ""]
    lines += [f"{signature(name, layout)} {{", *_port_pragmas(layout)]
    if layout.dataflow:
        # here the processes bound the latency: those of the matrix products say theirs in their configuration
        lines.append("#pragma HLS DATAFLOW")
    else:
        lines += [f"#pragma HLS PIPELINE II = {ii_cycles}", f"#pragma HLS LATENCY max = {latency_cycles}"]
    readers = _Readers(graph, layout)
    for port in layout.inputs:
        if not readers.counts.get(port.key):
            lines.append(f"  (void){port.name};  // no op reads it")
        lines += readers.forks(port.key)
    for step in layout.steps:
        result = step.values[-1]
        lines.append("")
        lines += [f"  // {_describe(graph, layout, graph.by_name[value])}" for value in step.values]
        lines += _timing(directives.get(result))
        if result not in layout.direct:
            lines += _array(layout, graph, result)
        arrays = dict(zip(step.sources, readers.take(step.sources), strict=True))
        if step.function:
            lines.append(call(step.function, [*arrays.values(), layout.array(result)]))
        else:
            lines += kernel_call(graph, layout, result, arrays)
        lines += readers.forks(result)
    copies = []
    for output in graph.outputs:
        if output.value not in layout.direct:
            (source,) = readers.take((output.value,))
            target = layout.names[f"out:{output.name}"]
            copies.append(call(f"metronn::copy<{graph.type_of(output.value).size}>", [source, target]))
    if copies:
        lines += ["", "  // outputs that are inputs, or that an op or another output reads too", *copies]
    return "\n".join([*lines, "}"]) + "\n"


def _port_pragmas(layout: TopCalls) -> list[str]:
    lines = []
    for port, mode in [*((p, "ap_none") for p in layout.inputs), *((p, "ap_vld") for p in layout.outputs)]:
        lines.append(f"#pragma HLS ARRAY_RESHAPE variable = {port.name} type = complete")
        lines.append(f"#pragma HLS INTERFACE mode = {mode} port = {port.name}")
    return lines


def _partitioned(kind: str, name: str, size: int) -> list[str]:
    return [f"  {kind} {name}[{size}];", f"#pragma HLS ARRAY_PARTITION variable = {name} type = complete"]


def _array(layout: TopCalls, graph: Graph, value: str) -> list[str]:
    name = layout.names[value]
    return _partitioned(f"{name}_t", name, graph.type_of(value).size)


def _step_function(graph: Graph, layout: TopCalls, step: TopCall) -> list[str]:
    """Return the function of a chain of small kernels."""
    result = step.values[-1]
    made = [(f"const {layout.names[s]}_t", layout.names[s], graph.type_of(s).size) for s in step.sources]
    made.append((f"{layout.array(result)}_t", layout.array(result), graph.type_of(result).size))
    parts = [f"{kind} {name}[{size}]" for kind, name, size in made]
    lines = [f"{declaration(f'static void {step.function}', parts)} {{", "#pragma HLS PIPELINE II = 1"]
    arrays = {value: layout.names[value] for value in [*step.sources, *step.values]}
    for value in step.values:
        if value != result:
            lines += _array(layout, graph, value)
        lines += kernel_call(graph, layout, value, arrays)
    return [*lines, "}"]


def kernel_call(graph: Graph, layout: TopCalls, value: str, arrays: Mapping[str, str]) -> list[str]:
    """Return the call of one kernel of the library; `arrays` says where its sources are."""
    kernel, name = layout.kernels[value], layout.names[value]
    lines = []
    sources = [arrays[source] for source in kernel.sources]
    if kernel.aligned_type:
        lines += _partitioned(f"{name}_aligned_t", f"{name}_aligned", graph.type_of(kernel.sources[0]).size)
        lines.append(call(f"metronn::align<{name}_cfg>", [sources[0], f"{name}_aligned"]))
        sources = [f"{name}_aligned"]
    arguments = [*sources, *kernel.constants]
    result = layout.array(value)
    arguments = [result, *arguments] if kernel.result_first else [*arguments, result]
    return [*lines, call(f"metronn::{kernel.function}{kernel.template or f'<{name}_cfg>'}", arguments)]


def _timing(directive: HlsDirective | None) -> list[str]:
    if directive is None:
        return []
    return [f"  // {directive.kernel}, starts in cycle {directive.start_cycle}, {directive.latency_cycles} cycles"]


def _describe(graph: Graph, layout: TopCalls, node: Node) -> str:
    """Say what the call does, for the comment above it."""
    return f"{node.comment}: {action(graph, node, layout.kernels[node.name].function)}"


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(str(n) for n in shape) or "scalar"


def action(graph: Graph, node: Node, function: str) -> str:
    """Say in a few words what a node does."""
    op, out = node.op, _shape(node.type.shape)
    match op:
        case Linear():
            before = _shape(graph.type_of(op.x).shape)
            zeros = int((op.weight.array == 0).sum())
            return f"linear {before} -> {out}" + (f", {zeros} of {op.weight.array.size} weights are 0" if zeros else "")
        case Requantize():
            formats = f"{graph.type_of(op.x).range.describe()} -> {op.out.describe()}"
            return f"requantize {formats}, {op.rounding.value}, {op.overflow.value}".replace(" per element", "")
        case Lookup():
            return f"table of {op.table.shape[0]} entries for {out}"
        case Reduce():
            before = _shape(graph.type_of(op.x).shape)
            return f"{op.kind.value} over axes {', '.join(str(a) for a in op.axes)}, {before} -> {out}"
        case Add():
            return f"{'subtract' if op.subtract else 'add'}, {out}"
        case Multiply():
            return f"multiply, {out}"
        case Extremum():
            return f"{function}, {out}"
        case Rewire():
            return f"wires only, {out}"
        case Window():
            return f"windows of {_shape(op.kernel)}, stride {_shape(op.strides)}, {out}"
        case Constant():
            return f"constant, {out}"
        case Input():
            return f"input, {out}"
        case _:
            assert_never(op)


class _Readers:
    """Which array each reader of a value reads: in a dataflow region each reader has its own copy."""

    def __init__(self, graph: Graph, layout: TopCalls) -> None:
        self._graph = graph
        self._layout = layout
        self.counts: dict[str, int] = {}
        for step in layout.steps:
            for source in step.sources:
                self.counts[source] = self.counts.get(source, 0) + 1
        for output in graph.outputs:
            if output.value not in layout.direct:
                self.counts[output.value] = self.counts.get(output.value, 0) + 1
        self._free: dict[str, list[str]] = {}

    def forks(self, value: str) -> list[str]:
        """Lines that make a copy for every reader beyond the first."""
        count, name = self.counts.get(value, 0), self._layout.names[value]
        if not self._layout.dataflow or count < 2:
            return []
        size = self._graph.type_of(value).size
        lines, rest, copies = [], name, []
        for number in range(1, count):
            last = number + 1 == count
            first = self._layout.names.claim(f"{value}#{number}", f"{name}_reader_{number}")
            other = self._layout.names.claim(
                f"{value}#{number + 1 if last else f'rest{number}'}",
                f"{name}_reader_{number + 1}" if last else f"{name}_rest_{number}",
            )
            lines += [*_partitioned(f"{name}_t", first, size), *_partitioned(f"{name}_t", other, size)]
            lines.append(call(f"metronn::fork<{size}>", [rest, first, other]))
            copies.append(first)
            rest = other
        self._free[value] = [*copies, rest]
        return lines

    def take(self, values: tuple[str, ...]) -> list[str]:
        """Arrays that the next reader of these values reads."""
        mine = {
            value: self._free[value].pop(0) if value in self._free else self._layout.names[value]
            for value in dict.fromkeys(values)
        }
        return [mine[value] for value in values]
