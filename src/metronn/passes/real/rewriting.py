"""What passes over real networks share beside `passes.rewriting`: new nodes, and what constants do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from metronn.ir.ops import Add, Multiply
from metronn.model.graph import FloatArray, Floats, RealConstant, RealGraph, RealNode


def with_new_nodes(graph: RealGraph, before: Mapping[str, tuple[RealNode, ...]]) -> RealGraph:
    """Return the graph with nodes inserted ahead of the named ones."""
    nodes = [part for node in graph.nodes for part in (*before.get(node.name, ()), node)]
    return replace(graph, nodes=tuple(nodes))


def constant_of(graph: RealGraph, name: str) -> Floats | None:
    """Return the values of a constant, None for anything else."""
    op = graph.by_name[name].op
    return op.values.array if isinstance(op, RealConstant) else None


def affine_of(graph: RealGraph, node: RealNode) -> tuple[str, Floats, Floats] | None:
    """Read the node as y = x * scale + offset with constants; returns x, scale, offset, or None.

    The constants broadcast against the node's shape; a node whose shape is not x's is none.
    """
    op = node.op
    if not isinstance(op, Add | Multiply):
        return None
    right, left = constant_of(graph, op.y), constant_of(graph, op.x)
    if right is not None and left is None:
        x = op.x
        if isinstance(op, Multiply):
            scale, offset = right, np.zeros(())
        else:
            scale, offset = np.ones(()), -right if op.subtract else right
    elif left is not None and right is None:
        x = op.y
        if isinstance(op, Multiply):
            scale, offset = left, np.zeros(())
        else:
            scale, offset = np.array(-1.0 if op.subtract else 1.0), left
    else:
        return None
    return (x, scale, offset) if graph.by_name[x].shape == node.shape else None


def frozen(values: Floats) -> FloatArray:
    """Return the values as a constant of an op."""
    return FloatArray.of(values)
