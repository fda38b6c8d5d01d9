"""Made-up devices of several super logic regions, with so little in each that small networks need more than one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metronn.plan.hardware.boards import boards_directory
from metronn.plan.hardware.system import System, load_system
from metronn.toml_tables import read_toml

BOARD = """\
name = "small"
title = "Small"
device = "small"
reference_clocks_mhz = [100.0]
source = "made up"
[usable_fraction]
lut = 1.0
ff = 1.0
dsp = 1.0
bram = 1.0
uram = 1.0
reason = "made up"
[[transceivers]]
kind = "GTY"
lanes = 16
line_rate_gbps = 25.78125
connector = "QSFP28"
"""
LINK = "line_rate_gbps = 25.78125\nlanes = 4\nlatency_min_ns = 20\nlatency_max_ns = 30\n"


def toml(data: dict[str, Any]) -> str:
    """Write keys, tables and arrays of tables as TOML; enough for device files."""
    plain, tables = [], []
    for key, value in data.items():
        if isinstance(value, dict):
            tables.append(f"[{key}]\n{toml(value)}")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            tables += [f"[[{key}]]\n{toml(entry)}" for entry in value]
        else:
            text = repr(value) if isinstance(value, list | str) else str(value).lower()
            plain.append(f"{key} = {text}\n")
    return "".join([*plain, *tables])


def device(regions: Sequence[tuple[int, int, int]], *, registers: int = 3, lines: int | None = None) -> dict[str, Any]:
    """A VU13P whose regions have these LUTs, flip-flops and DSP blocks."""
    data = read_toml(boards_directory() / "devices" / "vu13p.toml")
    data.pop("methodology")
    data.update(name="small", slr=len(regions), source="made up")
    data["lut"], data["ff"] = (sum(region[k] for region in regions) for k in (0, 1))
    data["dsp"]["count"] = sum(region[2] for region in regions)
    data["bram"]["count"], data["uram"]["count"] = 8 * len(regions), 0
    data["crossing"] = {"cycles": registers} if lines is None else {"cycles": registers, "lines": lines}
    data["regions"] = [
        {"name": f"SLR{k}", "pblock": f"SLR{k}", "lut": lut, "ff": ff, "dsp": dsp, "bram": 8, "uram": 0}
        for k, (lut, ff, dsp) in enumerate(regions)
    ]
    return data


def write_system(folder: Path, data: dict[str, Any], ii: int, fpgas: int = 1) -> Path:
    """Write a system of boards with the device of these keys; return its file."""
    for place, text in (("devices", toml(data)), ("boards", BOARD)):
        (folder / place).mkdir(parents=True, exist_ok=True)
        (folder / place / "small.toml").write_text(text)
    text = f'name = "tiny"\ntitle = "Tiny"\nclock_mhz = 300.0\nii = {ii}\nsource = "made up"\n'
    text += "".join(f'[[boards]]\nname = "fpga{k}"\nboard = "small"\n' for k in range(fpgas))
    text += "".join(f'[[links]]\nfrom = "fpga{k}"\nto = "fpga{k + 1}"\n{LINK}' for k in range(fpgas - 1))
    path = folder / "tiny.toml"
    path.write_text(text)
    return path


def region_system(
    folder: Path,
    regions: Sequence[tuple[int, int, int]],
    ii: int = 4,
    *,
    fpgas: int = 1,
    registers: int = 3,
    lines: int | None = None,
) -> System:
    """A system of FPGAs with such regions."""
    return load_system(write_system(folder, device(regions, registers=registers, lines=lines), ii, fpgas))
