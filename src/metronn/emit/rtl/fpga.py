"""SystemVerilog of one FPGA: kernels joined by signals, the event line that starts them, and the link ends."""

from __future__ import annotations

from collections.abc import Sequence

from metronn.emit.rtl.event_line import EventLine, event_line
from metronn.emit.rtl.frame import emit_frame_in, emit_frame_out, frame_in_taps, frame_out_taps
from metronn.emit.rtl.kernels.any_kernel import emit_kernel
from metronn.emit.rtl.port_names import WORDS_IN, WORDS_OUT, port_names
from metronn.emit.rtl.text import comment, identifier
from metronn.emit.tops import module_name, top_module
from metronn.plan.design import Design, FpgaDesign, KernelInstance
from metronn.plan.frames.packing import LANE_BITS, VERDICT_CYCLES, WORD_BITS
from metronn.plan.hardware.links import BUNCH_CROSSING_MHZ, LHC_BUNCH_CROSSINGS
from metronn.plan.hardware.system import Link
from metronn.plan.layout import wire_format

LIBRARY = (
    "mnn_delay",
    "mnn_crossing",
    "mnn_start_guard",
    "mnn_pulse_delay",
    "mnn_ring",
    "mnn_crc32",
    "mnn_link_orbit",
    "mnn_link_tx",
    "mnn_link_rx",
    "mnn_link_elastic",
    "mnn_replica",
)


def orbit_cycles(clock_mhz: float) -> int:
    """Clock cycles of one LHC orbit: 3564 bunch crossings of 25 ns."""
    return round(LHC_BUNCH_CROSSINGS * clock_mhz / BUNCH_CROSSING_MHZ)


def signal_width(design: Design, fpga: FpgaDesign, name: str) -> int:
    """Bits of a signal's vector."""
    signal = fpga.signal[name]
    return wire_format(design.graph.type_of(signal.value), signal.layout).width


def buffer_words(link: Link) -> int:
    """Depth of a lane's elastic buffer: a power of two above the spread of the raw latency and the margin."""
    spread = spread_cycles(link)
    return 1 << spread.bit_length()


def spread_cycles(link: Link) -> int:
    """How far the arrival of a word can vary, with the margin."""
    return link.latency_max_cycles - link.latency_min_cycles + 2


def event_cycles(fpga: FpgaDesign, design: Design) -> int:
    """Return the last cycle in which anything starts or leaves."""
    return max(1, *_event_taps(design, fpga))


def _event_taps(design: Design, fpga: FpgaDesign) -> list[int]:
    """Local cycles in which something starts: every kernel, what the frames do, and the first result."""
    taps = {0, *(kernel.start_cycle for kernel in fpga.kernels)}
    if fpga is design.fpgas[-1]:
        taps.add(design.answer_cycle)
    if fpga.words_in is not None:
        taps.update(frame_in_taps(fpga.words_in))
    if fpga.words_out is not None:
        taps.update(frame_out_taps(fpga, fpga.words_out), [fpga.words_out.send_cycle])
    if fpga.receives is None and _hit_travels(design, fpga):
        taps.add(_flag_known(design, fpga))
    return sorted(taps)


def emit_fpga(design: Design, fpga: FpgaDesign) -> dict[str, str]:
    """Return the SystemVerilog files of one FPGA by file name, library modules not included."""
    files = {}
    for kernel in fpga.kernels:
        name = module_name(design.prefix, fpga.name, identifier(kernel.name))
        files[f"{name}.sv"] = emit_kernel(design.planned(kernel), name)
    if fpga.words_in is not None:
        files[f"{module_name(design.prefix, fpga.name, 'frame_in')}.sv"] = emit_frame_in(design, fpga, fpga.words_in)
    if fpga.words_out is not None:
        files[f"{module_name(design.prefix, fpga.name, 'frame_out')}.sv"] = emit_frame_out(design, fpga, fpga.words_out)
    files[f"{top_module(design.prefix, fpga.name)}.sv"] = _top(design, fpga)
    return files


