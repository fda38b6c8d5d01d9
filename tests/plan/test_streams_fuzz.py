"""Random networks with shape at random II on one to four FPGAs: sound plans, and RTL that computes them."""

from __future__ import annotations

from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest
from design_builds import build, check_all
from fuzz_networks import random_network, random_setting
from hypothesis import given
from hypothesis import strategies as st
from stream_networks import Net

from metronn.errors import InfeasibleError
from metronn.ir.arrays import IntArray
from metronn.ir.ops import Linear, Rewire
from metronn.plan.hardware.system import load_system
from metronn.plan.options import Fold, PlanOptions
from metronn.plan.planner import plan
from metronn.plan.verify import violations
from metronn.report.path import critical_path
from metronn.verify.run import verify_build
from random_tests import examples, seeds
from simulators import need


@examples(10)
@given(st.integers(0, 10_000))
def test_plans_of_random_networks_are_sound(seed: int) -> None:
    graph = random_network(seed, size=7)
    ii, system, options = random_setting(seed)
    try:
        design = plan(graph, load_system(system).with_overrides(ii=ii), options)
    except InfeasibleError as error:
        assert options.fpgas is not None, error.message  # more FPGAs than layers; all else fits
        assert "plan.fpgas" in error.message
        return
    assert violations(design) == ()
    assert {node.name for node in design.graph.inputs} == set(design.inputs)
    path = critical_path(design)  # values that leave in later words of a frame too
    assert [share.start_cycle for share in path] == [0, *accumulate(share.cycles for share in path)][:-1]
    assert sum(share.cycles for share in path) == design.latency_cycles


def test_inputs_of_very_different_scale_meet_in_one_matrix() -> None:
    net = Net(0)
    fine = net.builder.add(
        Linear(x=net.input("x", (4,)), weight=IntArray.of(np.eye(4, dtype=np.int64)), bias=IntArray.of([0] * 4),
               weight_frac=60), "fine",
    )  # fmt: skip
    coarse = net.input("y", (4,))
    joined = net.builder.add(Rewire(xs=(fine, coarse), index=IntArray.of(np.arange(8)), shape=(8,)), "joined")
    graph = net.finish(net.linear(joined, "out", 3))
    for ii in (1, 4):
        design = plan(graph, load_system("one-serenity").with_overrides(ii=ii), PlanOptions(fold=Fold.LATENCY))
        assert violations(design) == ()


@pytest.mark.slow
@pytest.mark.random
@pytest.mark.parametrize("seed", seeds(2))
def test_random_networks_up_the_ladder(seed: int, tmp_path: Path) -> None:
    need("verilator")
    options = PlanOptions(outputs=random_setting(seed)[2].outputs)
    folder = build(
        random_network(seed, size=6), tmp_path / "build", "one-serenity", (9, 40)[seed % 2], options,
        events=20, rtl_events=20,
    )  # fmt: skip
    check_all(verify_build(folder, rungs=(2, 4)), {2, 4})
