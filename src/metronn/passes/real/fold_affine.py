"""Batch normalization and other sums and products with constants disappear into the matrices beside them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from metronn.ir.ops import Padding, Rewire, Window
from metronn.ir.windows import window_index
from metronn.model.graph import Floats, RealGraph, RealLinear, RealNode, RealOp
from metronn.passes.real.rewriting import affine_of, frozen
from metronn.passes.rewriting import rebuilt


def fold_into_producer(graph: RealGraph) -> RealGraph:
    """Fold y = linear(x) * scale + offset into the matrix, where nothing else reads the matrix's result.

    Scale and offset must be the same at every position of the leading axes. A quantized network keeps its matrices:
    their weights stand on the grid of a quantizer.
    """
    while not graph.quantized:
        found = _producer_fold(graph)
        if found is None:
            return graph
        graph = found
    return graph


def _producer_fold(graph: RealGraph) -> RealGraph | None:
    for node in graph.nodes:
        affine = affine_of(graph, node)
        if affine is None:
            continue
        x, scale, offset = affine
        linear = graph.by_name[x].op
        if not isinstance(linear, RealLinear) or graph.only_reader(x) is not node:
            continue
        columns, shift = _per_channel(scale, node.shape), _per_channel(offset, node.shape)
        if columns is None or shift is None:
            continue
        weight = linear.weight.array * columns
        bias = linear.bias.array * columns + shift
        folded = replace(linear, weight=frozen(weight), bias=frozen(bias))
        others = tuple((tensor, value) for tensor, value in graph.tensors if value != x)
        return rebuilt(replace(graph, tensors=others), {x: folded}, {node.name: x}, {node.name})
    return None


def _per_channel(constant: Floats, shape: tuple[int, ...]) -> Floats | None:
    """Return the constant along the last axis, or None when it varies along another."""
    full = np.broadcast_to(constant, shape).reshape(-1, shape[-1])
    return full[0] if (full == full[0]).all() else None


def fold_into_consumers(graph: RealGraph) -> RealGraph:
    """Fold x * scale + offset into every matrix that reads it, directly or through movement of elements.

    All readers must be matrices, and in front of each the constants must be the same at every position of the
    leading axes; otherwise the node stays.
    """
    while not graph.quantized:
        found = _consumer_fold(graph)
        if found is None:
            return graph
        graph = found
    return graph


@dataclass(frozen=True, slots=True)
class _Constants:
    """Scale and offset of every element of a value; a scale of NaN may be any number, since the element is 0."""

    scale: Floats
    offset: Floats

    def moved(self, index: npt.NDArray[np.int64], shape: tuple[int, ...]) -> _Constants:
        """Return the constants behind a movement: padding, where the index is -1, stays 0 whatever its scale."""
        index = index.ravel()
        scale = np.where(index < 0, np.nan, self.scale.ravel()[index]).reshape(shape)
        offset = np.where(index < 0, 0.0, self.offset.ravel()[index]).reshape(shape)
        return _Constants(scale, offset)


def _consumer_fold(graph: RealGraph) -> RealGraph | None:
    for node in graph.nodes:
        affine = affine_of(graph, node)
        if affine is None or not math.prod(node.shape):
            continue
        x, scale, offset = affine
        constants = _Constants(np.broadcast_to(scale, node.shape), np.broadcast_to(offset, node.shape))
        ops = _absorbed(graph, node, constants)
        if ops:
            return rebuilt(graph, ops, {node.name: x}, {node.name})
    return None


def _absorbed(graph: RealGraph, node: RealNode, constants: _Constants) -> dict[str, RealOp] | None:
    """Return the matrices behind the node with the constants folded in; None when one of them cannot take them."""
    if node.name in graph.shown_values or not graph.uses[node.name]:
        return None
    ops: dict[str, RealOp] = {}
    for user in graph.uses[node.name]:
        reader = graph.by_name[user]
        match reader.op:
            case RealLinear():
                scale, offset = _rows(constants.scale), _rows(constants.offset)
                if scale is None or offset is None:
                    return None
                weight, bias = reader.op.weight.array, reader.op.bias.array
                ops[user] = replace(
                    reader.op, weight=frozen(scale[:, np.newaxis] * weight), bias=frozen(bias + offset @ weight)
                )
            case Rewire() if len(reader.op.xs) == 1:
                further = _absorbed(graph, reader, constants.moved(reader.op.index.array, reader.shape))
                if further is None:
                    return None
                ops |= further
            case Window() if reader.op.padding is Padding.ZERO:
                index = window_index(reader.op, node.shape)
                further = _absorbed(graph, reader, constants.moved(index, reader.shape))
                if further is None:
                    return None
                ops |= further
            case _:
                return None
    return ops


def _rows(constant: Floats) -> Floats | None:
    """Return the constant along the last axis, NaN agreeing with anything; None when it varies along another."""
    if not constant.ndim:
        return None
    full = constant.reshape(-1, constant.shape[-1])
    known = ~np.isnan(full)
    first = full[known.argmax(axis=0), np.arange(full.shape[1])]
    if not ((full == first) | ~known).all():
        return None
    return np.where(np.isnan(first), 1.0, first)
