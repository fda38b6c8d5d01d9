"""MatvecAdders in SystemVerilog."""

from __future__ import annotations

from metronn.emit.rtl.kernels.netlist import emit_netlist
from metronn.plan.kernels.adders.matvec import PlannedAdders, linear_op
from metronn.plan.kernels.netlist import Sum


def emit_adders(kernel: PlannedAdders, module_name: str) -> str:
    """Return the module of the kernel: ports clk_i, rst_i, start_i, x0_i, y_o; a new event every cycle if need be."""
    spec, graph, (netlist, own) = kernel.spec, kernel.graph, kernel.structure
    op = linear_op(spec, graph)
    sums = sum(isinstance(cell.op, Sum) for cell in netlist.cells)
    return emit_netlist(
        netlist,
        module_name=module_name,
        contract=[
            f"{spec.linear} ({graph.by_name[spec.linear].comment}): a constant matrix {op.weight.shape[0]} x "
            f"{op.weight.shape[1]} as {sums} adders, bias"
            + (f", then {', '.join(spec.epilogue)}." if spec.epilogue else "."),
            f"Latency {netlist.stage_count} cycles, II 1.",
        ],
        inputs=[graph.type_of(op.x)],
        output=graph.type_of(kernel.result),
        epilogue=own,
    )
