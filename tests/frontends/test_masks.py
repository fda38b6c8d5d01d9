"""Masks in front of softmax, maximum, exp and sigmoid: the integer network answers as if they were infinite."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from metronn.events.data import Events
from metronn.frontends.onnx.read import load_onnx
from metronn.ir.check import problems
from metronn.model.graph import Floats, RealGraph
from metronn.model.reference import run_reference
from metronn.passes.pipeline import quantize_model
from metronn.quantize.measure import run_fixed
from metronn.quantize.options import QuantizeOptions
from random_tests import examples

SIZES = {
    "-1e4": -1e4,
    "-1e9": -1e9,
    "-inf": -np.inf,
    "lowest float16": float(np.finfo(np.float16).min),
    "lowest float32": float(np.finfo(np.float32).min),
}
KINDS = (
    "constant",
    "where constant",
    "where",
    "where zero",
    "valid * A - A",
    "(1 - valid) * -A",
    "x - (1 - valid) * A",
)
READERS = ("Softmax", "ReduceMax", "Exp", "Sigmoid", "own softmax")


def network(kind: str, size: float, reader: str, shape: tuple[int, ...], axis: int, masked: Floats) -> RealGraph:
    """Return reader(x masked in one of the ways); `valid` is an input where the kind reads it."""
    node = helper.make_node
    constants = {"zero": np.float32(0), "one": np.float32(1), "A": np.float32(size), "minus": np.float32(-size)}
    constants["m"] = np.where(masked, size, 0).astype(np.float32)
    cast = node("Cast", ["valid"], ["bool"], to=TensorProto.BOOL)
    nodes = {
        "constant": [node("Add", ["x", "m"], ["z"])],
        "where constant": [node("Where", ["keep", "x", "A"], ["z"])],
        "where": [cast, node("Where", ["bool", "x", "A"], ["z"])],
        "where zero": [cast, node("Where", ["bool", "zero", "A"], ["w"]), node("Add", ["w", "x"], ["z"])],
        "valid * A - A": [
            node("Mul", ["valid", "minus"], ["p"]),
            node("Add", ["p", "A"], ["w"]),
            node("Add", ["x", "w"], ["z"]),
        ],
        "(1 - valid) * -A": [
            node("Sub", ["one", "valid"], ["p"]),
            node("Mul", ["p", "A"], ["w"]),
            node("Add", ["x", "w"], ["z"]),
        ],
        "x - (1 - valid) * A": [
            node("Sub", ["one", "valid"], ["p"]),
            node("Mul", ["p", "minus"], ["w"]),
            node("Sub", ["x", "w"], ["z"]),
        ],
    }[kind]
    arrays = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    arrays.append(numpy_helper.from_array(~masked.astype(bool), "keep"))
    arrays.append(numpy_helper.from_array(np.array([axis + 1]), "axes"))
    nodes += {
        "Softmax": [node("Softmax", ["z"], ["y"], axis=axis + 1)],
        "ReduceMax": [node("ReduceMax", ["z", "axes"], ["y"], keepdims=0)],
        "Exp": [node("Exp", ["z"], ["y"])],
        "Sigmoid": [node("Sigmoid", ["z"], ["y"])],
        "own softmax": [
            node("ReduceMax", ["z", "axes"], ["top"], keepdims=1),
            node("Sub", ["z", "top"], ["below"]),
            node("Exp", ["below"], ["e"]),
            node("ReduceSum", ["e", "axes"], ["s"], keepdims=1),
            node("Div", ["e", "s"], ["y"]),
        ],
    }[reader]
    inputs = ["x"] if "constant" in kind else ["x", "valid"]
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *shape]) for name in inputs],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        arrays,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return load_onnx(Path("test.onnx"), model.SerializeToString())


def answer(x: Floats, valid: Floats, reader: str, axis: int) -> Floats:
    """Compute in NumPy what an infinite mask gives."""
    z = np.where(valid > 0, x, -np.inf)
    match reader:
        case "ReduceMax":
            return z.max(axis=axis + 1)
        case "Exp":
            return np.exp(z)
        case "Sigmoid":
            return 1 / (1 + np.exp(-z))
        case _:
            e = np.exp(z - z.max(axis=axis + 1, keepdims=True))
            return e / e.sum(axis=axis + 1, keepdims=True)


def largest_error(
    kind: str, size: float, reader: str, shape: tuple[int, ...], axis: int, spread: float, bits: int, seed: int
) -> float:
    """Quantize on random events, of which every row keeps an element; return the error relative to the largest."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(200, *shape)) * spread
    masked = rng.random(shape) < 0.4
    masked[tuple(0 if a == axis else slice(None) for a in range(len(shape)))] = False
    valid = np.broadcast_to(~masked, x.shape) if "constant" in kind else rng.random(x.shape) < 0.6
    valid = valid.copy()
    np.moveaxis(valid, axis + 1, 0)[0] = True
    model = network(kind, size, reader, shape, axis, masked)
    events = {node.name: x if node.name == "x" else valid.astype(float) for node in model.inputs}
    quantized = quantize_model(
        model, Events(inputs=events), QuantizeOptions(weight_bits=bits, activation_bits=bits, metric="none")
    )
    assert problems(quantized.graph) == ()
    assert max(node.type.range.width_bits for node in quantized.graph.nodes) <= 64
    expected = answer(x, valid, reader, axis)
    error = np.abs(run_fixed(quantized.graph, events)["y"] - expected)
    return float(error.max() / max(1.0, np.abs(expected).max()))


