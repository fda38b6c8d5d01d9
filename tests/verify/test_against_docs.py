"""docs/against.md says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from metronn.frontends.hls4ml.apply import SUPPORTED
from metronn.frontends.hls4ml.config import APPLIED, HARDWARE, TRACES
from metronn.verify.against_build import EVENTS, HLS4ML_EVENTS
from metronn.verify.against_events import BEYOND, LARGEST_MOVE
from metronn.verify.against_noise import UNITS

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "against.md").read_text()


def test_keys_of_layers_are_documented() -> None:
    for keys, meaning in (
        (APPLIED, "applied"),
        (HARDWARE, "about hls4ml's hardware"),
        (TRACES, "read, without effect"),
    ):
        row = next(line for line in TEXT.splitlines() if line.startswith("| `") and f"| {meaning}" in line)
        assert set(re.findall(r"`([\w]+)`", row.split("|")[1])) == set(keys)


def test_layers_are_documented() -> None:
    listed = " ".join(TEXT.split("Layers: ")[1].split(".")[0].split())
    assert set(listed.split(", ")) == {name for group in SUPPORTED for name in group.split(", ")}


def test_numbers_are_documented() -> None:
    assert f"by default {EVENTS:,} with the framework, {HLS4ML_EVENTS:,} with hls4ml" in TEXT
    assert f"off by {UNITS} + log2(terms) units of 2^-24" in TEXT
    assert (LARGEST_MOVE, BEYOND) == (4, 8), "four steps, an eighth beyond the range"
