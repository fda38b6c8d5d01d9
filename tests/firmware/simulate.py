"""Build one SystemVerilog top module and run a cocotb test module on it."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from metronn.verify import simulator as simulator_module
from simulators import need

FIRMWARE = Path(__file__).resolve().parents[2] / "firmware"
TESTBENCHES = Path(__file__).resolve().parent


def sources(*names: str) -> list[Path]:
    """Return the files of the named library modules; `names` are module names in firmware/rtl or firmware/sim."""
    found = []
    for name in names:
        paths = [FIRMWARE / folder / f"{name}.sv" for folder in ("rtl", "sim")]
        found.append(next(path for path in paths if path.exists()))
    return found


def lint(top: str, parameters: Mapping[str, int] | None = None) -> str:
    """Return the warnings and errors of `verilator --lint-only -Wall` on library module `top`; empty if it is clean."""
    need("verilator")
    command = ["verilator", "--lint-only", "-Wall", "--top-module", top, str(FIRMWARE / "lint.vlt")]
    command += [f"-G{name}={value}" for name, value in (parameters or {}).items()]
    command += ["-y", str(FIRMWARE / "rtl"), "-y", str(FIRMWARE / "sim"), *map(str, sources(top))]
    environment = simulator_module.tool_environment()
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
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
    """Build `top` from `files`, run all cocotb tests of `module` in the directory `build`, return how many passed.

    `module` is imported from `module_path`. `parameters` set the top module's, and reach the testbench in the
    environment as PARAMETER_<NAME> (all capitals), along with `environment`. Fails the calling test on any failed
    cocotb test, or if none ran.
    """
    need(simulator)
    parameters = dict(parameters or {})
    simulation = simulator_module.build(simulator=simulator, files=files, top=top, parameters=parameters)
    cases = simulator_module.run(
        simulation,
        module=module,
        module_path=module_path,
        directory=build,
        environment={
            **{f"PARAMETER_{name.upper()}": str(value) for name, value in parameters.items()},
            **(environment or {}),
        },
    )
    failed = [f"{case.name}: {case.failure}" for case in cases if case.failure]
    assert not failed, f"{module} on {top} under {simulator}:\n" + "\n".join(failed)
    return len(cases)
