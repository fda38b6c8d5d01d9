"""A small network and its events as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


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
