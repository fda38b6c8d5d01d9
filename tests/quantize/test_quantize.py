"""Quantization end to end: exactness, canonical form, noise, determinism, every op, every message."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import dense, linear, normal

from metronn.emulate.numpy import emulate
from metronn.errors import ModelError
from metronn.events.codes import decode_outputs, encode_inputs
from metronn.events.data import Events
from metronn.ir.arrays import IntArray
from metronn.ir.check import problems
from metronn.ir.graph import Graph
from metronn.ir.ops import (
    Add,
    Constant,
    Extremum,
    Linear,
    Lookup,
    Multiply,
    Overflow,
    Reduce,
    Requantize,
    Rewire,
    Rounding,
    op_name,
)
from metronn.ir.text import from_text, to_text
from metronn.model.graph import (
    PARAMETERS,
    FloatArray,
    FunctionKind,
    RealConstant,
    RealFunction,
    RealGraph,
    RealGraphBuilder,
    RealInput,
    RealSoftmax,
)
from metronn.model.reference import run_reference
from metronn.quantize.calibrated.functions.tables import JUMPING
from metronn.quantize.measure import run_fixed
from metronn.quantize.options import InputOptions, LayerOptions, QuantizeOptions, parse_options
from metronn.quantize.quantize import Quantized, quantize
from metronn.quantize.report import sqnr_db
from random_tests import examples


def run(model: RealGraph, x: np.ndarray, options: QuantizeOptions | None = None) -> tuple[Quantized, float]:
    """Quantize on the events and return the result with the SQNR of output y (infinite when exact)."""
    quantized = quantize(model, Events(inputs={"x": x}), options)
    assert problems(quantized.graph) == ()
    fixed = run_fixed(quantized.graph, {"x": x})["y"]
    ratio = sqnr_db(run_reference(model, {"x": x})["y"], fixed)
    return quantized, float("inf") if ratio is None else ratio


def ops(graph: Graph) -> list[str]:
    """Names of the ops in order."""
    return [op_name(node.op) for node in graph.nodes if not isinstance(node.op, Constant)]


def test_dense_relu_has_the_form_that_kernels_fuse() -> None:
    quantized, ratio = run(dense([4, 8, 8, 3]), normal(500, 4))
    assert ops(quantized.graph) == [
        *("input", "linear", "extremum", "requantize"),
        *("linear", "extremum", "requantize"),
        *("linear", "requantize"),
    ]
    assert ratio > 25


def test_one_matrix_is_the_integers_one_would_write_down() -> None:
    # Inputs on quarters, weights on eighths: everything is exact but the output's 16 bits.
    builder = RealGraphBuilder()
    x = builder.add(RealInput(shape=(2,)), "x")
    builder.output("y", builder.add(linear(x, np.array([[0.5, -1.25], [3.0, 0.125]]), np.array([1.0, -2.5])), "layer"))
    values = np.array([[0.25, -3.0], [1.75, 2.5], [-4.0, 0.0]])
    quantized, ratio = run(builder.build(), values, QuantizeOptions(bias_correction=False))
    graph = quantized.graph
    assert graph.by_name["x"].type.range.describe() == "s5.2"
    op = graph.by_name["layer"].op
    assert isinstance(op, Linear)
    weight = [[Fraction(int(w), 1) / 2**op.weight_frac for w in row] for row in op.weight.array]
    assert weight == [[Fraction(1, 2), Fraction(-5, 4)], [3, Fraction(1, 8)]]
    assert [Fraction(b) / 2 ** (op.weight_frac + 2) for b in op.bias.ints()] == [1, Fraction(-5, 2)]
    assert ratio == float("inf")
    codes = np.array([[1, -12], [7, 10], [-16, 0]])
    scale = 2 ** (op.weight_frac + 2)
    expected = (values @ np.array([[0.5, -1.25], [3.0, 0.125]]) + [1.0, -2.5]) * scale
    assert encode_inputs(graph, {"x": values})["x"].tolist() == codes.tolist()
    assert (codes @ op.weight.array + op.bias.array).tolist() == expected.tolist()


def test_ranges_of_hidden_activations_are_full_and_unsigned_behind_relu() -> None:
    quantized, _ = run(dense([4, 8, 3]), normal(500, 4), QuantizeOptions(activation_bits=6))
    hidden = next(node.op for node in quantized.graph.nodes if isinstance(node.op, Requantize))
    assert (hidden.out.lo, hidden.out.hi) == (0, 63)
    assert (hidden.rounding, hidden.overflow) == (Rounding.RND, Overflow.SAT)


def test_wrapping_is_chosen_explicitly_and_covers_calibration() -> None:
    x = normal(500, 4)
    quantized, ratio = run(dense([4, 8, 3]), x, QuantizeOptions(overflow=Overflow.WRAP, rounding=Rounding.TRN))
    requantized = [node.op for node in quantized.graph.nodes if isinstance(node.op, Requantize)]
    assert {(op.rounding, op.overflow) for op in requantized} == {(Rounding.TRN, Overflow.WRAP)}
    assert all(layer.saturated == 0 for layer in quantized.report.layers)
    assert ratio > 20


def test_same_arguments_same_graph() -> None:
    events = Events(inputs={"x": normal(300, 6)})
    first, second = (quantize(dense([6, 12, 12, 4], last="softmax"), events) for _ in range(2))
    assert to_text(first.graph) == to_text(second.graph)
    assert from_text(to_text(first.graph)) == first.graph
    assert first.report == second.report


@examples(20)
@given(
    st.lists(st.integers(1, 12), min_size=2, max_size=5),
    st.integers(0, 1000),
    st.sampled_from(["", "sigmoid", "tanh"]),
    st.sampled_from([0.03, 1.0, 20.0]),
)
def test_sixteen_bits_are_close_to_the_float_network(sizes: list[int], seed: int, last: str, scale: float) -> None:
    # A steep network in front of a table shows the rounding of its large values there: that says nothing here.
    model = dense(sizes, seed=seed, last=last, scale=min(scale, 1.0) if last else scale)
    x = normal(200, sizes[0], seed + 1)
    quantized, ratio = run(model, x, QuantizeOptions(weight_bits=16, activation_bits=16, table_max_error=2.0**-12))
    reference = run_reference(model, {"x": x})["y"]
    fixed = run_fixed(quantized.graph, {"x": x})["y"]
    # Tables hold 4096 entries at most: a bound on the error.
    assert ratio > 55 or (last and np.abs(reference - fixed).max() < 2**-7)


@pytest.mark.parametrize(("bits", "least"), [(4, 6), (6, 20), (8, 32), (10, 42), (12, 52)])
def test_noise_falls_with_bits(bits: int, least: float) -> None:
    _, ratio = run(dense([16, 32, 32, 5]), normal(1000, 16), QuantizeOptions(weight_bits=bits, activation_bits=bits))
    assert least < ratio < least + 14


def test_ten_layers_of_128_at_eight_bits_lose_less_than_half_a_percent() -> None:
    model = dense([36, *[128] * 10, 43])
    x = normal(3000, 36)
    labels = run_reference(model, {"x": x})["y"].argmax(axis=1)
    events = Events(inputs={"x": x}, labels=labels)
    judged = quantize(model, events, QuantizeOptions(calibration_events=1000)).report.metric
    assert judged is not None
    assert judged.float_value == 1.0
    assert judged.accepted
    assert judged.loss < 0.005


def unary(*, shape: tuple[int, ...] = (3,)) -> tuple[RealGraphBuilder, str]:
    """Return a builder with one input."""
    builder = RealGraphBuilder()
    return builder, builder.add(RealInput(shape=shape), "x")


def constant(builder: RealGraphBuilder, values: object, name: str = "c") -> str:
    """Add a constant."""
    return builder.add(RealConstant(values=FloatArray.of(values)), name)


def test_leaky_relu_multiplies_exactly_before_it_requantizes() -> None:
    builder, x = unary(shape=(4,))
    y = builder.add(linear(x, normal(4, 5, 3), np.zeros(5)), "layer")
    part = builder.add(Multiply(x=y, y=constant(builder, 0.3)), "part", "layer")
    y = builder.add(Extremum(x=y, y=part), "leaky", "layer")
    builder.output("y", builder.add(linear(y, normal(5, 2, 4), np.zeros(2)), "last"))
    quantized, ratio = run(builder.build(), normal(500, 4))
    assert ops(quantized.graph) == [
        *("input", "linear", "multiply", "extremum", "requantize"),
        *("linear", "requantize"),
    ]
    assert ratio > 30


def test_clipped_relu_keeps_exact_bounds() -> None:
    builder, x = unary(shape=(4,))
    y = builder.add(linear(x, normal(4, 5, 3) * 4, np.zeros(5)), "layer")
    y = builder.add(Extremum(x=y, y=constant(builder, 0.0)), "relu", "layer")
    kind = type(Extremum(x="", y="").kind).MIN
    y = builder.add(Extremum(x=y, y=constant(builder, 6.0), kind=kind), "six", "layer")
    builder.output("y", builder.add(linear(y, normal(5, 2, 4), np.zeros(2)), "last"))
    quantized, ratio = run(builder.build(), normal(500, 4))
    assert ops(quantized.graph) == ["input", "linear", "extremum", "extremum", "requantize", "linear", "requantize"]
    assert quantized.graph.by_name["six.q"].type.range.describe() == "u8.5"
    assert ratio > 30


DOMAINS = {
    FunctionKind.RECIPROCAL: (0.5, 4.0),
    FunctionKind.RSQRT: (0.25, 4.0),
    FunctionKind.SQRT: (0.25, 9.0),
    FunctionKind.LOG: (0.25, 8.0),
    FunctionKind.POWER: (0.25, 4.0),
    FunctionKind.TAN: (-1.1, 1.1),
    FunctionKind.ASIN: (-0.9, 0.9),
    FunctionKind.ACOS: (-0.9, 0.9),
    FunctionKind.ATANH: (-0.9, 0.9),
    FunctionKind.ACOSH: (1.25, 8.0),
}
ALWAYS_ONE = (FunctionKind.SIGMOID, FunctionKind.TANH, FunctionKind.ERF)


def parameters(kind: FunctionKind) -> tuple[float, ...]:
    if kind is FunctionKind.TABLE:
        return (0.5, -1.0, 0.25, 2.0, 2.0)
    return (0.75, 0.5)[: len(PARAMETERS.get(kind, ()))]


def table_network(kind: FunctionKind) -> tuple[RealGraph, np.ndarray]:
    builder, x = unary()
    builder.output("y", builder.add(RealFunction(x=x, kind=kind, parameters=parameters(kind)), "table"))
    return builder.build(), np.random.default_rng(5).uniform(*DOMAINS.get(kind, (-2.0, 2.0)), size=(2000, 3))


@pytest.mark.parametrize("kind", [kind for kind in FunctionKind if kind not in JUMPING])
@pytest.mark.parametrize("bound", [2.0**-4, 2.0**-7, 2.0**-10])
def test_tables_keep_their_error(kind: FunctionKind, bound: float) -> None:
    model, x_values = table_network(kind)
    options = QuantizeOptions(bits=8, input=InputOptions(bits=16), table_max_error=bound)
    quantized = quantize(model, Events(inputs={"x": x_values}), options)
    reference, fixed = run_reference(model, {"x": x_values})["y"], run_fixed(quantized.graph, {"x": x_values})["y"]
    largest = 1.0 if kind in ALWAYS_ONE else float(np.abs(reference).max()) * 2
    assert np.abs(reference - fixed).max() <= bound * largest + 2.0**-13
    entries = sum(len(node.op.table.ints()) for node in quantized.graph.nodes if isinstance(node.op, Lookup))
    assert entries <= 4096
    layer = quantized.report.layers[-1]
    assert (layer.kind, layer.table_entries) == (kind.value, entries)


@pytest.mark.parametrize("kind", sorted(JUMPING, key=lambda kind: kind.value))
def test_tables_with_jumps_are_wrong_beside_the_jumps_only(kind: FunctionKind) -> None:
    model, x_values = table_network(kind)
    options = QuantizeOptions(bits=8, input=InputOptions(bits=16))
    quantized = quantize(model, Events(inputs={"x": x_values}), options)
    reference, fixed = run_reference(model, {"x": x_values})["y"], run_fixed(quantized.graph, {"x": x_values})["y"]
    assert (np.abs(reference - fixed) > 2.0**-8).mean() < 0.01


@pytest.mark.parametrize("kind", [FunctionKind.RECIPROCAL, FunctionKind.TAN])
def test_tables_across_a_pole_are_bounded_by_calibration(kind: FunctionKind) -> None:
    """A tangent reaches twice what calibration saw, a reciprocal the value 16 times nearer to the pole, up to 32."""
    model, _ = table_network(kind)
    rng = np.random.default_rng(7)
    x_values = rng.uniform(0.5, 1.2, size=(2000, 3)) * rng.choice([-1.0, 1.0], size=(2000, 3))
    if kind is FunctionKind.TAN:
        x_values += np.pi / 2
    quantized = quantize(model, Events(inputs={"x": x_values}))
    reference, fixed = run_reference(model, {"x": x_values})["y"], run_fixed(quantized.graph, {"x": x_values})["y"]
    assert np.abs(reference - fixed).max() < 0.01
    everywhere = run_fixed(quantized.graph, {"x": rng.uniform(-4, 4, size=(2000, 3))})["y"]
    assert np.abs(everywhere).max() <= (33 if kind is FunctionKind.RECIPROCAL else 4.1) * np.abs(reference).max()


def test_a_looser_bound_gives_a_smaller_table() -> None:
    model = dense([4, 1], last="sigmoid")
    events = Events(inputs={"x": normal(200, 4)})
    sizes = [
        quantize(model, events, QuantizeOptions(table_max_error=bound)).report.layers[-1].table_entries
        for bound in (2.0**-3, 2.0**-6, 2.0**-9)
    ]
    assert sizes == sorted(sizes, key=lambda n: n or 0)
    assert sizes[0] != sizes[-1]


@pytest.mark.parametrize(("shape", "axis"), [((5,), 0), ((2, 6), 1), ((3, 4), 0), ((43,), 0), ((1,), 0)])
def test_softmax(shape: tuple[int, ...], axis: int) -> None:
    builder, x = unary(shape=shape)
    builder.output("y", builder.add(RealSoftmax(x=x, axis=axis), "softmax"))
    values = np.random.default_rng(2).normal(size=(1000, *shape)) * 3
    model = builder.build()
    quantized, _ = run(model, values)
    reference, fixed = run_reference(model, {"x": values})["y"], run_fixed(quantized.graph, {"x": values})["y"]
    assert np.abs(reference - fixed).max() < 0.01
    assert np.abs(fixed.sum(axis=axis + 1) - 1).max() < 0.02
    assert (reference.argmax(axis=axis + 1) == fixed.argmax(axis=axis + 1)).mean() > 0.99


def test_sums_products_reductions_and_movement_of_variables() -> None:
    builder, x = unary(shape=(2, 3))
    y = builder.add(linear(x, normal(3, 4, 3), np.ones(4)), "layer")
    total = builder.add(Reduce(x=y, axes=(0,)), "total")
    largest = builder.add(Reduce(x=y, axes=(0,), kind=type(Reduce(x="", axes=()).kind).MAX), "largest")
    product = builder.add(Multiply(x=total, y=largest), "product")
    index = IntArray.of(np.array([3, 2, 1, 0, -1, 4]))
    moved = builder.add(Rewire(xs=(product, total), index=index, shape=(6,)), "moved")
    shifted = builder.add(Add(x=constant(builder, np.arange(6.0) / 3), y=moved, subtract=True), "shifted")
    both = builder.add(Add(x=shifted, y=moved, subtract=True), "both")
    builder.output("y", builder.add(linear(both, normal(6, 2, 8), np.zeros(2)), "last"))
    builder.output("side", shifted)
    quantized, ratio = run(builder.build(), np.random.default_rng(2).normal(size=(800, 2, 3)))
    assert ratio > 25
    assert {output.name for output in quantized.graph.outputs} == {"y", "side"}


def test_wide_mixed_operands_are_brought_to_a_multiplier() -> None:
    builder, x = unary(shape=(2,))
    small = builder.add(Multiply(x=x, y=constant(builder, 2.0**-14)), "small")
    big = builder.add(Multiply(x=x, y=constant(builder, 2.0**14, "d")), "big")
    joined = builder.add(Rewire(xs=(small, big), index=IntArray.of(np.arange(4)), shape=(4,)), "joined")
    builder.output("y", builder.add(linear(joined, np.ones((4, 1)), np.zeros(1)), "layer"))
    quantized, ratio = run(builder.build(), normal(300, 2))
    for node in quantized.graph.nodes:
        if isinstance(node.op, Linear):
            assert quantized.graph.type_of(node.op.x).range.width_bits <= 18
    assert ratio > 35


def test_biases_are_corrected_by_the_mean() -> None:
    model = dense([8, 16, 4])
    x = np.abs(normal(2000, 8))
    reference = run_reference(model, {"x": x})["y"].mean(axis=0)
    shifts = []
    for corrected in (True, False):
        options = QuantizeOptions(weight_bits=4, bias_correction=corrected)
        fixed = run_fixed(quantize(model, Events(inputs={"x": x}), options).graph, {"x": x})["y"].mean(axis=0)
        shifts.append(np.abs(fixed - reference).max())
    assert shifts[0] < shifts[1] / 3


def test_rescaling_helps() -> None:
    x = normal(1000, 16)
    ratios = [run(dense([16, 32, 32, 32, 5]), x, QuantizeOptions(rescale=on))[1] for on in (True, False)]
    assert ratios[0] > ratios[1]


def test_options_of_one_layer_and_one_input() -> None:
    options = QuantizeOptions(
        inputs={"x": InputOptions(bits=9, frac=4)},
        layers={"dense*": LayerOptions(weight_bits=5), "dense1": LayerOptions(weight_bits=6, activation_bits=4)},
    )
    quantized, _ = run(dense([4, 8, 8, 3]), normal(300, 4), options)
    layers = {layer.layer: layer for layer in quantized.report.layers}
    assert quantized.graph.by_name["x"].type.range.describe() == "s9.4"
    assert [layers[f"dense{k}"].weight_bits for k in range(3)] == [5, 6, 5]
    assert (layers["dense0"].bits, layers["dense1"].bits) == (8, 4)


def test_given_exponents_are_kept() -> None:
    options = QuantizeOptions(layers={"dense0": LayerOptions(weight_frac=3, activation_frac=2)}, rescale=False)
    quantized, _ = run(dense([4, 8, 3]), normal(300, 4), options)
    layer = next(layer for layer in quantized.report.layers if layer.layer == "dense0")
    assert (layer.weight_frac, layer.frac) == (3, 2)


@pytest.mark.parametrize("values", [np.zeros((50, 4)), np.full((50, 4), 3.0), normal(1, 4), normal(50, 4) * 1e-9])
def test_odd_calibration_sets_still_give_a_sound_graph(values: np.ndarray) -> None:
    quantized, _ = run(dense([4, 8, 3], last="sigmoid"), values)
    assert emulate(quantized.graph, encode_inputs(quantized.graph, {"x": normal(20, 4)}))["y"].shape == (20, 3)


def test_zero_weights() -> None:
    builder, x = unary()
    builder.output("y", builder.add(linear(x, np.zeros((3, 2)), np.array([1.5, 0.0])), "layer"))
    quantized, ratio = run(builder.build(), normal(50, 3))
    assert ratio == float("inf")
    assert run_fixed(quantized.graph, {"x": normal(2, 3)})["y"].tolist() == [[1.5, 0.0]] * 2


def test_no_op_but_requantize_and_lookup_can_lose_a_bit() -> None:
    quantized, _ = run(dense([6, 12, 4], last="softmax"), normal(200, 6))
    widest = max(node.type.range.width_bits for node in quantized.graph.nodes)
    assert widest < 40
    for node in quantized.graph.nodes:
        if isinstance(node.op, Linear | Extremum):
            assert node.type.range.element_count in (None, node.type.size)


def test_constants_that_are_not_finite_are_all_named() -> None:
    builder, x = unary()
    x = builder.add(linear(x, np.full((3, 2), np.nan), np.zeros(2)), "first")
    builder.output("y", builder.add(linear(x, np.ones((2, 2)), np.array([np.inf, 0])), "second"))
    with pytest.raises(ModelError) as error:
        quantize(builder.build(), Events(inputs={"x": normal(3, 3)}))
    assert error.value.message.splitlines() == [
        "layer first: 6 of 6 constants are NaN or infinite",
        "layer second: 1 of 2 constants are NaN or infinite",
    ]


def test_values_that_leave_the_numbers_are_named() -> None:
    builder, x = unary()
    builder.output("y", builder.add(RealFunction(x=x, kind=FunctionKind.RECIPROCAL), "inverse"))
    with pytest.raises(ModelError, match="layer inverse: the float network gives 3 NaN or infinite .* in event 1"):
        quantize(builder.build(), Events(inputs={"x": np.array([[1.0, 2, 3], [0, 0, 0]])}))


def test_options_for_what_is_not_there_are_all_named() -> None:
    options = QuantizeOptions(inputs={"z": InputOptions()}, layers={"conv*": LayerOptions()})
    with pytest.raises(ModelError) as error:
        quantize(dense([3, 2]), Events(inputs={"x": normal(3, 3)}), options)
    assert error.value.message.splitlines() == [
        "[quantize] inputs.z: the model has no such input; it has x",
        "[quantize] layers.conv*: no layer has such a name; there are x, zero, dense0",
    ]


def test_report_is_plain_data_with_a_row_for_each_layer() -> None:
    x = normal(400, 4)
    model = dense([4, 8, 3], last="softmax")
    labels = run_reference(model, {"x": x})["y"].argmax(axis=1)
    report = quantize(model, Events(inputs={"x": x}, labels=labels), QuantizeOptions(tolerance=0.1)).report
    data = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert [layer["layer"] for layer in data["layers"]] == ["x", "dense0", "dense1", "softmax"]
    assert data["metric"]["name"] == "accuracy"
    assert data["metric"]["accepted"] is True
    rows = list(report.rows())
    assert [row[0] for row in rows] == ["x", "dense0", "dense1", "softmax"]
    assert len({len(row) for row in rows}) == 1
    assert report.summary().startswith("quantized: y ")
    assert "accuracy 1.0000 float" in report.summary()


def test_saturations_are_counted() -> None:
    builder, x = unary(shape=(1,))
    y = builder.add(linear(x, np.array([[1.0]]), np.zeros(1)), "layer")
    y = builder.add(Extremum(x=y, y=constant(builder, 0.0)), "relu", "layer")
    builder.output("y", builder.add(linear(y, np.array([[1.0]]), np.zeros(1)), "last"))
    options = QuantizeOptions(
        layers={"layer": LayerOptions(activation_frac=0, activation_bits=3)}, bias_correction=False, rescale=False
    )
    values = np.arange(-10.0, 11.0)[:, np.newaxis]
    quantized, _ = run(builder.build(), values, options)
    layer = next(layer for layer in quantized.report.layers if layer.layer == "layer")
    assert (layer.saturated, layer.values) == (3, 21)
    narrow = QuantizeOptions(input=InputOptions(bits=4, frac=0))
    first = quantize(builder.build(), Events(inputs={"x": values}), narrow).report.layers[0]
    assert (first.kind, first.saturated, first.values) == ("input", 5, 21)


def test_a_metric_of_ones_own(tmp_path: Path) -> None:
    text = "def spread(outputs, arrays):\n    return outputs['y'].std() * arrays['k'].mean()\n"
    (tmp_path / "score.py").write_text(text)
    x = normal(100, 4)
    options = parse_options({"metric": "score.py:spread", "tolerance": 0.1})
    events = Events(inputs={"x": x}, extra={"k": np.full(100, 2.0)})
    metric = quantize(dense([4, 3]), events, options, base=tmp_path).report.metric
    assert metric is not None
    assert metric.float_value == pytest.approx(2 * run_reference(dense([4, 3]), {"x": x})["y"].std())
    assert metric.accepted


def test_outputs_decode_to_the_models_units() -> None:
    graph = quantize(dense([4, 3]), Events(inputs={"x": normal(100, 4)})).graph
    codes = emulate(graph, encode_inputs(graph, {"x": normal(5, 4)}))
    out = graph.type_of(graph.outputs[0].value).range
    assert decode_outputs(graph, codes)["y"].tolist() == (codes["y"] / 2.0**out.max_frac).tolist()


def test_encoding_checks_what_it_is_given() -> None:
    graph = quantize(dense([4, 3]), Events(inputs={"x": normal(100, 4)})).graph
    with pytest.raises(ModelError, match="input x: no data; found z"):
        encode_inputs(graph, {"z": np.zeros(1)})
    with pytest.raises(ModelError, match=r"input x: shape per event is \(5,\), allowed is \(4,\)"):
        encode_inputs(graph, {"x": np.zeros((2, 5))})
    with pytest.raises(ModelError, match="input x: 1 values are NaN, the first in event 1"):
        encode_inputs(graph, {"x": np.array([[0.0] * 4, [np.nan, 0, 0, 0]])})
    with pytest.raises(ModelError, match="input x: values are <U1, allowed are numbers"):
        encode_inputs(graph, {"x": np.array([["a"] * 4])})
    bounds = graph.by_name["x"].type.range
    saturated = encode_inputs(graph, {"x": np.array([[np.inf, -np.inf, 1e30, -1e30]])})["x"]
    assert saturated.tolist() == [[bounds.highest, bounds.lowest] * 2]