def ports(design: Design, fpga: FpgaDesign) -> list[tuple[str, str, int]]:
    """Ports of the FPGA's top as (direction, name, bits), without clock and reset."""
    found: list[tuple[str, str, int]] = []
    names = port_names(design)
    if fpga.receives is not None or fpga.sends is not None:
        found.append(("input", "bc0_i", 1))
    if fpga.index == 0:
        found.append(("input", "valid_i", 1))
        if fpga.enters is not None:
            found.append(("input", WORDS_IN, fpga.enters.form.bits * fpga.enters.lanes))
        for node in design.graph.inputs if fpga.enters is None else ():
            width = wire_format(node.type, design.inputs[node.name].layout).width
            found.append(("input", names.inputs[node.name], width))
    else:
        assert fpga.receives is not None
        found.append(("input", "lane_i", LANE_BITS * fpga.receives.lanes))
    found.append(("input", "clear_i", 1))
    if fpga.index == 0:
        found.append(("output", "early_starts_o", 16))
    else:
        found += [("output", "aligned_o", 1), ("output", "crc_errors_o", 16), ("output", "alignment_losses_o", 16)]
    if fpga.sends is not None:
        found.append(("output", "lane_o", LANE_BITS * fpga.sends.lanes))
    if fpga is design.fpgas[-1]:
        found += [("output", "valid_o", 1), ("output", "error_o", 1)]
        if fpga.leaves is not None:
            found.append(("output", WORDS_OUT, fpga.leaves.form.bits * fpga.leaves.lanes))
        for output in design.outputs if fpga.leaves is None else ():
            found.append(("output", names.outputs[output.name], signal_width(design, fpga, output.signal)))
    return found


def port_lines(found: list[tuple[str, str, int]]) -> list[str]:
    """Return ANSI port declarations, clock and reset first."""
    lines = ["  input  wire clk_i,", "  input  wire rst_i,  // synchronous, active high"]
    for direction, name, width in found:
        vector = f"[{width - 1}:0] " if width > 1 else ""
        lines.append(f"  {'input  wire' if direction == 'input' else 'output logic'} {vector}{name},")
    lines[-1] = lines[-1].rstrip(",")
    return lines


def _top(design: Design, fpga: FpgaDesign) -> str:
    name = top_module(design.prefix, fpga.name)
    line = event_line("event", "event_start", _event_taps(design, fpga), design.ii_cycles)
    contract = [
        f"{fpga.name}: FPGA {fpga.index + 1} of {len(design.fpgas)}; II {design.ii_cycles}; local cycle 0 is system "
        f"cycle {fpga.offset_cycles}.",
        *_promises(design, fpga),
    ]
    body: list[str] = []
    body += _orbit(fpga)
    body += _starts(design, fpga)
    body += ["  // The event line: bit k of event_n is high in local cycle n + k of an event.", *line.lines, ""]
    body += _flag_lines(design, fpga, line)
    body += _frame_in(design, fpga, line)
    if fpga.index == 0 and fpga.enters is None:
        taken = port_names(design).inputs
        body += [f"  assign s_{signal.name} = {taken[node]};" for node, signal in design.inputs.items()]
        body.append("")
    for kernel in fpga.kernels:
        body += _instance(design, fpga, kernel, line)
    body += _links_out(design, fpga, line)
    body += _outputs(design, fpga, line)
    declared = [f"  wire [{signal_width(design, fpga, s.name) - 1}:0] s_{s.name};" for s in fpga.signals]
    parameter = (
        f" #(\n  parameter int OrbitCycles = {orbit_cycles(design.system.clock_mhz)}\n)" if _linked(fpga) else ""
    )
    text = [
        f"module {name}{parameter} (",
        *port_lines(ports(design, fpga)),
        ");",
        "",
        "  // Signals: the value, and when its first beat is there.",
        *declared,
        "",
        *body,
        *_unused(design, fpga, line),
        "endmodule",
    ]
    return comment(contract) + "`default_nettype none\n\n" + "\n".join(text) + "\n\n`default_nettype wire\n"


