"""Runs quantized ONNX models with their frameworks, whole batches at a time, and compares every tensor.

The operators of QONNX are executed by the qonnx package, every other node by onnxruntime alone, as
`qonnx.core.onnx_exec` does, but without fixed shapes: axis 0 may have any size.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from metronn.frontends.onnx.evaluate import evaluate
from metronn.ir.ops import Rounding
from metronn.model.graph import Floats, RealGraph, RealNode, RealQuantize
from metronn.model.reference import run_reference

Array = npt.NDArray[Any]
QONNX = frozenset(("Quant", "IntQuant", "BipolarQuant", "Trunc"))
MOST_ULPS = 16
"""Float32 ulps of a tensor's largest element within which rounding noise moves a value over a boundary."""

DOMAIN = "qonnx.custom_op.general"


def _session(node: onnx.NodeProto, feeds: Mapping[str, Array], opset: int) -> onnxruntime.InferenceSession:
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), None)
        for name, array in feeds.items()
    ]
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(helper.make_graph([node], "node", inputs, outputs), opset_imports=imports, ir_version=10)
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@dataclass(slots=True)
class Execution:
    """A model ready to run, node by node."""

    model: onnx.ModelProto
    sessions: dict[int, onnxruntime.InferenceSession] = field(default_factory=dict)

    def tensors(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return every tensor, by name."""
        graph = self.model.graph
        opset = max(entry.version for entry in self.model.opset_import if entry.domain in ("", "ai.onnx"))
        context: dict[str, Array] = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        context |= {name: np.asarray(array) for name, array in inputs.items()}
        for number, node in enumerate(graph.node):
            if node.op_type in QONNX:
                self._custom(node, context)
                continue
            if node.op_type in ("QuantizeLinear", "DequantizeLinear"):  # with types that onnxruntime gives no array of
                feeds = {name: context[name] for name in node.input if name}
                context[node.output[0]] = evaluate(node, feeds, max(opset, 19))[0]
                continue
            feeds = {name: context[name] for name in node.input if name}
            if number not in self.sessions:
                self.sessions[number] = _session(node, feeds, opset)
            results = self.sessions[number].run(None, feeds)
            context |= dict(zip([name for name in node.output if name], results, strict=True))
        return context

    def _custom(self, node: onnx.NodeProto, context: dict[str, Array]) -> None:
        from qonnx.custom_op.registry import getCustomOp

        plain = onnx.NodeProto()
        plain.CopyFrom(node)
        plain.domain = DOMAIN
        version = 2 if node.op_type == "Trunc" and len(node.input) > 5 else 1
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            getCustomOp(plain, onnx_opset_version=version).execute_node(context, self.model.graph)
        for name in node.output:
            context[name] = np.asarray(context[name], dtype=np.float32)


@dataclass(slots=True)
class Comparison:
    """Events that leave the framework's way, by the tensor where they do so first.

    `noise` of them do so at a quantizer whose input lies within `MOST_ULPS` of a boundary between two codes;
    `worst` is the largest such distance found.
    """

    events: int = 0
    differing: dict[str, int] = field(default_factory=dict)
    noise: int = 0
    worst: float = 0.0

    @property
    def total(self) -> int:
        """Return the number of events that differ anywhere."""
        return sum(self.differing.values())


def distance_in_ulps(graph: RealGraph, nodes: list[RealNode], values: Mapping[str, Floats], at: Array) -> Floats:
    """Return how far the input of a quantizer lies from a boundary of codes, in float32 ulps of the largest input.

    Of the quantizers that one operator became, the largest distance counts, those aside that see zero.
    """
    found = []
    for node in nodes:
        assert isinstance(node.op, RealQuantize)
        x = np.broadcast_to(values[node.op.x], at.shape)
        scale = np.broadcast_to(node.op.scale.array, x.shape)
        places = x / scale - (0.0 if node.op.rounding in (Rounding.TRN, Rounding.TRN_ZERO) else 0.5)
        away = np.abs(places - np.rint(places)) * scale
        ulp = np.spacing(np.maximum(np.abs(x).max(initial=0.0), scale).astype(np.float32))
        found.append(np.where(x == 0, 0.0, away / ulp)[at])
    return np.asarray(np.max(found, axis=0), dtype=np.float64)


def compare(
    graph: RealGraph, execution: Execution, inputs: Mapping[str, Array], comparison: Comparison, *, exact: bool = False
) -> Comparison:
    """Compare every tensor the network names: quantized ones to half a step, others within float32 noise.

    With `exact`, every element of every tensor must be equal.
    """
    values: dict[str, Floats] = {}
    by_name = {node.name: array for node, array in zip(graph.inputs, inputs.values(), strict=True)}
    feeds = {name: array.astype(np.float64) for name, array in by_name.items()}
    run_reference(graph, feeds, lambda node, array: values.__setitem__(node.name, array))
    found = execution.tensors(inputs)
    events = len(next(iter(inputs.values())))
    alive = np.ones(events, dtype=bool)
    comparison.events += events
    for tensor, value in graph.tensors:
        if tensor not in found or tensor in inputs:
            continue
        own, other = values[value], found[tensor].astype(np.float64)
        own = np.broadcast_to(own, (events, *own.shape[1:]))
        assert own.shape == other.shape, (tensor, own.shape, other.shape)
        nodes = _quantizers(graph, value)
        if exact:
            bad = own != other
        elif nodes and isinstance(nodes[0].op, RealQuantize):
            bad = np.abs(own - other) > 0.25 * np.broadcast_to(nodes[0].op.scale.array, own.shape[1:])
        else:
            bad = np.abs(own - other) > 1e-4 * max(1.0, float(np.abs(other).max()))
        first = bad.reshape(events, -1).any(axis=1) & alive
        if not first.any():
            continue
        comparison.differing[tensor] = comparison.differing.get(tensor, 0) + int(first.sum())
        if nodes:
            bad = bad & first.reshape(-1, *(1,) * (bad.ndim - 1))
            far = np.zeros(bad.shape)
            far[bad] = distance_in_ulps(graph, nodes, values, bad)
            comparison.worst = max(comparison.worst, float(far.max()))
            comparison.noise += int((far.reshape(events, -1).max(axis=1)[first] < MOST_ULPS).sum())
        alive &= ~first
    return comparison


def _quantizers(graph: RealGraph, value: str) -> list[RealNode]:
    """Return the quantizers that the operator which made this value became, first that which gives its step."""
    source = graph.by_name[value].source
    nodes = [node for node in graph.nodes if node.source == source and isinstance(node.op, RealQuantize)]
    return nodes[::-1]
