"""Elementwise kernels in SystemVerilog: one function per result of a stage, one register vector per result."""

from __future__ import annotations

from dataclasses import dataclass, field

from metronn.emit.rtl.scalar import ScalarFunction, scalar_function
from metronn.emit.rtl.slots import Vector, packed, part, port_vector
from metronn.emit.rtl.text import identifier, module_text
from metronn.ir.graph import Graph
from metronn.plan.kernels.elementwise import Pipeline, PlannedElementwise
from metronn.plan.kernels.uniform import function_key, is_uniform, node_element


@dataclass(slots=True)
class _Writer:
    """What has been written of the module so far.

    `bounds` holds the code bounds of every value, element by element; `idle` vectors that constant results ignore.
    """

    plan: Pipeline
    bounds: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    functions: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    idle: list[str] = field(default_factory=list)


def emit_elementwise(kernel: PlannedElementwise, module_name: str) -> str:
    """Return the module of the kernel: ports clk_i, rst_i, start_i, x0_i, ..., y_o; an event every cycle if need be."""
    spec, graph, plan = kernel.spec, kernel.graph, kernel.pipeline
    out = port_vector("y_o", graph.type_of(spec.nodes[-1]))
    ports = [port_vector(f"x{k}_i", graph.type_of(name)) for k, name in enumerate(plan.inputs)]
    writer = _Writer(plan)
    vectors = dict(zip(plan.inputs, ports, strict=True))
    for name, vector in vectors.items():
        writer.bounds[name] = [(e.lo, e.hi) for e in vector.elements]
    for number, stage in enumerate(plan.stages):
        after = {}
        for name, cone, reads in stage.results:
            after[name] = _result(writer, number, name, cone, {x: vectors[x] for x in reads})
        vectors = after
    body = ["\n".join(writer.functions), *writer.lines] if writer.functions else list(writer.lines)
    copy, idle = _output(vectors[plan.nodes[-1]], out)
    body += copy
    seen = {name for stage in plan.stages for _, _, reads in stage.results for name in reads}
    idle += [vector.name for name, vector in zip(plan.inputs, ports, strict=True) if name not in seen]
    cycles = len(plan.stages)
    return module_text(
        name=module_name,
        contract=[
            f"{spec.nodes[-1]}: {', '.join(_described(graph, name) for name in spec.nodes)}.",
            f"{len(out.elements)} elements, latency {cycles} cycle{'s' if cycles > 1 else ''}, II 1.",
        ],
        ports=[(port.name, port.width) for port in ports],
        output=("y_o", out.width),
        body=body,
        unused=["rst_i", "start_i", *writer.idle, *idle],
    )


def _described(graph: Graph, name: str) -> str:
    node = graph.by_name[name]
    return f"{type(node.op).__name__} ({node.comment})"


def _result(writer: _Writer, number: int, name: str, cone: tuple[str, ...], reads: dict[str, Vector]) -> Vector:
    """Write the register of one value at the end of stage `number`; return its vector."""
    register = f"{identifier(name)}_s{number}_q"
    if not cone:
        vector = packed(register, writer.bounds[name])
        writer.lines += [
            f"  logic [{vector.width - 1}:0] {register};",
            f"  always_ff @(posedge clk_i) {register} <= {reads[name].name};",
            "",
        ]
        return vector
    graph, size = writer.plan.graph, writer.plan.graph.type_of(name).size
    label = f"{identifier(name)}_s{number}"
    straight = all(vector.uniform and len(vector.elements) == size for vector in reads.values())
    if straight and is_uniform(graph, cone):
        arguments = {x: _hull(writer.bounds[x]) for x in reads}
        function = scalar_function(label, graph, cone, 0, arguments)
        writer.functions.append(function.text)
        writer.bounds[name] = [(function.result_lo, function.result_hi)] * size
        vector = packed(register, writer.bounds[name])
        calls = ", ".join(reads[x].read_at("k") for x in reads)
        statements = [
            f"    for (int k = 0; k < {size}; k++) begin",
            f"      {vector.target_at('k')} <= {function.name}({calls});",
            "    end",
        ]
    else:
        functions = _element_functions(writer, label, cone, reads)
        writer.bounds[name] = [(f.result_lo, f.result_hi) for f in functions]
        vector = packed(register, writer.bounds[name])
        statements = []
        for k, function in enumerate(functions):
            calls = ", ".join(reads[x].read(node_element(graph, cone, k, x)) for x in reads)
            statements.append(f"    {vector.target(k)} <= {function.name}({calls});")
    if any(lo == hi for lo, hi in writer.bounds[name]):
        writer.idle += [vector.name for vector in reads.values()]
    writer.lines += [
        f"  logic [{vector.width - 1}:0] {register};",
        "  always_ff @(posedge clk_i) begin",
        *statements,
        "  end",
        "",
    ]
    return vector


def _hull(bounds: list[tuple[int, int]]) -> tuple[int, int]:
    return min(lo for lo, _ in bounds), max(hi for _, hi in bounds)


def _element_functions(
    writer: _Writer, label: str, cone: tuple[str, ...], reads: dict[str, Vector]
) -> list[ScalarFunction]:
    """One function per element; elements with the same arithmetic and bounds share one."""
    graph = writer.plan.graph
    known: dict[object, ScalarFunction] = {}
    functions = []
    for k in range(graph.type_of(cone[-1]).size):
        arguments = {x: writer.bounds[x][node_element(graph, cone, k, x)] for x in reads}
        key = (function_key(graph, cone, k), tuple(arguments.values()))
        if key not in known:
            known[key] = scalar_function(f"{label}_f{len(known)}", graph, cone, k, arguments)
            writer.functions.append(known[key].text)
        functions.append(known[key])
    return functions


def _output(result: Vector, out: Vector) -> tuple[list[str], list[str]]:
    """Assign the output port from the last register; return the lines and the sign copies the port does not need."""
    if [(e.offset, e.width) for e in result.elements] == [(e.offset, e.width) for e in out.elements]:
        return [f"  assign y_o = {result.name};"], []
    lines, idle = [], []
    for k, (have, want) in enumerate(zip(result.elements, out.elements, strict=True)):
        lines.append(f"  assign {out.target(k)} = {part(result.name, result.width, have.offset, want.width)};")
        if have.width > want.width:
            idle.append(part(result.name, result.width, have.offset + want.width, have.width - want.width))
    return lines, idle
