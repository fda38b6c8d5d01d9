"""The whole way of quantized networks: inputs, passes, rung 1, files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from exact_networks import draw, events_for, normalized

from metronn.cli.console import Log
from metronn.emit.build import emit_build
from metronn.emit.manifest import build_manifest, manifest_text
from metronn.emulate.numpy import emulate
from metronn.events.codes import encode_input, encode_inputs
from metronn.events.data import Events
from metronn.flow.builds import run_rungs
from metronn.flow.folders import write_files
from metronn.ir.arrays import IntArray
from metronn.ir.graph import GraphBuilder
from metronn.ir.infer import TypeRuleError
from metronn.ir.ops import Add, Constant, Input, Linear, Multiply, Overflow, Requantize, Rounding
from metronn.ir.text import from_text, graph_hash, to_text
from metronn.ir.types import Range
from metronn.model.graph import FloatArray, RealGraph, RealGraphBuilder, RealInput, RealLinear, RealQuantize
from metronn.model.rational import run_rational
from metronn.model.reference import run_reference
from metronn.passes.pipeline import optimize, prepare, quantize_model
from metronn.passes.rewriting import rebuilt
from metronn.plan.hardware.system import load_system
from metronn.plan.options import PlanOptions
from metronn.plan.planner import plan
from metronn.quantize.exact.events import drawn_events
from metronn.quantize.exact.values import ExactValue
from metronn.quantize.options import QuantizeOptions
from metronn.verify.exact_rung import compare_exactly, exact_files
from metronn.verify.reference import reference_files
from metronn.verify.verdict import Status
from random_tests import seeds

OPTIONS = QuantizeOptions(metric="none")


def one_layer(scale: float = 0.25, rounding: Rounding = Rounding.TRN, overflow: Overflow = Overflow.WRAP) -> RealGraph:
    """Return quantizer, matrix, quantizer."""
    builder = RealGraphBuilder()
    x = builder.add(RealInput(shape=(3,)), "x")
    lo, hi = IntArray.of(np.array([-8, 0, 0])), IntArray.of(np.array([7, 15, 0]))
    grid = RealQuantize(x=x, scale=FloatArray.of(scale), lo=lo, hi=hi, rounding=rounding, overflow=overflow)
    x = builder.add(grid, "grid")
    weight = np.array([[0.5, -1.0], [0.25, 0.75], [1.0, 1.0]])
    x = builder.add(RealLinear(x=x, weight=FloatArray.of(weight), bias=FloatArray.of([0.5, -0.25])), "dense")
    out = RealQuantize(
        x=x, scale=FloatArray.of(0.5), lo=IntArray.of(np.array(0)), hi=IntArray.of(np.array(7)), rounding=Rounding.RND
    )
    builder.output("y", builder.add(out, "out"))
    return builder.build()


@pytest.mark.parametrize("overflow", [Overflow.WRAP, Overflow.SAT, Overflow.SAT_ZERO])
@pytest.mark.parametrize("rounding", list(Rounding))
def test_an_input_takes_over_its_quantizer(rounding: Rounding, overflow: Overflow) -> None:
    """Rounding, overflow and bounds per element; floats are encoded as the quantizer does."""
    model = one_layer(rounding=rounding, overflow=overflow)
    events = {"x": np.arange(-120, 120).reshape(-1, 3) / 16}
    quantized = quantize_model(model, Events(inputs=events), OPTIONS)
    op = quantized.graph.inputs[0].op
    assert isinstance(op, Input)
    assert (op.rounding, op.overflow, op.range) == (rounding, overflow, Range((-8, 0, 0), (7, 15, 0), 2))
    codes = encode_input(events["x"], op)
    seen: dict[str, np.ndarray] = {}
    run_reference(model, events, lambda node, values: seen.__setitem__(node.name, values))
    assert np.array_equal(codes / 4, seen["grid"])
    assert from_text(to_text(quantized.graph)) == quantized.graph
    found = emulate(quantized.graph, {"x": codes})["y"]
    assert np.array_equal(found / 2, run_reference(model, events)["y"])
    linear = next(node.op for node in quantized.graph.nodes if isinstance(node.op, Linear))
    assert not linear.weight.array[2].any()  # the third input has no bits


def test_an_input_of_any_scale_carries_codes() -> None:
    """A step that is no power of two stands at the border only."""
    scale = float(np.float32(0.1))
    model = one_layer(scale, Rounding.RND_CONV, Overflow.SAT)
    events = {"x": np.array([[0.1, 0.25, 3.0], [-5.0, 9.0, 0.0], [0.16, 0.04, 1.0]])}
    quantized = quantize_model(model, Events(inputs=events), OPTIONS)
    op = quantized.graph.inputs[0].op
    assert isinstance(op, Input) and op.step is not None
    assert encode_input(events["x"], op).tolist() == [[1, 2, 0], [-8, 15, 0], [2, 0, 0]]
    assert from_text(to_text(quantized.graph)) == quantized.graph
    assert quantized.frontier[0].real == "out"


def test_plain_inputs_keep_their_text_and_hash() -> None:
    """The new fields show only where they say something."""
    builder = GraphBuilder()
    x = builder.add(Input(shape=(2,), range=Range(-8, 7, 2)), "x")
    builder.output("y", x)
    graph = builder.build()
    assert "input(shape=(2), range=range[-8 : 7 : 2]) from" in to_text(graph)
    assert graph_hash(graph) == "21d8e2c51329038e"
    with pytest.raises(TypeRuleError, match="allowed are positive values of shape"):
        GraphBuilder().add(Input(shape=(2,), range=Range(0, 1), step=IntArray.of(np.array([1, 0]))), "x")


def test_events_are_drawn_for_known_inputs_only() -> None:
    """Every element meets its bounds; a float input has no grid."""
    drawn = drawn_events(prepare(one_layer()), 500)
    assert drawn is not None
    low, high = drawn.inputs["x"].min(axis=0), drawn.inputs["x"].max(axis=0)
    assert (low <= np.array([-2.0, 0, 0])).all() and (high >= np.array([1.75, 3.75, 0])).all()
    builder = RealGraphBuilder()
    x = builder.add(RealInput(shape=(3,)), "x")
    builder.output(
        "y", builder.add(RealLinear(x=x, weight=FloatArray.of(np.eye(3)), bias=FloatArray.of(np.zeros(3))), "d")
    )
    assert drawn_events(builder.build(), 5) is None


def test_rung_1_names_the_first_wrong_integer(tmp_path: Path) -> None:
    """A graph with another bias fails, at the layer, event and element."""
    model = prepare(one_layer())
    events = {"x": events_for(model, 0, 50)["x"]}
    quantized = quantize_model(model, Events(inputs=events), OPTIONS)
    for name, content in exact_files(model, quantized.graph, quantized.frontier, events).items():
        (tmp_path / name).write_bytes(content)
    codes = encode_inputs(quantized.graph, events)
    right = compare_exactly(tmp_path, quantized.graph, codes)
    assert right is not None and right.mismatches == 0 and right.events == 50 and right.bits > 500
    node = next(node for node in quantized.graph.nodes if isinstance(node.op, Linear))
    assert isinstance(node.op, Linear)
    changed = Linear(
        x=node.op.x,
        weight=node.op.weight,
        bias=IntArray.of(node.op.bias.array + np.array([0, 8])),
        weight_frac=node.op.weight_frac,
    )
    wrong = compare_exactly(tmp_path, rebuilt(quantized.graph, {node.name: changed}), codes)
    assert wrong is not None and wrong.mismatches > 0
    assert "layer out" in wrong.first and "element 1 is" in wrong.first and "in the trained network" in wrong.first
    assert compare_exactly(tmp_path / "nowhere", quantized.graph, codes) is None


def test_the_frontier_can_be_written_down() -> None:
    """Scales survive to the bit."""
    exact = ExactValue(tensors=("a/b:0",), real="r", value="v", source="s", scale=FloatArray.of(np.array([0.1, 1 / 3])))
    assert ExactValue.from_json(exact.to_json()) == exact


def test_a_matrix_takes_over_constants_behind_it() -> None:
    """Bits stay, ops go."""
    builder = GraphBuilder()
    x = builder.add(Input(shape=(2,), range=Range((-8, 0), (7, 0), 0)), "x")
    weight, bias = IntArray.of(np.array([[1, 2], [3, 4]])), IntArray.of(np.array([1, 1]))
    y = builder.add(Linear(x=x, weight=weight, bias=bias, weight_frac=2), "dense")
    half = builder.add(Constant(values=IntArray.of(np.array(1)), frac=1), "half")
    y = builder.add(Multiply(x=y, y=half), "halved")
    shift = builder.add(Constant(values=IntArray.of(np.array([1, -1])), frac=2), "shift")
    y = builder.add(Add(x=y, y=shift), "sum")
    builder.output("y", builder.add(Requantize(x=y, out=Range(0, 7, 1), overflow=Overflow.SAT), "q"))
    graph = builder.build()
    smaller = optimize(graph)
    assert [type(node.op).__name__ for node in smaller.nodes] == ["Input", "Linear", "Requantize"]
    codes = {"x": np.stack([np.arange(-8, 8), np.zeros(16, dtype=np.int64)], axis=1)}
    assert np.array_equal(emulate(graph, codes)["y"], emulate(smaller, codes)["y"])


@pytest.mark.random
def test_exact_arithmetic_is_that_of_float64_where_float64_is_exact() -> None:
    """Two evaluators, one network of powers of two."""
    for seed in seeds(12):
        model = draw(seed, dyadic=True, rounding=list(Rounding)[seed % 7])
        events = events_for(model, seed, 10)
        exact, floats = run_rational(model, events)["y"], run_reference(model, events)["y"]
        assert np.array_equal(exact.floats(), floats)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dyadic", "any scale", "normalized floats"])
def test_every_rung_of_a_quantized_network(tmp_path: Path, kind: str) -> None:
    """Formats per element, all rounding and overflow modes, wide products, from the real network to the RTL."""
    if kind == "normalized floats":
        model = normalized()
        events: Events | None = Events(inputs={"x": np.random.default_rng(0).normal(size=(60, 4, 3)) * 40})
    else:
        model = draw(3 if kind == "dyadic" else 9, dyadic=kind == "dyadic")
        events = drawn_events(prepare(model), 60)
    assert events is not None
    quantized = quantize_model(model, events, OPTIONS)
    design = plan(quantized.graph, load_system("one-vcu118"), PlanOptions())
    files = dict(emit_build(design, encode_inputs(design.graph, events.inputs), events=60, rtl_events=20))
    kept = reference_files(
        prepare(model),
        design.graph,
        events,
        np.arange(events.count),
        OPTIONS,
        tmp_path,
        quantized.report,
        quantized.frontier,
    )
    files |= {f"vectors/{name}": content for name, content in kept.items()}
    manifest = build_manifest(design, name="drawn", report=quantized.report, files=files)
    write_files(tmp_path, {**files, "manifest.json": manifest_text(manifest).encode()})
    verdicts = run_rungs(tmp_path, (1, 2, 3, 4, 5), Log())
    assert [verdict.status for verdict in verdicts] == [Status.PASS] * 5, verdicts
    assert all(verdict.mismatches == 0 and verdict.bits for verdict in verdicts)
