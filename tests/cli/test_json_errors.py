"""With --json a verb prints one document, on errors too; logs and words stay on stderr."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from test_verbs import coarse

from command_line import Run
from metronn.cli import app
from small_network import write_events, write_network

VERBS = {
    "compile": ["nope.onnx"],
    "import": ["nope.onnx"],
    "quantize": ["nope.onnx", "-o", "g.txt"],
    "prune": ["nope.onnx", "--data", "e.npz", "-o", "n.keras"],
    "finetune": ["nope.onnx", "--data", "e.npz", "-o", "n.keras"],
    "plan": ["nope.txt", "--system", "one-serenity"],
    "compare": ["nope.txt", "--systems", "one-serenity", "-o", "p"],
    "pareto": ["nope.onnx", "--system", "one-serenity", "-o", "p"],
    "verify": ["nope"],
    "emulate": ["nope", "e.npz", "-o", "o.npz"],
    "vectors": ["nope", "e.npz", "-o", "o.npz"],
    "trace": ["nope", "e.npz"],
    "profile": ["nope", "e.npz"],
    "report": ["nope"],
    "boards": ["--nope"],
    "cache": ["--nope"],
}


def test_every_verb_is_here() -> None:
    assert set(app.VERBS) == set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_errors(metronn: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    monkeypatch.chdir(tmp_path)
    ran = metronn(verb, *VERBS[verb], "--json")
    error = json.loads(ran.out)["error"]
    assert set(error) == {"class", "message", "exit_status"}
    assert error["exit_status"] == ran.status != 0
    assert "nope" in error["message"] or error["class"] == "ToolError"
    assert error["class"] in {"ModelError", "ToolError", "UsageError"}
    assert ran.err
    assert metronn(verb, *VERBS[verb]).out == ""


def test_a_failed_verdict_is_in_the_one_document(metronn: Run, network: Path, tmp_path: Path) -> None:
    folder = coarse(network, write_events(tmp_path / "e.npz", labels=False))
    ran = metronn("compile", folder, "--no-verify", "--json")
    assert ran.status == 1
    assert json.loads(ran.out)["verdicts"][0]["status"] == "fail"
    assert "the verification failed" in ran.err
    build = folder / "out"
    for rungs in (["--rung", 2], ["--rung", 3]):
        ran = metronn("verify", build, *rungs)
        assert ran.status in (0, 3)
        assert f"warning: {build}: not asked for, but failed when last run: rung 1 (" in ran.err
    assert "not asked for" not in metronn("verify", build, "--rung", 1).err


def test_the_first_cause_is_told(metronn: Run, network: Path, events: Path, tmp_path: Path) -> None:
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "x").write_text("x")
    for name in ("nope", "nope.onnx"):
        ran = metronn("compile", tmp_path / name, "--calibrate", events, "--system", "one-serenity")
        assert ran.status == 2
        assert f"{tmp_path / name}: " in ran.err
        assert "output folder" not in ran.err


def test_events_are_not_replaced_by_results(metronn: Run, network: Path, events: Path, tmp_path: Path) -> None:
    system = ("--system", "one-serenity", "-o", tmp_path / "b", "--no-verify")
    assert metronn("compile", network, "--calibrate", events, *system).status == 0
    before = events.read_bytes()
    for verb in ("emulate", "vectors"):
        ran = metronn(verb, tmp_path / "b", events, "-o", tmp_path / "." / events.name, "--numpy")
        assert ran.status == 2
        assert "is the file of the events; name another with -o" in ran.err
        for _ in range(2):
            assert metronn(verb, tmp_path / "b", events, "-o", tmp_path / "o.npz", "--numpy").status == 0
    assert events.read_bytes() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_is_told(tmp_path: Path, number: signal.Signals) -> None:
    network = write_network(tmp_path / "large.onnx", inputs=128, hidden=512, outputs=256)
    np.savez(tmp_path / "e.npz", x=np.random.default_rng(1).normal(size=(4000, 128)))
    command = [sys.executable, "-m", "metronn", "compile", str(network), "--calibrate", str(tmp_path / "e.npz")]
    command += ["--system", "one-serenity", "-o", str(tmp_path / "b"), "--json"]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with (tmp_path / "log").open("w") as log:
        run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
        while "import:" not in (tmp_path / "log").read_text():
            assert run.poll() is None
            time.sleep(0.05)
        run.send_signal(number)
        out, _ = run.communicate(timeout=60)
    status = {signal.SIGINT: 130, signal.SIGTERM: 143}[number]
    assert run.returncode == status
    assert json.loads(out)["error"] == {"class": "Interrupted", "message": "interrupted", "exit_status": status}
    assert not (tmp_path / "b").exists()
