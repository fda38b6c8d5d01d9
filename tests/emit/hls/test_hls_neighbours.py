"""Systems of several FPGAs: the output of one is the same port as the input of the next, with the same words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hls_projects import assert_equal
from native_graphs import random_codes

from metronn.emit.build import hls_project
from metronn.emit.hls.flow import flow_of
from metronn.emit.hls.project import emit_hls
from metronn.emulate.numpy import emulate
from metronn.ir.arrays import IntArray
from metronn.ir.graph import Graph, GraphBuilder
from metronn.ir.ops import Input, Linear, Overflow, Requantize, Rounding
from metronn.ir.types import Range
from metronn.plan.design import Design
from metronn.plan.hardware.system import load_system
from metronn.plan.options import Fold, PlanOptions
from metronn.plan.planner import plan
from metronn.plan.subgraph import subgraph
from metronn.verify.hls import HlsSimulation


def layers(*widths: int) -> Graph:
    """Return a network of dense layers."""
    numbers = np.random.default_rng(3)
    builder = GraphBuilder()
    x = builder.add(Input(shape=(widths[0],), range=Range.fixed(8, 4)), "x")
    for k, (n_in, n_out) in enumerate(zip(widths, widths[1:], strict=False)):
        weight = IntArray.of(numbers.integers(-500, 500, (n_in, n_out)))
        op = Linear(x=x, weight=weight, bias=IntArray.of([k] * n_out), weight_frac=9)
        x = builder.add(op, f"dense{k}.acc")
        narrow = Requantize(x=x, out=Range(0, 63, 2), rounding=Rounding.RND, overflow=Overflow.SAT)
        x = builder.add(narrow, f"dense{k}")
    builder.output("y", x)
    return builder.build()


def two_boards(ii_cycles: int) -> Design:
    """Return the design of a network on two boards."""
    system = load_system("two-apx").with_overrides(ii=ii_cycles)
    return plan(layers(36, 54, 36, 10), system, PlanOptions(fpgas=2, fold=Fold.FULL))


@pytest.mark.parametrize(("ii_cycles", "streams"), [(9, True), (1, False)])
def test_neighbours_share_their_ports(ii_cycles: int, streams: bool) -> None:
    design = two_boards(ii_cycles)
    sides = []
    for fpga in design.fpgas:
        files = emit_hls(subgraph(design, fpga), hls_project(design, fpga), flow_of(design, fpga))
        sides.append(json.loads(files["interface.json"]))
    sent, received = sides[0]["outputs"], sides[1]["inputs"]
    assert sent == received
    assert len(sent) == 1
    frame = design.fpgas[0].sends
    assert frame is not None
    assert [field.value for field in frame.fields] == [port["name"] for port in sent]
    assert ("beats" in sent[0]) == streams
    assert frame.fields[0].layout.is_parallel != streams


@pytest.mark.slow
@pytest.mark.usefixtures("hls_compiler")
def test_chained_boards_equal_numpy(tmp_path: Path) -> None:
    """What the first FPGA's HLS puts out is what the second takes in."""
    design = two_boards(9)
    codes = random_codes(design.graph, 60, 1)
    carried = dict(codes)
    for fpga in design.fpgas:
        part = subgraph(design, fpga)
        project = emit_hls(part, hls_project(design, fpga), flow_of(design, fpga))
        simulation = HlsSimulation.build(project, tmp_path / fpga.name, optimize="-O0", strict=True)
        assert_equal(simulation, part, carried)
        carried = simulation.run(carried, threads=1)
    expected = emulate(design.graph, codes)
    assert all((carried[name] == array).all() for name, array in expected.items())
