"""Every verb on a small network: what it prints, what it writes."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from command_line import Run
from metronn.emulate.numpy import emulate
from metronn.events.codes import encode_inputs
from metronn.flow.emulating import beyond_words
from metronn.ir.arrays import IntArray
from metronn.ir.graph import GraphBuilder
from metronn.ir.ops import Input, Linear, Overflow, Requantize, Rounding
from metronn.ir.text import from_text, graph_hash, to_text
from metronn.ir.types import Range
from metronn.plan.serialize import design_from_json
from small_network import write_events


@pytest.fixture
def build(metronn: Run, network: Path, events: Path, tmp_path: Path) -> Path:
    """Return a build that was not verified."""
    folder = tmp_path / "build"
    ran = metronn(
        "compile", network, "--calibrate", events, "--system", "two-serenity", "--fpgas", 2, "-o", folder, "--no-verify"
    )
    assert ran.status == 0
    assert "promise: the answer " in ran.out
    assert f"report: {folder / 'report.html'}" in ran.out
    return folder


def test_manifest_keeps_its_contract(build: Path) -> None:
    manifest = json.loads((build / "manifest.json").read_text())
    graph = from_text((build / "graph.txt").read_text())
    assert manifest["graph_hash"] == graph_hash(graph)
    promises = manifest["promises"]
    assert promises["ii_cycles"] == 9
    assert promises["clock_mhz"] == 360.0
    assert promises["latency_ns"] == pytest.approx(promises["latency_cycles"] / 0.36)
    assert list(promises["resources"]) == ["fpga0", "fpga1"]
    assert promises["resources"]["fpga0"]["lut"] > 0
    assert set(promises["resources"]["fpga0"]["utilisation"]) == {"lut", "ff", "dsp", "bram36", "uram"}
    assert [verdict["rung"] for verdict in manifest["verdicts"]] == [1, 2, 3, 4, 5, 6]
    assert [verdict["status"] for verdict in manifest["verdicts"]] == ["pass"] + ["not_run"] * 5
    for verdict in manifest["verdicts"]:
        assert {"rung", "name", "status", "events", "bits", "mismatches"} <= set(verdict)
    assert manifest["inputs"] == [{"name": "x", "model_name": "x", "shape": [6], "width": 8, "frac": 6, "signed": True}]
    assert [port["name"] for port in manifest["outputs"]] == ["scores"]
    assert {"name", "float_value", "fixed_value", "loss", "tolerance"} <= set(manifest["metric"])
    assert [layer["layer"] for layer in manifest["quantization"]["layers"]] == ["x", "hidden", "last"]
    assert set(manifest["files"]) == {
        path.relative_to(build).as_posix() for path in build.rglob("*") if path.is_file()
    } - {"manifest.json", "report.html"}


def test_json_is_all_that_stdout_gets(metronn: Run, network: Path, events: Path, tmp_path: Path) -> None:
    ran = metronn(
        "compile",
        network,
        "--calibrate",
        events,
        "--system",
        "one-serenity",
        "-o",
        tmp_path / "b",
        "--no-verify",
        "--json",
    )
    assert json.loads(ran.out) == json.loads((tmp_path / "b" / "manifest.json").read_text())
    assert "plan: 1 FPGA of one-serenity" in ran.err


def test_options_beside_the_model(metronn: Run, network: Path, events: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (network.parent / "metronn.toml").write_text(
        f'[model]\nfile = "{network.name}"\nname = "tiny"\n[data]\ncalibrate = "{events.name}"\n'
        '[plan]\nsystem = "one-serenity"\nii = 4\n[build]\ndirectory = "out"\n'
    )
    monkeypatch.chdir(network.parent)
    assert metronn("compile", "--no-verify").status == 0
    manifest = json.loads((network.parent / "out" / "manifest.json").read_text())
    assert manifest["name"] == "tiny"
    assert manifest["promises"]["ii_cycles"] == 4
    assert metronn("compile", network, "--no-verify", "--ii", 6, "--force").status == 0
    assert json.loads((network.parent / "out" / "manifest.json").read_text())["promises"]["ii_cycles"] == 6


def test_force_replaces_a_build(metronn: Run, build: Path, network: Path, events: Path) -> None:
    (build / "old").write_text("old")
    arguments = ["compile", network, "--calibrate", events, "--system", "one-serenity", "-o", build, "--no-verify"]
    refused = metronn(*arguments)
    assert refused.status == 2
    assert (build / "old").exists()
    assert metronn(*arguments, "--force").status == 0
    assert not (build / "old").exists()
    assert not list(build.parent.glob(".build*"))


def test_stages_one_by_one_give_the_same_graph_and_plan(
    metronn: Run, build: Path, network: Path, events: Path, tmp_path: Path
) -> None:
    listed = metronn("import", network, "-o", tmp_path / "layers.txt")
    assert listed.status == 0
    assert "hidden  linear" in listed.out
    assert (tmp_path / "layers.txt").read_text() == listed.out
    graph, plan = tmp_path / "graph.txt", tmp_path / "plan.json"
    assert metronn("quantize", network, "--calibrate", events, "-o", graph).status == 0
    assert graph.read_bytes() == (build / "graph.txt").read_bytes()
    ran = metronn("plan", graph, "--system", "two-serenity", "--fpgas", 2, "-o", plan)
    assert ran.status == 0
    assert "where the cycles go" in ran.out
    planned, built = (json.loads(path.read_text()) for path in (plan, build / "plan.json"))
    assert (planned.pop("prefix"), built.pop("prefix")) == ("", "small")
    assert planned == built


def test_layers_in_parts_are_told_and_written(metronn: Run, network: Path, events: Path, tmp_path: Path) -> None:
    asked = tmp_path / "metronn.toml"
    asked.write_text('[plan]\nsystem = "two-serenity"\nlayers."hidden" = {parts = 3}\n')
    graph, plan = tmp_path / "graph.txt", tmp_path / "plan.json"
    assert metronn("quantize", network, "--calibrate", events, "-o", graph).status == 0
    ran = metronn("plan", graph, "-o", plan)
    assert ran.status == 0, ran.err
    assert "hidden: made in 3 parts, as asked" in ran.err
    written = from_text((tmp_path / "plan.graph.txt").read_text())
    assert design_from_json(plan.read_text(), written).graph == written
    assert len([n for n in written if isinstance(n.op, Linear) and n.source == "hidden"]) == 3
    asked.write_text('[plan]\nsystem = "two-serenity"\nlayers."hidden" = {parts = 9}\n')
    ran = metronn("plan", graph, "-o", plan)
    assert ran.status == 2
    assert 'plan.layers."hidden".parts is 9, the layer has 8 outputs; allowed are 1 to 8' in ran.err


def test_the_plan_asked_for_is_shown_where_the_other_objective_has_none(metronn: Run, tmp_path: Path) -> None:
    """Full folds, with which the objective of latency begins, miss the limit that shorter ones keep."""
    builder, random = GraphBuilder(), np.random.default_rng(0)
    x = builder.add(Input(shape=(40,), range=Range.fixed(8, 4, signed=False)), "x")
    for k, (inputs, outputs) in enumerate(((40, 60), (60, 60))):
        weight, bias = random.integers(-127, 128, (inputs, outputs)), random.integers(-99, 99, outputs)
        x = builder.add(Linear(x=x, weight=IntArray.of(weight), bias=IntArray.of(bias), weight_frac=7), f"dense{k}")
        out = Range.fixed(8, 4)
        x = builder.add(Requantize(x=x, out=out, rounding=Rounding.RND, overflow=Overflow.SAT), f"dense{k}.out")
    builder.output("y", x)
    graph, plan = tmp_path / "graph.txt", tmp_path / "plan.json"
    graph.write_text(to_text(builder.build()))
    asked = ("plan", graph, "--system", "one-vcu118", "--ii", 36, "--max-latency-ns", 100, "-o", plan)
    ran = metronn(*asked, "--objective", "resources")
    assert ran.status == 0, ran.err
    assert plan.is_file()
    found = [line for line in ran.out.splitlines() if line.startswith("plan.objective = ")]
    assert len(found) == 1
    reason = r"the least latency is \d+ cycles = [\d.]+ ns, plan.max_latency_ns is 100\."
    assert re.fullmatch(rf'plan\.objective = "latency" has no plan: {reason}', found[0])
    told = json.loads(metronn(*asked, "--objective", "resources", "--json").out)["trade"]
    assert list(told["latency"]) == ["no_plan"]
    assert re.fullmatch(reason, told["latency"]["no_plan"])
    assert told["resources"]["dsp"] > 0
    assert metronn(*asked).status == 1


@pytest.mark.parametrize(
    "numpy",
    [True, pytest.param(False, marks=pytest.mark.skipif(not shutil.which("g++"), reason="g++ is not installed"))],
)
def test_emulate(metronn: Run, build: Path, events: Path, tmp_path: Path, numpy: bool) -> None:
    ran = metronn("emulate", build, events, "-o", tmp_path / "out.npz", *(["--numpy"] if numpy else []))
    assert ran.status == 0
    graph = from_text((build / "graph.txt").read_text())
    with np.load(events) as data, np.load(tmp_path / "out.npz") as out:
        codes = emulate(graph, encode_inputs(graph, {"x": data["x"]}))["scores"]
        assert sorted(out.files) == ["scores", "scores__int"]
        assert np.array_equal(out["scores__int"], codes)
        frac = json.loads((build / "manifest.json").read_text())["outputs"][0]["frac"]
        assert np.array_equal(out["scores"], codes * 2.0**-frac)


def test_values_outside_the_range_saturate_and_are_told(metronn: Run, build: Path, tmp_path: Path) -> None:
    data = np.zeros((3, 6))
    data[1, 2] = 100.0
    np.savez(tmp_path / "far.npz", x=data)
    ran = metronn("emulate", build, tmp_path / "far.npz", "-o", tmp_path / "out.npz", "--numpy")
    assert ran.status == 0
    assert (
        "warning: input x: 1 of 18 values are beyond their range and were saturated: "
        "element 2 holds -2 to 1.98438 (1 values, 100 to 100)"
    ) in ran.err


def test_elements_that_saturate_are_named_with_their_own_ranges() -> None:
    op = Input(shape=(5,), range=Range((-8, -8, -8, 0, -8), (7, 7, 7, 15, 7), (0, 1, 2, 3, 4)))
    values = np.zeros((4, 5))
    values[:3, 1] = 4.0, -4.5, 3.5  # s4.1 holds -4 to 3.5
    values[:, 3] = -1.0  # u4.3 holds 0 to 1.875
    values[2, 0] = 9.0
    values[1, 4] = 0.5
    assert beyond_words("jet", op, values) == (
        "input jet: 8 of 20 values are beyond their range and were saturated: "
        "element 3 holds 0 to 1.875 (4 values, -1 to -1); element 1 holds -4 to 3.5 (2 values, -4.5 to 4); "
        "element 0 holds -8 to 7 (1 values, 9 to 9); 1 elements more"
    )
    assert beyond_words("jet", op, np.zeros((4, 5))) == ""


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": np.zeros((2, 6)), "b": np.zeros((2, 6))}, "input x: not found; the file holds a (2, 6), b (2, 6)"),
        ({"x": np.zeros((2, 5))}, "x: shape per event is (5,), allowed is (6,) or (6,)"),
        ({"x": np.full((2, 6), np.nan)}, "x: 12 values are NaN or infinite, the first in event 0"),
        ({"x": np.zeros((0, 6))}, "x: no events; at least one is needed"),
    ],
)
def test_events_that_cannot_be_emulated(
    metronn: Run, build: Path, tmp_path: Path, arrays: dict[str, np.ndarray], message: str
) -> None:
    np.savez(tmp_path / "in.npz", **arrays)  # type: ignore[arg-type]
    ran = metronn("emulate", build, tmp_path / "in.npz", "-o", tmp_path / "out.npz", "--numpy")
    assert ran.status == 2
    assert message in ran.err
    assert not (tmp_path / "out.npz").exists()


def test_emulate_needs_an_npz_to_write(metronn: Run, build: Path, events: Path, tmp_path: Path) -> None:
    ran = metronn("emulate", build, events, "-o", tmp_path / "out.csv", "--numpy")
    assert ran.status == 2
    assert "out.csv: the suffix is .csv, allowed is .npz" in ran.err


def test_vectors(metronn: Run, build: Path, events: Path, tmp_path: Path) -> None:
    assert metronn("vectors", build, events, "-o", tmp_path / "v.npz", "--numpy").status == 0
    with np.load(tmp_path / "v.npz") as vectors:
        assert vectors["in.x"].shape == (200, 6)
        assert vectors["out.scores"].shape == (200, 3)
        assert vectors["in.x"].dtype.kind == vectors["out.scores"].dtype.kind == "i"


def test_boards(metronn: Run) -> None:
    ran = metronn("boards")
    assert ran.status == 0
    for name in ("serenity", "apx", "vcu118", "alveo-u50", "zcu102", "pynq-z2", "pcie40", "ulx3s", "two-serenity"):
        assert name in ran.out
    listed = json.loads(metronn("boards", "--json").out)
    assert {board["board"] for board in listed["boards"]} >= {"serenity", "ulx3s"}
    assert {"system": "two-serenity", "ii": 9}.items() <= {
        key: value
        for system in listed["systems"]
        if system["system"] == "two-serenity"
        for key, value in system.items()
    }.items()


def test_first_rung_is_measured_again(metronn: Run, build: Path) -> None:
    before = (build / "graph.txt").read_bytes()
    ran = metronn("verify", build, "--rung", 1)
    assert ran.status == 0
    first = json.loads((build / "manifest.json").read_text())["verdicts"][0]
    assert (first["rung"], first["status"], first["events"]) == (1, "pass", 200)
    assert first["bits"] == 200 * 48
    assert first["metric"]["accepted"] is True
    assert "pass" in (build / "report.html").read_text()
    assert (build / "graph.txt").read_bytes() == before


def test_rung_that_does_not_exist(metronn: Run, build: Path) -> None:
    ran = metronn("verify", build, "--rung", 7)
    assert ran.status == 2
    assert "--rung: found 7, allowed are 1, 2, 3, 4, 5, 6" in ran.err


def test_loss_beyond_the_tolerance_fails(metronn: Run, network: Path, events: Path) -> None:
    (network.parent / "worse.py").write_text(
        "calls = []\ndef metric(results, arrays):\n    calls.append(1)\n    return 1.0 / len(calls)\n"
    )
    (network.parent / "metronn.toml").write_text(
        f'[model]\nfile = "{network.name}"\n[data]\ncalibrate = "{events.name}"\n'
        '[quantize]\nmetric = "worse.py:metric"\n[plan]\nsystem = "one-serenity"\n[build]\ndirectory = "out"\n'
    )
    ran = metronn("compile", network.parent, "--no-verify")
    assert "worse.py:metric is " in ran.out
    assert ran.status == 1


def test_damaged_graph(metronn: Run, build: Path, events: Path, tmp_path: Path) -> None:
    (build / "graph.txt").write_text("metronn graph 1\n%x = nonsense\n")
    ran = metronn("emulate", build, events, "-o", tmp_path / "out.npz")
    assert ran.status == 2
    assert "graph.txt: is no graph of metronn: line 2" in ran.err


def test_events_by_other_names(metronn: Run, build: Path, tmp_path: Path) -> None:
    """A single array that fits is the input of a network with one."""
    events = write_events(tmp_path / "e.npz", labels=False)
    with np.load(events) as data:
        np.savez(tmp_path / "named.npz", hits=data["x"])
    assert metronn("emulate", build, tmp_path / "named.npz", "-o", tmp_path / "out.npz", "--numpy").status == 0


def test_help_names_every_verb(metronn: Run) -> None:
    ran = metronn("--help")
    assert ran.status == 0
    for verb in ("compile", "import", "quantize", "plan", "verify", "emulate", "vectors", "report", "boards"):
        assert f"  {verb} " in ran.out
    assert metronn("--version").out.startswith("metronn 0.")


def coarse(network: Path, events: Path, more: str = "") -> Path:
    """Write a metronn.toml whose widths lose the signal; return its folder."""
    (network.parent / "metronn.toml").write_text(
        f'[model]\nfile = "{network.name}"\n[data]\ncalibrate = "{events.name}"\n'
        f"[quantize]\nweight_bits = 2\nactivation_bits = 2\n{more}\n"
        '[plan]\nsystem = "one-serenity"\n[build]\ndirectory = "out"\n[verify]\nevents = 5\n'
    )
    return network.parent


LOST = (
    r"output scores: too little of its signal is left: all together keeps -?\d+\.\d dB, element \d -?\d+\.\d dB, "
    "the median event "
)


def test_a_lost_signal_fails_rung_1_without_a_metric(metronn: Run, network: Path, tmp_path: Path) -> None:
    """With --no-verify and few --events too; the build is kept and says it at every look."""
    folder = coarse(network, write_events(tmp_path / "e.npz", labels=False))
    ran = metronn("compile", folder, "--no-verify")
    assert ran.status == 1
    assert re.search(LOST, ran.out)
    assert "20 dB are needed (quantize.min_sqnr_db)" in ran.out
    assert "it is lost in layer " in ran.out
    assert "[quantize.layers] " in ran.out
    assert "on 40 unseen events; no metric" in ran.err
    assert "the verification failed, see the verdicts above" in ran.err
    build = folder / "out"
    manifest = json.loads((build / "manifest.json").read_text())
    verdict = manifest["verdicts"][0]
    assert (verdict["status"], verdict["events"]) == ("fail", 40)
    assert verdict["first"] == manifest["quantization"]["lost"][0]
    again = metronn("verify", build, "--rung", 1)
    assert again.status == 1
    assert json.loads((build / "manifest.json").read_text())["verdicts"][0] == verdict
    assert metronn("verify", build, "--rung", 2).status in (0, 3)
    shown = metronn("report", build)
    assert re.search(LOST, shown.out)
    assert "too little of its signal is left" in (build / "report.html").read_text()
    assert "worst 1 % of events" in shown.out


def test_with_a_metric_a_lost_signal_is_a_warning(metronn: Run, network: Path, events: Path) -> None:
    folder = coarse(network, events, "tolerance = 10.0")
    ran = metronn("compile", folder, "--no-verify")
    assert ran.status == 0
    assert re.search("warning: " + LOST, ran.err)
    manifest = json.loads((folder / "out" / "manifest.json").read_text())
    assert re.match(LOST, manifest["quantization"]["warnings"][-1])
    assert manifest["quantization"]["lost"] == []
    assert manifest["verdicts"][0]["metric"]["events"] == 200
    assert re.search("warning: " + LOST, ran.out)
    assert re.search("warning: " + LOST, (folder / "out" / "report.html").read_text())


def test_quantize_writes_a_lost_graph_and_says_so(metronn: Run, network: Path, tmp_path: Path) -> None:
    graph = tmp_path / "graph.txt"
    ran = metronn("quantize", coarse(network, write_events(tmp_path / "e.npz", labels=False)), "-o", graph)
    assert ran.status == 1
    assert graph.exists()
    assert re.search("error: " + LOST, ran.err)
    assert f"error: {graph}: was written, but is not the trained network" in ran.err
    assert "40 unseen events" in ran.out


def test_min_sqnr_db_moves_the_threshold(metronn: Run, network: Path, tmp_path: Path) -> None:
    folder = coarse(network, write_events(tmp_path / "e.npz", labels=False), "min_sqnr_db = -50")
    assert metronn("quantize", folder, "-o", tmp_path / "graph.txt").status == 0


def test_few_events_calibrate_and_judge(metronn: Run, network: Path, tmp_path: Path) -> None:
    events = write_events(tmp_path / "few.npz", labels=False, count=20)
    ran = metronn("quantize", network, "--calibrate", events, "-o", tmp_path / "graph.txt")
    assert "on the 20 calibration events; no metric" in ran.err


def test_other_events_judge_where_they_are_given(metronn: Run, network: Path, events: Path, tmp_path: Path) -> None:
    """Metric and signal are those of all of verify.data, at rung 1 and in the manifest."""
    other = write_events(tmp_path / "other.npz", count=130)
    options = ("--calibrate", events, "--system", "one-serenity", "--verify-data", other, "-o", tmp_path / "b")
    ran = metronn("compile", network, *options, "--no-verify", "--events", 7)
    assert "on 130 unseen events; accuracy " in ran.err
    manifest = json.loads((tmp_path / "b" / "manifest.json").read_text())
    first = manifest["verdicts"][0]
    assert (first["events"], first["metric"]["events"], manifest["metric"]["events"]) == (130, 130, 130)
    assert first["metric"] == manifest["metric"]
    assert first["outputs"] == manifest["quantization"]["outputs"]


def test_outliers_of_calibration_judge_nowhere(metronn: Run, network: Path, tmp_path: Path) -> None:
    """Rung 1 judges the same events as the quantization, though some of those that may calibrate are left out."""
    x = np.random.default_rng(2).normal(size=(1000, 6))
    x[[5, 9], 2] = 1e6  # one that may calibrate, one that is held out
    np.savez(tmp_path / "far.npz", x=x)
    options = ("--calibrate", tmp_path / "far.npz", "--system", "one-serenity", "-o", tmp_path / "b", "--no-verify")
    ran = metronn("compile", network, *options)
    assert ran.status == 0
    assert "on 199 unseen events; no metric" in ran.err
    assert "1e+06 in event 5 (and in 1 more) lies far beyond all other events" in ran.err
    manifest = json.loads((tmp_path / "b" / "manifest.json").read_text())
    assert manifest["quantization"]["excluded"] == [5, 9]
    assert manifest["verdicts"][0]["events"] == 199
    measured, said = manifest["verdicts"][0]["outputs"][0], manifest["quantization"]["outputs"][0]
    assert {k: v for k, v in measured.items() if k != "excluded"} == {k: v for k, v in said.items() if k != "excluded"}


def test_constants_and_saturated_weights_are_warnings(metronn: Run, network: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "still.npz", x=np.tile(np.linspace(-1, 1, 6), (60, 1)))
    folder = coarse(network, tmp_path / "still.npz", "min_sqnr_db = -1000\nlayers.hidden = {weight_frac = 6}")
    ran = metronn("quantize", folder, "-o", tmp_path / "graph.txt")
    assert ran.status == 0
    assert (
        "warning: output scores: 3 of its elements hardly vary on the 12 events that judge it (0, 1, 2), so" in ran.err
    )
    assert "Calibrate with events in which they vary." in ran.err
    assert re.search(r"warning: layer hidden: \d+ of 48 weights saturate \(\d+\.\d %\)\. Give it a smaller", ran.err)
