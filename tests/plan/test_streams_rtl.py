"""Designs of streams made by hand, in RTL: values and cycles of every FPGA and of the system, damage on the links."""

from __future__ import annotations

from pathlib import Path

import pytest
from hand_designs import chain, written

from metronn.emit.rtl.text import identifier
from metronn.plan.layout import Layout
from metronn.plan.verify import violations
from metronn.verify import simulator
from metronn.verify.run import rtl_sources, simulate
from metronn.verify.verdict import Status
from random_tests import TIMES
from simulators import need

DESIGNS = {
    "three inputs, three FPGAs": (
        [(7, Layout.rows(40, 1)), (9, Layout.rows(36, 3, 3)), (5, Layout.parallel(30))],
        40,
        (0, 300, 0),
        3,
    ),
    "beats wider than the frame's lanes, kernels in a row": (
        [(8, Layout.rows(400, 20, 2)), (6, Layout.rows(60, 2))],
        40,
        (70, 66),
        2,
        14,
    ),
    "one FPGA, no link": ([(8, Layout.rows(64, 4, 5)), (3, Layout.parallel(4))], 80, (0, 100), 1),
    "II 1600": (
        [(8, Layout.rows(1600, 1)), (4, Layout.rows(400, 1, 4)), (12, Layout.parallel(20))],
        1600,
        (0, 2100, 5),
        3,
    ),
}
EVENTS = 48
FAULT_CYCLES = 4000
"""Faults of the system's test times the II: enough to find a flag or a later event that a fault takes along."""


@pytest.mark.slow
@pytest.mark.random
@pytest.mark.parametrize("name", DESIGNS)
def test_streams_arrive_in_their_cycles(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need("verilator")
    design = chain(*DESIGNS[name])
    assert violations(design) == ()
    monkeypatch.setenv("METRONN_FAULTS", str(TIMES * max(4, FAULT_CYCLES // design.ii_cycles)))
    build = written(design, tmp_path, EVENTS)
    rtl = tmp_path / "rtl"
    for top in [*(identifier(fpga.name) for fpga in design.fpgas), "system"]:
        own = [fpga for fpga in design.fpgas if top in (identifier(fpga.name), "system")]
        files = rtl_sources(build, own)
        if top == "system":
            files += [rtl / "mnn_link_model.sv", rtl / "system.sv"]
        assert simulator.lint(files, top) == ""
        verdict = simulate(build, 5 if top == "system" else 4, top, top, tmp_path / "run" / top)
        assert verdict.status is Status.PASS, verdict
        events = len(build.events["v0"])
        assert verdict.events >= events
        assert verdict.bits >= events * sum(bits * layout.size for bits, layout in DESIGNS[name][0])
        assert verdict.cycles_promised == verdict.cycles_observed_min == verdict.cycles_observed_max
