"""Kernels on streams: multipliers and cycles of rows and reductions, and what no stream can carry."""

from __future__ import annotations

import math

import numpy as np
import pytest
from harness import check_cases

from metronn.ir.arrays import IntArray
from metronn.ir.graph import Graph, GraphBuilder
from metronn.ir.ops import (
    Add,
    Constant,
    Extremum,
    Input,
    Linear,
    Multiply,
    Overflow,
    Reduce,
    ReduceKind,
    Requantize,
    Rounding,
)
from metronn.ir.types import Range
from metronn.plan.hardware.boards import load_device
from metronn.plan.kernels.folds.fold import fold_outputs_spec, packing
from metronn.plan.kernels.kernels import planned
from metronn.plan.kernels.slices import NotStreamableError, slice_of
from metronn.plan.kernels.spec import (
    Elementwise,
    FoldInputs,
    Gather,
    MatvecAdders,
    ReduceSerial,
    ReduceTree,
    Streamed,
)
from metronn.plan.layout import Layout
from metronn.verify.kernel_bench import Case
from timings import level_timing

FABRIC = load_device("vu13p").fabric

TIMING = level_timing(FABRIC, 2)


def rows(count: int, n_in: int, n_out: int, *, weight_bits: int = 8, x: Range | None = None) -> Graph:
    """Return a random layer on `count` rows with ReLU and a saturating requantization."""
    generator = np.random.Generator(np.random.PCG64(n_in * n_out))
    top = 1 << (weight_bits - 1)
    builder = GraphBuilder()
    value = builder.add(Input(shape=(count, n_in), range=x or Range(0, 255)), "x")
    weight = IntArray.of(generator.integers(-top, top, (n_in, n_out)))
    linear = builder.add(
        Linear(x=value, weight=weight, bias=IntArray.of(generator.integers(-999, 999, n_out))), "dense"
    )
    relu = builder.add(Extremum(x=linear, y=builder.add(Constant(values=IntArray.of(0)), "zero")), "relu")
    out = Range(0, 255, -6)
    builder.output("y", builder.add(Requantize(x=relu, out=out, rounding=Rounding.RND, overflow=Overflow.SAT), "q"))
    return builder.build()


def test_a_convolution_has_few_multipliers() -> None:
    """3x3x8 -> 16 on 20x20 pixels at II 1600: 400 windows, one every four cycles, two products per multiplier."""
    graph = rows(400, 72, 16)
    assert packing(graph, "dense", TIMING).ways == 2
    spec = Streamed(
        inner=fold_outputs_spec(graph, "dense", ("relu", "q"), 4, TIMING), layouts=(Layout.rows(400 * 72, 72, 4),)
    )
    assert planned(spec, graph, TIMING).cycles_per_event == 1600
    ideal = math.ceil(400 * 72 * 16 / (1600 * 2))
    assert planned(spec, graph, TIMING).resources.dsp <= 1.05 * ideal
    layout = planned(spec, graph, TIMING).output
    assert (layout.beat_count, layout.span) == (1600, 1600)
    inner = slice_of(spec, graph).graph
    assert planned(spec, graph, TIMING).latency_cycles == planned(spec.inner, inner, TIMING).latency_cycles


