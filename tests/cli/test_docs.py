"""The documentation says what the code does: keys, verbs, ops, and the blocks that can be run."""

from __future__ import annotations

import re
from pathlib import Path

from command_line import Run
from metronn.flow.options import TABLES, Given
from metronn.flow.reference import MARKED, NESTED, written
from metronn.flow.request import find_request
from metronn.ir.ops import Overflow, Rounding
from metronn.ir.text import OPS, from_text, to_text
from metronn.model.text import real_from_text, real_to_text

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_tables_of_keys_are_those_of_the_options() -> None:
    """`make reference` writes them; every table of metronn.toml is in the page."""
    page = (DOCS / "configuration.md").read_text()
    assert page == written(page)
    assert {found["name"] for found in MARKED.finditer(page)} == {*TABLES, *NESTED}


def test_example_configuration_is_read(tmp_path: Path) -> None:
    block = re.search(r"```toml\n(.*?)```", (DOCS / "configuration.md").read_text(), re.DOTALL)
    assert block is not None
    (tmp_path / "metronn.toml").write_text(block[1])
    (tmp_path / "jets.onnx").touch()
    request = find_request(tmp_path, Given())
    assert request.model == tmp_path / "jets.onnx"
    assert request.system == "two-serenity"


def test_every_op_and_mode_is_documented() -> None:
    text = (DOCS / "ir.md").read_text()
    for kind in OPS.values():
        assert f"| `{kind.__name__}` |" in text
    for mode in (*Rounding, *Overflow):
        assert f"| `{mode.value}` |" in text


def test_graph_in_the_text_parses_back() -> None:
    block = re.search(r"```\n(metronn graph 1\n.*?)```", (DOCS / "ir.md").read_text(), re.DOTALL)
    assert block is not None
    assert to_text(from_text(block[1])) == block[1]
    real = re.search(r"```\n(metronn real graph 1\n.*?)```", (DOCS / "ir.md").read_text(), re.DOTALL)
    assert real is not None
    assert real_to_text(real_from_text(real[1])) == real[1]


def test_every_verb_and_option_is_documented(metronn: Run) -> None:
    text = (DOCS / "cli.md").read_text()
    verbs = re.findall(r"^  (\w+)  ", metronn("--help").out.partition("Commands:")[2], re.MULTILINE)
    assert sorted(verbs) == sorted(set(re.findall(r"^metronn (\w+) ", text.split("```")[1], re.MULTILINE)))
    for option in re.findall(r"--[a-z][a-z-]+", metronn("compile", "--help").out):
        if option not in ("--help", "--output", "--verify", "--calibrate", "--system"):
            assert option in text, option


def test_links_lead_somewhere() -> None:
    pages = [DOCS.parent / "README.md", *DOCS.rglob("*.md")]
    broken = [
        f"{page.name}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text())
        if not (page.parent / target).exists()
    ]
    assert broken == []
