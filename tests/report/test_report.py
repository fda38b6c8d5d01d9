"""Reports: the numbers are those of the design, the HTML file stands alone."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from metronn.emit.manifest import build_manifest, manifest_text
from metronn.errors import ModelError
from metronn.ir.arrays import IntArray
from metronn.ir.graph import Graph, GraphBuilder
from metronn.ir.ops import Constant, Extremum, ExtremumKind, Input, Linear, Overflow, Requantize, Rounding
from metronn.ir.types import Range
from metronn.plan.design import Design
from metronn.plan.hardware.system import load_system
from metronn.plan.options import PlanOptions
from metronn.plan.planner import plan
from metronn.report.html import report_html
from metronn.report.path import critical_path
from metronn.report.picture import Picture, read_pictures
from metronn.report.summary import summarize
from metronn.report.svg import Bar, bar_plot
from metronn.report.tables import table_text
from metronn.report.text import plan_text, verdicts_text


def network(layers: int, width: int = 12) -> Graph:
    """Return dense layers with ReLU."""
    rng = np.random.default_rng(5)
    builder = GraphBuilder()
    value = builder.add(Input(shape=(width,), range=Range.fixed(6, 3)), "x")
    for k in range(layers):
        weight = IntArray.of(rng.integers(-7, 8, (width, width)))
        value = builder.add(Linear(x=value, weight=weight, bias=IntArray.of(np.zeros(width, int))), f"dense{k}")
        zero = builder.add(Constant(values=IntArray.of(np.zeros(1, int))), f"zero{k}")
        value = builder.add(Extremum(x=value, y=zero, kind=ExtremumKind.MAX), f"relu{k}", f"dense{k}")
        out = Requantize(x=value, out=Range.fixed(6, 1, signed=False), rounding=Rounding.RND, overflow=Overflow.SAT)
        value = builder.add(out, f"cut{k}", f"dense{k}")
    builder.output("y", value)
    return builder.build()


@pytest.fixture(scope="module", params=[("one-serenity", None), ("two-serenity", 2), ("four-serenity", 4)])
def design(request: pytest.FixtureRequest) -> Design:
    """Return designs on one, two and four FPGAs."""
    system, fpgas = request.param
    return plan(network(5), load_system(system), PlanOptions(fpgas=fpgas))


def test_every_cycle_goes_somewhere(design: Design) -> None:
    """The shares follow each other from cycle 0 to the promise, and name every link."""
    now = 0
    path = critical_path(design)
    for share in path:
        assert share.start_cycle == now
        assert share.cycles > 0
        now += share.cycles
    assert now == design.latency_cycles
    assert sum(share.what.startswith("link ") for share in path) == len(design.fpgas) - 1


def summary_of(design: Design) -> tuple[str, str]:
    verdicts = [
        {"rung": 1, "name": "trained <network>", "status": "pass", "events": 5, "bits": 50, "mismatches": 0},
        {
            "rung": 4,
            "name": "RTL of fpga0",
            "status": "fail",
            "events": 5,
            "bits": 50,
            "mismatches": 2,
            "cycles_promised": 7,
            "cycles_observed_min": 7,
            "cycles_observed_max": 8,
            "first": "y (layer dense4): event 0, element 1 is 3, expected 2",
        },
        {
            "rung": 5,
            "name": "RTL of the system",
            "status": "not_run",
            "events": 0,
            "bits": 0,
            "mismatches": 0,
            "first": "no",
        },
    ]
    manifest = build_manifest(design, name="a & b", report=None, files={"graph.txt": b"text"})
    manifest["verdicts"] = verdicts
    summary = summarize(design, manifest)
    picture = Picture(file="turn_on.png", content=b"\x89PNG\r\n\x1a\nrest", media="image/png")
    return plan_text(summary) + verdicts_text(summary), report_html(summary, [picture])


def test_text_says_what_the_design_promises(design: Design) -> None:
    text, _ = summary_of(design)
    for fpga in design.fpgas:
        assert fpga.name in text
    assert re.search(rf"^all +{design.latency_cycles}$", text, re.MULTILINE)
    assert "7 to 8" in text
    assert "rung 4 fail: y (layer dense4): event 0, element 1 is 3, expected 2" in text
    assert "rung 5 not run: no" in text
    assert all(line == line.rstrip() for line in text.splitlines())


class Page(HTMLParser):
    """Checks that tags close in order and collects what a page refers to."""

    VOID = ("meta", "img")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        self.references += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Nothing to close."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_html_stands_alone(design: Design) -> None:
    _, html = summary_of(design)
    page = Page()
    page.feed(html)
    assert page.open == []
    assert page.references
    assert all(reference.startswith("data:image/png;base64,") for reference in page.references)
    assert "http" not in html.replace("http://www.w3.org/2000/svg", "")
    assert "a & b" in page.text
    assert "trained <network>" in page.text
    assert html == summary_of(design)[1]


def test_manifest_is_json_with_utilisation_within_the_budget(design: Design) -> None:
    manifest = build_manifest(design, name="n", report=None, files={"b": b"", "a": b"x"})
    assert list(manifest["files"]) == ["a", "b"]
    for resources in manifest["promises"]["resources"].values():
        assert all(0 <= share <= 1 for share in resources["utilisation"].values())
    assert manifest_text(manifest) == manifest_text(manifest)


def test_table_is_aligned() -> None:
    assert table_text(("a", "n"), [("long", "1"), ("b", "100")], right=(1,)) == (
        "a       n\n----  ---\nlong    1\nb     100\n"
    )


def test_plot_escapes_its_texts_and_has_round_ticks() -> None:
    plot = bar_plot([Bar(label="<a>", start=0, end=153, colour="#000", text="1 < 2")], end=153, unit="cycle & more")
    assert "&lt;a&gt;" in plot
    assert "1 &lt; 2" in plot
    assert "cycle &amp; more" in plot
    assert re.findall(r'class="tick"[^>]*>([\d.]+)<', plot) == ["0", "20", "40", "60", "80", "100", "120", "140"]


def test_pictures_are_checked(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"GIF89a")
    with pytest.raises(ModelError, match="content is not that of a .png file"):
        read_pictures([tmp_path / "a.png"])
