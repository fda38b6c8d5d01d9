"""What an FPGA is called in emitted files: its top module and function, its folder, its target of make."""

from __future__ import annotations

import re


def top_name(fpga: str) -> str:
    """Return `fpga0` for fpga0, and `fpga_front` for an FPGA called front, which may be called anything.

    So no name of a system file (`all`, `module`, `int`, `system`, `types`) is a target of make, a word of a language or
    a file of the build, and two FPGAs stay two.
    """
    return fpga if re.fullmatch(r"fpga[0-9]+", fpga) else f"fpga_{fpga}"


def module_name(fpga: str, part: str) -> str:
    """Return the name of a module of an FPGA, no other FPGA's: names of FPGAs hold no two underscores in a row."""
    top = top_name(fpga)
    return f"{top}_{part}" if top == fpga else f"{top}__{part}"
