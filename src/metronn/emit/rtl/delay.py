"""Delays in SystemVerilog."""

from __future__ import annotations

from metronn.emit.rtl.text import module_text
from metronn.ir.graph import Graph
from metronn.plan.kernels.spec import Delay
from metronn.plan.layout import wire_format
from metronn.plan.timing import Timing


def emit_delay(spec: Delay, module_name: str, graph: Graph, timing: Timing) -> str:
    """Return the module of the kernel: ports clk_i, rst_i, start_i, x0_i, y_o. No reset, so it maps to SRLs."""
    width, cycles = wire_format(graph.type_of(spec.value), spec.layout).width, spec.cycles
    if cycles == 0:
        body = ["  assign y_o = x0_i;"]
    elif cycles == 1:
        body = [
            f"  logic [{width - 1}:0] data_q;",
            "  always_ff @(posedge clk_i) data_q <= x0_i;",
            "  assign y_o = data_q;",
        ]
    else:
        total = width * cycles
        body = [
            f"  logic [{total - 1}:0] data_q;  // the youngest in the lowest bits",
            f"  always_ff @(posedge clk_i) data_q <= {{data_q[{total - width - 1}:0], x0_i}};",
            f"  assign y_o = data_q[{total - width} +: {width}];",
        ]
    return module_text(
        name=module_name,
        contract=[f"{spec.value}: the same {spec.layout.describe()}, {cycles} cycles later."],
        ports=[("x0_i", width)],
        output=("y_o", width),
        body=body,
        unused=["rst_i", "start_i"] if cycles else ["clk_i", "rst_i", "start_i"],
    )
