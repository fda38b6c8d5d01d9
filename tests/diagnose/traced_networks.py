"""Networks whose values live on in their integer graphs in ways a trace has to see through."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from metronn.diagnose.kept import kept_of
from metronn.diagnose.subject import Subject
from metronn.events.data import Events
from metronn.ir.arrays import IntArray
from metronn.ir.ops import Add, Extremum, Multiply, Overflow, Rewire, Rounding, Window
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
from metronn.passes.pipeline import quantize_model
from metronn.quantize.options import QuantizeOptions

OPTIONS = QuantizeOptions(metric="none")


def linear(x: str, weight: Floats, bias: Floats) -> RealLinear:
    """Return a matrix op."""
    return RealLinear(x=x, weight=FloatArray.of(weight), bias=FloatArray.of(bias))


def subject_of(model: RealGraph, inputs: dict[str, Floats], options: QuantizeOptions = OPTIONS) -> Subject:
    """Quantize a network on events and return it beside its integers."""
    quantized = quantize_model(model, Events(inputs=inputs), options)
    return Subject(network=model, graph=quantized.graph, kept=kept_of(quantized, quantized.graph))


def unlike_channels() -> RealGraph:
    """Two matrices with a ReLU between, whose channels reach from 1/30 to 30: rescaling brings them together."""
    rng = np.random.default_rng(4)
    spread = np.geomspace(1 / 30, 30, 12)
    builder = RealGraphBuilder()
    x = builder.add(RealInput(shape=(6,)), "x")
    x = builder.add(linear(x, rng.normal(size=(6, 12)) * spread, rng.normal(size=12) * spread), "first")
    zero = builder.add(RealConstant(values=FloatArray.of(0.0)), "zero")
    x = builder.add(Extremum(x=x, y=zero), "first.relu", "first")
    x = builder.add(linear(x, rng.normal(size=(12, 3)) / spread[:, np.newaxis], np.zeros(3)), "second")
    builder.output("y", x)
    return builder.build()


def normalized_twice() -> RealGraph:
    """A matrix, a batch normalization of two steps, a ReLU, a matrix."""
    rng = np.random.default_rng(5)
    builder = RealGraphBuilder()
    x = builder.add(RealInput(shape=(5,)), "x")
    x = builder.add(linear(x, rng.normal(size=(5, 8)), rng.normal(size=8)), "dense")
    scale = builder.add(RealConstant(values=FloatArray.of(rng.uniform(0.5, 2, 8))), "bn.scale", "bn")
    x = builder.add(Multiply(x=x, y=scale), "bn", "bn")
    shift = builder.add(RealConstant(values=FloatArray.of(rng.normal(size=8))), "bn.shift", "bn")
    x = builder.add(Add(x=x, y=shift), "bn.add", "bn")
    zero = builder.add(RealConstant(values=FloatArray.of(0.0)), "zero")
    x = builder.add(Extremum(x=x, y=zero), "relu")
    builder.output("y", builder.add(linear(x, rng.normal(size=(8, 2)), np.zeros(2)), "last"))
    return builder.build()


def moved(builder: RealGraphBuilder, x: str, order: tuple[int, ...], name: str) -> str:
    """Add a transpose."""
    shape = builder.shapes[x]
    index = np.arange(int(np.prod(shape))).reshape(shape).transpose(order)
    return builder.add(Rewire(xs=(x,), index=IntArray.of(index), shape=index.shape), name)


def masked() -> RealGraph:
    """A softmax over logits of which an input of zeros and ones takes some away, as attention does."""
    rng = np.random.default_rng(8)
    builder = RealGraphBuilder()
    x = builder.add(linear(builder.add(RealInput(shape=(4,)), "x"), rng.normal(size=(4, 5)), np.zeros(5)), "logits")
    far = builder.add(RealConstant(values=FloatArray.of(-1e9)), "far")
    mask = builder.add(Multiply(x=builder.add(RealInput(shape=(5,)), "mask"), y=far), "away")
    sums = builder.add(Add(x=x, y=mask), "masked")
    builder.output("y", builder.add(RealSoftmax(x=sums, axis=0), "softmax"))
    return builder.build()


def channels_first() -> RealGraph:
    """A convolution of 3 x 3 as ONNX has it, channels first around a product with channels last; a bias of its own."""
    rng = np.random.default_rng(6)
    builder = RealGraphBuilder()
    x = builder.add(RealInput(shape=(2, 6, 5)), "x")
    x = moved(builder, x, (1, 2, 0), "conv")
    window = Window(x=x, kernel=(3, 3), strides=(1, 1), dilations=(1, 1), before=(1, 1), after=(1, 1))
    x = builder.add(window, "conv.window", "conv")
    x = builder.add(linear(x, rng.normal(size=(18, 4)), np.zeros(4)), "conv.linear", "conv")
    x = moved(builder, x, (2, 0, 1), "conv.transpose")
    bias = builder.add(RealConstant(values=FloatArray.of(rng.normal(size=(4, 1, 1)))), "bias.constant", "bias")
    x = builder.add(Add(x=x, y=bias), "bias")
    zero = builder.add(RealConstant(values=FloatArray.of(0.0)), "zero")
    x = builder.add(Extremum(x=x, y=zero), "relu")
    size = int(np.prod(builder.shapes[x]))
    x = builder.add(Rewire(xs=(x,), index=IntArray.of(np.arange(size)), shape=(size,)), "flat")
    builder.output("y", builder.add(linear(x, rng.normal(size=(size, 2)) / 8, np.zeros(2)), "last"))
    tensors = (("conv_out", "conv.transpose"), ("bias_out", "bias"), ("relu_out", "relu"), ("flat_out", "flat"))
    return replace(builder.build(), tensors=tensors)


def dyadic(seed: int) -> RealGraph:
    """A random quantized network with power-of-two steps: float64 holds each of its values.

    Matrices, sums of two values, ReLU and transposes, each behind a quantizer of its own, its input quantized too.
    """
    rng = np.random.default_rng(seed)
    builder = RealGraphBuilder()
    zero = builder.add(RealConstant(values=FloatArray.of(0.0)), "zero")
    x = _quantized(builder, rng, builder.add(RealInput(shape=(3, 4)), "x"))
    for layer in range(int(rng.integers(1, 4))):
        kind = rng.integers(4)
        if kind == 0:
            weight = rng.integers(-8, 9, (builder.shapes[x][-1], 4)) / 8
            y = builder.add(linear(x, weight, rng.integers(-8, 9, 4) / 16), f"dense{layer}")
        elif kind == 1:
            y = builder.add(Add(x=x, y=_quantized(builder, rng, x), subtract=bool(rng.integers(2))), f"add{layer}")
        elif kind == 2:
            y = builder.add(Extremum(x=x, y=zero), f"relu{layer}")
        else:
            y = moved(builder, x, (1, 0), f"move{layer}")
        x = _quantized(builder, rng, y) if rng.integers(3) else y
    builder.output("y", x)
    model = builder.build()
    return replace(model, tensors=tuple((f"t.{node.name}", node.name) for node in model.nodes[2:]))


def _quantized(builder: RealGraphBuilder, rng: np.random.Generator, x: str) -> str:
    low, high = (-16, 15) if rng.integers(2) else (0, 31)
    op = RealQuantize(
        x=x,
        scale=FloatArray.of(2.0 ** -rng.integers(1, 4, builder.shapes[x][-1:]).astype(float)),
        lo=IntArray.of(np.array(low)),
        hi=IntArray.of(np.array(high)),
        rounding=Rounding.RND,
        overflow=Overflow.SAT,
    )
    return builder.add(op, "quantizer")


def write_qonnx(path: Path, seed: int = 3) -> Path:
    """Write a QONNX file: two matrices of multiples of 1/16, a ReLU between, quantizers of step 0.1 before both."""
    rng = np.random.default_rng(seed)
    arrays = {
        "step": np.array(0.1, np.float32),
        "zero": np.array(0, np.float32),
        "bits": np.array(6, np.float32),
        "w1": (rng.integers(-16, 17, (5, 7)) / 16).astype(np.float32),
        "w2": (rng.integers(-16, 17, (7, 3)) / 16).astype(np.float32),
    }

    def quant(x: str, y: str) -> onnx.NodeProto:
        return helper.make_node(
            "Quant",
            [x, "step", "zero", "bits"],
            [y],
            domain="qonnx.custom_op.general",
            signed=1,
            narrow=0,
            rounding_mode="ROUND",
        )

    nodes = [
        quant("x", "xq"),
        helper.make_node("MatMul", ["xq", "w1"], ["m1"]),
        helper.make_node("Relu", ["m1"], ["r1"]),
        quant("r1", "rq"),
        helper.make_node("MatMul", ["rq", "w2"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "qonnx",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 5])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("qonnx.custom_op.general", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path


def write_float(path: Path) -> Path:
    """Write a float network: two matrices with a ReLU between, whose channels reach from 1/10 to 10."""
    rng = np.random.default_rng(5)
    spread = np.geomspace(0.1, 10, 8)
    arrays = {
        "w1": (rng.normal(size=(4, 8)) * spread).astype(np.float32),
        "b1": (rng.normal(size=8) * spread).astype(np.float32),
        "w2": (rng.normal(size=(8, 3)) / spread[:, np.newaxis]).astype(np.float32),
        "b2": rng.normal(size=3).astype(np.float32),
    }
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h"], name="fc"),
        helper.make_node("Relu", ["h"], ["r"], name="fc_relu"),
        helper.make_node("Gemm", ["r", "w2", "b2"], ["y"], name="out"),
    ]
    graph = helper.make_graph(
        nodes,
        "float",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=9), path)
    return path


def events_of(model: RealGraph, count: int = 200, seed: int = 7) -> dict[str, Floats]:
    """Draw events."""
    rng = np.random.default_rng(seed)
    return {node.name: rng.normal(size=(count, *node.shape)) for node in model.inputs}
