"""Rung 1: which events it keeps, what it judges, and values that only exact arithmetic can tell."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from metronn.events.codes import encode_inputs
from metronn.events.data import Events
from metronn.frontends.common.builder import LayerBuilder
from metronn.ir.arrays import Array, IntArray
from metronn.ir.ops import Multiply, Reduce, ReduceKind, Rounding
from metronn.model.graph import (
    FloatArray,
    Floats,
    RealConstant,
    RealGraph,
    RealGraphBuilder,
    RealInput,
    RealLinear,
    RealQuantize,
    RealSoftmax,
)
from metronn.passes.pipeline import prepare, quantize_model
from metronn.quantize.exact.values import present
from metronn.quantize.options import QuantizeOptions
from metronn.quantize.quantize import Quantized
from metronn.verify.exact_rung import Comparison, compare_exactly, exact_files
from metronn.verify.reference import ReferenceResult, reference_files, reference_result
from metronn.verify.verdict import Status


def dense(inputs: int = 4, outputs: int = 3, seed: int = 0) -> RealGraph:
    """Return one matrix of floats."""
    rng = np.random.default_rng(seed)
    network = LayerBuilder()
    x = network.input("x", (inputs,))
    network.layer = "dense"
    return network.finish([("y", network.linear(x, rng.normal(size=(inputs, outputs)), np.zeros(outputs)))], "test")


def written(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def kept(folder: Path, options: QuantizeOptions, events: Events, judging: Array, **more: object) -> ReferenceResult:
    """Return what rung 1 says of a network in a folder, judged by some of the events."""
    model = dense()
    quantized = quantize_model(model, events, options)
    files = reference_files(prepare(model), quantized.graph, events, judging, options, folder, quantized.report, **more)  # type: ignore[arg-type]
    return reference_result(written(folder, files), quantized.graph)


def drawn(count: int, *, labels: bool = False) -> Events:
    rng = np.random.default_rng(1)
    return Events(inputs={"x": rng.normal(size=(count, 4))}, labels=rng.integers(0, 3, count) if labels else None)


def test_without_a_metric_the_signal_of_the_judging_events_decides(tmp_path: Path) -> None:
    judging = np.arange(4, 600, 5)
    fine = kept(tmp_path, QuantizeOptions(weight_bits=12, activation_bits=12), drawn(600), judging)
    assert (fine.verdict.status, fine.verdict.events, fine.metric) == (Status.PASS, 120, None)
    poor = kept(tmp_path, QuantizeOptions(weight_bits=2), drawn(600), judging)
    assert (poor.verdict.status, poor.verdict.events) == (Status.FAIL, 120)
    assert poor.verdict.first.startswith("output y: too little of its signal is left: all together keeps ")
    assert "it is lost in layer dense (" in poor.verdict.first
    assert poor.outputs[0].signal.worst_event % 5 == 4, "its place among all events"
    assert (
        kept(tmp_path, QuantizeOptions(weight_bits=2, min_sqnr_db=-20), drawn(600), judging).verdict.status
        is Status.PASS
    )


def test_with_a_metric_it_decides_and_all_events_count(tmp_path: Path) -> None:
    options = QuantizeOptions(weight_bits=2, tolerance=10.0)
    found = kept(tmp_path, options, drawn(600, labels=True), np.arange(4, 600, 5))
    assert (found.verdict.status, found.verdict.events) == (Status.PASS, 600)
    assert found.outputs[0].signal.events == 120
    assert found.outputs[0].signal.lost(20)
    assert found.metric is not None
    assert found.metric.events == 600


def test_events_that_take_too_much_room_are_cut_and_told(tmp_path: Path) -> None:
    said: list[str] = []
    size = 3 * 8 + 4 * 2  # three answers, four input codes
    judging = np.arange(1000)
    found = kept(tmp_path, QuantizeOptions(), drawn(1000), judging, log=said.append, largest=100 * size)
    assert found.verdict.events == 100
    assert said == ["rung 1: 100 of 1,000 events are kept in the build and judge there, evenly spaced (0.00305176 MiB)"]


@pytest.mark.parametrize("share", [2, 5, 7, 10])
def test_a_cut_keeps_events_that_judge(tmp_path: Path, share: int) -> None:
    """Every fifth event judges: a spacing of five would meet none."""
    options = QuantizeOptions(weight_bits=12, tolerance=10.0)
    size = 3 * 8 + 4 * 2 + 8
    judging = np.arange(4, 1000, 5)
    found = kept(tmp_path, options, drawn(1000, labels=True), judging, largest=1000 // share * size)
    assert found.verdict.events == 1000 // share
    assert abs(found.outputs[0].signal.events - 200 / share) <= 1


def test_excluded_events_do_not_judge(tmp_path: Path) -> None:
    events, model, options = drawn(600), dense(), QuantizeOptions(weight_bits=12, activation_bits=12)
    quantized = quantize_model(model, events, options)
    report = replace(quantized.report, excluded=(4, 9))
    files = reference_files(prepare(model), quantized.graph, events, np.arange(4, 600, 5), options, tmp_path, report)
    assert reference_result(written(tmp_path, files), quantized.graph).verdict.events == 118


def test_codes_are_kept_narrow(tmp_path: Path) -> None:
    kept(tmp_path, QuantizeOptions(), drawn(600), np.arange(600))
    with np.load(tmp_path / "reference.npz") as archive:
        assert archive["code:x"].dtype == np.int16
    assert json.loads((tmp_path / "reference.json").read_text())["outputs"]["y"]["decides"] is True


def mean(factor: float = 1.75) -> RealGraph:
    """Return a mean over 7 times a factor: where it is a tie between two steps, float64 is beside it."""
    builder = RealGraphBuilder()
    x = builder.add(RealInput(shape=(7,)), "x")
    lo, hi = IntArray.of(np.array(-128)), IntArray.of(np.array(127))
    x = builder.add(RealQuantize(x=x, scale=FloatArray.of(0.25), lo=lo, hi=hi, rounding=Rounding.RND), "grid")
    x = builder.add(Reduce(x=x, axes=(0,), kind=ReduceKind.SUM), "sum")
    for constant in (1 / 7, factor):
        name = builder.add(RealConstant(values=FloatArray.of(constant)), "constant")
        x = builder.add(Multiply(x=x, y=name), "scaled")
    x = builder.add(RealQuantize(x=x, scale=FloatArray.of(0.5), lo=lo, hi=hi, rounding=Rounding.RND), "out")
    builder.output("y", x)
    return builder.build()


def classifier() -> RealGraph:
    """Return a quantized matrix, one output behind a softmax, which is on no grid, and one that is exact."""
    builder = RealGraphBuilder()
    x = builder.add(RealInput(shape=(4,)), "x")
    lo, hi = IntArray.of(np.array(-128)), IntArray.of(np.array(127))
    x = builder.add(RealQuantize(x=x, scale=FloatArray.of(1 / 16), lo=lo, hi=hi, rounding=Rounding.RND), "grid")
    weight = np.random.default_rng(2).integers(-8, 8, (4, 3)) / 8
    x = builder.add(RealLinear(x=x, weight=FloatArray.of(weight), bias=FloatArray.of(np.zeros(3))), "dense")
    builder.output("scores", x)
    builder.output("classes", builder.add(RealSoftmax(x=x, axis=0), "softmax"))
    return builder.build()


def test_the_signal_judges_what_is_not_exact_in_a_quantized_network(tmp_path: Path) -> None:
    model, events = classifier(), drawn(300)
    for least, status in ((20.0, Status.PASS), (1000.0, Status.FAIL)):
        options = QuantizeOptions(metric="none", min_sqnr_db=least)
        quantized = quantize_model(model, events, options)
        report = quantized.report
        assert {output.name: output.decides for output in report.outputs} == {"scores": False, "classes": True}
        assert report.outputs[0].signal.sqnr_db is None
        files = reference_files(
            prepare(model), quantized.graph, events, np.arange(4, 300, 5), options, tmp_path, report,
            present(quantized.frontier, quantized.graph),
        )  # fmt: skip
        verdict = reference_result(written(tmp_path, files), quantized.graph).verdict
        assert (verdict.status, verdict.mismatches, verdict.events) == (status, 0, 300)
        assert ("output classes: too little of its signal is left" in verdict.first) is (status is Status.FAIL)


@pytest.fixture(scope="module")
def ties() -> tuple[Quantized, dict[str, Floats]]:
    """Return a correct graph and events of which more than 32 are ties that float64 tips."""
    inputs = {"x": np.random.default_rng(0).integers(-128, 128, (40_000, 7)) / 4}
    return quantize_model(mean(), Events(inputs=inputs), QuantizeOptions(metric="none")), inputs


def compared(
    folder: Path, model: RealGraph, quantized: Quantized, inputs: dict[str, Floats], **more: object
) -> Comparison:
    files = exact_files(prepare(model), quantized.graph, quantized.frontier, inputs, **more)  # type: ignore[arg-type]
    found = compare_exactly(written(folder, files), quantized.graph, encode_inputs(quantized.graph, inputs))
    assert found is not None
    return found


def test_every_disputed_value_is_judged(ties: tuple[Quantized, dict[str, Floats]], tmp_path: Path) -> None:
    quantized, inputs = ties
    untouched = compared(tmp_path, mean(), quantized, inputs, seconds=-1.0)
    assert untouched.mismatches == 0
    left = int(untouched.unjudged.split()[0])
    assert left > 32, "the events have more disputes than are judged at a time"
    assert untouched.unjudged == (
        f"{left} values of {left} events differ from those of float64, whose own rounding may be the reason, and were "
        "not judged: exact arithmetic took too long"
    )
    judged = compared(tmp_path, mean(), quantized, inputs)
    assert (judged.mismatches, judged.unjudged) == (0, "")


def test_a_real_difference_ends_the_judging(ties: tuple[Quantized, dict[str, Floats]], tmp_path: Path) -> None:
    quantized, inputs = ties
    found = compared(tmp_path, mean(1.5), quantized, inputs)
    assert 0 < found.mismatches <= 32
    assert found.first.startswith("layer out")
    assert found.unjudged.endswith("were not judged: those before are really different")
    assert found.first.endswith(found.unjudged)


def test_a_rung_with_values_that_nobody_judged_does_not_pass(
    ties: tuple[Quantized, dict[str, Floats]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quantized, inputs = ties
    monkeypatch.setattr("metronn.verify.exact_rung.JUDGING_S", -1.0)
    files = reference_files(
        prepare(mean()), quantized.graph, Events(inputs=inputs), np.arange(40_000), QuantizeOptions(metric="none"),
        tmp_path, quantized.report, quantized.frontier,
    )  # fmt: skip
    verdict = reference_result(written(tmp_path, files), quantized.graph).verdict
    assert (verdict.status, verdict.mismatches) == (Status.NOT_RUN, 0)
    assert "were not judged: exact arithmetic took too long" in verdict.first


def test_progress_is_told(ties: tuple[Quantized, dict[str, Floats]], monkeypatch: pytest.MonkeyPatch) -> None:
    quantized, inputs = ties
    said: list[str] = []
    monkeypatch.setattr("metronn.verify.exact_rung.TELLING_S", 0.0)
    exact_files(prepare(mean()), quantized.graph, quantized.frontier, inputs, log=said.append)
    assert any("disputed events judged in exact arithmetic" in line for line in said)
