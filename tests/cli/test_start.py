"""Starting up: help and errors come at once, because the modules of a verb are imported when it is used."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

from metronn.cli.app import VERBS, load

HEAVY = ("numpy", "pandas", "ortools", "onnx", "h5py", "rich.progress")


def loaded(*arguments: str) -> set[str]:
    """Return the modules in a fresh process behind `metronn` with these arguments."""
    code = (
        "import sys\nfrom metronn.cli.app import app\n"
        f"app({list(arguments)!r}, prog_name='metronn', standalone_mode=False)\n"
        "sys.stderr.write(' '.join(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def test_help_needs_no_verb() -> None:
    found = loaded("--help")
    assert not found.intersection(HEAVY)
    assert not found.intersection(verb.module for verb in VERBS.values())


def test_boards_need_no_planner() -> None:
    found = loaded("boards")
    assert not found.intersection(
        {"pandas", "ortools", "onnx", "h5py", "metronn.plan.candidates.steps", "metronn.cli.compile"}
    )


@pytest.mark.parametrize("name", VERBS)
def test_the_table_says_what_the_verb_says(name: str) -> None:
    documented = inspect.getdoc(load(VERBS[name]))
    assert documented is not None
    assert documented.splitlines()[0].startswith(VERBS[name].summary)


def test_a_verb_that_is_nearly_right_is_named() -> None:
    done = subprocess.run([sys.executable, "-m", "metronn", "compil"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "compile" in done.stderr