def test_packed_rows_of_many_phases(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Two products per multiplier, a remainder of outputs, copies side by side, and weights in block RAM."""
    graph = rows(10, 6, 5)
    cases = []
    for copies in (1, 3):
        for beats in (2, 3, 6):
            inner = fold_outputs_spec(graph, "dense", ("relu", "q"), beats, TIMING)
            spec = Streamed(inner=inner, layouts=(Layout.rows(60, 6 * copies, beats),), copies=copies)
            ii = planned(spec, graph, TIMING).cycles_per_event
            cases.append(
                Case(name=f"rows_{copies}_{beats}", spec=spec, graph=graph, timing=TIMING, ii_cycles=ii, events=5)
            )
    assert any(spec.inner.remainder and spec.inner.lanes for spec in (case.spec for case in cases))  # type: ignore[union-attr]
    for width, spacing in ((1, 1), (2, 2)):
        fold = FoldInputs(linear="dense", epilogue=("relu", "q"), layout=Layout.rows(290, width, spacing))
        flat = flattened(290, 4)
        assert planned(fold, flat, TIMING).resources.bram36 > 0
        ii = fold.layout.span
        cases.append(Case(name=f"fold_{width}", spec=fold, graph=flat, timing=TIMING, ii_cycles=ii, events=3))
    assert check_cases(cases, "icarus", tmp_path_factory.mktemp("icarus")) > 1000


def flattened(n_in: int, n_out: int) -> Graph:
    """Return a layer on a plain vector."""
    generator = np.random.Generator(np.random.PCG64(n_in))
    builder = GraphBuilder()
    value = builder.add(Input(shape=(n_in,), range=Range(0, 255)), "x")
    weight = IntArray.of(generator.integers(-128, 128, (n_in, n_out)))
    linear = builder.add(Linear(x=value, weight=weight, bias=IntArray.of(generator.integers(-9, 9, n_out))), "dense")
    relu = builder.add(Extremum(x=linear, y=builder.add(Constant(values=IntArray.of(0)), "zero")), "relu")
    out = Range(0, 255, -6)
    builder.output("y", builder.add(Requantize(x=relu, out=out, rounding=Rounding.RND, overflow=Overflow.SAT), "q"))
    return builder.build()


def pooled(shape: tuple[int, ...], axes: tuple[int, ...], kind: ReduceKind = ReduceKind.SUM) -> Graph:
    """Return one Reduce."""
    builder = GraphBuilder()
    x = builder.add(Input(shape=shape, range=Range(0, 255)), "x")
    builder.output("y", builder.add(Reduce(x=x, axes=axes, kind=kind), "r"))
    return builder.build()


def test_parts_of_the_channels_share_their_adders() -> None:
    graph = pooled((10, 10, 32), (0, 1))
    whole = ReduceSerial(reduce="r", layout=Layout.rows(3200, 32, 4))
    parts = ReduceSerial(reduce="r", layout=Layout.rows(3200, 8, 1))
    assert len(planned(whole, graph, TIMING).lanes) == 32
    assert [lane.results for lane in planned(parts, graph, TIMING).lanes] == [
        (k, k + 8, k + 16, k + 24) for k in range(8)
    ]
    assert planned(parts, graph, TIMING).resources.lut < planned(whole, graph, TIMING).resources.lut / 2
    assert all(lane.width == 15 for lane in planned(whole, graph, TIMING).lanes)
    assert planned(whole, graph, TIMING).latency_cycles == 397
    assert planned(parts, graph, TIMING).latency_cycles == 400


def test_a_gather_with_gaps_waits_for_the_last_beat() -> None:
    builder = GraphBuilder()
    builder.output("y", builder.add(Input(shape=(12,), range=Range(0, 3)), "x"))
    spec = Gather(value="x", layout=Layout.rows(12, 4, 5))
    assert planned(spec, builder.build(), TIMING).latency_cycles == 10


def added(constants: list[int]) -> Graph:
    """Return 4x3 elements plus a constant of each."""
    builder = GraphBuilder()
    x = builder.add(Input(shape=(4, 3), range=Range(0, 255)), "x")
    c = builder.add(Constant(values=IntArray.of(np.asarray(constants).reshape(4, 3))), "c")
    builder.output("y", builder.add(Add(x=x, y=c), "sum"))
    return builder.build()


def test_groups_that_differ_are_refused() -> None:
    spec = Streamed(inner=Elementwise(nodes=("sum",)), layouts=(Layout.rows(12, 3),))
    assert slice_of(spec, added([1, 2, 3] * 4)).starts == (0, 1, 2, 3)
    with pytest.raises(NotStreamableError, match="sum: its constants differ from beat to beat"):
        slice_of(spec, added(list(range(12))))


def test_exponents_that_differ_are_refused() -> None:
    fracs = (0,) * 6 + (1,) * 6
    graph = rows(4, 3, 2, x=Range((0,) * 12, (9,) * 12, fracs))
    spec = Streamed(inner=MatvecAdders(linear="dense"), layouts=(Layout.rows(12, 3),))
    with pytest.raises(NotStreamableError, match="its exponents differ from beat to beat"):
        slice_of(spec, graph)


def test_beats_without_complete_rows_are_refused() -> None:
    graph = rows(4, 6, 2)
    for layout in (Layout.rows(24, 4), Layout.rows(24, 3), Layout(tuple((k, k + 1) for k in range(0, 24, 2)))):
        with pytest.raises(NotStreamableError, match="dense: .* does not carry complete rows"):
            slice_of(Streamed(inner=MatvecAdders(linear="dense"), layouts=(layout,)), graph)
    fold = FoldInputs(linear="dense", layout=Layout.rows(6, 2))
    with pytest.raises(NotStreamableError, match="dense: .* does not carry row after row"):
        slice_of(Streamed(inner=fold, layouts=(Layout.rows(24, 3),)), graph)


def test_rows_faster_than_their_fold_are_refused() -> None:
    graph = rows(4, 6, 2)
    for beats in (2, 5):
        inner = fold_outputs_spec(graph, "dense", (), beats, TIMING)
        assert slice_of(Streamed(inner=inner, layouts=(Layout.rows(24, 6, beats),)), graph).starts[1] == beats
        with pytest.raises(NotStreamableError, match=f"dense: a row every {beats - 1} cycles, one takes {beats}"):
            slice_of(Streamed(inner=inner, layouts=(Layout.rows(24, 6, beats - 1),)), graph)


def test_a_reduction_over_beats_is_refused() -> None:
    graph = pooled((4, 6), (1,))
    assert slice_of(Streamed(inner=ReduceTree(reduce="r"), layouts=(Layout.rows(24, 6),)), graph).output.beat_count == 4
    with pytest.raises(NotStreamableError, match="r: reduces over more than one beat"):
        slice_of(Streamed(inner=ReduceTree(reduce="r"), layouts=(Layout.rows(24, 3),)), graph)


def test_operands_of_other_cycles_are_refused() -> None:
    builder = GraphBuilder()
    x, y = (builder.add(Input(shape=(4, 3), range=Range(0, 255)), name) for name in ("x", "other"))
    builder.output("y", builder.add(Multiply(x=x, y=y), "product"))
    spec = Streamed(inner=Elementwise(nodes=("product",)), layouts=(Layout.rows(12, 3), Layout.rows(12, 3, 2)))
    with pytest.raises(NotStreamableError, match="product: its operands come in different cycles"):
        slice_of(spec, builder.build())
