"""What a matrix of the integer network can take over from the ops beside it, to the bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from metronn.ir.arrays import Array, IntArray, object_array
from metronn.ir.graph import Graph, Node
from metronn.ir.ops import Add, Constant, Linear, Multiply, Op
from metronn.ir.types import TensorType, spread
from metronn.passes.rewriting import rebuilt


def fold_into_linear(graph: Graph) -> Graph:
    """Let a matrix take over a constant that is added to its result alone, or a power of two that only moves its point.

    The matrix gets the name of the sum or product, whose codes are the same; the result of the matrix alone is gone.
    """
    while (found := _first(graph)) is not None:
        node, linear, op = found
        graph = rebuilt(graph, {node.name: op}, removed={linear.name})
    return graph


def _first(graph: Graph) -> tuple[Node, Node, Linear] | None:
    for node in graph.nodes:
        if not isinstance(node.op, Add | Multiply):
            continue
        for x, y in ((node.op.x, node.op.y), (node.op.y, node.op.x)):
            linear, constant = graph.by_name[x], graph.by_name[y].op
            if not isinstance(linear.op, Linear) or not isinstance(constant, Constant):
                continue
            if graph.only_reader(x) is not node or linear.type.shape != node.type.shape:
                continue
            if isinstance(node.op, Multiply):
                op = _moved(linear.op, constant)
            elif node.op.subtract:
                op = None
            else:
                op = _shifted(linear.op, linear.type, constant)
            if op is not None:
                return node, linear, op
    return None


def _moved(linear: Linear, constant: Constant) -> Linear | None:
    """Return the matrix times a constant whose codes are all 1."""
    if any(code != 1 for code in constant.values.ints()):
        return None
    moved = tuple(frac + constant.frac for frac in spread(linear.weight_frac, linear.weight.shape[1]))
    return replace(linear, weight_frac=moved)


def _shifted(linear: Linear, kind: TensorType, constant: Constant) -> Linear | None:
    """Return the matrix plus a constant of each column, on the grid of that column of the result."""
    full = np.broadcast_to(constant.values.array, kind.shape).reshape(-1, kind.shape[-1])
    fracs = kind.range.fracs(kind.size)[: kind.shape[-1]]  # those of every row
    if constant.frac > min(fracs) or not (full == full[0]).all():
        return None
    codes = [
        int(bias) + (int(code) << (frac - constant.frac))
        for bias, code, frac in zip(linear.bias.ints(), full[0].tolist(), fracs, strict=True)
    ]
    return replace(linear, bias=IntArray.of(object_array(codes, linear.bias.shape)))


def drop_idle_weights(graph: Graph) -> Graph:
    """Set the weights of inputs that are always 0 to 0: a quantizer gave these elements no bits."""
    ops: dict[str, Op] = {}
    for node in graph.nodes:
        if not isinstance(node.op, Linear):
            continue
        idle = _always_zero(graph.type_of(node.op.x))
        weight = node.op.weight.array
        if idle.any() and weight[idle].any():
            kept = weight.copy()
            kept[idle] = 0
            ops[node.name] = replace(node.op, weight=IntArray.of(kept))
    return rebuilt(graph, ops) if ops else graph


def _always_zero(kind: TensorType) -> Array:
    """Return which positions of the last axis are 0 at every place of the others."""
    lo = np.array(kind.range.los(kind.size), dtype=object).reshape(-1, kind.shape[-1])
    hi = np.array(kind.range.his(kind.size), dtype=object).reshape(-1, kind.shape[-1])
    return np.asarray(((lo == 0) & (hi == 0)).all(axis=0))
