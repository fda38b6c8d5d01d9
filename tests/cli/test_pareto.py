"""`metronn pareto` and `metronn quantize --search` from the command line; fronts and pictures."""

from __future__ import annotations

import csv
import json
import re
import tomllib
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from command_line import Run
from metronn.errors import ModelError, ToolError
from metronn.flow.update import updated_configuration
from metronn.ir.text import from_text
from metronn.plan.estimate import estimate
from metronn.plan.hardware.resources import LUT_EQUIVALENTS, Resources, lut_equivalents
from metronn.plan.hardware.system import load_system
from metronn.plan.options import PlanOptions
from metronn.plan.planner import plan
from metronn.report import figures, pareto_plot
from metronn.report.pareto import csv_text, rows
from metronn.search.pareto import ParetoPoint, beats, with_front
from small_network import write_events, write_network


def point(metric: float, luts: float | None, latency: float | None, ii: int = 1, network: str = "a") -> ParetoPoint:
    """Return a point; without LUTs it has no plan."""
    planned = luts is not None
    return ParetoPoint(
        network=network,
        widths=f"{luts}",
        ii_cycles=ii,
        fold="full",
        metric=metric,
        float_metric=1.0,
        loss=1 - metric,
        lut_equivalents=luts,
        latency_ns=latency,
        latency_cycles=3 if planned else None,
        lut=10 if planned else None,
        ff=20 if planned else None,
        dsp=1 if planned else None,
        bram36=0.5 if planned else None,
        uram=0 if planned else None,
        fpgas=1 if planned else None,
        problem="" if planned else "too large",
    )


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4), st.integers(1, 3)), min_size=1))
def test_the_front_is_what_no_point_beats(places: list[tuple[int, int, int, int]]) -> None:
    points = [point(m / 4, float(c), float(t), ii) for m, c, t, ii in places]
    marked = with_front(points)
    front = [p for p in marked if p.front]
    assert front
    assert not any(beats(a, b) for a, b in product(points, front))
    for p in points:
        assert any(
            beats(f, p) or (f.metric, f.lut_equivalents, f.latency_ns) == (p.metric, p.lut_equivalents, p.latency_ns)
            for f in front
        )
    merits = [(f.metric, f.lut_equivalents, f.latency_ns) for f in front]
    assert len(set(merits)) == len(merits)
    for f in front:
        twins = [p for p in points if (p.metric, p.lut_equivalents, p.latency_ns) == merits[front.index(f)]]
        assert f.ii_cycles == min(p.ii_cycles for p in twins)


def test_points_without_a_plan_are_listed_and_never_on_the_front() -> None:
    points = with_front([point(0.9, 100.0, 5.0), point(1.0, None, None)])
    assert [p.front for p in points] == [True, False]
    table = list(csv.DictReader(csv_text(points).splitlines()))
    assert [(row["front"], row["lut_equivalents"], row["problem"]) for row in table] == [
        ("1", "100.0", ""),
        ("0", "", "too large"),
    ]
    assert len(rows(points)) == 1


def test_the_picture_is_a_png_of_the_same_bytes() -> None:
    pytest.importorskip("matplotlib")
    points = with_front([point(0.9, 100.0, 5.0), point(0.95, 20_000.0, 9.0, 3, "b"), point(1.0, None, None)])
    first = pareto_plot.pareto_png(points, "accuracy")
    assert first.startswith(b"\x89PNG")
    assert first == pareto_plot.pareto_png(points, "accuracy")


def test_without_matplotlib_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> object:
        raise ImportError(name)

    monkeypatch.setattr(figures, "import_module", missing)
    with pytest.raises(ToolError, match="needs matplotlib .* leave it out with --no-plot"):
        pareto_plot.pareto_png((), "accuracy")


# Cost


def test_the_formula_of_lut_equivalents() -> None:
    assert lut_equivalents(Resources(lut=3, ff=4, dsp=5, bram36=1.5, uram=2)) == 3 + 2 + 500 + 450 + 2600
    assert list(LUT_EQUIVALENTS) == list(Resources().as_dict())


