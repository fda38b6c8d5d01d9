"""Tables in SystemVerilog: one function holds the table, each element calls it."""

from __future__ import annotations

from metronn.emit.rtl.slots import port_vector
from metronn.emit.rtl.text import bits_literal, logic_type, module_text
from metronn.ir.graph import Graph
from metronn.ir.types import width_bits
from metronn.plan.kernels.spec import Table
from metronn.plan.kernels.table import code_bounds, in_block_ram, latency_cycles, lookup_op
from metronn.plan.timing import Timing


def emit_table(spec: Table, module_name: str, graph: Graph, timing: Timing) -> str:
    """Return the module of the kernel: ports clk_i, rst_i, start_i, x0_i, y_o; a new event every cycle if need be."""
    op = lookup_op(spec, graph)
    x = port_vector("x0_i", graph.type_of(op.x))
    out = port_vector("y_o", graph.type_of(spec.lookup))
    low, high = code_bounds(spec, graph)
    block, size = in_block_ram(spec, graph, timing), len(out.elements)
    width, address = out.elements[0].width, width_bits(low, high)
    body = [_function(op.table.ints(), low, address, width)]
    style = "block" if block else "distributed"
    body.append(f'  (* rom_style = "{style}" *) logic [{out.width - 1}:0] data_q;')
    body.append("  always_ff @(posedge clk_i) begin")
    if x.uniform and x.elements[0].width == address:
        body += [
            f"    for (int k = 0; k < {size}; k++) begin",
            f"      {out.target_at('k').replace('y_o', 'data_q')} <= entry(x0_i[k*{address} +: {address}]);",
            "    end",
        ]
    else:
        for k, element in enumerate(x.elements):
            value = x.read(k) if element.width == address else f"{address}'({x.read(k)})"
            body.append(f"    {out.target(k).replace('y_o', 'data_q')} <= entry({value});")
    body += ["  end", ""]
    if block:
        body += [
            f"  logic [{out.width - 1}:0] result_q;  // the output register of the memory",
            "  always_ff @(posedge clk_i) result_q <= data_q;",
            "",
        ]
    body.append(f"  assign y_o = {'result_q' if block else 'data_q'};")
    return module_text(
        name=module_name,
        contract=[
            f"{spec.lookup} ({graph.by_name[spec.lookup].source}): a table of {high - low + 1} entries, {size} times.",
            f"Latency {latency_cycles(spec, graph, timing)} cycles, II 1.",
        ],
        ports=[("x0_i", x.width)],
        output=("y_o", out.width),
        body=body,
        unused=["rst_i", "start_i"],
    )


def _function(values: list[int], low: int, address: int, width: int) -> str:
    """Write the table as a case over the bits of the code; codes that cannot occur give 0."""
    result, argument = logic_type(width, signed=False), logic_type(address, signed=False)
    lines = [
        f"  function automatic {result} entry(input {argument} code);",
        "    case (code)",
    ]
    lines += [
        f"      {bits_literal(low + k, address)}: entry = {bits_literal(value, width)};  // {low + k} -> {value}"
        for k, value in enumerate(values)
    ]
    if len(values) < 1 << address:
        lines.append(f"      default: entry = {bits_literal(0, width)};")
    return "\n".join([*lines, "    endcase", "  endfunction", ""])
