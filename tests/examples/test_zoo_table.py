"""The zoo's table: made from zoo.json, of examples that exist, with every number that a row shows."""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from example_modules import EXAMPLES, importing

MAX_MODEL_BYTES = 400_000


@pytest.fixture(scope="module")
def zoo() -> Iterator[ModuleType]:
    with importing(EXAMPLES) as module:
        yield module("zoo")


@pytest.fixture(scope="module")
def records() -> list[dict[str, Any]]:
    return json.loads((EXAMPLES / "zoo.json").read_text(encoding="utf-8"))


def test_table_is_what_the_results_say(zoo: ModuleType, records: list[dict[str, Any]]) -> None:
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    shown = text.split(zoo.BEGIN)[1].split(zoo.END)[0].strip()
    assert shown == zoo.table({record["name"]: record for record in records})
    assert len(shown.splitlines()) == 2 + len(records)


def test_rows_are_those_of_networks_in_order(zoo: ModuleType, records: list[dict[str, Any]]) -> None:
    names = [entry.name for entry in zoo.ENTRIES]
    found = [record["name"] for record in records]
    assert found
    assert found == [name for name in names if name in found]
    for record in records:
        entry = zoo.ENTRIES[names.index(record["name"])]
        assert (record["example"], record["config"]) == (entry.folder, entry.config)
        assert entry.path.is_file()


def test_numbers_of_a_row_are_those_of_its_record(zoo: ModuleType, records: list[dict[str, Any]]) -> None:
    rows = zoo.table({record["name"]: record for record in records}).splitlines()[2:]
    for line, record in zip(rows, records, strict=True):
        assert f"({record['example']}/README.md)" in line
        if "ii_cycles" not in record:
            assert record["failure"] in line
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        row = dict(zip(zoo.HEADER, cells, strict=True))
        assert row["II"].replace(",", "") == str(record["ii_cycles"])
        assert row["latency [cycles]"].replace(",", "") == str(record["latency_cycles"])
        assert float(row["[ns]"].replace(",", "")) == round(record["latency_ns"])
        assert row["FPGAs"] == str(record["fpgas"])
        assert row["LUT"].replace(",", "") == str(round(record["lut"]))
        assert float(row["float"]) == pytest.approx(record["float"], abs=5.1e-5)
        assert float(row["fixed"]) == pytest.approx(record["fixed"], abs=5.1e-5)
        rungs = [rung["rung"] for rung in record["rungs"]]
        assert rungs == [1, 2, 3, *[4] * record["fpgas"], 5]
        bits = sum(rung["bits"] for rung in record["rungs"] if rung["rung"] > 1)
        assert row["bits compared"].replace(",", "") == str(bits)


def test_entries_are_complete_examples(zoo: ModuleType) -> None:
    """Generator, training script, description and options; the system is known; networks that are kept are small."""
    assert len({entry.name for entry in zoo.ENTRIES}) == len(zoo.ENTRIES)
    for entry in zoo.ENTRIES:
        folder = EXAMPLES / entry.folder
        for name in ("generate.py", "train.py", "README.md", entry.config):
            assert (folder / name).is_file(), f"{entry.folder}/{name}"
        options = tomllib.loads(entry.path.read_text(encoding="utf-8"))
        assert options["model"]["name"] == entry.name
        assert options["data"]["calibrate"] == ".cache/calibration.npz"
        assert options["verify"]["data"] == ".cache/test.npz"
        system = options["plan"]["system"]
        assert not system.endswith(".toml") or (folder / system).is_file()
        kept = folder / options["model"]["file"]
        assert kept.parent.name == ".cache" or kept.stat().st_size < MAX_MODEL_BYTES


def test_a_failing_network_keeps_its_reason(zoo: ModuleType) -> None:
    entry = zoo.ENTRIES[0]
    record = {"name": entry.name, "example": entry.folder, "config": entry.config, "failure": "compile: too large"}
    lines = zoo.table({entry.name: record}).splitlines()
    assert len(lines) == 3
    assert "fails: compile: too large" in lines[2]
    assert lines[2].count("|") == lines[0].count("|")


def test_a_wrong_name_is_an_error(zoo: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(sys, "argv", ["zoo.py", "dijets"])
    with pytest.raises(SystemExit) as ended:
        zoo.main()
    assert ended.value.code == 2
    assert "dijets: no such network; there are dijet, " in capsys.readouterr().err
