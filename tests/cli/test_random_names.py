"""Layers, inputs and outputs of any name, from the model file through every rung.

`make fuzz SELECT=tests/cli/test_random_names.py` runs more of them.
"""

from __future__ import annotations

import ast
import json
import re
import tempfile
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from name_networks import Shape, named, write_named

from command_line import metronn
from metronn.emit.build import npz
from metronn.ir.names import encodable, sanitized
from random_tests import builds
from simulators import need

TALL = Shape(inputs=4, outputs=6, layers=24)
LOW = Shape(inputs=3, outputs=3, layers=6)


def compiled(names: Sequence[str], shape: Shape, folder: Path, *more: str) -> Path:
    """Compile a network of these names for two FPGAs and return its build."""
    model, events = write_named(names, shape, folder)
    command = ["compile", str(model), "--calibrate", str(events), "--system", "two-serenity", "--fpgas", "2"]
    command += ["--label", "no such label", "-o", str(folder / "build"), "--rtl-events", "12", *more]
    ran = metronn(*command)
    assert ran.status == 0, f"{list(names)}: {ran.err}{ran.out}"
    return folder / "build"


class Tags(HTMLParser):
    """Elements and attributes of a page, in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(" ".join([tag, *(name for name, _ in attrs)]))


def structure(path: Path) -> object:
    """Return what is left of an emitted text without comments, strings and digests."""
    text = path.read_bytes().decode()
    match path.suffix:
        case ".html":
            tags = Tags()
            tags.feed(text)
            return tags.found
        case ".py":
            return [type(node).__name__ for node in ast.walk(ast.parse(text))]
        case ".sv" | ".cpp" | ".hpp" | ".h":
            lines = []
            for line in text.split("\n"):
                bare, _, note = re.sub(r'"(\\.|[^"\\])*"', '""', line).partition("//")
                assert note.isascii(), line
                assert not note.endswith("\\"), line
                assert not re.match(r"/?\s*(verilator|synopsys|synthesis|pragma)\b", note) or "lint" in note, line
                lines.append(bare.rstrip())
            return [re.sub("[0-9a-f]{8,}", "#", line) for line in lines]
        case _:
            return [re.sub("[0-9a-f]{8,}", "#", line) for line in text.split("\n")]


def check_text(names: Sequence[str], shape: Shape) -> None:
    """Compare the build with that of a network whose names are the identifiers of these."""
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        found = compiled(names, shape, Path(one), "--no-verify")
        plain: dict[str, None] = {}
        for name in names:
            wanted = base = sanitized(encodable(name))
            count = 1
            while wanted in plain:
                count += 1
                wanted = f"{base}_{count}"
            plain[wanted] = None
        usual = compiled(list(plain), shape, Path(two), "--no-verify")
        files = [path for path in sorted(found.rglob("*")) if path.is_file()]
        for path in files:
            if path.suffix in {".html", ".py", ".tcl"} or path.name == "Makefile":
                assert structure(path) == structure(usual / path.relative_to(found)), path
            elif path.suffix in {".sv", ".cpp", ".hpp", ".h"}:
                structure(path)


@builds(3)
@given(names=named(LOW.names))
def test_no_name_becomes_text_that_counts(names: list[str]) -> None:
    check_text(names, LOW)


@pytest.mark.parametrize("outputs", [("y", "y__int", "y__int_"), ("y__int_", "y__int", "y")])
def test_an_input_called_label_and_outputs_called_like_codes(outputs: tuple[str, ...], tmp_path: Path) -> None:
    """The input is no label, and no output's codes take the place of another's values."""
    names = ["label", *outputs, "join", "a", "b", "c", "d", "e", "f"]
    model, events = write_named(names, Shape(inputs=1, outputs=3, layers=3), tmp_path)
    with np.load(events) as arrays:
        whole = np.round(arrays["label"])[:, :1] * np.ones((1, 2))
    events.write_bytes(npz({"label": whole}))
    build = tmp_path / "build"
    command = ["compile", str(model), "--calibrate", str(events), "--system", "one-serenity", "-o", str(build)]
    ran = metronn(*command, "--no-verify")
    assert ran.status == 0, ran.err
    assert "with labels" not in ran.err
    assert json.loads((build / "manifest.json").read_text())["metric"] is None
    answers = tmp_path / "answers.npz"
    ran = metronn("emulate", build, events, "-o", answers, "--numpy")
    assert ran.status == 0, ran.err
    ports = {port["name"]: port for port in json.loads((build / "manifest.json").read_text())["outputs"]}
    codes = {"y": "y__int__", "y__int": "y__int__int", "y__int_": "y__int___int"}
    with np.load(answers) as found:
        assert set(found.files) == {*outputs, *codes.values()}
        for name, code in codes.items():
            assert found[name].dtype == np.float64
            assert np.array_equal(np.ldexp(found[code].astype(float), -np.array(ports[name]["frac"])), found[name])


@pytest.mark.slow
@builds(4)
@given(names=named(TALL.names))
def test_no_name_of_many_becomes_text_that_counts(names: list[str]) -> None:
    check_text(names, TALL)


@pytest.mark.slow
@builds(1)
@given(names=named(TALL.names))
def test_names_up_the_ladder(names: list[str]) -> None:
    need("verilator")
    pytest.importorskip("hls4ml")
    with tempfile.TemporaryDirectory() as folder:
        compiled(names, TALL, Path(folder), "--strict")