def made(kind: str, size: str) -> float:
    """Return the number of the mask; 0 times infinity is NaN in the framework too."""
    return SIZES["lowest float32" if size == "-inf" and "* " in kind else size]


@pytest.mark.parametrize(
    ("reader", "size"), [(r, s) for k, r in enumerate(READERS) for s in (*SIZES, *SIZES)[k : k + 2]]
)
@pytest.mark.parametrize("kind", KINDS)
def test_masks_leave_the_rest_its_bits(kind: str, size: str, reader: str) -> None:
    if size in ("-1e4", "-inf", "lowest float16"):
        assert largest_error(kind, made(kind, size), reader, (6,), 0, 1.0, 16, 1) <= 0.01
    else:
        assert largest_error(kind, made(kind, size), reader, (3, 5), 1, 1.0, 8, 2) <= 0.03


@examples(20)
@given(
    kind=st.sampled_from(KINDS),
    size=st.sampled_from(sorted(SIZES)),
    reader=st.sampled_from(READERS),
    shape=st.lists(st.integers(2, 9), min_size=1, max_size=3).map(tuple),
    data=st.data(),
    spread=st.sampled_from((0.01, 0.3, 1.0, 5.0)),
    wide=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_random_masks(
    kind: str, size: str, reader: str, shape: tuple[int, ...], data: st.DataObject, spread: float, wide: bool, seed: int
) -> None:
    axis = data.draw(st.integers(0, len(shape) - 1))
    if wide or spread > 1:  # 8 bits of larger numbers are coarse for an exponential, masks or not
        assert largest_error(kind, made(kind, size), reader, shape, axis, spread, 16, seed) <= 0.01
    else:
        assert largest_error(kind, made(kind, size), reader, shape, axis, spread, 8, seed) <= 0.03


def test_an_ordinary_offset_is_no_mask() -> None:
    """A pedestal of 600 below values up to 1000 keeps its size: what remains above it counts."""
    x = np.random.default_rng(3).uniform(0, 1000, size=(200, 4))
    model = network("constant", -600.0, "ReduceMax", (4,), 0, np.array([0, 1, 1, 1]))
    quantized = quantize_model(model, Events(inputs={"x": x}), QuantizeOptions(activation_bits=16, metric="none"))
    expected = run_reference(model, {"x": x})["y"]
    assert np.abs(run_fixed(quantized.graph, {"x": x})["y"] - expected).max() < 0.1


def test_rows_of_masked_elements_alone_keep_what_the_float_network_gives() -> None:
    x = np.random.default_rng(4).normal(size=(200, 4))
    valid = np.zeros_like(x)
    valid[:, 0] = np.arange(200) % 2
    model = network("where", -1e9, "Softmax", (4,), 0, np.zeros(4))
    quantized = quantize_model(model, Events(inputs={"x": x, "valid": valid}), QuantizeOptions(metric="none"))
    got = run_fixed(quantized.graph, {"x": x, "valid": valid})["y"]
    assert np.abs(got - run_reference(model, {"x": x, "valid": valid})["y"]).max() < 0.01
    model = network("where", -1e9, "ReduceMax", (4,), 0, np.zeros(4))
    quantized = quantize_model(model, Events(inputs={"x": x, "valid": valid}), QuantizeOptions(metric="none"))
    got = run_fixed(quantized.graph, {"x": x, "valid": valid})["y"]
    assert np.abs(got[::2] / -1e9 - 1).max() < 0.02
