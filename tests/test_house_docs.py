"""docs/architecture.md names every room in its order and files that are there; firmware/README.md every module."""

from __future__ import annotations

import re
from pathlib import Path

from test_imports import ORDER

ROOT = Path(__file__).resolve().parents[1]
HOUSE, EXTENDING = (
    (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8") for name in ("architecture", "extending")
)


def test_the_rooms_are_those_of_the_source_in_their_order() -> None:
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", HOUSE, flags=re.MULTILINE)
    assert [name for row in rows for name in re.findall(r"`(\w+)`", row)] == list(ORDER)


def test_files_that_are_named_are_there() -> None:
    named = [
        name
        for text in (HOUSE, EXTENDING)
        for name in re.findall(r"`([\w/]+/\w+\.(?:py|md)|[\w/]+/[\w/]+)`", text)
        if "NAME" not in name
    ]
    assert len(named) > 25
    missing = [name for name in named if not any((base / name).exists() for base in (ROOT, ROOT / "src" / "metronn"))]
    assert not missing


def test_every_module_of_the_library_is_in_its_table() -> None:
    table = (ROOT / "firmware" / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(?:sim/)?(mnn_\w+)`", table, flags=re.MULTILINE)
    found = {path.stem for folder in ("rtl", "sim") for path in (ROOT / "firmware" / folder).glob("*.sv")}
    assert sorted(rows) == sorted(found)
