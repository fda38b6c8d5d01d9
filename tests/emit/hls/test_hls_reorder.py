"""Streams whose beats change alone: what is kept in memories, and how often a step reads each."""

from __future__ import annotations

from pathlib import Path

import pytest
from hls_flows import TIMING, build_flows
from hls_projects import assert_equal, project_of
from native_graphs import random_codes

from metronn.emit.hls import reorder
from metronn.emit.hls.flow import Flow
from metronn.emit.hls.project import emit_hls
from metronn.emit.hls.reorder import reorder_form
from metronn.ir.graph import Graph, GraphBuilder
from metronn.ir.ops import Input
from metronn.ir.types import Range
from metronn.plan.design import KernelInstance, Signal
from metronn.plan.hardware.resources import Resources
from metronn.plan.kernels.kernels import Kernels
from metronn.plan.kernels.spec import Reorder
from metronn.plan.layout import Layout
from metronn.verify.hls_static import check_project

SIDE = 6


def columns_flow(rows: int) -> Flow:
    """Return the flow that turns a square, element by element, into its columns, so many rows of one in a beat."""
    size = SIDE * SIDE
    builder = GraphBuilder()
    x = builder.add(Input(shape=(size,), range=Range(-9, 99)), "x")
    builder.output("y", x)
    graph: Graph = builder.build()
    layout = Layout.rows(size, 1)
    beats = [tuple((r + k) * SIDE + c for k in range(rows)) for c in range(SIDE) for r in range(0, SIDE, rows)]
    output = Layout(tuple(beats), tuple(rows * k for k in range(len(beats))))
    offset = max(max(beat) - cycle for beat, cycle in zip(beats, output.cycles, strict=True))
    spec = Reorder(value="x", layout=layout, output=output, offset=offset)
    kernel = KernelInstance(
        name="turned", spec=spec, inputs=("pixels",), output="made", start_cycle=0, latency_cycles=offset,
        resources=Resources(),
    )  # fmt: skip
    return Flow(
        plans=Kernels(graph, TIMING),
        kernels=(kernel,),
        signals={
            "pixels": Signal(name="pixels", value="x", layout=layout, first_cycle=0),
            "made": Signal(name="made", value="x", layout=output, first_cycle=offset),
        },
        inputs=(("x", "pixels"),),
        outputs=(("y", "made"),),
        ii_cycles=2 * size,
    )


@pytest.fixture
def flows(monkeypatch: pytest.MonkeyPatch) -> list[Flow]:
    """One, two and three elements of a column in a beat; nothing is small enough for registers."""
    monkeypatch.setattr(reorder, "MOST_REGISTERS", 8)
    return [columns_flow(rows) for rows in (1, 2, 3)]


def project_files(flow: Flow) -> dict[str, str]:
    """Return the project of a flow."""
    made = emit_hls(flow.graph, project_of(flow.graph, "net", flow.ii_cycles), flow)
    return {path: str(text) for path, text in made.items()}


def test_a_memory_is_there_as_often_as_a_step_reads_it(flows: list[Flow]) -> None:
    for copies, flow in enumerate(flows, start=1):
        spec = flow.kernels[0].spec
        assert isinstance(spec, Reorder)
        form = reorder_form(spec, flow.graph)
        assert (form.copies, form.function) == (copies, "remember_beats")
        assert check_project(project_files(flow)) == []


def test_one_memory_for_three_reads_is_named(flows: list[Flow]) -> None:
    files = project_files(flows[2])
    text = files["metronn/reorder.hpp"]
    files["metronn/reorder.hpp"] = text.replace("held[k] = ring[k][", "held[k] = ring[0][")
    assert files["metronn/reorder.hpp"] != text
    (found,) = check_project(files)
    assert "ring is accessed 4 times every 1 cycle, a memory has 2 ports" in found  # three reads, one write


@pytest.mark.slow
@pytest.mark.usefixtures("hls_compiler")
def test_turned_squares_equal_numpy(flows: list[Flow], tmp_path: Path) -> None:
    for number, (simulation, flow) in enumerate(zip(build_flows(flows, tmp_path), flows, strict=True)):
        assert_equal(simulation, flow.graph, random_codes(flow.graph, 8, number))
