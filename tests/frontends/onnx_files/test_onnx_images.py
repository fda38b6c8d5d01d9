"""Random channels-first networks in ONNX against the reference evaluator, before and after the passes."""

from __future__ import annotations

from collections.abc import Callable
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
from metronn.frontends.onnx.read import load_onnx
from metronn.ir.ops import Rewire
from metronn.model.reference import run_reference
from metronn.passes.pipeline import prepare
from random_tests import examples

Close = Callable[[object, object], None]


LAYERS = ("conv", "grouped", "norm", "function", "max", "average", "pad", "skip", "slice", "mean")


class Network:
    """A model that grows node by node; shapes are those of events, channels first."""

    def __init__(self, seed: int, *shape: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}
        self.input = self.shape = shape
        self.value = "x"

    def constant(self, values: Any, kind: Any = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(values, dtype=kind)
        return name

    def weights(self, *shape: int) -> str:
        return self.constant(self.rng.normal(size=shape) / np.sqrt(np.prod(shape[1:] or (1,))))

    def add(self, kind: str, *inputs: str, value: str | None = None, **attributes: object) -> str:
        out = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, [value or self.value, *inputs], [out], name=out, **attributes))
        self.value = out
        self.shape = self.run(np.zeros((2, *self.input)))[0].shape[1:]
        return out

    def model(self) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "images",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *self.input])],
            [helper.make_tensor_value_info(self.value, TensorProto.FLOAT, None)],
            [numpy_helper.from_array(values, name) for name, values in self.constants.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)

    def run(self, x: np.ndarray) -> list[np.ndarray]:
        return list(ReferenceEvaluator(self.model()).run(None, {"x": x.astype(np.float32)}))

    def check(self, close: Close) -> Any:
        """Compare, and return the network after the passes."""
        x = self.rng.normal(size=(3, *self.input)).astype(np.float32)
        (expected,) = self.run(x)
        graph = load_onnx(Path("images.onnx"), self.model().SerializeToString())
        prepared = prepare(graph)
        for network in (graph, prepared):
            (found,) = run_reference(network, {"x": x.astype(np.float64)}).values()
            close(found, expected)
        return prepared


def normalized(net: Network) -> None:
    """Add a batch normalization."""
    count = net.shape[0]
    stats = [net.constant(np.abs(net.rng.normal(size=count)) + 0.2) for _ in range(4)]
    net.add("BatchNormalization", *stats)


def grow(draw: st.DrawFn, net: Network) -> None:
    """Add one random layer."""
    channels, *spatial = net.shape
    rank, room = len(spatial), min(spatial)
    kernel = [draw(st.integers(1, min(3, room))) for _ in range(rank)]
    strides = [draw(st.integers(1, min(2, k))) for k in kernel]  # the evaluator of onnx 1.23 fails on larger ones
    pads = [draw(st.integers(0, k - 1)) for k in kernel] * 2
    around = draw(st.sampled_from([{"pads": pads}, {"auto_pad": "SAME_UPPER"}, {"auto_pad": "SAME_LOWER"}]))
    match draw(
        st.sampled_from(["conv", "grouped", "norm", "function", "max", "average", "pad", "skip", "slice", "mean"])
    ):
        case "conv":
            net.add("Conv", net.weights(draw(st.integers(1, 4)), channels, *kernel), strides=strides, **around)
        case "grouped":
            weights = net.weights(2 * channels, 1, *kernel)
            net.add("Conv", weights, net.weights(2 * channels), group=channels, strides=strides, **around)
        case "norm":
            normalized(net)
        case "function":
            net.add(draw(st.sampled_from(["Relu", "Tanh", "Selu", "HardSwish", "Softplus"])))
        case "max":
            net.add("MaxPool", kernel_shape=kernel, strides=strides, pads=pads)
        case "average":
            counted = draw(st.integers(0, 1))
            net.add("AveragePool", kernel_shape=kernel, strides=strides, count_include_pad=counted, pads=pads)
        case "pad":
            added = [draw(st.integers(0, 2)) for _ in range(2 * rank)]
            amounts = net.constant([0, 0, *added[:rank], 0, 0, *added[rank:]], np.int64)
            net.add("Pad", amounts)
        case "skip":
            before = net.value
            net.add("Conv", net.weights(channels, channels, *[1] * rank))
            net.add(draw(st.sampled_from(["Add", "Mul", "Max"])), before)
        case "slice":
            ends, axes = net.constant([max(1, spatial[0] - 1)], np.int64), net.constant([2], np.int64)
            net.add("Slice", net.constant([0], np.int64), ends, axes)
        case _:
            before = net.value
            net.add("GlobalAveragePool")
            net.add("Mul", before)


