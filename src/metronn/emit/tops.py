"""What an FPGA is called in emitted files: its top module and function, its folder, its target of make.

Folders and targets are a build's own, so they are short. Modules of several builds meet in one project: their names
begin with the prefix of the build, except those of the library, which all builds share.
"""

from __future__ import annotations

import re

LONGEST_PREFIX = 31


def prefix_of(name: str) -> str:
    """Return the prefix of a build that is called `name`: small letters, digits and single _, a letter first."""
    words = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    if not words[:1].isalpha():
        words = f"net_{words}"
    return words[:LONGEST_PREFIX].strip("_")


def top_name(fpga: str) -> str:
    """Return `fpga0` for fpga0, and `fpga_front` for an FPGA called front, which may be called anything.

    So no name of a system file (`all`, `module`, `int`, `system`, `types`) is a target of make, a word of a language or
    a file of the build, and two FPGAs stay two.
    """
    return fpga if re.fullmatch(r"fpga[0-9]+", fpga) else f"fpga_{fpga}"


def top_module(prefix: str, fpga: str) -> str:
    """Return the name of an FPGA's top module and function: `jets_fpga0` for the prefix jets."""
    return _prefixed(prefix, top_name(fpga))


def module_name(prefix: str, fpga: str, part: str) -> str:
    """Return the name of a module of an FPGA, no other FPGA's: names of FPGAs hold no two underscores in a row."""
    top = top_name(fpga)
    return _prefixed(prefix, f"{top}_{part}" if top == fpga else f"{top}__{part}")


def system_module(prefix: str) -> str:
    """Return the name of the module that joins all FPGAs."""
    return _prefixed(prefix, "system")


def _prefixed(prefix: str, name: str) -> str:
    return f"{prefix}_{name}" if prefix else name