def _linked(fpga: FpgaDesign) -> bool:
    return fpga.receives is not None or fpga.sends is not None


def _promises(design: Design, fpga: FpgaDesign) -> list[str]:
    lines = []
    if fpga.sends is not None:
        lines.append(
            f"Sends {fpga.sends.words} words on {fpga.sends.lanes} lanes, "
            f"word 0 in local cycle {fpga.sends.send_cycle}."
        )
    if fpga.enters is not None:
        lines.append(f"Inputs: {fpga.enters.words} words on {fpga.enters.lanes} lanes from local cycle 0.")
    if fpga.leaves is not None:
        lines.append(
            f"Results: {fpga.leaves.words} words on {fpga.leaves.lanes} lanes from local cycle {design.answer_cycle}."
        )
    elif fpga is design.fpgas[-1]:
        for output in design.outputs:
            signal = fpga.signal[output.signal]
            lines.append(f"{output.name}: {signal.layout.describe()} from local cycle {signal.first_cycle}.")
    return lines


def _instance(design: Design, fpga: FpgaDesign, kernel: KernelInstance, line: EventLine) -> list[str]:
    lines = [
        f"  // {kernel.name}: cycle {kernel.start_cycle}, latency {kernel.latency_cycles}.",
        f"  {module_name(design.prefix, fpga.name, identifier(kernel.name))} u_{identifier(kernel.name)} (",
        "    .clk_i,",
        "    .rst_i,",
        f"    .start_i({line.at[kernel.start_cycle]}),",
    ]
    lines += [f"    .x{k}_i(s_{name})," for k, name in enumerate(kernel.inputs)]
    return [*lines, f"    .y_o(s_{kernel.output})", "  );", ""]


def _orbit(fpga: FpgaDesign) -> list[str]:
    """Return the orbit counter that the link ends share."""
    if not _linked(fpga):
        return []
    return [
        "  wire orbit_zero, orbit_synced;",
        "  wire [$clog2(OrbitCycles)-1:0] orbit_cycle;",
        "  mnn_link_orbit #(",
        "    .OrbitCycles(OrbitCycles)",
        "  ) u_orbit (",
        "    .clk_i,",
        "    .rst_i,",
        "    .bc0_i,",
        "    .synced_o(orbit_synced),",
        "    .zero_o(orbit_zero),",
        "    .cycle_o(orbit_cycle)",
        "  );",
        "",
    ]


def _starts(design: Design, fpga: FpgaDesign) -> list[str]:
    """Return what makes event_start, never twice within the II: the guard of the inputs, or the link receiver."""
    frame = fpga.receives
    if frame is None:
        return [
            "  // Starts at least the II apart; hit: while inputs were taken, one came sooner and was dropped.",
            "  wire event_start, hit;",
            "  mnn_start_guard #(",
            f"    .Distance({design.ii_cycles}),",
            f"    .Window({last_input_cycle(design)})",
            "  ) u_guard (",
            "    .clk_i,",
            "    .rst_i,",
            "    .clear_i,",
            "    .start_i(valid_i),",
            "    .start_o(event_start),",
            "    .hit_o(hit),",
            "    .early_starts_o",
            "  );",
            "",
        ]
    link = design.system.links[frame.link]
    return [
        "  wire event_start, flag_valid, flag;",
        f"  wire [{WORD_BITS * frame.lanes - 1}:0] word_in;",
        "  mnn_link_rx #(",
        f"    .FrameWords({frame.words}),",
        f"    .Lanes({frame.lanes}),",
        f"    .EventCycles({design.ii_cycles}),",
        "    .OrbitCycles(OrbitCycles),",
        f"    .ReleaseCycle({frame.latency_cycles} % OrbitCycles),",
        f"    .BufferWords({buffer_words(link)}),",
        f"    .SpreadCycles({spread_cycles(link)})",
        "  ) u_link_rx (",
        "    .clk_i,",
        "    .rst_i,",
        "    .orbit_zero_i(orbit_zero),",
        "    .lane_i,",
        "    .start_o(event_start),",
        "    .word_o(word_in),",
        "    .done_o(flag_valid),",
        "    .error_o(flag),",
        "    .aligned_o,",
        "    .clear_i,",
        "    .crc_errors_o,",
        "    .alignment_losses_o",
        "  );",
        "",
    ]


