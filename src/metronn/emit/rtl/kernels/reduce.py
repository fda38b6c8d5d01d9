"""Reductions in SystemVerilog."""

from __future__ import annotations

from metronn.emit.rtl.kernels.netlist import emit_netlist
from metronn.plan.kernels.reduce import PlannedReduceTree, reduce_op


def emit_reduce(kernel: PlannedReduceTree, module_name: str) -> str:
    """Return the module of the kernel: ports clk_i, rst_i, start_i, x0_i, y_o; a new event every cycle if need be."""
    spec, graph, netlist = kernel.spec, kernel.graph, kernel.netlist
    op = reduce_op(spec, graph)
    x = graph.type_of(op.x)
    return emit_netlist(
        netlist,
        module_name=module_name,
        contract=[
            f"{spec.reduce} ({graph.by_name[spec.reduce].comment}): {op.kind.value} of {x.size} elements into "
            f"{graph.type_of(spec.reduce).size}.",
            f"Latency {netlist.stage_count} cycles, II 1.",
        ],
        inputs=[x],
        output=graph.type_of(spec.reduce),
    )
