"""What the function of one element depends on: when two elements of a chain share one piece of hardware."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metronn.ir.graph import Graph, Node
from metronn.ir.ops import Add, Constant, Extremum, Multiply, Requantize, operands

ElementwiseOp = Add | Multiply | Extremum | Requantize


def elementwise_op(node: Node) -> ElementwiseOp:
    """Return the node's op; ValueError when it does not work element by element."""
    if not isinstance(node.op, Add | Multiply | Extremum | Requantize):
        raise ValueError(f"{node.name}: {type(node.op).__name__} is not an elementwise op")
    return node.op


def source_element(shape: Sequence[int], element: int, operand_shape: Sequence[int]) -> int:
    """Flat index of the operand's element that meets element `element` of a broadcast result of `shape`."""
    position = np.unravel_index(element, tuple(shape)) if shape else ()
    tail = position[len(position) - len(operand_shape) :]
    flat = 0
    for size, where in zip(operand_shape, tail, strict=True):
        flat = flat * size + (int(where) if size > 1 else 0)
    return flat


def node_element(graph: Graph, nodes: Sequence[str], element: int, value: str) -> int:
    """Flat index of `value`'s element that takes part in element `element` of the last node of `nodes`."""
    return source_element(graph.type_of(nodes[-1]).shape, element, graph.type_of(value).shape)


def function_inputs(graph: Graph, nodes: Sequence[str]) -> tuple[str, ...]:
    """Names of the values the nodes read that are neither constants nor made by them, in order of first use."""
    inside = set(nodes)
    names: dict[str, None] = {}
    for name in nodes:
        for operand in operands(graph.by_name[name].op):
            if operand not in inside and not isinstance(graph.by_name[operand].op, Constant):
                names[operand] = None
    return tuple(names)


def function_key(graph: Graph, nodes: Sequence[str], element: int) -> tuple[object, ...]:
    """Everything but the arguments' bounds that the function of one element depends on; equal keys, equal functions.

    These are functions of codes: how far apart fracs are matters, not what they are.
    """

    def frac(value: str) -> int:
        return graph.type_of(value).range.element(node_element(graph, nodes, element, value)).max_frac

    key: list[object] = []
    for name in nodes:
        op = elementwise_op(graph.by_name[name])
        if isinstance(op, Requantize):
            out = op.out.element(node_element(graph, nodes, element, name))
            key.append((frac(op.x) - out.max_frac, out.lo, out.hi))
            continue
        for operand in operands(op):
            shift = 0 if isinstance(op, Multiply) else frac(name) - frac(operand)
            made_by = graph.by_name[operand].op
            if isinstance(made_by, Constant):
                key.append(int(made_by.values.array.ravel()[node_element(graph, nodes, element, operand)]) << shift)
            else:
                key.append(shift)
    return tuple(key)


def is_uniform(graph: Graph, nodes: Sequence[str]) -> bool:
    """Whether the function of the nodes is the same for every element, given arguments of the same bounds."""
    if not nodes:
        return True
    first = function_key(graph, nodes, 0)
    return all(function_key(graph, nodes, k) == first for k in range(1, graph.type_of(nodes[-1]).size))