def _frame_in(design: Design, fpga: FpgaDesign, line: EventLine) -> list[str]:
    """Return the module that makes signals of the words that come in."""
    frame = fpga.words_in
    if frame is None:
        return []
    words = "word_in" if fpga.enters is None else WORDS_IN
    lines = [f"  {module_name(design.prefix, fpga.name, 'frame_in')} u_frame_in (", "    .clk_i,", "    .rst_i,"]
    lines += [f"    .at_i({_pulses(frame_in_taps(frame), line)}),", f"    .word_i({words}),"]
    lines += [f"    .s_{field.target}_o(s_{field.target})," for field in frame.fields]
    lines[-1] = lines[-1].rstrip(",")
    return [*lines, "  );", ""]


def _pulses(taps: Sequence[int], line: EventLine) -> str:
    """Return the vector of event pulses a frame module takes."""
    return f"{{{', '.join(line.at[tap] for tap in reversed(taps))}}}" if taps else "1'b0"


def last_input_cycle(design: Design) -> int:
    """Cycle of an event in which the last of its inputs is taken, or of their words."""
    enters = design.fpgas[0].enters
    if enters is not None:
        return enters.words - 1
    return max((s.first_cycle + s.layout.cycles[-1] for s in design.inputs.values()), default=0)


def marked_until_cycle(design: Design) -> int:
    """System cycle of an event up to which error_o may mark it: that of valid_o; the II where answers begin early."""
    last = design.fpgas[-1]
    if _answers_early(design, last):
        return design.ii_cycles
    return last.offset_cycles + design.answer_cycle


def _hit_travels(design: Design, fpga: FpgaDesign) -> bool:
    """Whether the first FPGA marks events whose inputs an early start may have damaged with a flag, like links do.

    Where inputs come in one cycle none is damaged. Where the answer begins before the last input, `_outputs` marks it.
    """
    return bool(last_input_cycle(design)) and not _answers_early(design, fpga)


def _answers_early(design: Design, fpga: FpgaDesign) -> bool:
    """Whether answers begin before the last input has been taken: one FPGA, streamed."""
    return fpga.sends is None and fpga.receives is None and design.answer_cycle <= last_input_cycle(design)


def _flag_known(design: Design, fpga: FpgaDesign) -> int:
    """Local cycle in which the event's error flag is there: the link's verdict, or the guard's after the last input."""
    if fpga.receives is not None:
        return fpga.receives.words + VERDICT_CYCLES
    return min(last_input_cycle(design) + 1, _flag_needed(design, fpga))


def _flag_needed(design: Design, fpga: FpgaDesign) -> int:
    """Local cycle in which the flag must be there again: with the last word sent, or with the first output beat."""
    if fpga.sends is not None:
        return fpga.sends.send_cycle + fpga.sends.words - 1
    return design.answer_cycle


def _flag_wait(design: Design, fpga: FpgaDesign) -> int:
    """Cycles the flag waits; a sound design never needs it before it is there."""
    return max(0, _flag_needed(design, fpga) - _flag_known(design, fpga))


def _flagged(design: Design, fpga: FpgaDesign) -> bool:
    """Whether events of the FPGA have a flag that travels with them."""
    return fpga.receives is not None or _hit_travels(design, fpga)


def _flag_line(design: Design, fpga: FpgaDesign) -> EventLine:
    return event_line("flag", "flagged", sorted({0, _flag_wait(design, fpga)}), design.ii_cycles)


