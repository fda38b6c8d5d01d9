"""Gather in SystemVerilog: early beats in registers, the last one on wires."""

from __future__ import annotations

from metronn.emit.rtl.pulse_trains import train_text
from metronn.emit.rtl.slots import part, port_vector
from metronn.emit.rtl.text import module_text
from metronn.plan.kernels.pulse_trains import counter_bits
from metronn.plan.kernels.spec import Gather
from metronn.plan.kernels.waiting.gather import PlannedGather
from metronn.plan.layout import wire_format


def emit_gather(kernel: PlannedGather, module_name: str) -> str:
    """Return the module of the kernel: ports clk_i, rst_i, start_i, x0_i, y_o; one event per `span` cycles."""
    spec, kept, bits = kernel.spec, kernel.kept_bits, kernel.phase_bits
    tensor, beats = kernel.graph.type_of(spec.value), spec.layout.beats
    wires, out = wire_format(tensor, spec.layout), port_vector("y_o", tensor)
    body = train_text("beat", "start_i", spec.layout.cycles[:-1], index="number") if bits is None else _phase(bits)
    held: dict[int, str] = {}
    needed = [0] * len(wires.slots)
    for beat, row in enumerate(beats):
        arriving = []
        offset = 0
        for slot, element in zip(wires.slots, row, strict=False):
            width = out.elements[element].width
            needed[wires.slots.index(slot)] = max(needed[wires.slots.index(slot)], width)
            arriving.append(part("x0_i", wires.width, slot.offset, width))
            held[element] = part(f"beat{beat}_q", kept[beat], offset, width) if beat < len(kept) else arriving[-1]
            offset += width
        if beat == len(kept):
            continue
        enable = _enable(spec, beat, bits)
        beat_bits = arriving[0] if len(arriving) == 1 else f"{{{', '.join(reversed(arriving))}}}"
        body += [
            f"  logic [{kept[beat] - 1}:0] beat{beat}_q;",
            f"  always_ff @(posedge clk_i) if ({enable}) beat{beat}_q <= {beat_bits};",
        ]
    body.append("")
    body += [f"  assign {out.target(element)} = {held[element]};" for element in range(tensor.size)]
    idle = ["clk_i", "rst_i", "start_i"]
    for slot, width in zip(wires.slots, needed, strict=True):
        if width < slot.width:
            idle.append(part("x0_i", wires.width, slot.offset + width, slot.width - width))
    return module_text(
        name=module_name,
        contract=[
            f"{spec.value}: {spec.layout.describe()} into one.",
            f"Latency {kernel.latency_cycles} cycles; y_o holds the event with its last beat only.",
        ],
        ports=[("x0_i", wires.width)],
        output=("y_o", out.width),
        body=body,
        unused=idle,
    )


def _enable(spec: Gather, beat: int, bits: int | None) -> str:
    """Text that is high in the cycle of a beat."""
    if beat == 0:
        return "start_i"
    if bits is None:
        count = counter_bits(len(spec.layout.cycles) - 1)
        return f"beat && number == {count}'d{beat}"
    return "phase_q" if bits == 1 else f"phase_q[{spec.layout.cycles[beat] - 1}]"


def _phase(bits: int) -> list[str]:
    """Write the shift register that follows the start: bit b is high b + 1 cycles after it."""
    if bits < 1:
        return []
    moved = "start_i" if bits == 1 else f"{{phase_q[{bits - 2}:0], start_i}}"
    zero = f"{bits}'d0"
    return [
        f"  logic {f'[{bits - 1}:0] ' if bits > 1 else ''}phase_q;",
        f"  always_ff @(posedge clk_i) phase_q <= rst_i ? {zero} : {moved};",
        "",
    ]
