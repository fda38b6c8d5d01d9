"""The top of an HLS project: the C++ function that reads like the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import assert_never

from metronn.emit.hls.calls import TopCalls
from metronn.emit.hls.names import Names
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


def top_source(graph: Graph, name: str, layout: TopCalls) -> str:
    """Return the source file: one pipeline with one call for each value."""
    lines = [f'#include "{name}.hpp"', "", '#include "config.hpp"', ""]
    lines += [f"{signature(name, layout)} {{", *_port_pragmas(layout)]
    # every kernel takes an event in each cycle, so inputs are read in the one cycle in which they come
    lines.append("#pragma HLS PIPELINE II = 1 style = flp")
    read = {source for kernel in layout.kernels.values() for source in kernel.sources}
    read |= {output.value for output in graph.outputs}
    lines += [f"  (void){port.name};  // no op reads it" for port in layout.inputs if port.key not in read]
    for value in layout.kernels:
        lines += ["", f"  // {_describe(graph, layout, graph.by_name[value])}"]
        if value not in layout.direct:
            lines += _array(layout, graph, value)
        lines += kernel_call(graph, layout, value, layout.names)
    copies = [
        call(
            f"metronn::copy<{graph.type_of(output.value).size}>",
            [layout.names[output.value], layout.names[f"out:{output.name}"]],
        )
        for output in graph.outputs
        if output.value not in layout.direct
    ]
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


def kernel_call(graph: Graph, layout: TopCalls, value: str, arrays: Mapping[str, str] | Names) -> list[str]:
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
    template = "" if kernel.unrolled else kernel.template or f"<{name}_cfg>"
    return [*lines, call(f"{kernel.called}{template}", arguments)]


def _describe(graph: Graph, layout: TopCalls, node: Node) -> str:
    """Say what the call does, for the comment above it."""
    kernel = layout.kernels[node.name]
    return f"{node.comment}: {kernel.unrolled.note if kernel.unrolled else action(graph, node, kernel.function)}"


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
