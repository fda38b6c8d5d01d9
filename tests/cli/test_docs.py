"""The documentation says what the code does: keys, verbs, ops, and the blocks that can be run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from small_network import Run

from metronn.cli.config import Overrides, _File, find_request
from metronn.ir.ops import Overflow, Rounding
from metronn.ir.text import OPS, from_text, to_text
from metronn.model.text import real_from_text, real_to_text
from metronn.quantize.options import LayerOptions, QuantizeOptions

DOCS = Path(__file__).resolve().parents[2] / "docs"


def section(text: str, title: str) -> str:
    """Return the part of a page below a heading."""
    return re.split(r"^## ", text.split(f"## `[{title}]`\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


@pytest.mark.parametrize("name", _File.model_fields)
def test_every_key_is_documented(name: str) -> None:
    keys = set(re.findall(r"^\| `(\w+)` \|", section((DOCS / "configuration.md").read_text(), name), re.MULTILINE))
    model = QuantizeOptions if name == "quantize" else _File.model_fields[name].annotation
    assert model is not None
    assert keys == set(model.model_fields)


def test_defaults_are_documented() -> None:
    text = (DOCS / "configuration.md").read_text()
    for model, name in [(QuantizeOptions, "quantize"), *((f.annotation, n) for n, f in _File.model_fields.items())]:
        for key, field in getattr(model, "model_fields", {}).items():
            default = field.default
            if isinstance(default, int | float) and not isinstance(default, bool):
                assert f"| `{key}` | {default} |" in section(text, name)
    for key in LayerOptions.model_fields:
        assert f"`{key}`" in section(text, "quantize")


def test_example_configuration_is_read(tmp_path: Path) -> None:
    block = re.search(r"```toml\n(.*?)```", (DOCS / "configuration.md").read_text(), re.DOTALL)
    assert block is not None
    (tmp_path / "metronn.toml").write_text(block[1])
    (tmp_path / "jets.onnx").touch()
    request = find_request(tmp_path, Overrides())
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
