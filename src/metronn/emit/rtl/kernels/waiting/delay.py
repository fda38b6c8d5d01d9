"""Delays in SystemVerilog."""

from __future__ import annotations

from metronn.emit.rtl.kernels.waiting.lines import PulseNames, cell_name, line_text
from metronn.emit.rtl.text import module_text
from metronn.plan.kernels.waiting.delay import PlannedDelay
from metronn.plan.kernels.waiting.lines import WIRE


def emit_delay(kernel: PlannedDelay, module_name: str) -> str:
    """Return the module of the kernel: ports clk_i, rst_i, start_i, x0_i, y_o. No reset of data, so it maps to SRLs."""
    spec, width, (cells, plan) = kernel.spec, kernel.width, kernel.line
    pulses = PulseNames(plan)
    body = pulses.text()
    if cells:
        body.append(f"  wire [{width - 1}:0] {cell_name('data', WIRE)} = x0_i;")
        body += line_text("data", cells, width, pulses)
    body.append(f"  assign y_o = {cell_name('data', len(cells) - 1) if cells else 'x0_i'};")
    joined = "\n".join(body)
    return module_text(
        name=module_name,
        contract=[f"{spec.value}: the same {spec.layout.describe()}, {spec.cycles} cycles later."],
        ports=[("x0_i", width)],
        output=("y_o", width),
        body=body,
        unused=[port for port in ("clk_i", "rst_i", "start_i") if port not in joined],
    )
