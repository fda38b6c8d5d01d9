"""Constraints for Vivado: a pblock for each super logic region, with the kernels and link ends that are there."""

from __future__ import annotations

from metronn.emit.rtl.kernels.waiting.crossing import BOUNDARY
from metronn.emit.rtl.port_names import WORDS_OUT
from metronn.emit.rtl.text import identifier
from metronn.emit.tops import top_module
from metronn.plan.design import Design, FpgaDesign
from metronn.plan.kernels.spec import Crossing


def region_cells(fpga: FpgaDesign, count: int) -> list[list[str]]:
    """Cells of each of `count` regions, by names below the FPGA's top.

    Of a crossing, the first register of each bit is in the region it leaves and the last one in the region it reaches.
    """
    cells: list[list[str]] = [[] for _ in range(count)]
    if fpga.words_in is not None:
        cells[fpga.receiver_region] += ["u_link_rx", "u_frame_in"] if fpga.receives is not None else ["u_frame_in"]
    for kernel in fpga.kernels:
        instance = f"u_{identifier(kernel.name)}"
        if isinstance(kernel.spec, Crossing):
            cells[fpga.signal[kernel.inputs[0]].region].append(f"{instance}/{BOUNDARY}/leave_q_reg*")
            cells[fpga.region_of(kernel)].append(f"{instance}/{BOUNDARY}/arrive_q_reg*")
        else:
            cells[fpga.region_of(kernel)].append(instance)
    if fpga.words_out is not None:
        cells[fpga.sender_region] += ["u_frame_out", "u_link_tx" if fpga.sends is not None else f"{WORDS_OUT}_reg*"]
    return cells


def emit_regions(design: Design, fpga: FpgaDesign) -> str:
    """Return the constraints of an FPGA; empty for a device of one die."""
    device = design.system.fpgas[fpga.index].device
    if len(device.regions) < 2:
        return ""
    top = top_module(design.prefix, fpga.name)
    lines = [
        f"# {fpga.name}: the regions that kernels and link ends are in. Names are those below module {top}:",
        f"#   read_xdc -ref {top} regions.xdc",
        f"# A crossing between neighbours is {device.crossing.cycles} registers a bit, the outer two placed here.",
    ]
    for region, cells in zip(device.regions, region_cells(fpga, len(device.regions)), strict=True):
        if not cells:
            continue
        block = f"{top}_{region.name}"
        lines += [
            "",
            f"create_pblock {block}",
            f"resize_pblock [get_pblocks {block}] -add {{{region.pblock}}}",
            *(f"add_cells_to_pblock [get_pblocks {block}] [get_cells {{{cell}}}]" for cell in cells),
        ]
    return "\n".join(lines) + "\n"
