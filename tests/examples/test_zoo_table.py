"""The zoo's table: of examples that exist, with every number that a row shows."""

from __future__ import annotations

import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from example_modules import EXAMPLES, importing

MAX_MODEL_BYTES = 400_000


@pytest.fixture(scope="module")
def zoo() -> Iterator[ModuleType]:
    with importing(EXAMPLES) as module:
        yield module("zoo")


def record_of(entry: Any, **others: Any) -> dict[str, Any]:
    """A record with figures that all differ."""
    rungs = [
        {"rung": rung, "status": "pass", "events": 4431 - 700 * rung, "bits": 100_003 * rung, "mismatches": 0}
        for rung in (1, 2, 3, 4, 5)
    ]
    rungs[-1] |= {"cycles_promised": 24, "cycles_observed_min": 24, "cycles_observed_max": 24}
    record = {
        **{"name": entry.name, "example": entry.folder, "config": entry.config},
        **{"parameters": 5060, "float": 0.7815, "fixed": 0.78025, "system": "one-serenity", "fpgas": 1},
        **{"clock_mhz": 360.0, "ii_cycles": 9, "latency_cycles": 24, "latency_ns": 66.666667},
        **{"lut": 76075, "ff": 53669, "dsp": 17, "bram36": 2.5, "uram": 0, "rungs": rungs, "failure": ""},
        "seconds": 93,
    }
    return {**record, **others}


def cells(zoo: ModuleType, record: dict[str, Any]) -> dict[str, str]:
    line = zoo.table({record["name"]: record}).splitlines()[2]
    return dict(zip(zoo.HEADER, (cell.strip() for cell in line.strip("|").split("|")), strict=True))


def test_numbers_of_a_row_are_those_of_its_record(zoo: ModuleType) -> None:
    entry = zoo.ENTRIES[0]
    row = cells(zoo, record_of(entry))
    assert row["network"] == f"[{entry.title}]({entry.folder}/README.md)"
    assert (row["II"], row["latency [cycles]"], row["in RTL"], row["[ns]"]) == ("9", "24", "24", "67")
    assert (row["FPGAs"], row["LUT"], row["FF"], row["DSP"], row["BRAM36"]) == ("1", "76,075", "53,669", "17", "2.5")
    assert (row["float"], row["fixed"], row["weights"], row["seconds"]) == ("0.7815", "0.7802", "5,060", "93")
    assert (row["rungs"], row["bits compared"], row["wrong"]) == ("all pass", f"{100_003 * 14:,}", "0")
    assert row["events at rungs 2, 3 / 4, 5"] == "2,331 / 931"


def test_a_rung_over_its_limit_says_so(zoo: ModuleType) -> None:
    record = record_of(zoo.ENTRIES[0])
    record["rungs"][3] |= {"status": zoo.OVER, "bits": 0, "first": "rung 4: not finished after 5 s"}
    record["rungs"][4] = {"rung": 5, "status": "fail", "events": 9, "bits": 7, "mismatches": 3, "first": "y"}
    row = cells(zoo, record | {"failure": "rung 4: not finished after 5 s; rung 5: y"})
    assert row["rungs"] == "1 2 3 pass, 4 over limit, 5 fail"
    assert row["in RTL"] == "not measured"
    assert row["wrong"] == "3; fails: rung 4: not finished after 5 s; rung 5: y"


def test_a_command_over_its_limit_is_ended_with_all_that_it_started(zoo: ModuleType, tmp_path: Path) -> None:
    child = f"import pathlib, time; time.sleep(3); pathlib.Path({str(tmp_path / 'late')!r}).touch()"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with pytest.raises(zoo.OverLimit, match="rung 4: not finished after 1 s"):
        zoo.run([sys.executable, "-c", parent], "rung 4", 1.0)
    time.sleep(2.5)
    assert not (tmp_path / "late").exists()


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
    record = {"name": entry.name, "example": entry.folder, "failure": "compile: too large", "seconds": 12}
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
