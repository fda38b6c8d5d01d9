"""The batch on other axes than 0, and merged with them, on its way through ONNX models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from metronn.errors import ModelError
from metronn.frontends.onnx.batch import FRONT, Place, places
from metronn.frontends.onnx.read import load_onnx
from metronn.model.graph import RealInput, RealLinear
from metronn.model.reference import run_reference
from random_tests import examples

Close = Callable[[object, object], None]


@dataclass
class Network:
    """A model being written: its nodes and constants; `add` returns the name of the node's result."""

    shapes: dict[str, list[Any]]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, kind: str, *inputs: str | np.ndarray, **attributes: object) -> str:
        """Append a node; arrays become initializers."""
        out, names = f"v{len(self.nodes)}", []
        for position, given_input in enumerate(inputs):
            if isinstance(given_input, np.ndarray):
                names.append(f"{out}.c{position}")
                self.constants[names[-1]] = given_input
            else:
                names.append(given_input)
        self.nodes.append(helper.make_node(kind, names, [out], name=out, **attributes))
        return out

    def model(self, *outputs: str) -> onnx.ModelProto:
        """Return the model."""
        graph = helper.make_graph(
            self.nodes,
            "test",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in self.shapes.items()],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            [numpy_helper.from_array(array, name) for name, array in self.constants.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    def read(self, *outputs: str) -> Any:
        """Read the model."""
        return load_onnx(Path("test.onnx"), self.model(*outputs).SerializeToString())

    def check(self, close: Close, *outputs: str, events: int = 5) -> None:
        """Compare the network read with the evaluator of the onnx package."""
        graph, random = self.read(*outputs), np.random.default_rng(3)
        feeds = {node.name: random.normal(size=(events, *node.shape)).astype(np.float32) for node in graph.inputs}
        expected = ReferenceEvaluator(self.model(*outputs)).run(None, feeds)
        found = run_reference(graph, {name: values.astype(np.float64) for name, values in feeds.items()})
        for value, reference in zip(found.values(), expected, strict=True):
            close(value, reference)


def ints(*values: int) -> np.ndarray:
    """Return int64 values."""
    return np.array(values, dtype=np.int64)


def weights(*shape: int) -> np.ndarray:
    """Return random float32 weights."""
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


@st.composite
def journeys(draw: st.DrawFn) -> tuple[Network, str, int]:
    """Draw a network in which the batch moves, merges and parts again; (network, output, fixed batch or 0).

    Every axis is a list of (letter, size), "b" the batch with size 0.
    """
    sizes = draw(st.lists(st.integers(2, 4), min_size=1, max_size=3))
    fixed = draw(st.sampled_from([0, 0, 1, 2]))
    network = Network({"x": [fixed or "n", *sizes]})
    axes = [[("b", 0)], *([(letter, size)] for letter, size in zip("cde", sizes, strict=False))]
    x = "x"

    def size(axis: list[tuple[str, int]]) -> int:
        return int(np.prod([n for _, n in axis if n], dtype=np.int64))

    def reshaped(y: str) -> str:
        return network.add("Reshape", y, ints(*(-1 if ("b", 0) in axis else size(axis) for axis in axes)))

    for _ in range(draw(st.integers(1, 7))):
        free = [k for k, axis in enumerate(axes) if ("b", 0) not in axis]
        kind = draw(st.sampled_from(["Transpose", "merge", "part", "Relu", "MatMul", "Softmax", "ReduceMax", "Add"]))
        if kind == "Transpose":
            order = draw(st.permutations(range(len(axes))))
            axes = [axes[k] for k in order]
            x = network.add("Transpose", x, perm=order)
        elif kind == "merge" and len(axes) > 1:
            at = draw(st.integers(0, len(axes) - 2))
            axes[at : at + 2] = [axes[at] + axes[at + 1]]
            x = reshaped(x)
        elif kind == "part":
            axes = [[factor] for axis in axes for factor in axis]
            x = reshaped(x)
        elif kind == "Relu":
            x = network.add("Relu", x)
        elif kind == "MatMul" and len(axes) > 1 and ("b", 0) not in axes[-1]:
            x = network.add("MatMul", x, weights(size(axes[-1]), 3))
            axes[-1] = [(f"m{len(network.nodes)}", 3)]
        elif kind in ("Softmax", "ReduceMax") and free:
            at = draw(st.sampled_from(free))
            more = {"axis": at} if kind == "Softmax" else {"axes": [at], "keepdims": 1}
            x = network.add(kind, x, **more)
            axes[at] = axes[at] if kind == "Softmax" else [(f"r{len(network.nodes)}", 1)]
        elif kind == "Add":
            shape = [1 if ("b", 0) in axis else size(axis) for axis in axes]
            x = network.add("Add", x, weights(*shape))
    axes = [[factor] for axis in axes for factor in axis]
    x = reshaped(x)
    at = axes.index([("b", 0)])
    x = network.add("Transpose", x, perm=[at, *(k for k in range(len(axes)) if k != at)])
    return network, x, fixed


@examples(80)
@given(journey=journeys())
def test_a_batch_that_moves_and_comes_back_is_followed(journey: tuple[Network, str, int], assert_close: Close) -> None:
    network, output, fixed = journey
    network.check(assert_close, output, events=fixed or 5)


@examples(50)
@given(
    event=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    events=st.integers(2, 5),
    data=st.data(),
)
def test_joining_and_parting_events_undo_each_other(event: list[int], events: int, data: st.DataObject) -> None:
    axis = data.draw(st.integers(0, len(event) - 1))
    outer = data.draw(st.sampled_from([n for n in range(1, event[axis] + 1) if event[axis] % n == 0]))
    place = Place(axis, outer, event[axis] // outer)
    rows = np.random.default_rng(0).normal(size=(events, *event))
    joined = place.joined(rows)
    assert joined.shape == place.shape(event, events)
    assert np.array_equal(place.parted(joined, events), rows)
    assert place in set(places(joined.shape, events))


def test_dense_layers_over_all_particles_of_a_batch_are_one_matrix(assert_close: Close) -> None:
    network = Network({"x": ["n", 5, 4]})
    flat = network.add("Reshape", "x", ints(-1, 4))
    hidden = network.add("Relu", network.add("Gemm", flat, weights(4, 3), weights(3)))
    output = network.add("Reshape", hidden, ints(-1, 5, 3))
    network.check(assert_close, output)
    linear = [node for node in network.read(output).nodes if isinstance(node.op, RealLinear)]
    assert [node.shape for node in linear] == [(5, 3)]


def attention(network: Network, x: str, tokens: int, width: int, heads: int) -> str:
    """Self-attention as PyTorch exports it: (token, batch, channel), then batch and heads on one axis."""
    size = width // heads
    x = network.add("Transpose", x, perm=[1, 0, 2])
    parts = []
    for _ in range(3):
        part = network.add("Add", network.add("MatMul", x, weights(width, width)), weights(width))
        part = network.add("Reshape", part, ints(tokens, -1, size))
        parts.append(network.add("Transpose", part, perm=[1, 0, 2]))
    keys = network.add("Transpose", parts[1], perm=[0, 2, 1])
    scores = network.add("Softmax", network.add("MatMul", parts[0], keys), axis=-1)
    y = network.add("Transpose", network.add("MatMul", scores, parts[2]), perm=[1, 0, 2])
    y = network.add("Gemm", network.add("Reshape", y, ints(-1, width)), weights(width, width), weights(width), transB=1)
    return network.add("Transpose", network.add("Reshape", y, ints(tokens, -1, width)), perm=[1, 0, 2])


@pytest.mark.parametrize("batch", ["n", 1, 3])
def test_attention_with_the_batch_on_axis_1(batch: int | str, assert_close: Close) -> None:
    network = Network({"x": [batch, 4, 6]})
    y = attention(network, "x", 4, 6, 2)
    output = network.add("LayerNormalization", network.add("Add", "x", y), weights(6), weights(6))
    network.check(assert_close, output, events=batch if isinstance(batch, int) else 5)


@pytest.mark.parametrize("kind", ["Squeeze", "Reshape", "Flatten"])
def test_one_number_per_event(kind: str, assert_close: Close) -> None:
    network = Network({"x": ["n", 4]})
    y = network.add("MatMul", "x", weights(4, 1))
    match kind:
        case "Squeeze":
            y = network.add("Squeeze", y, ints(-1))
        case "Reshape":
            y = network.add("Reshape", y, ints(-1))
        case "Flatten":
            y = network.add("Squeeze", network.add("Flatten", y, axis=0), ints(0))
    output = network.add("Sigmoid", network.add("Add", y, np.float32(0.5) * np.ones(1, np.float32)))
    network.check(assert_close, output)
    assert network.read(output).by_name[network.read(output).outputs[0][1]].shape == ()


def test_a_batch_of_one_may_lose_its_axis(assert_close: Close) -> None:
    network = Network({"x": [1, 4, 3]})
    y = network.add("MatMul", network.add("Squeeze", "x", ints(0)), weights(3, 2))
    y = network.add("Softmax", y, axis=0)
    network.check(assert_close, network.add("Unsqueeze", y, ints(0)), events=1)


def test_constants_and_computed_tensors_meet_where_the_batch_is(assert_close: Close) -> None:
    network = Network({"x": ["n", 3, 2], "z": ["n", 2]})
    moved = network.add("Transpose", "x", perm=[1, 0, 2])
    both = network.add("Add", network.add("Mul", moved, weights(3, 1, 2)), "z")
    longer = network.add("Concat", both, moved, axis=0)
    pooled = network.add("ReduceMean", longer, axes=[0], keepdims=0)
    network.check(assert_close, pooled)


def test_an_einsum_moves_the_batch(assert_close: Close) -> None:
    network = Network({"x": ["n", 3, 2]})
    y = network.add("Einsum", "x", weights(2, 4), equation="btc,ch->tbh")
    network.check(assert_close, network.add("Transpose", network.add("Tanh", y), perm=[1, 0, 2]))


def test_sizes_of_a_moved_tensor_are_known(assert_close: Close) -> None:
    network = Network({"x": ["n", 3, 4]})
    moved = network.add("Transpose", "x", perm=[1, 0, 2])
    shape = network.add("Shape", moved)
    first, batch, last = (network.add("Gather", shape, ints(k)) for k in range(3))
    heads = network.add("Mul", batch, ints(2))
    half = network.add("Div", last, ints(2))
    split = network.add("Reshape", moved, network.add("Concat", first, heads, half, axis=0))
    scaled = network.add("Div", split, network.add("Sqrt", network.add("Cast", half, to=1)))
    back = network.add("Reshape", scaled, network.add("Concat", first, batch, last, axis=0))
    network.check(assert_close, network.add("Transpose", back, perm=[1, 0, 2]))


def test_constants_of_the_size_of_the_batch(assert_close: Close) -> None:
    network = Network({"x": ["n", 3]})
    batch = network.add("Shape", "x", start=0, end=1)
    shape = network.add("Concat", batch, ints(2), axis=0)
    ones = network.add("ConstantOfShape", shape, value=helper.make_tensor("v", TensorProto.FLOAT, [1], [1.5]))
    joined = network.add("Concat", network.add("Expand", weights(1, 2), shape), "x", ones, axis=1)
    network.check(assert_close, network.add("Tanh", joined))


MIXING: dict[str, tuple[Callable[[Network], str], str]] = {
    "sum over the batch": (
        lambda n: n.add("ReduceSum", n.add("Transpose", "x", perm=[1, 0, 2]), ints(1), keepdims=1),
        r"v1 \(ReduceSum\): mixes the elements of different events: no axis of the result \(3, 1, 4\)",
    ),
    "softmax over batch and particles": (
        lambda n: n.add("Softmax", n.add("Reshape", "x", ints(-1, 4)), axis=0),
        r"v1 \(Softmax\): mixes the elements of different events",
    ),
    "two tensors with the batch on different axes": (
        lambda n: n.add("Add", n.add("Transpose", "x", perm=[1, 0, 2]), n.add("Reshape", "x", ints(1, -1, 4))),
        r"v2 \(Add\): mixes the elements of different events",
    ),
    "events side by side": (
        lambda n: n.add("Reshape", n.add("Transpose", "x", perm=[1, 0, 2]), ints(-1, 3, 4)),
        r"v1 \(Reshape\): mixes the elements of different events: no axis of the result \(61, 3, 4\), computed for 61",
    ),
    "a product of all events": (
        lambda n: n.add("MatMul", n.add("Reshape", "x", ints(-1, 4)), n.add("Reshape", "x", ints(4, -1))),
        "mixes the elements of different events",
    ),
    "the batch stays elsewhere": (
        lambda n: n.add("Transpose", "x", perm=[1, 0, 2]),
        r"output v0: moves the batch axis 0: axis 1 of shape \(3, 61, 4\) for 61 events is the batch; end the model",
    ),
    "the batch stays merged": (
        lambda n: n.add("Reshape", "x", ints(-1, 4)),
        r"axis 0 of shape \(183, 4\) for 61 events is the batch times 3 elements of every event",
    ),
    "the size of the batch as a factor": (
        lambda n: n.add("Mul", "x", n.add("Cast", n.add("Shape", "x", start=0, end=1), to=1)),
        "v2: depends on the size of the batch",
    ),
    "as many features as the batch has events": (
        lambda n: n.add("Slice", "x", ints(0), n.add("Sub", n.add("Shape", "x", start=0, end=1), ints(59)), ints(2)),
        "depends on the size of the batch",
    ),
}


@pytest.mark.parametrize("name", MIXING)
def test_what_mixes_events_is_refused_by_name(name: str) -> None:
    build, message = MIXING[name]
    network = Network({"x": ["n", 3, 4]})
    output = build(network)
    with pytest.raises(ModelError, match=message):
        network.read(output)


def test_a_network_that_never_moves_the_batch_is_read_as_before() -> None:
    network = Network({"x": ["n", 4]})
    graph = network.read(network.add("Relu", network.add("MatMul", "x", weights(4, 3))))
    assert [node.shape for node in graph.nodes if not isinstance(node.op, RealInput)] == [(3,), (), (3,)]
    assert Place(0) == FRONT
