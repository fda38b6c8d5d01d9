"""ONNX files: parsing, what operators that are functions of others stand for, and sparse tensors."""

from __future__ import annotations

from collections.abc import Iterator
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
from metronn.frontends.common.files import FileKind, kind_of
from metronn.frontends.onnx.evaluate import Array
from metronn.frontends.onnx.layers import LAYERS

MOST_NESTED_FUNCTIONS = 8
"""Rounds of spelling out operators that are functions of functions."""


def parsed(path: Path, content: bytes) -> onnx.ModelProto:
    """Return the model in a file, its functions inlined; raises ModelError when it is none or damaged."""
    kind = kind_of(content)
    if kind is FileKind.HDF5 or kind is FileKind.ZIP:
        raise ModelError(f"{path}: not an ONNX model: looks like {kind.value}; the file is misnamed")
    try:
        model = onnx.load_model_from_string(content)
    except DecodeError as error:
        raise ModelError(f"{path}: not an ONNX model, or damaged: {first_line(error)}") from None
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
        raise ModelError(f"{path}: not a valid ONNX model: {first_line(error)}") from None
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


def opset_version(path: Path, model: onnx.ModelProto) -> int:
    """Return the opset of the standard operators; raises ModelError when the onnx package does not know it."""
    opset = _opset_of(model, "")
    newest = onnx.defs.onnx_opset_version()
    if opset > newest:
        raise ModelError(f"{path}: opset {opset} is newer than the installed onnx package knows (up to {newest})")
    return opset


def first_line(error: Exception) -> str:
    """Return what a message begins with, or the kind of error when it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def dense(tensor: onnx.SparseTensorProto) -> Array:
    """Return a sparse tensor with its zeros; raises ValueError when its indices do not fit."""
    shape = tuple(tensor.dims)
    values, indices = onnx.numpy_helper.to_array(tensor.values), onnx.numpy_helper.to_array(tensor.indices)
    array = np.zeros(shape, dtype=values.dtype)
    places = np.unravel_index(indices, shape) if indices.ndim == 1 else tuple(indices.T)
    if len(places) != len(shape) or indices.min(initial=0) < 0:
        raise ValueError(f"indices of shape {indices.shape} for a tensor of shape {shape}")
    array[places] = values
    return array
