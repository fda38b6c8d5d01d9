"""Writes random float networks as ONNX files, and, of layers that Keras has too, what a Keras twin is built from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

Array = npt.NDArray[Any]
ACTIVATIONS = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "gelu": "Gelu"}
OPSET, IR_VERSION = 20, 10
EPSILON = 1e-3
"""Of the normalizations over a batch: Keras' default."""


class Writer:
    """Writes a network layer by layer; weights are drawn after He, or Glorot where no ReLU follows.

    `sample` are events of every input, (events, *shape), float32: batch normalizations take their moments from what
    the layers before make of them, as training would have left them. Methods return the name of the new value.
    `twin` is the recipe of the same network in Keras, None as soon as a layer has no counterpart in it.
    """

    def __init__(self, rng: np.random.Generator, sample: Mapping[str, Array]) -> None:
        self.rng = rng
        self.sample = {name: np.asarray(values, dtype=np.float32) for name, values in sample.items()}
        self.nodes: list[Any] = []
        self.constants: dict[str, Array] = {}
        self.shapes = {name: values.shape[1:] for name, values in self.sample.items()}
        self.twin: list[dict[str, Any]] | None = [
            {"kind": "input", "name": name, "shape": list(shape)} for name, shape in self.shapes.items()
        ]
        self.count = 0

    def constant(self, values: object) -> str:
        """Add a float32 constant."""
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(values, dtype=np.float32)
        return name

    def integers(self, values: Sequence[int]) -> str:
        """Add an int64 constant: axes or a shape."""
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(values, dtype=np.int64)
        return name

    def node(self, kind: str, xs: Sequence[str], **attributes: object) -> str:
        """Add any ONNX node of one result."""
        name = f"{kind.lower()}{self.count}"
        self.count += 1
        self.nodes.append(helper.make_node(kind, list(xs), [name], name=name, **attributes))
        return name

    def op(self, kind: str, *xs: str, **attributes: object) -> str:
        """Add an ONNX node that the Keras twin does not have."""
        self.twin = None
        return self.node(kind, xs, **attributes)

    def _record(self, kind: str, name: str, xs: Sequence[str], arrays: Sequence[Array] = (), **more: object) -> str:
        if self.twin is not None:
            self.twin.append({"kind": kind, "name": name, "xs": list(xs), "arrays": list(arrays), **more})
        return name

    def proto(self, outputs: Sequence[str]) -> Any:  # noqa: ANN401 - onnx has no types
        """Return the ONNX model of what was written so far."""
        graph = helper.make_graph(
            self.nodes,
            "network",
            [helper.make_tensor_value_info(x, TensorProto.FLOAT, ["N", *self.shapes[x]]) for x in self.sample],
            [helper.make_tensor_value_info(y, TensorProto.FLOAT, None) for y in outputs],
            [numpy_helper.from_array(values, name) for name, values in self.constants.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)

    def values(self, x: str) -> Array:
        """Return what the sample becomes at a value."""
        if x in self.sample:
            return self.sample[x]
        return answers(self.proto([x]), self.sample)[0]

    def dense(
        self, x: str, size: int, *, gain: float = 2.0, bias: float = 0.1, shift: float = 0.0, zero: bool = False
    ) -> str:
        """Add x @ weight + bias: variance of the weights gain / inputs, biases of that deviation around `shift`."""
        inputs = self.values(x).shape[-1]
        weight = self.rng.normal(0, np.sqrt(gain / inputs), (inputs, size)) * (0.0 if zero else 1.0)
        return self.matrix(x, weight, self.rng.normal(shift, bias, size))

    def standardized(self, x: str, size: int, *, gain: float = 2.0) -> str:
        """Add a matrix that undoes mean and scale of every feature, as training on raw features ends."""
        values = self.values(x).astype(np.float64)
        mean, deviation = values.mean(0), np.maximum(values.std(0), 1e-30)
        weight = self.rng.normal(0, np.sqrt(gain / len(mean)), (len(mean), size)) / deviation[:, None]
        weight[values.std(0) == 0] = self.rng.normal(0, np.sqrt(gain / len(mean)), size)
        return self.matrix(x, weight, self.rng.normal(0, 0.1, size) - mean @ weight)

    def head(self, x: str, size: int) -> str:
        """Add a last matrix whose results have mean 0 and variance about 1 on the sample: no class rules the others."""
        values = self.values(x).astype(np.float64)
        deviation = max(float(values.std(0).max()), 1e-30)
        weight = self.rng.normal(size=(values.shape[-1], size)) / deviation
        weight /= np.maximum((values @ weight).std(0), 1e-30)
        return self.matrix(x, weight, -values.mean(0) @ weight)

    def matrix(self, x: str, weight: Array, bias: Array) -> str:
        """Add x @ weight + bias."""
        weight, bias = np.asarray(weight, dtype=np.float32), np.asarray(bias, dtype=np.float32)
        product = self.node("MatMul", [x, self.constant(weight)])
        return self._record("dense", self.node("Add", [product, self.constant(bias)]), [x], [weight, bias])

    def batch_norm(self, x: str) -> str:
        """Add a batch normalization with the sample's moments; channels are axis 1, as ONNX has them."""
        values = self.values(x).astype(np.float64)
        axes = (0, *range(2, values.ndim))
        moments = [values.mean(axes), values.var(axes)]
        size = len(moments[0])
        arrays = [self.rng.uniform(0.7, 1.3, size), self.rng.normal(0, 0.2, size), *moments]
        names = [self.constant(array) for array in arrays]
        name = self.node("BatchNormalization", [x, *names], epsilon=EPSILON)
        return self._record("batch_norm", name, [x], [np.float32(array) for array in arrays])

    def activation(self, x: str, kind: str = "relu") -> str:
        """Add relu, sigmoid, tanh, gelu or silu."""
        if kind == "silu":
            name = self.node("Mul", [x, self.node("Sigmoid", [x])])
        else:
            name = self.node(ACTIVATIONS[kind], [x])
        return self._record("activation", name, [x], of=kind)

    def softmax(self, x: str) -> str:
        """Add a softmax over the last axis."""
        return self._record("activation", self.node("Softmax", [x], axis=-1), [x], of="softmax")

    def add(self, x: str, y: str) -> str:
        """Add the sum of two values of a shape."""
        return self._record("add", self.node("Add", [x, y]), [x, y])

    def concat(self, *xs: str) -> str:
        """Add the values side by side along the last axis."""
        return self._record("concat", self.node("Concat", xs, axis=-1), xs)

    def conv(self, x: str, channels: int, size: int = 3) -> str:
        """Add a convolution of one or two axes, zero padded to the same size, channels first."""
        values = self.values(x)
        axes = values.ndim - 2
        deviation = np.sqrt(2 / (values.shape[1] * size**axes))
        weight = np.float32(self.rng.normal(0, deviation, (channels, values.shape[1], *[size] * axes)))
        bias = np.float32(self.rng.normal(0, 0.1, channels))
        name = self.node("Conv", [x, self.constant(weight), self.constant(bias)], pads=[size // 2] * 2 * axes)
        return self._record("conv", name, [x], [np.moveaxis(weight, (0, 1), (-1, -2)), bias], axes=axes)

    def pool_all(self, x: str) -> str:
        """Add the mean over all positions: (channels, ...) to (channels,)."""
        axes = self.values(x).ndim - 2
        mean = self.node("ReduceMean", [x, self.integers(range(2, 2 + axes))], keepdims=0)
        return self._record("pool_all", mean, [x], axes=axes)

    def save(self, path: Path, output: str) -> tuple[Path, Path | None]:
        """Write the network, its result named y, and beside it the Keras recipe where there is one."""
        self.nodes.append(helper.make_node("Identity", [output], ["y"]))
        onnx.save(self.proto(["y"]), path)
        if self.twin is None:
            return path, None
        recipe = path.with_suffix(".twin.npz")
        arrays = {f"{layer['name']}:{at}": a for layer in self.twin for at, a in enumerate(layer.get("arrays", ()))}
        text = json.dumps([{key: value for key, value in layer.items() if key != "arrays"} for layer in self.twin])
        np.savez(recipe, recipe=np.array(text), output=np.array(output), **arrays)
        return path, recipe


def answers(model: Any, inputs: Mapping[str, Array]) -> list[Array]:  # noqa: ANN401 - bytes, a path or a proto
    """Return what ONNX Runtime makes of events: every output, (events, *shape)."""
    onnxruntime.set_default_logger_severity(3)
    given = model if isinstance(model, str) else model.SerializeToString()
    session = onnxruntime.InferenceSession(given, providers=["CPUExecutionProvider"])
    return list(session.run(None, {name: np.asarray(values, dtype=np.float32) for name, values in inputs.items()}))
