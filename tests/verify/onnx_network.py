"""A small ONNX network in QDQ form, and its comparison from the file on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from metronn.events.codes import encode_inputs
from metronn.events.data import Events
from metronn.frontends import load_model
from metronn.passes.pipeline import prepare, quantize_model
from metronn.verify.against import AgainstResult, borders, compare_framework
from metronn.verify.against_events import event_chunks
from metronn.verify.framework import opened_framework


def write_qdq(path: Path, seed: int = 8) -> Path:
    """Write QuantizeLinear, DequantizeLinear around two matrices with a ReLU between."""
    random = np.random.default_rng(seed)
    arrays = {
        "scale": np.array(2.0**-4, np.float32),
        "zero": np.array(0, np.int8),
        "wide": np.array(0.05, np.float32),
        "shift": np.array(3, np.uint8),
        "w1": (random.integers(-40, 40, size=(4, 6)) / 64).astype(np.float32),
        "w2": (random.integers(-40, 40, size=(6, 2)) / 64).astype(np.float32),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "scale", "zero"], ["xd"]),
        helper.make_node("MatMul", ["xd", "w1"], ["m1"]),
        helper.make_node("Relu", ["m1"], ["r1"]),
        helper.make_node("QuantizeLinear", ["r1", "wide", "shift"], ["hq"]),
        helper.make_node("DequantizeLinear", ["hq", "wide", "shift"], ["hd"]),
        helper.make_node("MatMul", ["hd", "w2"], ["m2"]),
        helper.make_node("QuantizeLinear", ["m2", "scale", "zero"], ["yq"]),
        helper.make_node("DequantizeLinear", ["yq", "scale", "zero"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "qdq",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=9)
    onnx.save(model, path)
    return path


def write_float(path: Path) -> Path:
    """Write a float network: matrix, bias, ReLU."""
    random = np.random.default_rng(5)
    arrays = {"w": random.normal(size=(4, 3)).astype(np.float32), "b": random.normal(size=3).astype(np.float32)}
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"], name="fc"),
        helper.make_node("Relu", ["h"], ["y"], name="fc_relu"),
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


def compare_onnx(path: Path) -> AgainstResult:
    """Read, lower and compare it."""
    model = load_model(path)
    inputs = {"x": np.random.default_rng(9).normal(size=(50, 4))}
    quantized = quantize_model(model, Events(inputs=inputs))
    edges = borders(quantized.graph, quantized.frontier)
    chunks = event_chunks(quantized.graph, encode_inputs(quantized.graph, inputs), 400, 200, edges)
    with opened_framework(path, rows=100) as framework:
        return compare_framework(prepare(model), quantized.graph, quantized.frontier, framework, chunks, compiled=False)
