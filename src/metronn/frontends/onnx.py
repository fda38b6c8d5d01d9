"""ONNX files to RealGraph.

The nodes are read in order. Nodes whose inputs are all constant are computed at once by the reference evaluator of
the onnx package; every other node goes through `onnx_layers.LAYERS`. Axis 0 is the batch and never moves.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.checker
import onnx.inliner
import onnx.numpy_helper
import onnx.shape_inference
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from metronn.errors import ModelError
from metronn.frontends.files import FileKind, kind_of
from metronn.frontends.lowering import LayerProblem, Lowering, unsupported_error
from metronn.frontends.onnx_context import Constant, NodeContext, Operand, evaluate
from metronn.frontends.onnx_layers import LAYERS
from metronn.model.graph import RealGraph

STAND_IN_BATCH = 61
"""Size that stands for a dynamic batch axis while shapes are computed; a result that depends on it is refused."""

MOST_NESTED_FUNCTIONS = 8
"""Rounds of spelling out operators that are functions of functions."""

UNFOLDABLE = frozenset(
    ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli", "Dropout")
)
"""Operators with constant inputs whose result is not a constant."""


def load_onnx(path: Path, content: bytes, *, batched: bool = True) -> RealGraph:
    """Read an ONNX model; raises ModelError as `load_model` says.

    Axis 0 of every input is the batch; with `batched=False` no input has a batch axis, and one run of the model is one
    event.
    """
    model = _parsed(path, content)
    opset = _opset(path, model)
    return _Reader(where=str(path), model=model, opset=opset, batch=STAND_IN_BATCH if batched else None).read()


def _parsed(path: Path, content: bytes) -> onnx.ModelProto:
    kind = kind_of(content)
    if kind is FileKind.HDF5 or kind is FileKind.ZIP:
        raise ModelError(f"{path}: not an ONNX model: looks like {kind.value}; the file is misnamed")
    try:
        model = onnx.load_model_from_string(content)
    except DecodeError as error:
        raise ModelError(f"{path}: not an ONNX model, or damaged: {_first_line(error)}") from None
    if not model.HasField("graph") or not (model.graph.node or model.graph.output):
        raise ModelError(f"{path}: not an ONNX model, or damaged: no graph inside")
    if any(isinstance(text, bytes) for text in _texts(model.graph)):
        raise ModelError(f"{path}: not an ONNX model, or damaged: a name in the graph is not UTF-8 text")
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
        if model.functions:
            model = onnx.inliner.inline_local_functions(model)
        model = _expanded(model)
        if all(node.domain in ("", "ai.onnx") and onnx.defs.has(node.op_type) for node in model.graph.node):
            onnx.checker.check_model(_with_shapes(model))
    except (onnx.checker.ValidationError, DecodeError, RuntimeError, ValueError, OSError) as error:
        raise ModelError(f"{path}: not a valid ONNX model: {_first_line(error)}") from None
    return model


def _expanded(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with operators that the standard defines by others, and that `LAYERS` lacks, spelled out.

    Each becomes a function of the model, which the onnx package inlines.
    """
    for _ in range(MOST_NESTED_FUNCTIONS):
        if not any(_is_function(node, _opset_of(model, node.domain)) for node in model.graph.node):
            break
        types = _types(model)
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        for number, node in enumerate(copy.graph.node):
            opset = _opset_of(model, node.domain)
            if _is_function(node, opset):
                function = _function(node, types, opset)
                function.domain, function.name = "metronn", f"{node.op_type}_{number}"
                copy.functions.append(function)
                node.domain, node.op_type = function.domain, function.name
        copy.opset_import.append(onnx.OperatorSetIdProto(domain="metronn", version=1))
        model = onnx.inliner.inline_local_functions(copy)
        kept = [entry for entry in model.opset_import if entry.domain != "metronn"]
        del model.opset_import[:]
        model.opset_import.extend(kept)
    return model


def _is_function(node: onnx.NodeProto, opset: int) -> bool:
    """Whether a node is to be spelled out; Range depends on no data and is computed."""
    if node.op_type in LAYERS or node.op_type == "Range" or not onnx.defs.has(node.op_type, node.domain):
        return False
    try:
        schema: Any = onnx.defs.get_schema(node.op_type, opset, node.domain)
    except onnx.defs.SchemaError:
        return False
    return bool(schema.has_function or schema.has_context_dependent_function)


