"""Whole designs up the ladder: emulators, HLS, RTL of every FPGA, RTL of the system; and rungs that must fail."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from design_builds import build, check_all
from plan_networks import everything, stack

from metronn.emit.build import emit_build
from metronn.errors import ModelError
from metronn.plan.hardware.system import load_system
from metronn.plan.options import OutputForm, PlanOptions
from metronn.plan.planner import plan
from metronn.verify.run import read_build, verify_build
from metronn.verify.verdict import Status
from simulators import need


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "system", "ii", "options", "rungs"),
    [
        ("branches on three FPGAs", "four-serenity", 5, PlanOptions(fpgas=3), {2, 3, 4, 5}),
        ("branches on two FPGAs, every cycle", "two-serenity", 1, PlanOptions(fpgas=2), {2, 3, 5}),
        ("branches on one FPGA, streamed", "one-serenity", 9, PlanOptions(outputs=OutputForm.STREAM), {2, 3, 5}),
    ],
)
def test_a_network_with_everything(
    name: str, system: str, ii: int, options: PlanOptions, rungs: set[int], tmp_path: Path
) -> None:
    """Rung 4 builds anew what rung 5 holds: it climbs once here, and in the tests of links and names."""
    need("verilator")
    pytest.importorskip("hls4ml")
    folder = build(everything(), tmp_path / name.replace(" ", "_"), system, ii, options)
    check_all(verify_build(folder, rungs=sorted(rungs)), rungs)


@pytest.mark.slow
def test_a_stack_on_two_fpgas(tmp_path: Path) -> None:
    need("verilator")
    folder = build(stack((20, 60, 60, 48, 9)), tmp_path, "two-serenity", 9, PlanOptions(fpgas=2))
    check_all(verify_build(folder, rungs=(2, 4, 5)), {2, 4, 5})


@pytest.mark.slow
def test_a_wrong_bit_in_the_rtl_is_found(tmp_path: Path) -> None:
    need("verilator")
    folder = build(stack((8, 12, 12, 4)), tmp_path, "one-serenity", 3, PlanOptions())
    top = folder / "rtl" / "fpga0" / "net_fpga0.sv"
    text = top.read_text()
    changed = re.sub(r"assign scores_o = (\w+);", r"assign scores_o = \1 ^ 1'b1;", text)
    assert changed != text
    top.write_text(changed)
    (verdict,) = verify_build(folder, rungs=(4,))
    assert verdict.status is Status.FAIL
    assert verdict.mismatches == verdict.events
    assert "event 0, scores_o" in verdict.first


@pytest.mark.slow
def test_rtl_that_the_simulator_rejects_has_failed(tmp_path: Path) -> None:
    need("verilator")
    folder = build(stack((8, 12, 4)), tmp_path, "one-serenity", 3, PlanOptions(), events=2, rtl_events=2)
    (folder / "rtl" / "fpga0" / "net_fpga0.sv").write_text("module net_fpga0 (nonsense;\n")
    (verdict,) = verify_build(folder, rungs=(4,))
    assert verdict.status is Status.FAIL
    assert "net_fpga0 cannot be built" in verdict.first


def test_a_missing_tool_is_not_run_and_never_passed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = build(stack((8, 12, 4)), tmp_path, "one-serenity", 3, PlanOptions(), events=2, rtl_events=2)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    for verdict in verify_build(folder, rungs=(2, 3, 4, 5)):
        assert verdict.status is Status.NOT_RUN
        assert "not" in verdict.first or "missing" in verdict.first


@pytest.mark.slow
def test_an_answer_one_cycle_late_is_found(tmp_path: Path) -> None:
    need("verilator")
    folder = build(stack((8, 12, 12, 4)), tmp_path, "one-serenity", 3, PlanOptions())
    top = folder / "rtl" / "fpga0" / "net_fpga0.sv"
    cycle = read_build(folder).design.latency_cycles
    text = top.read_text()
    line = f"assign valid_o = event_0[{cycle}];"
    assert line in text
    top.write_text(
        text.replace(
            line, f"logic late_q; always_ff @(posedge clk_i) late_q <= event_0[{cycle}]; assign valid_o = late_q;"
        )
    )
    (verdict,) = verify_build(folder, rungs=(4,))
    assert verdict.status is Status.FAIL
    assert "valid_o" in verdict.first


@pytest.mark.slow
def test_the_emitted_makefile_runs_all_tests_in_icarus(tmp_path: Path) -> None:
    need("icarus")
    options = PlanOptions(fpgas=2)
    folder = build(stack((8, 12, 12, 4)), tmp_path, "two-serenity", 3, options, events=8, rtl_events=8)
    scripts = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}", "SIM": "icarus"}
    done = subprocess.run(["make"], cwd=folder / "sim", env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert done.stdout.count("FAIL=0") == 3
    assert "test_system.damage_is_marked" in done.stdout


def test_same_design_same_bytes() -> None:
    design = plan(everything(), load_system("two-serenity").with_overrides(ii=5), PlanOptions(fpgas=2))
    real = {node.name: np.zeros((3, *node.type.shape), dtype=np.int64) for node in design.graph.inputs}
    assert emit_build(design, real, events=3, rtl_events=3) == emit_build(design, real, events=3, rtl_events=3)


def test_builds_name_no_folder(tmp_path: Path) -> None:
    design = plan(stack((8, 12, 4)), load_system("one-serenity"), PlanOptions())
    files = emit_build(design, {}, events=1, rtl_events=1)
    for name, content in files.items():
        if not name.endswith(".npz"):
            assert str(Path.home()).encode() not in content, name
            assert str(tmp_path).encode() not in content, name


@pytest.mark.parametrize("name", ["graph.txt", "plan.json", "vectors/events.npz"])
def test_damaged_builds_are_refused(name: str, tmp_path: Path) -> None:
    folder = build(stack((8, 12, 4)), tmp_path, "one-serenity", 3, PlanOptions(), events=2, rtl_events=2)
    (folder / name).write_bytes(b"nonsense")
    with pytest.raises(ModelError, match=r"the build is damaged|breaks the rules"):
        verify_build(folder, rungs=(2,))
    (folder / name).unlink()
    with pytest.raises(ModelError, match="no build of metronn"):
        verify_build(folder, rungs=(2,))
