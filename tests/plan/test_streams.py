"""Streams: plans of networks with shape at any II, and whole designs of them up the ladder."""

from __future__ import annotations

from math import ceil
from pathlib import Path

import pytest
from design_builds import build, check_all
from stream_networks import NETWORKS, attention_network, image_network, residual_network

from metronn.errors import InfeasibleError
from metronn.ir.ops import Linear
from metronn.plan.candidates.layouts_in_time import evenly, raster_layout, split_beats, whole_blocks
from metronn.plan.design import Design
from metronn.plan.hardware.system import load_system
from metronn.plan.kernels.spec import Streamed, WindowBuffer, covered_nodes
from metronn.plan.options import Fold, InputForm, PlanOptions
from metronn.plan.planner import plan
from metronn.plan.verify import violations
from metronn.verify.run import verify_build
from simulators import need


def planned(name: str, ii: int, options: PlanOptions | None = None, system: str = "one-serenity") -> Design:
    return plan(NETWORKS[name](), load_system(system).with_overrides(ii=ii), options or PlanOptions())


@pytest.mark.parametrize("ii", [1, 3, 16, 64, 144, 500])
@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_every_network_has_a_sound_plan_at_every_ii(name: str, ii: int) -> None:
    design = planned(name, ii)
    assert violations(design) == ()
    assert design.latency_cycles >= max(s.layout.span for f in design.fpgas for s in f.signals) - 1


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_folds_that_may_spend_multipliers_are_never_slower(name: str) -> None:
    full, fast = planned(name, 144), planned(name, 144, PlanOptions(fold=Fold.LATENCY))
    assert violations(fast) == ()
    assert fast.latency_cycles <= full.latency_cycles


@pytest.mark.parametrize("inputs", [InputForm.AUTO, InputForm.STREAM])
@pytest.mark.parametrize("heads", [1, 2])
def test_all_pairs_of_two_streams_are_made(heads: int, inputs: InputForm) -> None:
    """Particles that come one by one meet only themselves in a beat; attention needs each with all others."""
    graph = attention_network(4, 6, heads)
    design = plan(graph, load_system("one-serenity").with_overrides(ii=8), PlanOptions(inputs=inputs))
    assert violations(design) == ()
    whole = {s.value: s.layout.size for s in design.fpgas[0].signals if s.value.endswith(".products")}
    assert set(whole.values()) <= {4 * 4 * 6}


def test_images_come_pixel_by_pixel_where_windows_read_them() -> None:
    design = planned("two images", 64)
    inputs = {s.value: s.layout for s in design.fpgas[0].signals if s.value in ("ecal", "hcal", "high")}
    assert (inputs["ecal"].beat_count, inputs["ecal"].spacing) == (64, 1)
    assert (inputs["hcal"].beat_count, inputs["hcal"].spacing) == (16, 4)
    assert inputs["high"].is_parallel
    whole = planned("two images", 64, PlanOptions(inputs=InputForm.PARALLEL))
    assert all(s.layout.is_parallel for s in whole.fpgas[0].signals if s.value in inputs and s.first_cycle == 0)


def test_convolutions_need_no_more_multipliers_than_the_arithmetic() -> None:
    ii = 144
    design = planned("image", ii)
    graph = design.graph
    found = 0
    for kernel in design.fpgas[0].kernels:
        if not isinstance(kernel.spec, Streamed) or not isinstance(
            graph.by_name[covered_nodes(kernel.spec)[0]].op, Linear
        ):
            continue
        node = graph.by_name[covered_nodes(kernel.spec)[0]]
        assert isinstance(node.op, Linear)
        products = node.type.size * node.op.weight.shape[0]
        assert kernel.resources.dsp <= 1.05 * ceil(products / (2 * ii))
        found += 1
    assert found == 2


def test_branches_of_other_lengths_are_aligned_by_delays() -> None:
    design = plan(residual_network(), load_system("one-serenity").with_overrides(ii=64), PlanOptions())
    kinds = {type(kernel.spec).__name__ for kernel in design.fpgas[0].kernels}
    assert "Delay" in kinds
    assert any(isinstance(kernel.spec, WindowBuffer) for kernel in design.fpgas[0].kernels)


@pytest.mark.parametrize(
    ("shape", "ii", "beats", "width", "spacing"),
    [
        ((40, 40, 1), 1600, 1600, 1, 1),
        ((40, 40, 1), 100, 80, 20, 1),
        ((20, 20, 3), 1600, 400, 3, 4),
        ((5, 7, 2), 10, 5, 14, 2),
    ],
)
def test_rasters_fit_the_ii(shape: tuple[int, ...], ii: int, beats: int, width: int, spacing: int) -> None:
    layout = raster_layout(shape, ii)
    assert layout is not None
    assert (layout.beat_count, layout.slot_count, layout.spacing) == (beats, width, spacing)
    assert layout.span <= ii


def test_an_image_that_does_not_fit_row_by_row_is_no_raster() -> None:
    assert raster_layout((40, 40, 1), 39) is None
    assert raster_layout((9,), 9) is None


def test_bursts_are_spread_joined_and_split() -> None:
    raster = raster_layout((4, 4, 2), 64)
    assert raster is not None
    burst = type(raster)(raster.beats, tuple(16 * (k // 4) + k % 4 for k in range(16)))
    even = evenly(burst, (4, 4, 2), 64)
    assert even is not None
    assert even.cycles == tuple(range(0, 64, 4))
    assert evenly(even, (4, 4, 2), 64) is None
    parts = split_beats(even, 64)
    assert parts is not None
    assert (parts.beat_count, parts.slot_count, parts.spacing) == (32, 1, 2)
    joined = whole_blocks(parts, (4, 4, 2))
    assert joined is not None
    assert joined.beats == even.beats


def test_a_limit_below_the_time_of_the_inputs_says_what_helps() -> None:
    with pytest.raises(InfeasibleError) as error:
        planned("image", 144, PlanOptions(max_latency_ns=100))
    assert error.value.message.splitlines()[1:] == [
        "  Lower the II to 9 (now 144).",
        "  Raise plan.max_latency_ns to 613.9 or more (now 100).",
    ]
    assert planned("image", 9, PlanOptions(max_latency_ns=100)).latency_ns <= 100
    assert planned("image", 144, PlanOptions(max_latency_ns=613.9)).latency_ns <= 613.9


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "ii", "options"),
    [
        ("image", 144, PlanOptions()),
        ("image", 36, PlanOptions(fold=Fold.LATENCY)),
        ("residual", 64, PlanOptions()),
        ("residual", 8, PlanOptions()),
        ("strided", 99, PlanOptions()),
        ("series", 32, PlanOptions()),
        ("series", 1, PlanOptions()),
        ("two images", 70, PlanOptions()),
    ],
)
def test_streams_up_the_ladder(name: str, ii: int, options: PlanOptions, tmp_path: Path) -> None:
    """The system of one FPGA, rung 5, holds all of rung 4: the same module, the same events, the same cycles."""
    need("verilator")
    pytest.importorskip("hls4ml")
    folder = build(NETWORKS[name](), tmp_path / "build", "one-serenity", ii, options)
    check_all(verify_build(folder, rungs=(2, 3, 5)), {2, 3, 5})


@pytest.mark.slow
def test_a_stream_crosses_links(tmp_path: Path) -> None:
    need("verilator")
    folder = build(image_network(), tmp_path / "build", "two-serenity", 144, PlanOptions(fpgas=2))
    check_all(verify_build(folder, rungs=(2, 5)), {2, 5})
