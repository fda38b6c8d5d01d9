"""The zoo's smallest networks with branches and convolutions, compiled and verified on all rungs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from example_modules import EXAMPLES

EVENTS = {"bjet_tagger": 200, "digits_cnn": 60}


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments in the folder of the examples."""
    return subprocess.run([sys.executable, *words], cwd=EXAMPLES, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", EVENTS)
def test_all_rungs_agree(name: str, tmp_path: Path) -> None:
    """Answers of emulator, HLS and RTL are the same bits, in the promised cycle."""
    if name == "digits_cnn":
        pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    made = run("-m", f"{name}.generate")
    assert made.returncode == 0, made.stderr
    build = tmp_path / "build"
    events = str(EVENTS[name])
    done = run("-m", "metronn", "compile", name, "-o", str(build), "--events", events, "--rtl-events", "10")
    assert done.returncode == 0, done.stderr
    verdicts = json.loads((build / "manifest.json").read_text(encoding="utf-8"))["verdicts"]
    assert [verdict["rung"] for verdict in verdicts] == [1, 2, 3, 4, 5, *[6] * 6]
    for verdict in verdicts:
        allowed = ("pass", "not_run") if verdict["rung"] == 6 else ("pass",)  # large kernels are not synthesised
        assert verdict["status"] in allowed, verdict
        assert verdict["events"] > 0 or verdict["rung"] == 6
        assert verdict["rung"] == 1 or verdict["mismatches"] == 0
    for verdict in verdicts[3:5]:
        assert verdict["cycles_promised"] == verdict["cycles_observed_min"] == verdict["cycles_observed_max"]
