"""Regions of which every result depends on one code become tables, exactly; other regions do not."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from exact_networks import Drawing, draw
from hypothesis import given
from hypothesis import strategies as st
from table_networks import draw_tables, single
from test_exact import OPTIONS, checked

from metronn.events.codes import encode_inputs
from metronn.events.data import Events
from metronn.frontends import load_model
from metronn.ir.arrays import IntArray
from metronn.ir.ops import Add, Lookup, Multiply, Overflow, Reduce, Rewire, Rounding, Window
from metronn.model.graph import FloatArray, FunctionKind, RealFunction, RealGraph, RealInput, RealLinear, RealQuantize
from metronn.passes.pipeline import prepare, quantize_model
from metronn.quantize.exact import tables as exact_tables
from metronn.quantize.exact.regions import MAX_CODES, inner_names, regions
from metronn.quantize.exact.values import exact_values
from metronn.quantize.quantize import Quantized
from metronn.quantize.records import Exactness
from random_tests import examples, seeds

sys.path.insert(0, str(Path(__file__).parents[2] / "frontends" / "keras_files"))


def tables_of(quantized: Quantized) -> int:
    """Count the tables of a network."""
    return sum(isinstance(node.op, Lookup) for node in quantized.graph.nodes)


def quantizer(x: str, bits: int, scale: float, rounding: Rounding = Rounding.TRN) -> RealQuantize:
    """Return a signed quantizer for a whole tensor."""
    lo, hi = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    arrays = {"lo": IntArray.of(np.array(lo)), "hi": IntArray.of(np.array(hi))}
    return RealQuantize(x=x, scale=FloatArray.of(scale), rounding=rounding, overflow=Overflow.SAT, **arrays)


@given(seed=st.integers(0, 10**6), dyadic=st.booleans())
@examples(12)
def test_layers_of_tables_are_exact(seed: int, dyadic: bool) -> None:
    """Every integer up to the tables' results is that of real arithmetic, up to the output where scales are dyadic."""
    model = draw_tables(seed, dyadic=dyadic)
    quantized = checked(model, seed)
    assert "toq" in {value.real for value in quantized.frontier}
    tables = [layer for layer in quantized.report.layers if layer.kind == "tables"]
    assert [layer.layer for layer in tables] == ["toq"]
    if dyadic:
        assert quantized.frontier[0].real == prepare(model).outputs[0][1]
    for layer in quantized.report.layers if dyadic else tables:
        assert layer.exactness is None or layer.exactness.value == "exact"


@pytest.mark.slow
@pytest.mark.random
def test_many_layers_of_tables() -> None:
    """More networks, two layers one after the other."""
    made = 0
    for seed in seeds(40):
        made += tables_of(checked(draw_tables(seed, dyadic=seed % 2 == 0, sizes=(3, 3, 2)), seed, 20))
    assert made > 100


@given(seed=st.integers(0, 10**6), dyadic=st.booleans())
@examples(10)
def test_ordinary_layers_have_no_regions(seed: int, dyadic: bool) -> None:
    """What chains of each element do exactly stays with them."""
    model = prepare(draw(seed, dyadic=dyadic))
    constants = {n.name: n.op.values.array for n in model.nodes if hasattr(n.op, "values")}
    found = regions(model, constants)
    for region in found.values():
        kinds = {type(node.op) for node in region.nodes}
        assert RealFunction in kinds or RealLinear in kinds or Multiply in kinds
        assert kinds & {Reduce, RealLinear, Add, Rewire, Window}


def hidden_sum(bits: int, width: int, *, weights: np.ndarray | None = None, bias: float = 0.3) -> RealGraph:
    """Return a network in which each of two inputs reaches its result through `width` functions and a matrix."""
    drawing = Drawing(rng=np.random.default_rng(3), dyadic=True)
    builder = drawing.builder
    x = builder.add(quantizer(builder.add(RealInput(shape=(2, 1)), "x"), bits, 2.0**-3), "narrow")
    wide = builder.add(
        RealLinear(x=x, weight=FloatArray.of(np.ones((1, width))), bias=FloatArray.of(np.zeros(width))), "w"
    )
    scaled = builder.add(Multiply(x=wide, y=drawing.constant(single(drawing.rng, (width,)))), "scaled")
    hidden = builder.add(RealFunction(x=scaled, kind=FunctionKind.TANH), "tanh")
    matrix = np.float32(drawing.rng.normal(size=(width, 1))).astype(np.float64)
    y = builder.add(RealLinear(x=hidden, weight=FloatArray.of(matrix), bias=FloatArray.of([bias])), "sum")
    if weights is not None:
        index = IntArray.of(np.arange(2))
        flat = builder.add(Rewire(xs=(y,), index=index, shape=(2,)), "flat")
        y = builder.add(RealLinear(x=flat, weight=FloatArray.of(weights), bias=FloatArray.of([0.0])), "mixed")
    builder.output("y", builder.add(quantizer(y, 7, 2.0**-4, Rounding.RND_CONV), "closing"))
    return builder.build()


