"""No command line ends in a traceback: every verb, options of the real definitions, files that are broken.

`make fuzz SELECT=tests/cli/test_random_commands.py` runs more of them.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from random_commands import Draw, check, draws, furnish, harmed

from metronn.search import workers as search_workers
from metronn.verify import run
from random_tests import examples
from static_tools import without_static_tools


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with files of every kind."""
    folder = tmp_path_factory.mktemp("furnished")
    furnish(folder)
    return folder


class Here(search_workers.Inline):
    """Workers without processes, so that searches that are right are quick."""

    def __init__(self, work: search_workers.Work, count: int) -> None:
        super().__init__(work)
        assert count >= 1

    def close(self) -> None:
        """Nothing to end."""


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No rung that takes a compiler or simulator, no processes."""

    def missing() -> None:
        raise run.ToolError("not installed")

    for tool in ("_rtl_tools", "_hls_tools", "native_compiler"):
        monkeypatch.setattr(run, tool, missing)
    without_static_tools(monkeypatch)
    monkeypatch.setattr(search_workers, "Processes", Here)


def holds(drawn: Draw, furnished: Path) -> tuple[int, str]:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "folder"
        shutil.copytree(furnished, folder, symlinks=True)
        for harm in drawn.harms:
            harmed(folder, drawn.arguments[1:], *harm)
        return check(drawn.arguments, folder)


@pytest.mark.usefixtures("quick")
@given(drawn=draws())
@examples(25, slow=True)
def test_random_command_lines(drawn: Draw, furnished: Path) -> None:
    holds(drawn, furnished)


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
@given(drawn=draws())
@examples(60, slow=True)
def test_more_random_command_lines(drawn: Draw, furnished: Path) -> None:
    holds(drawn, furnished)
