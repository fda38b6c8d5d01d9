"""SystemVerilog of the whole system for simulation: the FPGAs joined by link models."""

from __future__ import annotations

from metronn.emit.rtl.fpga import orbit_cycles, port_lines, ports
from metronn.emit.rtl.text import comment
from metronn.emit.tops import system_module, top_module, top_name
from metronn.plan.design import Design
from metronn.plan.frames.packing import LANE_BITS


def latency_bits(design: Design, link: int) -> int:
    """Bits of a lane's raw latency input."""
    return design.system.links[link].latency_max_cycles.bit_length()


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def emit_system(design: Design) -> str:
    """Return the system: every lane passes a link model whose raw latency, errors and silence are inputs."""
    found: list[tuple[str, str, int]] = [("input", "bc0_i", 1), ("input", "clear_i", 1)]
    own = {"bc0_i", "clear_i", "lane_i", "lane_o", "aligned_o", "crc_errors_o", "alignment_losses_o"}
    links = [fpga.sends for fpga in design.fpgas if fpga.sends is not None]
    for frame in links:
        k = frame.link
        found += [
            ("input", f"raw_latency_{k}_i", frame.lanes * latency_bits(design, k)),
            ("input", f"slip_{k}_i", frame.lanes),
            ("input", f"flip_{k}_i", frame.lanes * LANE_BITS),
            ("input", f"dead_{k}_i", frame.lanes),
            ("output", f"aligned_{k}_o", 1),
            ("output", f"crc_errors_{k}_o", 16),
            ("output", f"alignment_losses_{k}_o", 16),
        ]
    body: list[str] = []
    for fpga in design.fpgas:
        for declared in ports(design, fpga):
            if declared[1] not in own and declared not in found:
                found.append(declared)
    for frame in links:
        body += [f"  wire [{frame.lanes * LANE_BITS - 1}:0] sent_{frame.link}, arrived_{frame.link};"]
    body.append("")
    for fpga in design.fpgas:
        name = top_module(design.prefix, fpga.name)
        parameter = " #(\n    .OrbitCycles(OrbitCycles)\n  )" if fpga.receives or fpga.sends else ""
        lines = [f"  {name}{parameter} u_{top_name(fpga.name)} (", "    .clk_i,", "    .rst_i,"]
        for _, port, _ in ports(design, fpga):
            lines.append(f"    .{port}({_net(fpga.index, port)}),")
        lines[-1] = lines[-1].rstrip(",")
        body += [*lines, "  );", ""]
    for frame in links:
        body += _lanes(design, frame.link, frame.lanes)
    if not links:
        body += ["  logic unused_inputs;", "  assign unused_inputs = bc0_i;", ""]
    parameter = f" #(\n  parameter int OrbitCycles = {orbit_cycles(design.system.clock_mhz)}\n)" if links else ""
    contract = [
        f"The whole system: {_counted(len(design.fpgas), 'FPGA')}, {_counted(len(links), 'link')}. Simulation only.",
        f"Results {design.latency_cycles} cycles after the input, II {design.ii_cycles}.",
    ]
    text = [f"module {system_module(design.prefix)}{parameter} (", *port_lines(found), ");", "", *body, "endmodule"]
    return comment(contract) + "`default_nettype none\n\n" + "\n".join(text) + "\n\n`default_nettype wire\n"


def _net(index: int, port: str) -> str:
    """Net of the system that a port of FPGA `index` is joined to."""
    match port:
        case "lane_i":
            return f"arrived_{index - 1}"
        case "lane_o":
            return f"sent_{index}"
        case "aligned_o" | "crc_errors_o" | "alignment_losses_o":
            return f"{port.removesuffix('_o')}_{index - 1}_o"
        case _:
            return port


def _lanes(design: Design, link: int, lanes: int) -> list[str]:
    bits, most = latency_bits(design, link), design.system.links[link].latency_max_cycles
    one = "[lane]" if lanes > 1 else ""  # a port of one bit has no index
    return [
        f"  for (genvar lane = 0; lane < {lanes}; lane++) begin : gen_link_{link}",
        "    mnn_link_model #(",
        f"      .MaxLatency({most})",
        "    ) u_lane (",
        "      .clk_i,",
        "      .rst_i,",
        f"      .raw_latency_i(raw_latency_{link}_i[lane*{bits} +: {bits}]),",
        f"      .slip_i(slip_{link}_i{one}),",
        f"      .flip_i(flip_{link}_i[lane*{LANE_BITS} +: {LANE_BITS}]),",
        f"      .dead_i(dead_{link}_i{one}),",
        f"      .lane_i(sent_{link}[lane*{LANE_BITS} +: {LANE_BITS}]),",
        f"      .lane_o(arrived_{link}[lane*{LANE_BITS} +: {LANE_BITS}])",
        "    );",
        "  end",
        "",
    ]