def test_elements_share_one_table() -> None:
    """Both elements have the same small network: one table, and nothing is multiplied."""
    quantized = checked(hidden_sum(6, 4), 1)
    assert tables_of(quantized) == 1
    assert not any(isinstance(node.op, Multiply) for node in quantized.graph.nodes)
    lookup = next(node for node in quantized.graph.nodes if isinstance(node.op, Lookup))
    assert lookup.type.size == 2
    assert len(lookup.op.table.ints()) <= 1 << 6


@pytest.mark.parametrize(
    ("bits", "weights", "taken"),
    [
        (6, None, True),
        (MAX_CODES.bit_length() - 1, None, True),
        (MAX_CODES.bit_length(), None, False),
        (6, np.array([[0.5], [0.0]]), True),
        (6, np.array([[0.5], [0.25]]), False),
    ],
)
def test_what_is_a_region(bits: int, weights: np.ndarray | None, taken: bool) -> None:
    """One narrow code for each element; a weight of 0 reads nothing."""
    model = prepare(hidden_sum(bits, 3, weights=weights))
    constants = {n.name: n.op.values.array for n in model.nodes if hasattr(n.op, "values")}
    found = regions(model, constants)
    assert bool(found) is taken
    if taken:
        (region,) = found.values()
        inner = inner_names(model, found)
        assert {node.name for node in region.nodes} == inner | {n.name for n in region.nodes if n.name in constants}
        expected = [0] if weights is not None else [0, 1]
        np.testing.assert_array_equal(region.depends.ravel(), expected)


@pytest.mark.parametrize("judged", [True, False])
def test_what_float64_decides_is_not_called_exact(monkeypatch: pytest.MonkeyPatch, judged: bool) -> None:
    """At 0 every function is 0, and the bias is half a step."""
    if not judged:
        monkeypatch.setattr(exact_tables, "MAX_JUDGED", 0)
    model = hidden_sum(4, 3, bias=2.0**-5)
    quantized = quantize_model(model, Events(inputs={"x": np.ones((4, 2, 1))}), OPTIONS)
    (layer,) = [layer for layer in quantized.report.layers if layer.kind == "tables"]
    told = "float64 decides near an edge between two results (codes: 1)"
    assert (layer.exactness, layer.note) == ((Exactness.EXACT, "") if judged else (Exactness.REQUANTIZED, told))
    assert ("closing" in {value.real for value in quantized.frontier}) is judged


def test_functions_that_only_shift_are_wires() -> None:
    """A table that shifts and saturates needs no memory."""
    drawing = Drawing(rng=np.random.default_rng(0), dyadic=True)
    builder = drawing.builder
    x = builder.add(quantizer(builder.add(RealInput(shape=(3,)), "x"), 6, 2.0**-2), "narrow")
    grown = builder.add(Multiply(x=x, y=drawing.constant(np.float64(np.float32(0.7)))), "grown")
    shrunk = builder.add(Multiply(x=x, y=drawing.constant(np.float64(np.float32(0.3)))), "shrunk")
    both = builder.add(Add(x=grown, y=shrunk), "both")
    builder.output("y", builder.add(quantizer(both, 4, 2.0**-1, Rounding.RND), "closing"))
    quantized = checked(builder.build(), 2)
    assert tables_of(quantized) == 0
    assert not any(isinstance(node.op, Multiply) for node in quantized.graph.nodes)


needs_hgq = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("hgq", "keras", "jax", "scipy")),
    reason="HGQ2 is not installed, or not what Keras' NumPy backend needs",
)


@needs_hgq
@pytest.mark.slow
def test_networks_of_hgq2(tmp_path: Path) -> None:
    """Layers of tables written by HGQ2: the integers of every layer held exactly are what HGQ2 computes."""
    from test_hgq import write_networks

    names = [*(f"tables-{seed}" for seed in (2, 3, 6, 15)), *(f"table_attention-{seed}" for seed in (1, 5, 11))]
    write_networks(tmp_path, names)
    made = compared = 0
    for name in names:
        with np.load(tmp_path / name / "expected.npz") as held:
            expected = {layer: held[layer].astype(np.float64) for layer in held.files}
        graph = load_model(tmp_path / name / "network.keras")
        inputs = {graph.inputs[0].name: expected.pop("x")}
        quantized = quantize_model(graph, Events(inputs=inputs), OPTIONS)
        made += tables_of(quantized)
        assert all(layer.exactness is None or layer.exactness.value == "exact" for layer in quantized.report.layers)
        found = exact_values(quantized.graph, quantized.frontier, encode_inputs(quantized.graph, inputs))
        for value in quantized.frontier:
            for tensor in set(value.tensors) & set(expected):
                kind = quantized.graph.type_of(value.value)
                decoded = np.broadcast_to(value.decoded(found[value.value], kind), expected[tensor].shape)
                np.testing.assert_array_equal(decoded, expected[tensor], err_msg=f"{name} {tensor}")
                compared += 1
    assert made > 60
    assert compared >= 2 * len(names)
