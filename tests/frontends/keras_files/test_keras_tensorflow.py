"""TensorFlow functions in files of Keras 2: recorded calls against NumPy, and against Keras 2 where it is installed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from test_qkeras_networks import run_worker

from metronn.errors import ModelError
from metronn.frontends import load_model
from metronn.model.graph import RealGraph
from metronn.model.reference import run_reference

Close = Callable[[object, object], None]
WORKER = Path(__file__).with_name("tensorflow_worker.py")


def inputs(**shapes: tuple[int, ...]) -> list[dict[str, Any]]:
    """Return input layers."""
    return [
        {"class_name": "InputLayer", "name": name, "inbound_nodes": [],
         "config": {"name": name, "batch_input_shape": [None, *shape]}}
        for name, shape in shapes.items()
    ]  # fmt: skip


def function(name: str, *calls: Any, layer: str = "f") -> dict[str, Any]:
    """Return a layer of a TensorFlow function as Keras 2 saves it."""
    kind = "SlicingOpLambda" if name.endswith("getitem") else "TFOpLambda"
    config = {"name": layer, "trainable": True, "dtype": "float32", "function": name}
    return {"class_name": kind, "name": layer, "config": config, "inbound_nodes": list(calls)}


def saved(folder: Path, layers: list[dict[str, Any]], output: tuple[str, int, int] = ("f", 0, 0)) -> Path:
    """Write a functional model of Keras 2 without weights."""
    config = {
        "name": "model",
        "layers": layers,
        "input_layers": [[x["name"], 0, 0] for x in layers if x["class_name"] == "InputLayer"],
        "output_layers": [list(output)],
    }
    path = folder / "model.h5"
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = "2.15.0"
        file.attrs["model_config"] = json.dumps({"class_name": "Functional", "config": config})
        file.create_group("model_weights").attrs["layer_names"] = [x["name"].encode() for x in layers]
    return path


RECORDED: dict[str, tuple[str, Any, Callable[[Any, Any], Any]]] = {
    "slice": (
        "__operators__.getitem",
        ["a", 0, 0, {"slice_spec": [{"class_name": "__ellipsis__"}, {"start": 1, "stop": None, "step": None}]}],
        lambda a, b: a[..., 1:],
    ),
    "slice with a new axis": (
        "__operators__.getitem",
        ["a", 0, 0, {"slice_spec": [{"start": None, "stop": None, "step": None}, 0, None]}],
        lambda a, b: a[:, 0, None],
    ),
    "sum": ("__operators__.add", ["a", 0, 0, {"y": ["b", 0, 0], "name": None}], lambda a, b: a + b),
    "number in front": ("math.subtract", ["_CONSTANT_VALUE", -1, 1.0, {"y": ["b", 0, 0]}], lambda a, b: 1 - b),
    "power": ("math.pow", ["a", 0, 0, {"y": 2, "name": None}], lambda a, b: a**2),
    "several first arguments": (
        "concat", [["a", 0, 0, {"axis": 1}], ["b", 0, 0, {"axis": 1}]], lambda a, b: np.concatenate([a, b], 1),
    ),
    "reduction": (
        "math.reduce_mean", ["a", 0, 0, {"axis": [1, 2], "keepdims": True}], lambda a, b: a.mean((1, 2), keepdims=True),
    ),
    "transposed product": (
        "linalg.matmul", ["a", 0, 0, {"b": ["b", 0, 0], "transpose_b": True}], lambda a, b: a @ b.transpose(0, 2, 1),
    ),
    "one number per event": ("math.reduce_sum", ["a", 0, 0, {"axis": [1, 2]}], lambda a, b: a.sum((1, 2))),
}  # fmt: skip


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_calls(name: str, tmp_path: Path, assert_close: Close) -> None:
    called, node, expected = RECORDED[name]
    graph = load_model(saved(tmp_path, [*inputs(a=(3, 4), b=(3, 4)), function(called, node)]))
    a, b = np.random.default_rng(0).normal(size=(2, 5, 3, 4))
    assert_close(run_reference(graph, {"a": a, "b": b})["f"], expected(a, b))


def test_a_function_called_twice_in_a_chain(tmp_path: Path) -> None:
    double = function("__operators__.add", ["a", 0, 0, {"y": ["a", 0, 0]}], ["f", 0, 0, {"y": ["f", 0, 0]}])
    graph = load_model(saved(tmp_path, [*inputs(a=(3,)), double], ("f", 1, 0)))
    assert run_reference(graph, {"a": np.ones((2, 3))})["f"].tolist() == [[4.0] * 3] * 2


@pytest.mark.parametrize(
    ("called", "node", "message"),
    [
        ("signal.fft", ["a", 0, 0, {}], r"f: tf\.signal\.fft"),
        ("einsum", ["_CONSTANT_VALUE", -1, "bij,bkj->bik", {}], r"f: tf\.einsum \(Keras 2 does not save its tensors"),
        ("math.reduce_sum", ["a", 0, 0, {}], r"f \(tf\.math\.reduce_sum\): works along all axes, the batch axis 0"),
        ("reshape", ["a", 0, 0, {"shape": [-1, 4]}], r"f \(tf\.reshape\): moves the batch axis 0"),
        ("concat", ["a", 0], "the configuration is damaged"),
    ],
)
def test_what_cannot_be_read_is_refused(called: str, node: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message):
        load_model(saved(tmp_path, [*inputs(a=(3, 4)), function(called, node)]))


def _agrees(graph: RealGraph, data: Any, close: Close) -> None:
    found = run_reference(graph, {name: data[name].astype(np.float64) for name in ("a", "b")})
    for position, values in enumerate(found.values()):
        close(values, data[f"y{position}"])


@pytest.mark.slow
def test_functions_saved_by_keras_2(tmp_path: Path, assert_close: Close) -> None:
    counts = run_worker(str(tmp_path), worker=WORKER)
    for group, count in counts.items():
        data = np.load(tmp_path / f"{group}.npz")
        for path in sorted(tmp_path.glob(f"{group}.[hk]*")):
            graph = load_model(path)
            assert len(graph.outputs) == count
            _agrees(graph, data, assert_close)
