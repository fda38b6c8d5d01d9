"""CI fails on skips that it does not expect."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TEXT = """
import pytest

def test_runs():
    pass

@pytest.mark.skip(reason={reason!r})
def test_skipped():
    pass
"""


@pytest.mark.parametrize(
    ("reason", "ci", "status"),
    [
        ("the real networks (../shared/models) are not here", "true", 0),
        ("Icarus Verilog (iverilog) is not installed", "true", 0),
        ("Verilator is not installed", "true", 1),
        ("Verilator is not installed", "", 0),
    ],
)
def test_skips(tmp_path: Path, reason: str, ci: str, status: int) -> None:
    for name in ("conftest.py", "random_tests.py"):
        shutil.copy(Path(__file__).parent / name, tmp_path / name)
    (tmp_path / "test_it.py").write_text(TEXT.format(reason=reason))
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        env=os.environ | {"CI": ci},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stdout
    assert ("skips that CI does not expect" in done.stdout) == (status == 1)
