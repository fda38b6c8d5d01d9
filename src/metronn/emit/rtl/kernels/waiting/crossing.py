"""Crossings between super logic regions in SystemVerilog."""

from __future__ import annotations

from metronn.emit.rtl.text import module_text
from metronn.plan.kernels.waiting.crossing import PlannedCrossing

BOUNDARY = "u_boundary"
"""Instance of mnn_crossing inside the module of a crossing; regions.xdc names its registers."""


def emit_crossing(kernel: PlannedCrossing, module_name: str) -> str:
    """Return the module of the kernel: ports clk_i, rst_i, start_i, x0_i, y_o."""
    spec, width = kernel.spec, kernel.width
    return module_text(
        name=module_name,
        contract=[
            f"{spec.value}: the same {spec.layout.describe()} in the next region, {spec.registers} cycles later."
        ],
        ports=[("x0_i", width)],
        output=("y_o", width),
        body=[
            "  mnn_crossing #(",
            f"    .Width({width}),",
            f"    .Registers({spec.registers})",
            f"  ) {BOUNDARY} (",
            "    .clk_i,",
            "    .data_i(x0_i),",
            "    .data_o(y_o)",
            "  );",
        ],
        unused=["rst_i", "start_i"],
    )
