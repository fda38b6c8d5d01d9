"""`metronn.compare`: the same comparison from Python."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import metronn
from command_line import metronn as run
from metronn.ir.text import to_text
from metronn.plan.hardware.system import load_system
from metronn.plan.options import PlanOptions
from metronn.plan.planner import plan
from small_network import small_graph, write_network

GRAPH = small_graph()


def untimed(document: dict[str, Any]) -> dict[str, Any]:
    """Return a document without what differs from run to run."""
    return {**document, "plans": [{**row, "planning_s": 0} for row in document["plans"]]}


def test_a_graph_its_file_and_the_command_line_give_the_same(tmp_path: Path) -> None:
    file = tmp_path / "graph.txt"
    file.write_text(to_text(GRAPH))
    ways = [
        metronn.compare(network, systems=["two-serenity", "one-vcu118"], fpgas=[1, 2], ii=9)
        for network in (GRAPH, file, str(file))
    ]
    ran = run("compare", file, "--systems", "two-serenity,one-vcu118", "--fpgas", "1,2", "--ii", 9, "--no-plot",
              "--json", "-o", tmp_path / "out")  # fmt: skip
    documents = [untimed(found.to_json()) for found in ways] + [untimed(json.loads(ran.out))]
    assert all(document == documents[0] for document in documents)
    found = ways[0]
    design = plan(GRAPH, load_system("two-serenity").with_overrides(ii=9), PlanOptions(fpgas=2))
    assert len(found) == 4 and found[1].boards == 2
    assert (found[1].latency_cycles, found[1].latency_ns) == (design.latency_cycles, design.latency_ns)
    assert found[1].design is not None and found[1].design.fpgas == design.fpgas
    assert [row.problem for row in found][3] == "plan.fpgas is 2, system one-vcu118 has 1 FPGA."


def test_a_network_in_memory_is_quantized(tmp_path: Path) -> None:
    """Its rows are those of the graph that a build of it holds."""
    model = onnx.load(str(write_network(tmp_path / "small.onnx")))
    x = np.random.default_rng(1).integers(-128, 128, (200, 6)) / 64
    build = metronn.compile(model, calibrate=x, system="one-serenity", ii=4, verify=False)
    found = metronn.compare(model, calibrate=x, systems="one-serenity", ii=np.int64(4))
    again = metronn.compare(build.graph, systems="one-serenity", ii=4)
    assert untimed(found.to_json())["plans"] == untimed(again.to_json())["plans"]
    assert found[0].design is not None and found[0].design.fpgas == build.design.fpgas


def test_what_a_notebook_shows() -> None:
    pytest.importorskip("matplotlib")
    found = metronn.compare(GRAPH, systems=["one-serenity"], fpgas=[1, 2])
    assert repr(found) == "<Comparison of graph: 1 of 2 have a plan>"
    html = found._repr_html_()
    assert html.startswith("<svg") and html.count("<table") == html.count("</table>") == 1
    assert html.count("<tr>") == 3 and "no plan: plan.fpgas is 2" in html
    assert str(found).splitlines()[2].endswith("latency, boards")
    assert found.svg() == found.svg()


def test_keywords_are_in_the_signature_and_the_documentation() -> None:
    parameters = inspect.signature(metronn.compare).parameters
    assert {"systems", "fpgas", "ii", "calibrate", "objective", "bits", "plan"} <= set(parameters)
    assert not {"system", "given", "prefix", "events"} & set(parameters)
    assert "max_latency_ns: The promised latency must not exceed this." in (metronn.compare.__doc__ or "")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"fpgas": 0}, "fpgas: found 0, allowed are whole numbers from 1 to 16"),
        ({"fpgas": [1, "2"]}, "fpgas: found '2', allowed are whole numbers"),
        ({"fpgas": True}, "fpgas: found True"),
        ({"fpgas": []}, "fpgas: is empty; name at least one, or leave it out"),
        ({"ii": [9, 1.5]}, "ii: found 1.5, allowed are whole numbers from 1 to 65536"),
        ({"systems": []}, "systems: is empty"),
        ({"systems": None}, "no systems: which ones are to be compared?"),
        ({"systems": "nope"}, "unknown system 'nope'"),
        ({"sytems": "x"}, "unknown option 'sytems'"),
        ({"objective": "size"}, "objective"),
    ],
)
def test_wrong_requests(given: dict[str, Any], message: str) -> None:
    with pytest.raises(metronn.ModelError) as error:
        metronn.compare(GRAPH, **({"systems": "one-serenity"} | given))
    assert message in error.value.message


def test_nothing_has_a_plan() -> None:
    with pytest.raises(metronn.InfeasibleError, match="no plan for any of these:\n  one-serenity, .*, II 9: "):
        metronn.compare(GRAPH, systems="one-serenity", max_latency_ns=1)
