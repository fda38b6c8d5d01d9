"""Builds of designs with events drawn at random, and what their verdicts must say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from metronn.emit.build import emit_build
from metronn.ir.graph import Graph
from metronn.plan.design import Design
from metronn.plan.hardware.system import load_system
from metronn.plan.options import PlanOptions
from metronn.plan.planner import plan
from metronn.verify.verdict import Status, Verdict


def written(design: Design, folder: Path, *, events: int = 60, rtl_events: int = 60) -> Path:
    """Write a build of a design and return its folder."""
    generator = np.random.Generator(np.random.PCG64(5))
    real = {
        node.name: generator.integers(node.type.range.lowest, node.type.range.highest + 1, (events, *node.type.shape))
        for node in design.graph.inputs
    }
    for name, content in emit_build(design, real, events=events, rtl_events=rtl_events).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def build(
    graph: Graph, folder: Path, system: str, ii: int, options: PlanOptions, *, events: int = 60, rtl_events: int = 60
) -> Path:
    """Plan a graph, write its build with the prefix `net` and return the folder."""
    design = plan(graph, load_system(system).with_overrides(ii=ii), options)
    return written(replace(design, prefix="net"), folder, events=events, rtl_events=rtl_events)


def check_all(verdicts: Sequence[Verdict], rungs: set[int]) -> None:
    """Every rung passed, compared something, and answered in the promised cycle."""
    assert {verdict.rung for verdict in verdicts} == rungs
    for verdict in verdicts:
        assert verdict.status is Status.PASS, verdict
        assert verdict.events > 60
        assert verdict.bits > verdict.events
        if verdict.rung >= 4:
            assert verdict.cycles_promised == verdict.cycles_observed_min == verdict.cycles_observed_max
