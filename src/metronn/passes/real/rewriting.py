"""What passes over real networks share: replacing nodes and following replaced names."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import assert_never

import numpy as np

from metronn.ir.names import sanitized
from metronn.model.graph import (
    FloatArray,
    Floats,
    RealAdd,
    RealConstant,
    RealExtremum,
    RealFunction,
    RealGraph,
    RealInput,
    RealLinear,
    RealMultiply,
    RealNode,
    RealOp,
    RealQuantize,
    RealReduce,
    RealRewire,
    RealSoftmax,
    RealWindow,
)


def with_operands(op: RealOp, names: Mapping[str, str]) -> RealOp:
    """Return the op with every operand found in `names` renamed."""

    def new(name: str) -> str:
        return names.get(name, name)

    match op:
        case RealInput() | RealConstant():
            return op
        case RealRewire():
            return replace(op, xs=tuple(new(x) for x in op.xs))
        case RealWindow() | RealLinear() | RealReduce() | RealFunction() | RealSoftmax() | RealQuantize():
            return replace(op, x=new(op.x))
        case RealAdd() | RealMultiply() | RealExtremum():
            return replace(op, x=new(op.x), y=new(op.y))
        case _:
            assert_never(op)


def rebuilt(
    graph: RealGraph,
    ops: Mapping[str, RealOp] | None = None,
    names: Mapping[str, str] | None = None,
    removed: Collection[str] = (),
) -> RealGraph:
    """Return the graph with some ops exchanged, some values read elsewhere, and some nodes gone.

    `names` sends a value to the one to read instead, in one step; exchanged ops are renamed too. Shapes of exchanged
    ops must not change.
    """
    ops, names = ops or {}, names or {}
    nodes = tuple(
        replace(node, op=with_operands(ops.get(node.name, node.op), names))
        for node in graph.nodes
        if node.name not in removed
    )
    outputs = tuple((name, names.get(value, value)) for name, value in graph.outputs)
    return replace(graph, nodes=nodes, outputs=outputs, tensors=kept_tensors(graph, nodes, names))


def kept_tensors(
    graph: RealGraph, nodes: tuple[RealNode, ...], names: Mapping[str, str] | None = None
) -> tuple[tuple[str, str], ...]:
    """Return the tensors of the framework whose values are still there, some under another name."""
    names, there = names or {}, {node.name for node in nodes}
    moved = ((tensor, names.get(value, value)) for tensor, value in graph.tensors)
    return tuple((tensor, value) for tensor, value in moved if value in there)


def with_new_nodes(graph: RealGraph, before: Mapping[str, tuple[RealNode, ...]]) -> RealGraph:
    """Return the graph with nodes inserted ahead of the named ones."""
    nodes = [part for node in graph.nodes for part in (*before.get(node.name, ()), node)]
    return replace(graph, nodes=tuple(nodes))


def free_name(graph: RealGraph, base: str) -> str:
    """Return `base`, or `base_2`, `base_3`, ... when taken."""
    name, count = base, 1
    while name in graph.by_name:
        count += 1
        name = sanitized(f"{base}_{count}")
    return name


def constant_of(graph: RealGraph, name: str) -> Floats | None:
    """Return the values of a constant, None for anything else."""
    op = graph.by_name[name].op
    return op.values.array if isinstance(op, RealConstant) else None


def is_output(graph: RealGraph, name: str) -> bool:
    """Whether an output shows the value."""
    return any(value == name for _, value in graph.outputs)


def affine_of(graph: RealGraph, node: RealNode) -> tuple[str, Floats, Floats] | None:
    """Read the node as y = x * scale + offset with constants; returns x, scale, offset, or None.

    The constants broadcast against the node's shape; a node whose shape is not x's is none.
    """
    op = node.op
    if not isinstance(op, RealAdd | RealMultiply):
        return None
    right, left = constant_of(graph, op.y), constant_of(graph, op.x)
    if right is not None and left is None:
        x = op.x
        if isinstance(op, RealMultiply):
            scale, offset = right, np.zeros(())
        else:
            scale, offset = np.ones(()), -right if op.subtract else right
    elif left is not None and right is None:
        x = op.y
        if isinstance(op, RealMultiply):
            scale, offset = left, np.zeros(())
        else:
            scale, offset = np.array(-1.0 if op.subtract else 1.0), left
    else:
        return None
    return (x, scale, offset) if graph.by_name[x].shape == node.shape else None


def frozen(values: Floats) -> FloatArray:
    """Return the values as a constant of an op."""
    return FloatArray.of(values)