@examples(40)
@given(data=st.data())
def test_random_images_agree(data: st.DataObject, assert_close: Close) -> None:
    spatial = data.draw(st.sampled_from([(9,), (6, 7), (8, 5)]))
    net = Network(data.draw(st.integers(0, 99)), data.draw(st.integers(1, 3)), *spatial)
    for _ in range(data.draw(st.integers(1, 5))):
        data.draw(st.composite(lambda draw: grow(draw, net))())
    if data.draw(st.booleans()):
        net.add("Flatten")
        net.add("Gemm", net.weights(net.shape[0], 3))
    net.check(assert_close)


def test_a_network_of_images_transposes_its_input_only(assert_close: Close) -> None:
    net = Network(0, 3, 16, 16)
    for filters in (8, 6):
        net.add("Conv", net.weights(filters, net.shape[0], 3, 3), net.weights(filters), pads=[1, 1, 1, 1])
        normalized(net)
        net.add("Relu")
        net.add("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    net.add("Flatten")
    net.add("Gemm", net.weights(net.shape[0], 5), net.weights(5))
    prepared = net.check(assert_close)
    moves = [node for node in prepared.nodes if isinstance(node.op, Rewire)]
    changing = [n for n in moves if not np.array_equal(n.op.index.array.ravel(), np.arange(n.op.index.array.size))]
    assert [node.shape for node in changing] == [(16, 16, 3)]
    kinds = [type(node.op).__name__ for node in prepared.nodes]
    assert "Multiply" not in kinds and "Add" not in kinds


@pytest.mark.parametrize(
    ("kind", "weights", "attributes", "message"),
    [
        ("Conv", (4, 3, 3, 3), {}, "3 channels"),
        ("Conv", (4, 2, 3, 3), {"kernel_shape": [2, 2]}, r"kernel_shape \(2, 2\), the weights c0 have \(3, 3\)"),
        ("Conv", (4, 2, 3), {}, r"weights c0 of shape \(4, 2, 3\) for 2 spatial axes"),
        ("Conv", (4, 2, 3, 3), {"strides": [1]}, r"strides \(1,\) for 2 spatial axes"),
        ("Conv", (4, 2, 3, 3), {"pads": [1, 1]}, r"pads \(1, 1\) for 2 spatial axes"),
        ("Conv", (4, 2, 3, 3), {"auto_pad": "SOME"}, "auto_pad SOME; NOTSET, VALID, SAME_UPPER and SAME_LOWER"),
        ("Conv", (4, 2, 9, 9), {}, "larger than"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    kind: str, weights: tuple[int, ...], attributes: dict[str, Any], message: str
) -> None:
    net = Network(0, 2, 6, 6)
    name = net.weights(*weights)
    net.nodes.append(helper.make_node(kind, ["x", name], ["y"], name="layer", **attributes))
    net.value = "y"
    with pytest.raises(ModelError, match=message):
        load_onnx(Path("images.onnx"), net.model().SerializeToString())


def test_the_places_of_maxima_are_refused() -> None:
    net = Network(0, 2, 6, 6)
    net.nodes.append(helper.make_node("MaxPool", ["x"], ["y", "places"], name="layer", kernel_shape=[2, 2]))
    net.value = "y"
    with pytest.raises(ModelError, match="gives the places of the maxima"):
        load_onnx(Path("images.onnx"), net.model().SerializeToString())


def test_without_batch_axis_every_axis_is_the_events(assert_close: Close) -> None:
    node = helper.make_node("ReduceMax", ["x"], ["y"], name="layer", keepdims=0)
    graph = helper.make_graph(
        [node],
        "event",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()
    with pytest.raises(ModelError, match="works along the batch axis 0"):
        load_onnx(Path("event.onnx"), content)
    network = load_onnx(Path("event.onnx"), content, batched=False)
    x = np.random.default_rng(0).normal(size=(5, 4, 3))
    assert network.inputs[0].shape == (4, 3)
    assert_close(run_reference(network, {"x": x})["y"], x.max(axis=(1, 2)))
