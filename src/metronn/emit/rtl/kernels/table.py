"""Tables in SystemVerilog: one function holds the table, each element calls it."""

from __future__ import annotations

from metronn.emit.rtl.slots import port_vector
from metronn.emit.rtl.text import bits_literal, logic_type, module_text
from metronn.ir.types import width_bits
from metronn.plan.kernels.table import PlannedTable, code_bounds, lookup_op


def emit_table(kernel: PlannedTable, module_name: str) -> str:
    """Return the module of the kernel: ports clk_i, rst_i, start_i, x0_i, y_o; a new event every cycle if need be."""
    spec, graph = kernel.spec, kernel.graph
    op = lookup_op(spec, graph)
    x = port_vector("x0_i", graph.type_of(op.x))
    out = port_vector("y_o", graph.type_of(spec.lookup))
    low, high = code_bounds(spec, graph)
    block, size = kernel.in_block_ram, len(out.elements)
    width, address = out.elements[0].width, width_bits(low, high)
    entries = _memory(op.table.ints(), low, address, width) if block else _logic(op.table.ints(), low, address, width)
    body = [entries]
    style = '(* rom_style = "block" *) ' if block else ""
    body.append(f"  {style}logic [{out.width - 1}:0] data_q;")
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
            f"{spec.lookup} ({graph.by_name[spec.lookup].comment}): a table of {high - low + 1} entries, {size} times.",
            f"Latency {kernel.latency_cycles} cycles, II 1.",
        ],
        ports=[("x0_i", x.width)],
        output=("y_o", out.width),
        body=body,
        unused=["rst_i", "start_i"],
    )


ROW = 8
"""Entries of a table vector on one line."""


def _logic(values: list[int], low: int, address: int, width: int) -> str:
    """Write the table as a constant vector and the function that picks from it; codes that cannot occur give 0.

    An entry takes a power of two of bits, so that its place is the code with zeros behind it.
    """
    step = (width - 1).bit_length()
    at = {(low + k) % (1 << address): value % (1 << width) for k, value in enumerate(values)}
    words = [bits_literal(at.get(code, 0), 1 << step) for code in reversed(range(1 << address))]
    rows = [", ".join(words[k : k + ROW]) for k in range(0, len(words), ROW)]
    index = f"{{code, {step}'d0}}" if step else "code"
    result, argument = logic_type(width, signed=False), logic_type(address, signed=False)
    return "\n".join(
        [
            f"  // The entry of code c, modulo {1 << address}, is in bits [{1 << step}*c +: {width}].",
            f"  localparam logic [{(1 << address + step) - 1}:0] Entries = {{",
            ",\n".join(f"    {row}" for row in rows),
            "  };",
            "",
            f"  function automatic {result} entry(input {argument} code);",
            f"    entry = Entries[{index} +: {width}];",
            "  endfunction",
            "",
        ]
    )


def _memory(values: list[int], low: int, address: int, width: int) -> str:
    """Write the table as a case over the bits of the code, which tools map to memory; other codes give 0."""
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
