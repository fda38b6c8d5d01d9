"""`metronn compare` from the command line: its rows are the plans of `metronn plan`; JSON, picture, wrong requests."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from command_line import Run
from metronn.emit.manifest import promises
from metronn.errors import InfeasibleError
from metronn.flow.comparing import Sweep, compared, places_of
from metronn.flow.options import Given
from metronn.flow.request import read_request
from metronn.ir.text import graph_hash, to_text
from metronn.log import QuietLog
from metronn.plan.hardware.system import load_system
from metronn.plan.options import PlanOptions
from metronn.plan.planner import first_reason, plan
from metronn.report import figures
from metronn.report.summary import summarize
from small_network import small_graph

GRAPH = small_graph()
II = 9
SYSTEMS = "two-serenity,one-vcu118"
PLAN_KEYS = {
    "system", "system_name", "fpgas_asked", "ii_cycles", "clock_mhz", "planned", "problem", "planning_s", "boards",
    "latency_cycles", "latency_ns", "utilisation", "region_utilisation", "link_occupancy", "links", "resources",
}  # fmt: skip


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """Return a graph's file in the working folder's stead."""
    path = tmp_path / "graph.txt"
    path.write_text(to_text(GRAPH))
    return path


def document(run: Run, graph: Path, *words: object) -> dict[str, Any]:
    """Return the JSON of a run without a picture."""
    ran = run("compare", graph, "-o", graph.parent / "out", "--no-plot", "--json", *words)
    assert ran.status == 0, ran.err
    found: dict[str, Any] = json.loads(ran.out)
    return found


def test_every_row_is_the_plan_of_metronn_plan(metronn: Run, graph: Path) -> None:
    """Latency, resources and links of each pair are those that `metronn plan` promises, to the last digit."""
    found = document(metronn, graph, "--systems", SYSTEMS, "--fpgas", "1,2", "--ii", II)
    places = [(plan["system"], plan["fpgas_asked"]) for plan in found["plans"]]
    assert places == [("two-serenity", 1), ("two-serenity", 2), ("one-vcu118", 1), ("one-vcu118", 2)]
    for (system, fpgas), row in zip(places[:3], found["plans"], strict=False):
        target = ("--system", system, "--fpgas", fpgas, "--ii", II)
        ran = metronn("plan", graph, *target, "-o", graph.parent / "plan.json", "--json")
        assert ran.status == 0, ran.err
        promised = json.loads(ran.out)["promises"]
        assert {key: row[key] for key in ("latency_cycles", "latency_ns", "ii_cycles", "clock_mhz", "resources")} == {
            key: promised[key] for key in ("latency_cycles", "latency_ns", "ii_cycles", "clock_mhz", "resources")
        }
        assert row["planned"] and row["problem"] is None and row["planning_s"] >= 0
        assert row["boards"] == len(promised["resources"]) == fpgas
        for name in ("lut", "ff", "dsp", "bram36"):
            shares = [used["utilisation"][name] for used in promised["resources"].values()]
            regions = [
                r["utilisation"][name] for used in promised["resources"].values() for r in used["regions"].values()
            ]
            assert (row["utilisation"][name], row["region_utilisation"][name]) == (max(shares), max(regions))
    assert found["plans"][3]["problem"] == "plan.fpgas is 2, system one-vcu118 has 1 FPGA."
    assert (found["name"], found["graph_hash"], found["format"]) == ("graph", graph_hash(GRAPH), 1)


def test_links_are_those_of_the_plan(metronn: Run, graph: Path) -> None:
    one, two = document(metronn, graph, "--systems", "two-serenity", "--fpgas", "1,2", "--ii", II)["plans"]
    assert (one["links"], one["link_occupancy"]) == ([], None)
    design = plan(GRAPH, load_system("two-serenity").with_overrides(ii=II), PlanOptions(fpgas=2))
    (link,) = summarize(design, {"name": "x", "promises": promises(design)}).links
    frame = design.fpgas[0].sends
    assert frame is not None
    (row,) = two["links"]
    assert (row["name"], row["payload_bits"], row["capacity_bits"]) == (
        link.name,
        frame.payload_bits,
        link.capacity_bits,
    )
    assert (row["lanes"], row["lanes_there"], row["words"]) == (frame.lanes, 16, frame.words)
    assert row["occupancy"] == two["link_occupancy"] == round(frame.payload_bits / link.capacity_bits, 6)
    assert 0 < two["link_occupancy"] <= 1


def test_what_is_best_is_marked(metronn: Run, graph: Path) -> None:
    """One FPGA at the least II is fastest; the first of equal ones is marked."""
    found = document(metronn, graph, "--systems", "two-serenity,one-serenity", "--fpgas", "2,1", "--ii", "4,9")
    plans = found["plans"]
    assert [p["ii_cycles"] for p in plans] == [4, 4, 9, 9] * 2
    planned = [k for k, p in enumerate(plans) if p["planned"]]
    assert len(planned) == 6
    least = min(planned, key=lambda k: (plans[k]["latency_ns"], plans[k]["boards"], k))
    fewest = min(planned, key=lambda k: (plans[k]["boards"], plans[k]["latency_ns"], k))
    assert found["best"] == {"latency": least, "boards": fewest}
    words = ("--systems", "two-serenity,one-serenity", "--fpgas", "2,1", "--ii", "4,9", "--no-plot")
    table = metronn("compare", graph, "-o", graph.parent / "out", *words).out.splitlines()
    assert len(table) == 2 + len(plans)
    marked = [k for k, line in enumerate(table[2:]) if line.endswith(("latency", "boards"))]
    assert marked == sorted({least, fewest})


def test_latency_in_nanoseconds_decides_between_clocks(graph: Path) -> None:
    """Fewer cycles of a slower clock are no better."""
    request = read_request(None, Given(), model=graph)
    slow = graph.parent / "slow.toml"
    slow.write_text(
        'name = "slow"\ntitle = "slow"\nsource = "test"\nclock_mhz = 120.0\nii = 9\n'
        'boards = [{ name = "a", board = "serenity" }]\n'
    )
    found = compared(request, GRAPH, places_of(request, Sweep(systems=(slow, "one-serenity"))), QuietLog())
    first, second = found.plans
    assert first.latency_cycles is not None and second.latency_cycles is not None
    assert first.latency_ns is not None and second.latency_ns is not None
    assert first.latency_cycles <= second.latency_cycles and first.latency_ns > second.latency_ns
    assert (found.best_latency, found.best_in(1)) == (1, ("latency", "boards"))
    assert (first.system, first.system_name) == (str(slow), "slow")


def test_without_numbers_the_planner_chooses(metronn: Run, graph: Path) -> None:
    (row,) = document(metronn, graph, "--systems", "two-serenity")["plans"]
    design = plan(GRAPH, load_system("two-serenity"), PlanOptions())
    assert row["fpgas_asked"] is None
    assert (row["boards"], row["latency_cycles"]) == (len(design.fpgas), design.latency_cycles)
    assert row["ii_cycles"] == load_system("two-serenity").ii


def test_options_are_those_of_the_file_beside_the_graph(metronn: Run, graph: Path) -> None:
    """System, FPGAs and objective of metronn.toml; the command line counts more."""
    (graph.parent / "metronn.toml").write_text(
        '[plan]\nsystem = "two-serenity"\nfpgas = 2\nii = 9\nobjective = "resources"\n'
    )
    (row,) = document(metronn, graph)["plans"]
    options = PlanOptions.model_validate({"fpgas": 2, "objective": "resources"})
    design = plan(GRAPH, load_system("two-serenity").with_overrides(ii=9), options)
    assert (row["system_name"], row["boards"], row["latency_cycles"]) == ("two-serenity", 2, design.latency_cycles)
    assert row["resources"] == promises(design)["resources"]
    (other,) = document(metronn, graph, "--systems", "one-serenity", "--fpgas", 1, "--objective", "latency")["plans"]
    design = plan(GRAPH, load_system("one-serenity").with_overrides(ii=9), PlanOptions(fpgas=1))
    assert other["resources"] == promises(design)["resources"]


def test_a_pair_without_a_plan_is_a_row_with_its_reason(metronn: Run, graph: Path) -> None:
    found = document(metronn, graph, "--systems", "four-serenity", "--fpgas", "1,4")
    good, bad = found["plans"]
    with pytest.raises(InfeasibleError) as refused:
        plan(GRAPH, load_system("four-serenity"), PlanOptions(fpgas=4), advise=False)
    assert bad["problem"] == first_reason(refused.value, load_system("four-serenity"))
    assert "the network has 2 layers to share out" in bad["problem"] and "\n" not in bad["problem"]
    empty = PLAN_KEYS - {"system", "system_name", "fpgas_asked", "ii_cycles", "clock_mhz", "planned", "problem"}
    assert all(bad[key] is None for key in empty - {"planning_s"})
    assert not bad["planned"] and good["planned"]
    assert set(good) == set(bad) == PLAN_KEYS
    assert set(found) == {"format", "name", "graph_hash", "best", "plans"}
    ran = metronn(
        "compare", graph, "--systems", "four-serenity", "--fpgas", "1,4", "--no-plot", "-o", graph.parent / "o"
    )
    assert ran.status == 0
    assert ran.out.splitlines()[-1].endswith(f"no plan: {bad['problem']}")


def test_too_slow_a_device_is_told_in_one_line() -> None:
    error = InfeasibleError("no plan for system s-1 at 360 MHz on xc, speed grade 1:\n  a: 3 ns of 2.\n  more")
    system = load_system("one-serenity").model_copy(update={"name": "s-1"})
    assert first_reason(error, system) == "at 360 MHz on xc, speed grade 1: a: 3 ns of 2."


def test_the_folder_holds_the_document_and_a_picture(metronn: Run, graph: Path) -> None:
    image = pytest.importorskip("matplotlib.image")
    out = graph.parent / "out"
    words = ("compare", graph, "-o", out, "--systems", SYSTEMS, "--fpgas", "1,2", "--ii", II)
    ran = metronn(*words, "--json")
    assert ran.status == 0, ran.err
    assert sorted(path.name for path in out.iterdir()) == ["compare.json", "compare.png"]
    assert json.loads((out / "compare.json").read_text()) == json.loads(ran.out)
    picture = (out / "compare.png").read_bytes()
    pixels = image.imread(io.BytesIO(picture), format="png")
    assert pixels.shape == (780, 1200, 4)
    assert pixels[..., :3].std() > 0.05
    assert metronn(*words).status == 0
    assert (out / "compare.png").read_bytes() == picture


def test_a_network_is_quantized_first(metronn: Run, network: Path, events: Path, tmp_path: Path) -> None:
    """A network with events, and a metronn.toml, give the rows of the graph that `metronn quantize` writes."""
    written = tmp_path / "g.txt"
    assert metronn("quantize", network, "--calibrate", events, "-o", written).status == 0
    rows = document(metronn, written, "--systems", "one-serenity")["plans"]
    (tmp_path / "metronn.toml").write_text(
        f'[model]\nfile = "{network.name}"\n[data]\ncalibrate = "{events.name}"\n[plan]\nsystem = "one-serenity"\n'
    )
    of_file = document(metronn, tmp_path / "metronn.toml")
    (tmp_path / "metronn.toml").unlink()
    of_network = document(metronn, network, "--calibrate", events, "--systems", "one-serenity")
    for found in (of_file, of_network):
        assert found["graph_hash"] == document(metronn, written, "--systems", "one-serenity")["graph_hash"]
        assert [{**p, "planning_s": 0} for p in found["plans"]] == [{**p, "planning_s": 0} for p in rows]


def test_names_may_hold_anything(metronn: Run, graph: Path) -> None:
    """Formulas of matplotlib, bytes that are no text."""
    pytest.importorskip("matplotlib")
    text = (Path(__file__).parents[2] / "boards" / "systems" / "one-serenity.toml").read_text()
    odd = graph.parent / "a$\\frac$ \udcff.toml"
    odd.write_text(text.replace('name = "one-serenity"', 'name = "odd"'))
    ran = metronn("compare", graph, "--systems", odd, "-o", graph.parent / "out")
    assert ran.status == 0, ran.err
    (row,) = json.loads((graph.parent / "out" / "compare.json").read_text())["plans"]
    assert (row["system"], row["system_name"]) == (str(odd), "odd")


# Wrong requests


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (("--systems", "one-serenety"), 2, "unknown system 'one-serenety'"),
        (("--systems", "one-serenity,no.toml,nope"), 2, "no.toml: no such system file"),
        (("--systems", "one-serenity,no.toml,nope"), 2, "unknown system 'nope'"),
        (("--systems", ""), 2, "--systems: is empty; name at least one, or leave the option out"),
        (("--systems", " , "), 2, "--systems: is empty"),
        ((), 2, "no systems: which ones are to be compared?\n  Give --systems NAME,NAME or plan.system in"),
        (("--systems", SYSTEMS, "--fpgas", "0"), 2, "--fpgas: found '0', allowed are whole numbers from 1 to 16"),
        (("--systems", SYSTEMS, "--fpgas", "1,x"), 2, "--fpgas: found 'x', allowed are whole numbers from 1 to 16"),
        (("--systems", SYSTEMS, "--fpgas", ""), 2, "--fpgas: is empty"),
        (("--systems", SYSTEMS, "--ii", "0"), 2, "--ii: found '0', allowed are whole numbers from 1 to 65536"),
        (("--systems", SYSTEMS, "--ii", ","), 2, "--ii: is empty"),
        (("--systems", "one-serenity", "--fpgas", "2"), 2, "one-serenity, 2 FPGAs, II 9: plan.fpgas is 2, system one-"),
        (("--systems", "four-serenity", "--fpgas", "4"), 1, "no plan for any of these:\n  four-serenity, 4 FPGAs, II "),
        (("--systems", "four-serenity", "--fpgas", "4,5"), 1, "II 9: plan.fpgas is 5, system four-serenity has 4"),
        (("--systems", SYSTEMS, "--max-latency-ns", "1"), 1, "plan.max_latency_ns is 1."),
    ],
)  # fmt: skip
def test_wrong_requests(metronn: Run, graph: Path, options: tuple[str, ...], status: int, message: str) -> None:
    ran = metronn("compare", graph, "-o", graph.parent / "out", "--no-plot", *options)
    assert ran.status == status
    assert ran.out == ""
    assert message in ran.err
    assert not (graph.parent / "out" / "compare.json").exists()


def test_folders_that_cannot_be_written(metronn: Run, graph: Path) -> None:
    words = ("compare", graph, "--systems", "one-serenity", "--no-plot", "-o")
    ran = metronn(*words, graph)
    assert (ran.status, ran.out) == (2, "")
    assert f"{graph}: the folder cannot be made: File exists" in ran.err
    (graph.parent / "out" / "compare.json").mkdir(parents=True)
    ran = metronn(*words, graph.parent / "out")
    assert (ran.status, ran.out) == (2, "")
    assert "out/compare.json: is a folder; name another one with -o" in ran.err
    ran = metronn(*words, "/proc")
    assert (ran.status, ran.out) == (2, "")
    assert "/proc: the folder cannot be written: " in ran.err
    assert "one-serenity, FPGAs" not in ran.err, "it is told before the work"


def test_systems_are_read_before_a_network_is_quantized(
    metronn: Run, network: Path, events: Path, tmp_path: Path
) -> None:
    """What is wrong is told before the work, and no folder is left behind."""
    ran = metronn("compare", network, "--calibrate", events, "--systems", "nope", "--no-plot", "-o", tmp_path / "out")
    assert ran.status == 2
    assert "import: " not in ran.err
    assert not (tmp_path / "out").exists()


def test_no_graph(metronn: Run, graph: Path) -> None:
    words = ("--systems", "one-serenity", "--no-plot", "-o", graph.parent / "out")
    ran = metronn("compare", graph.parent / "none.txt", *words)
    assert ran.status == 2 and "none.txt: no such file; metronn quantize writes one" in ran.err
    graph.write_text("no graph")
    ran = metronn("compare", graph, *words)
    assert ran.status == 2 and "is no graph of metronn" in ran.err


def test_without_matplotlib_the_error_says_what_to_do(
    metronn: Run, graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> object:
        raise ImportError(name)

    monkeypatch.setattr(figures, "import_module", missing)
    words = ("compare", graph, "--systems", "one-serenity", "-o", graph.parent / "out")
    ran = metronn(*words)
    assert ran.status == 3
    assert "the picture needs matplotlib (pip install 'metronn[plots]'); leave it out with --no-plot" in ran.err
    assert not (graph.parent / "out").exists()
    assert metronn(*words, "--no-plot").status == 0
