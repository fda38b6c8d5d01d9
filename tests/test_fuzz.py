"""What `make fuzz` asks for reaches every random test: as many examples, drawn from the seed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
TEXT = """
from hypothesis import given
from hypothesis import strategies as st

from random_tests import examples, seeds

@given(st.integers(0, 10**9))
@examples(5)
def test_drawn(number):
    with open("drawn.txt", "a") as file:
        print(number, file=file)

def test_seeds():
    with open("seeds.txt", "w") as file:
        print(*seeds(2), file=file)
"""


def drawn(folder: Path, **asked: str) -> tuple[list[str], str]:
    """Return the numbers and the seeds of a run."""
    folder.mkdir()
    for name in ("conftest.py", "random_tests.py"):
        shutil.copy(TESTS / name, folder / name)
    (folder / "test_it.py").write_text(TEXT)
    (folder / "pytest.ini").write_text("[pytest]\n")
    usual = {name: value for name, value in os.environ.items() if name not in ("METRONN_SEED", "METRONN_EXAMPLES")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."]
    done = subprocess.run(command, cwd=folder, env=usual | asked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    return (folder / "drawn.txt").read_text().split(), (folder / "seeds.txt").read_text().strip()


@pytest.mark.slow
def test_more_is_drawn_and_from_the_seed(tmp_path: Path) -> None:
    usual, seeds = drawn(tmp_path / "usual")
    assert (usual, seeds) == drawn(tmp_path / "again")
    assert (len(usual), seeds) == (5, "0 1")
    first, seeds = drawn(tmp_path / "first", METRONN_SEED="7", METRONN_EXAMPLES="3")
    assert (first, seeds) == drawn(tmp_path / "repeated", METRONN_SEED="7", METRONN_EXAMPLES="3")
    assert (len(first), seeds) == (15, "7000 7001 7002 7003 7004 7005")
    assert first != drawn(tmp_path / "other", METRONN_SEED="8", METRONN_EXAMPLES="3")[0]


def test_every_random_test_draws_as_asked() -> None:
    own = {TESTS / "random_tests.py", TESTS / "conftest.py", Path(__file__)}
    for path in sorted(set(TESTS.rglob("*.py")) - own):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"from hypothesis import .*\bsettings\b|derandomize|max_examples", text), path
