"""The simulation folder of a build: what failed fails again, what changed is seen, nothing counts as done."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from design_builds import build
from plan_networks import stack

from metronn.emit.data import data_directory
from metronn.plan.options import PlanOptions
from simulators import need

RESULT = '<testsuites><testsuite><testcase name="a"/><testcase name="b">{}</testcase></testsuite></testsuites>'


@pytest.fixture(scope="module")
def program() -> ModuleType:
    """Return run.py of the simulation folder as a module."""
    spec = importlib.util.spec_from_file_location("sim_run", data_directory("firmware") / "sim" / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("text", "bad"),
    [
        (RESULT.format(""), []),
        (RESULT.format('<failure message="x"/>'), ["b"]),
        (RESULT.format('<error message="x"/>'), ["b"]),
        ("<testsuites/>", ["no test was run"]),
        (None, ["the simulation ended without results"]),
    ],
)
def test_only_tests_that_ran_and_passed_pass(program: ModuleType, tmp_path: Path, text: str, bad: list[str]) -> None:
    results = tmp_path / "results.xml"
    if text is not None:
        results.write_text(text)
    assert program.failures(results) == bad


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make in a simulation folder with this Python."""
    command = ["make", f"PYTHON={sys.executable}", *arguments]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_a_missing_simulator_and_a_wrong_top_are_told(tmp_path: Path) -> None:
    folder = build(stack((4, 4, 3)), tmp_path, "one-serenity", 9, PlanOptions(), events=3, rtl_events=3) / "sim"
    assert "usage: run.py fpga0|system [verilator|icarus]" in make(folder, "SIM=questa").stderr
    done = make(folder, "SIM=questa", "system")
    assert done.returncode == 2
    assert "FAIL" not in done.stdout + done.stderr


@pytest.mark.slow
def test_a_failure_stays_one_until_it_is_mended(tmp_path: Path) -> None:
    """In a folder whose path has a space, a colon and a letter beyond ASCII."""
    need("verilator")
    place = tmp_path / "my build: é"
    folder = build(stack((4, 4, 3)), place, "one-serenity", 9, PlanOptions(), events=10, rtl_events=10)
    done = make(folder / "sim", "fpga0")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "fpga0 with verilator: PASS" in done.stdout
    vectors = folder / "vectors" / "fpga0_out.txt"
    right = vectors.read_text()
    vectors.write_text(("1" if right[0] == "0" else "0") + right[1:])
    for _ in range(2):
        done = make(folder / "sim", "fpga0")
        assert done.returncode == 2
        assert "fpga0 with verilator: FAIL: values_and_cycles" in done.stderr
    vectors.write_text(right)
    assert make(folder / "sim", "fpga0").returncode == 0
    assert make(folder / "sim", "clean").returncode == 0
    assert not (folder / "sim" / "sim_build").exists()
