"""A small network and its events as files, and a small integer graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from metronn.ir.arrays import IntArray
from metronn.ir.check import check
from metronn.ir.graph import Graph, GraphBuilder
from metronn.ir.ops import Constant, Extremum, Input, Linear, Overflow, Requantize, Rounding
from metronn.ir.types import Range


def write_network(path: Path, *, inputs: int = 6, hidden: int = 8, outputs: int = 3, seed: int = 3) -> Path:
    """Write Gemm, Relu, Gemm with weights that are multiples of 1/16."""
    rng = np.random.default_rng(seed)
    arrays = {
        "w1": rng.integers(-16, 17, (inputs, hidden)),
        "b1": rng.integers(-8, 9, hidden),
        "w2": rng.integers(-16, 17, (hidden, outputs)),
        "b2": rng.integers(-8, 9, outputs),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["x", "w1", "b1"], ["h"], name="hidden"),
            helper.make_node("Relu", ["h"], ["r"], name="relu"),
            helper.make_node("Gemm", ["r", "w2", "b2"], ["scores"], name="last"),
        ],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["events", inputs])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["events", outputs])],
        [numpy_helper.from_array((values / 16).astype(np.float32), name) for name, values in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.save(model, str(path))
    return path


def write_events(path: Path, *, count: int = 200, inputs: int = 6, labels: bool = True) -> Path:
    """Write events on a grid of 1/64, with labels of three classes."""
    rng = np.random.default_rng(11)
    arrays = {"x": (rng.integers(-128, 128, (count, inputs)) / 64).astype(np.float32)}
    if labels:
        arrays["label"] = rng.integers(0, 3, count).astype(np.int64)
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def small_graph(inputs: int = 12, hidden: int = 16, outputs: int = 8) -> Graph:
    """Return two dense layers of random integers, a ReLU between them."""
    rng, builder = np.random.default_rng(5), GraphBuilder()

    def dense(x: str, name: str, size: int) -> str:
        rows = builder.types[x].shape[-1]
        weight, bias = rng.integers(-128, 128, (rows, size)), rng.integers(-400, 400, size)
        op = Linear(x=x, weight=IntArray.of(weight), bias=IntArray.of(bias), weight_frac=7)
        return builder.add(op, name, name)

    x = builder.add(Input(shape=(inputs,), range=Range.fixed(8, 4, signed=False)), "x")
    zero = builder.add(Constant(values=IntArray.of(0)), "zero")
    kept = builder.add(Extremum(x=dense(x, "hidden", hidden), y=zero), "relu", "hidden")
    out = Range.fixed(8, 4, signed=False)
    fixed = builder.add(Requantize(x=kept, out=out, rounding=Rounding.RND, overflow=Overflow.SAT), "narrow", "hidden")
    builder.output("scores", dense(fixed, "last", outputs))
    graph = builder.build()
    check(graph)
    return graph
