"""What passes over real and over integer graphs share: nodes exchanged or removed, values read elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar, overload

import numpy as np

from metronn.ir.graph import Graph, GraphBuilder
from metronn.ir.ops import Constant, Entry, Op, Rewire, operands, with_operands
from metronn.model.graph import RealGraph, RealNode, RealOp

GraphT = TypeVar("GraphT", Graph, RealGraph)


@overload
def rebuilt(
    graph: Graph,
    ops: Mapping[str, Op] | None = None,
    names: Mapping[str, str] | None = None,
    removed: Collection[str] = (),
) -> Graph: ...


@overload
def rebuilt(
    graph: RealGraph,
    ops: Mapping[str, RealOp] | None = None,
    names: Mapping[str, str] | None = None,
    removed: Collection[str] = (),
) -> RealGraph: ...


def rebuilt(
    graph: Graph | RealGraph,
    ops: Mapping[str, Any] | None = None,
    names: Mapping[str, str] | None = None,
    removed: Collection[str] = (),
) -> Graph | RealGraph:
    """Return the graph with some ops exchanged, some values read elsewhere, and some nodes gone.

    `names` sends a value to the one to read instead, in one step; exchanged ops are renamed too. Types of an integer
    graph are inferred again; shapes of a real one must not change.
    """
    ops, names = ops or {}, names or {}
    if isinstance(graph, Graph):
        builder = GraphBuilder()
        for node in graph:
            if node.name not in removed:
                builder.add(with_operands(ops.get(node.name, node.op), names), node.name, node.source)
        for output in graph.outputs:
            builder.output(output.name, names.get(output.value, output.value), output.source)
        return builder.build()
    nodes = tuple(
        replace(node, op=with_operands(ops.get(node.name, node.op), names))
        for node in graph
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


def drop_dead(graph: GraphT) -> GraphT:
    """Remove nodes that no output needs; inputs stay, they are the interface."""
    needed = set(graph.shown_values)
    for node in reversed(graph.nodes):
        if node.name in needed:
            needed.update(operands(node.op))
    dead = {node.name for node in graph if node.name not in needed and not isinstance(node.op, Entry)}
    return rebuilt(graph, removed=dead) if dead else graph


def moves_nothing(graph: Graph | RealGraph, op: Rewire) -> bool:
    """Whether a movement of elements keeps all of its one operand, shape and order."""
    if len(op.xs) != 1 or graph.by_name[op.xs[0]].shape != op.shape:
        return False
    return np.array_equal(op.index.array.ravel(), np.arange(op.index.array.size))


def grow(
    graph: Graph, first: str, kinds: tuple[type, ...], fits: Callable[[Sequence[str]], bool] | None = None
) -> tuple[str, ...]:
    """Follow a value through elementwise ops of one shape: the longest group that shows only its last value outside.

    An op joins when it works element by element (is one of `kinds`) and reads only constants and the group's values.
    `fits` is asked of the ops behind the first one.
    """
    shape = graph.type_of(first).shape
    group = [first]
    position = {node.name: index for index, node in enumerate(graph.nodes)}
    for node in graph.nodes[position[first] + 1 :]:
        reads = operands(node.op)
        if not isinstance(node.op, kinds) or node.type.shape != shape or not any(name in group for name in reads):
            continue
        if all(name in group or isinstance(graph.by_name[name].op, Constant) for name in reads):
            group.append(node.name)
    shown = {output.value for output in graph.outputs}
    for length in range(len(group), 1, -1):
        inside = set(group[:length])
        hidden = group[: length - 1]
        seen = any(name in shown or not set(graph.uses[name]) <= inside for name in hidden)
        if not seen and (fits is None or fits(group[1:length])):
            return tuple(group[:length])
    return (first,)