def _flag_lines(design: Design, fpga: FpgaDesign, line: EventLine) -> list[str]:
    if not _flagged(design, fpga):
        return []
    known = line.at[_flag_known(design, fpga)] if fpga.receives is None else "flag_valid"
    return [
        "  // The error flag of the event, and where it stands later.",
        f"  wire flagged = {known} && {'hit' if fpga.receives is None else 'flag'};",
        *_flag_line(design, fpga).lines,
        "",
    ]


def _flag(design: Design, fpga: FpgaDesign) -> str:
    if not _flagged(design, fpga):
        return "1'b0"
    return _flag_line(design, fpga).at[_flag_wait(design, fpga)]


def _links_out(design: Design, fpga: FpgaDesign, line: EventLine) -> list[str]:
    """Return what makes the words that leave, and what sends them."""
    frame = fpga.words_out
    if frame is None:
        return []
    taps = frame_out_taps(fpga, frame)
    lines = [
        f"  wire [{frame.form.bits * frame.lanes - 1}:0] word_out;",
        f"  {module_name(design.prefix, fpga.name, 'frame_out')} u_frame_out (",
        "    .clk_i,",
        "    .rst_i,",
        f"    .at_i({_pulses(taps, line)}),",
    ]
    lines += [f"    .s_{field.source}_i(s_{field.source})," for field in frame.fields]
    lines += ["    .word_o(word_out)", "  );", ""]
    if fpga.sends is None:
        return [*lines, f"  always_ff @(posedge clk_i) {WORDS_OUT} <= word_out;", ""]
    lines += [
        "  mnn_link_tx #(",
        f"    .FrameWords({frame.words}),",
        f"    .Lanes({frame.lanes})",
        "  ) u_link_tx (",
        "    .clk_i,",
        "    .rst_i,",
        "    .orbit_zero_i(orbit_zero),",
        f"    .start_i({line.at[frame.send_cycle]}),",
        f"    .error_i({_flag(design, fpga)}),",
        "    .word_i(word_out),",
        "    .lane_o",
        "  );",
        "",
    ]
    return lines


def _outputs(design: Design, fpga: FpgaDesign, line: EventLine) -> list[str]:
    if fpga is not design.fpgas[-1]:
        return []
    first = "the first beat of the earliest one" if fpga.leaves is None else "the first word"
    lines = [
        f"  // Results: valid_o marks {first}, error_o an event that may be damaged.",
        f"  assign valid_o = {line.at[design.answer_cycle]};",
    ]
    if _answers_early(design, fpga):
        # Where the answer begins in the very cycle of the start, the next event carries the mark too.
        lines += [
            "  // Inputs are taken while the answer leaves: error_o is high too as soon as one of these is damaged.",
            "  logic answering_q;",
            "  always_ff @(posedge clk_i) answering_q <= !rst_i && (valid_o || (answering_q && !event_start));",
            "  assign error_o = hit && (valid_o || answering_q);",
        ]
    else:
        lines.append(f"  assign error_o = {_flag(design, fpga)};")
    names = port_names(design).outputs
    if fpga.leaves is None:
        lines += [f"  assign {names[o.name]} = s_{o.signal};" for o in design.outputs]
    return [*lines, ""]


def _unused(design: Design, fpga: FpgaDesign, line: EventLine) -> list[str]:
    """Collect nets that nothing reads, for the linter."""
    read = {name for kernel in fpga.kernels for name in kernel.inputs}
    read |= {field.source for field in (fpga.words_out.fields if fpga.words_out else ())}
    if fpga is design.fpgas[-1]:
        read |= {output.signal for output in design.outputs}
    idle = [f"s_{signal.name}" for signal in fpga.signals if signal.name not in read]
    idle += line.nets
    if _linked(fpga):
        idle += ["orbit_synced", "orbit_cycle"]
    if _flagged(design, fpga):
        idle += _flag_line(design, fpga).nets
    if fpga.receives is None:
        idle.append("hit")
    return ["  logic unused_nets;", f"  assign unused_nets = ^{{{', '.join(idle)}}};", ""]
