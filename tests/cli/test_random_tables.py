"""No TOML file ends in a traceback: metronn.toml, widths, systems, boards and devices, changed at random.

`make fuzz SELECT=tests/cli/test_random_tables.py` runs more of them.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import example, given
from random_commands import METRICS, PICTURE, check
from random_tables import NAMES, documents

from random_tests import examples
from small_network import write_events, write_network

TABLES = ("metronn.toml", "widths.toml", "mine.toml", "serenity.toml", "vu13p.toml")


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what metronn.toml names."""
    folder = tmp_path_factory.mktemp("furnished")
    write_network(folder / "small.onnx")
    write_events(folder / "events.npz", count=60)
    (folder / "plot.png").write_bytes(PICTURE)
    (folder / "good.py").write_text(METRICS["good.py"])
    return folder


def holds(files: Mapping[str, str], furnished: Path) -> tuple[int, str]:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "folder"
        shutil.copytree(furnished, folder)
        for name, text in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(text.encode("utf-8", "surrogateescape"))
        widths = ("--widths", "widths.toml") if files["widths.toml"] != NAMES["widths.toml"] else ()
        return check(("compile", "metronn.toml", "--no-verify", *widths), folder, TABLES)


def test_the_files_as_they_are(furnished: Path) -> None:
    assert holds(NAMES, furnished)[0] == 0


@given(files=documents())
@examples(50, slow=True)
@example(files={**NAMES, "metronn.toml": "x = 1" + "0" * 5000})
@example(files={**NAMES, "metronn.toml": "x = " + "[" * 2000})
@example(files={**NAMES, "metronn.toml": NAMES["metronn.toml"].replace('"made"', '"a\\u0000b"')})
@example(files={**NAMES, "mine.toml": NAMES["mine.toml"].replace('name = "fpga0"', 'name = "FPGA"')})
def test_random_tables(files: dict[str, str], furnished: Path) -> None:
    holds(files, furnished)


@pytest.mark.slow
@given(files=documents())
@examples(80, slow=True)
def test_more_random_tables(files: dict[str, str], furnished: Path) -> None:
    holds(files, furnished)
