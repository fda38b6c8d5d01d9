"""Wiring in SystemVerilog: assignments only."""

from __future__ import annotations

from metronn.emit.rtl.slots import Element, Vector, part, port_vector
from metronn.emit.rtl.text import bits_literal, module_text
from metronn.ir.ops import Constant
from metronn.plan.kernels.wiring import PlannedWiring, rewire_op


def emit_wiring(kernel: PlannedWiring, module_name: str) -> str:
    """Return the module of the kernel: ports clk_i, rst_i, start_i (not used), x0_i, ..., y_o."""
    spec, graph = kernel.spec, kernel.graph
    op = rewire_op(spec, graph)
    names = [name for name, _ in kernel.inputs]
    ports = {name: port_vector(f"x{k}_i", graph.type_of(name)) for k, name in enumerate(names)}
    out = port_vector("y_o", graph.type_of(spec.rewire))
    origin = [(name, k) for name in op.xs for k in range(graph.type_of(name).size)]
    runs: list[tuple[str, int, int, int]] = []  # source text or vector name, its offset (-1: constant), ours, width
    used: set[tuple[str, int]] = set()
    for target, index in zip(out.elements, op.index.ints(), strict=True):
        made_by = graph.by_name[origin[index][0]].op if index >= 0 else None
        if index < 0 or isinstance(made_by, Constant):
            code = int(made_by.values.array.ravel()[origin[index][1]]) if isinstance(made_by, Constant) else 0
            runs.append((bits_literal(code, target.width), -1, target.offset, target.width))
            continue
        used.add(origin[index])
        name, element = origin[index]
        source = ports[name].elements[element]
        last = runs[-1] if runs else ("", -1, 0, 0)
        if last[1] >= 0 and last[0] == name and last[1] + last[3] == source.offset:
            runs[-1] = (name, last[1], last[2], last[3] + source.width)
        else:
            runs.append((name, source.offset, target.offset, source.width))
    body = []
    for text, offset, place, width in runs:
        value = text if offset < 0 else part(ports[text].name, ports[text].width, offset, width)
        body.append(f"  assign {part('y_o', out.width, place, width)} = {value};")
    idle = ["clk_i", "rst_i", "start_i"]
    for name, port in ports.items():
        idle += _unread(port, {k for k in range(len(port.elements)) if (name, k) in used})
    return module_text(
        name=module_name,
        contract=[
            f"{spec.rewire} ({graph.by_name[spec.rewire].comment}): elements in another order.",
            "Latency 0 cycles.",
        ],
        ports=[(port.name, port.width) for port in ports.values()],
        output=("y_o", out.width),
        body=body,
        unused=idle,
    )


def _unread(port: Vector, used: set[int]) -> list[str]:
    """Parts of a port that no output shows, neighbours joined."""
    parts: list[Element] = []
    for k, element in enumerate(port.elements):
        if k in used:
            continue
        if parts and parts[-1].offset + parts[-1].width == element.offset:
            joined = parts[-1]
            parts[-1] = Element(offset=joined.offset, width=joined.width + element.width, lo=0, hi=0)
        else:
            parts.append(element)
    return [part(port.name, port.width, e.offset, e.width) for e in parts]