def _function(node: onnx.NodeProto, types: dict[str, onnx.TypeProto], opset: int) -> onnx.FunctionProto:
    """Return what the standard says a node is, spelled in other operators."""
    schema: Any = onnx.defs.get_schema(node.op_type, opset, node.domain)
    function = onnx.FunctionProto()
    if schema.has_function:
        function.CopyFrom(schema.function_body)
        return function
    inputs = [types.get(name, onnx.TypeProto()).SerializeToString() for name in node.input]
    function.ParseFromString(schema.get_context_dependent_function(node.SerializeToString(), inputs))
    return function


def _types(model: onnx.ModelProto) -> dict[str, onnx.TypeProto]:
    """Return the types of values, as far as they can be inferred."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    types = {entry.name: entry.type for entry in (*graph.input, *graph.value_info, *graph.output)}
    for tensor in graph.initializer:
        types[tensor.name] = onnx.helper.make_tensor_type_proto(tensor.data_type, tuple(tensor.dims))
    return types


def _opset_of(model: onnx.ModelProto, domain: str) -> int:
    same = ("", "ai.onnx") if domain in ("", "ai.onnx") else (domain,)
    return max((int(entry.version) for entry in model.opset_import if entry.domain in same), default=1)


def _texts(graph: onnx.GraphProto) -> Iterator[object]:
    """Yield every name in a graph; protobuf gives those that are not UTF-8 as bytes."""
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)
    yield from (entry.name for entry in (*graph.input, *graph.output, *graph.initializer))
    for entry in graph.input:
        yield from (dim.dim_param for dim in entry.type.tensor_type.shape.dim)


def _with_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy in which inputs and outputs have a shape field, which the checker wants and exporters forget."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for entry in (*copy.graph.input, *copy.graph.output):
        if entry.type.HasField("tensor_type"):
            entry.type.tensor_type.shape.SetInParent()
    return copy


def _opset(path: Path, model: onnx.ModelProto) -> int:
    opset = _opset_of(model, "")
    newest = onnx.defs.onnx_opset_version()
    if opset > newest:
        raise ModelError(f"{path}: opset {opset} is newer than the installed onnx package knows (up to {newest})")
    return opset


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@dataclass(slots=True)
class _Reader:
    """One pass over the nodes; `operands` holds what each name means, None where reading failed before."""

    where: str
    model: onnx.ModelProto
    opset: int
    batch: int | None
    lowering: Lowering = field(default_factory=Lowering)
    operands: dict[str, Operand | None] = field(default_factory=dict)
    unsupported: list[tuple[str, str]] = field(default_factory=list)

    def read(self) -> RealGraph:
        graph = self.model.graph
        for tensor in graph.initializer:
            self._initializer(tensor)
        self._inputs([entry for entry in graph.input if entry.name not in self.operands])
        for node in graph.node:
            self._node(node)
        if self.unsupported:
            raise unsupported_error(self.where, self.unsupported, LAYERS)
        outputs = []
        for entry in graph.output:
            match self.operands.get(entry.name):
                case str() as value:
                    outputs.append((entry.name, value))
                case Constant():
                    self.lowering.problems.append(f"output {entry.name}: does not depend on any input")
                case None if not self.lowering.problems:
                    self.lowering.problems.append(f"output {entry.name}: no supported node makes it")
        return self.lowering.finish(outputs, self.where)

    def _initializer(self, tensor: onnx.TensorProto) -> None:
        try:
            self.operands[tensor.name] = Constant(tensor.name, onnx.numpy_helper.to_array(tensor))
        except (ValueError, TypeError, KeyError) as error:
            raise ModelError(f"{self.where}: initializer {tensor.name}: damaged: {_first_line(error)}") from None

    def _inputs(self, entries: list[onnx.ValueInfoProto]) -> None:
        if self.batch is None:
            for entry in entries:
                dims = [dim.dim_value for dim in entry.type.tensor_type.shape.dim]
                if not entry.type.tensor_type.HasField("shape") or any(size <= 0 for size in dims):
                    raise ModelError(f"{self.where}: input {entry.name}: every axis must have a fixed size, not {dims}")
                self.operands[entry.name] = self.lowering.input(entry.name, tuple(dims))
            return
        shapes = {}
        for entry in entries:
            tensor = entry.type.tensor_type
            if not tensor.HasField("shape") or len(tensor.shape.dim) < 2:
                rank = len(tensor.shape.dim) if tensor.HasField("shape") else "unknown"
                raise ModelError(
                    f"{self.where}: input {entry.name}: {rank} axes; the batch axis and at least one more are needed"
                )
            dims = [dim.dim_value if dim.HasField("dim_value") else 0 for dim in tensor.shape.dim]
            for axis, size in enumerate(dims[1:], start=1):
                if size <= 0:
                    shown = tensor.shape.dim[axis].dim_param or "unknown"
                    raise ModelError(
                        f"{self.where}: input {entry.name}: axis {axis} has no fixed size ({shown}); only the batch "
                        "axis 0 may vary, export the model with fixed sizes"
                    )
            if dims[0] > 0 and self.batch not in (STAND_IN_BATCH, dims[0]):
                raise ModelError(
                    f"{self.where}: input {entry.name}: axis 0 has size {dims[0]}, that of another input {self.batch}; "
                    "axis 0 is the batch and must be the same for all inputs (weights belong in initializers)"
                )
            if dims[0] > 0:
                self.batch = dims[0]
            shapes[entry.name] = tuple(dims[1:])
        for name, shape in shapes.items():
            self.operands[name] = self.lowering.input(name, shape)

    def _node(self, node: onnx.NodeProto) -> None:
        kind = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
        self.lowering.layer = node.name or next((name for name in node.output if name), kind)
        missing = [name for name in node.input if name and name not in self.operands]
        if missing:
            self.lowering.problems.append(f"{self.lowering.layer}: reads {', '.join(missing)}, which no node makes")
        operands = tuple(self.operands.get(name) if name else None for name in node.input)
        known = not any(name and operand is None for name, operand in zip(node.input, operands, strict=True))
        results: tuple[Operand, ...] = ()
        constants = [operand for operand in operands if isinstance(operand, Constant)]
        computed = any(isinstance(operand, str) for operand in operands)
        try:
            if known and not computed and _foldable(node, kind):
                results = self._folded(node, constants)
            elif known and kind in ("Shape", "Size") and isinstance(operands[0], str):
                results = (self._sizes(node, self.lowering.shape(operands[0])),)
            elif kind not in LAYERS and kind not in ("Shape", "Size"):
                self.unsupported.append((self.lowering.layer, kind))
            elif known:
                context = NodeContext(self.lowering, node, self.opset, self.batch, operands)
                made = LAYERS[kind](context)
                results = made if isinstance(made, tuple) else (made,)
        except LayerProblem as problem:
            self.lowering.problems.append(f"{self.lowering.layer} ({kind}): {problem}")
        for position, name in enumerate(node.output):
            if name:
                self.operands[name] = results[position] if position < len(results) else None

    def _sizes(self, node: onnx.NodeProto, shape: tuple[int, ...]) -> Constant:
        """Return the result of Shape or Size."""
        lead = () if self.batch is None else (self.batch,)
        sizes = np.array([*lead, *shape], dtype=np.int64)
        if node.op_type == "Size":
            return Constant(node.output[0], sizes.prod(), from_batch=bool(lead))
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        first, last, _ = slice(attributes.get("start", 0), attributes.get("end")).indices(len(sizes))
        return Constant(node.output[0], sizes[first:last], from_batch=bool(lead) and first == 0)

    def _folded(self, node: onnx.NodeProto, constants: list[Constant]) -> tuple[Operand, ...]:
        named = {name: self.operands[name] for name in node.input if name}
        feeds = {name: operand.values for name, operand in named.items() if isinstance(operand, Constant)}
        values = evaluate(node, feeds, self.opset)
        if sum(math.prod(v.shape) for v in values) > 2**28:
            raise LayerProblem("a constant of more than 2**28 elements")
        tainted = any(constant.from_batch for constant in constants)
        return tuple(Constant(name, v, from_batch=tainted) for name, v in zip(node.output, values, strict=True))


def _foldable(node: onnx.NodeProto, kind: str) -> bool:
    """Whether a node without computed inputs is a constant; custom domains and subgraphs are left alone."""
    if node.domain not in ("", "ai.onnx") or kind in UNFOLDABLE or not onnx.defs.has(kind):
        return False
    return not any(a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for a in node.attribute)