def test_the_estimate_is_near_the_plan_and_falls_with_the_bits(metronn: Run, tmp_path: Path) -> None:
    network = write_network(tmp_path / "n.onnx", inputs=12, hidden=16, outputs=4)
    events = write_events(tmp_path / "e.npz", inputs=12)
    system = load_system("one-serenity").with_overrides(ii=1, clock_mhz=None)
    costs = []
    for bits in (8, 6, 4):
        graph_file = tmp_path / f"{bits}.txt"
        given_bits = ("--weight-bits", bits, "--activation-bits", bits)
        assert metronn("quantize", network, "--calibrate", events, *given_bits, "-o", graph_file).status == 0
        graph = from_text(graph_file.read_text())
        found = estimate(graph, system, PlanOptions())
        design = plan(graph, system, PlanOptions())
        planned = lut_equivalents(sum((fpga.resources for fpga in design.fpgas), Resources()))
        assert abs(found.lut_equivalents / planned - 1) < 0.15
        assert abs(sum(found.layers.values()) - found.lut_equivalents) < 1e-6
        costs.append(found.lut_equivalents)
    assert costs == sorted(costs, reverse=True)
    assert costs[0] > costs[-1]


# Wrong requests


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--bits", "4,x"), "--bits: found 'x', allowed are whole numbers from 2 to 32"),
        (("--ii", "0"), "--ii: found '0', allowed are whole numbers from 1 to 65536"),
        (("--search", "1.5"), "--search: found '1.5', allowed are tolerances from 0 to 1"),
        (("--fold", "half"), "--fold: found 'half', allowed are full, latency"),
        (("--widths", "missing.toml"), "missing.toml"),
        (("--system", "nowhere"), "nowhere"),
        (("--jobs", "0"), "--jobs: found 0, allowed are 1 to 4096"),
    ],
)
def test_wrong_sweeps(
    metronn: Run, network: Path, events: Path, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    base = ("--system", "one-serenity") if "--system" not in options else ()
    ran = metronn("pareto", network, "--calibrate", events, *base, *options, "--no-plot", "-o", tmp_path / "out")
    assert ran.status == 2
    assert message in ran.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--search", "--narrowest", "1"), "--narrowest: must be a whole number from 2 to 32, found 1"),
        (("--search", "--narrowest", "9", "--widest", "8"), "--narrowest 9, --widest 8: the narrowest comes first"),
        (("--search", "--max-evaluations", "3"), "--max-evaluations: must be a whole number from 50 to"),
        (("--search", "--held-out-events", "0"), "--held-out-events: must be a whole number from 1 to"),
        (("--search", "--keep", "nothing"), "--keep nothing: no layer has such a name; there are hidden, last"),
        (("--search", "--keep", "*"), "search: every layer is kept as it is"),
        (("--search", "--update"), "--update: there is no metronn.toml of this network to update"),
        (("--search", "--metric", "none"), "search: there is no metric to hold"),
        (("--search", "--tolerance", "-1"), "--tolerance: must be a number from 0 to 1000000, found -1.0"),
        (("--dask", "tcp://a:1", "--per-channel"), "error: --per-channel, --dask are for searches: add --search"),
        (("--jobs", "2"), "error: --jobs is for searches: add --search"),
    ],
)
def test_wrong_searches(
    metronn: Run, network: Path, events: Path, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    system = ("--system", "one-serenity") if "--search" in options else ()
    ran = metronn("quantize", network, "--calibrate", events, *system, *options, "-o", tmp_path / "graph.txt")
    assert ran.status == 2
    assert message in ran.err
    assert not (tmp_path / "graph.txt").exists()


def test_a_search_needs_a_system(metronn: Run, network: Path, events: Path, tmp_path: Path) -> None:
    ran = metronn("quantize", network, "--calibrate", events, "--search", "-o", tmp_path / "graph.txt")
    assert ran.status == 2
    assert "no system" in ran.err


def test_a_file_that_holds_no_widths_is_refused(metronn: Run, network: Path, events: Path, tmp_path: Path) -> None:
    for content, message in (
        ("[plan]\nii = 3\n", "is no file of widths"),
        ('[quantize.layers."last"]\nbits = 3\n', "unknown key 'layers.last.bits'"),
        ('[quantize.layers."other"]\nweight_bits = 3\n', "layers.other: no layer has such a name"),
    ):
        (tmp_path / "w.toml").write_text(content)
        ran = metronn("quantize", network, "--calibrate", events, "--widths", tmp_path / "w.toml")
        assert ran.status == 2
        assert message in ran.err


def test_metronn_toml_keeps_everything_else(tmp_path: Path) -> None:
    path = tmp_path / "metronn.toml"
    for text in (
        "[model]\nfile = 'a.onnx'  # mine\n",
        "# top\n[quantize]  # here\nwidths = 'old.toml'\nweight_bits = 6\n\n[quantize.layers.a]\nweight_bits = 3\n",
        "[quantize.layers.a]\nweight_bits = 3\n[plan]\nii = 2\n",
    ):
        path.write_text(text)
        made = updated_configuration(path, "graph.widths.toml")
        expected = tomllib.loads(text)
        expected.setdefault("quantize", {})["widths"] = "graph.widths.toml"
        assert tomllib.loads(made) == expected
        assert all(line in made for line in text.splitlines() if "#" in line)
    path.write_text("quantize = {weight_bits = 6}\n")
    with pytest.raises(ModelError, match='write this line into its .quantize. table: widths = "w.toml"'):
        updated_configuration(path, "w.toml")


# Whole runs


@pytest.mark.slow
def test_a_search_its_resumption_and_its_widths(metronn: Run, network: Path, events: Path, tmp_path: Path) -> None:
    (tmp_path / "metronn.toml").write_text(
        f"[model]\nfile = '{network.name}'\n[data]\ncalibrate = '{events.name}'\n"
        "[plan]\nsystem = 'one-serenity'\nii = 1\n"
    )
    graph = tmp_path / "graph.txt"
    call = ("quantize", tmp_path, "--search", "--tolerance", "0.1", "--widest", "8", "-j", "1", "-o", graph)
    first = metronn(*call, "--update", "--json")
    assert first.status == 0, first.err
    found = json.loads(first.out)["search"]
    assert found["cost"] < found["cost_given"]
    assert tomllib.loads((tmp_path / "metronn.toml").read_text())["quantize"]["widths"] == "graph.widths.toml"
    text = graph.read_text()
    again = metronn(*call, "--json")
    repeated = json.loads(again.out)["search"]
    assert repeated["from_journal"] == repeated["evaluations"] == found["evaluations"]
    assert graph.read_text() == text
    alone = metronn("quantize", tmp_path, "-o", tmp_path / "same.txt")
    assert alone.status == 0
    assert (tmp_path / "same.txt").read_text() == text
    call_with_file = ("quantize", network, "--calibrate", events, "--widths", tmp_path / "graph.widths.toml")
    assert metronn(*call_with_file, "-o", tmp_path / "same_too.txt").status == 0
    assert (tmp_path / "same_too.txt").read_text() == text
    other = metronn(*call, "--ii", "3")
    assert other.status == 2
    assert "is the journal of other work: system differs" in other.err


@pytest.mark.slow
def test_a_front_and_its_resumption(metronn: Run, network: Path, events: Path, tmp_path: Path) -> None:
    out = tmp_path / "front"
    call = ("pareto", network, "--calibrate", events, "--system", "one-serenity", "--bits", "4,8", "--ii", "1,4")
    first = metronn(*call, "--no-plot", "-j", "1", "-o", out, "--json")
    assert first.status == 0, first.err
    points = json.loads(first.out)["points"]
    assert [(p["widths"], p["ii_cycles"]) for p in points] == [
        (w, ii) for w in ("as given", "4 bits", "8 bits") for ii in (1, 4)
    ]
    assert json.loads((out / "points.json").read_text())["points"] == points
    assert len((out / "points.csv").read_text().splitlines()) == 7
    again = metronn(*call, "--no-plot", "-j", "1", "-o", out, "--json")
    assert "3 of 3 choices of widths are known" in again.err
    assert json.loads(again.out)["points"] == points


@pytest.mark.parametrize("verb", ["quantize", "pareto"])
def test_every_option_is_documented(metronn: Run, verb: str) -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "cli.md").read_text()
    part = text.split(f"\n## {verb}\n")[1].split("\n## ")[0]
    options = set(re.findall(r"--[a-z][a-z0-9-]+", metronn(verb, "--help").out))
    for option in options - {"--help", "--output", "--calibrate", "--plot"}:
        assert option in part, option
