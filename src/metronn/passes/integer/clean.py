"""Passes over integer graphs: dead nodes, movements that move nothing, requantizations that change nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import assert_never

import numpy as np

from metronn.ir.graph import Graph, GraphBuilder
from metronn.ir.ops import (
    Add,
    Constant,
    Extremum,
    Input,
    Linear,
    Lookup,
    Multiply,
    Op,
    Reduce,
    Requantize,
    Rewire,
    Window,
    operands,
)
from metronn.ir.types import TensorType


def with_operands(op: Op, names: Mapping[str, str]) -> Op:
    """Return the op with every operand found in `names` renamed."""

    def new(name: str) -> str:
        return names.get(name, name)

    match op:
        case Input() | Constant():
            return op
        case Rewire():
            return replace(op, xs=tuple(new(x) for x in op.xs))
        case Window() | Linear() | Reduce() | Requantize() | Lookup():
            return replace(op, x=new(op.x))
        case Add() | Multiply() | Extremum():
            return replace(op, x=new(op.x), y=new(op.y))
        case _:
            assert_never(op)


def rebuilt(
    graph: Graph, names: Mapping[str, str], removed: Collection[str], ops: Mapping[str, Op] | None = None
) -> Graph:
    """Return the graph without the removed nodes, values read where `names` says; types are inferred again.

    `ops` exchanges the ops of some nodes.
    """
    ops = ops or {}
    builder = GraphBuilder()
    for node in graph.nodes:
        if node.name not in removed:
            builder.add(with_operands(ops.get(node.name, node.op), names), node.name, node.source)
    for output in graph.outputs:
        builder.output(output.name, names.get(output.value, output.value), output.source)
    return builder.build()


def drop_dead(graph: Graph) -> Graph:
    """Remove nodes that no output needs; inputs stay, they are the interface."""
    needed = {output.value for output in graph.outputs}
    for node in reversed(graph.nodes):
        if node.name in needed:
            needed.update(operands(node.op))
    dead = {node.name for node in graph.nodes if node.name not in needed and not isinstance(node.op, Input)}
    return rebuilt(graph, {}, dead) if dead else graph


def drop_neutral_ops(graph: Graph) -> Graph:
    """Remove rewires that keep shape and order, and requantizations that change neither codes nor exponents."""
    names = neutral_names(graph)
    return rebuilt(graph, names, set(names)) if names else graph


def neutral_names(graph: Graph) -> dict[str, str]:
    """Return the values that `drop_neutral_ops` removes, each with the value of the same codes that stays."""
    names: dict[str, str] = {}
    for node in graph.nodes:
        kept = _neutral(graph, node.op, node.name)
        if kept is not None:
            names[node.name] = names.get(kept, kept)
    return names


def _neutral(graph: Graph, op: Op, name: str) -> str | None:
    """Return the operand that the node merely repeats, or None."""
    if isinstance(op, Rewire):
        same = len(op.xs) == 1 and graph.type_of(op.xs[0]).shape == op.shape
        return op.xs[0] if same and np.array_equal(op.index.array.ravel(), np.arange(len(op.index.ints()))) else None
    if isinstance(op, Requantize):
        return op.x if _covers(op, graph.type_of(op.x)) and graph.type_of(op.x) == graph.type_of(name) else None
    return None


def _covers(op: Requantize, source: TensorType) -> bool:
    """Whether the requantization keeps every value of an operand of the given type."""
    size = source.size
    fields = (source.range.los, source.range.his, source.range.fracs, op.out.los, op.out.his, op.out.fracs)
    for lo, hi, frac, out_lo, out_hi, out_frac in zip(*(field(size) for field in fields), strict=True):
        grow = out_frac - frac
        if grow < 0 or lo << grow < out_lo or hi << grow > out_hi:
            return False
    return True


def merge_requantize(graph: Graph) -> Graph:
    """Let a requantization read through one before it that keeps every value; the result is the same to the bit."""
    builder = GraphBuilder()
    ops: dict[str, Op] = {}
    for node in graph.nodes:
        op = node.op
        if isinstance(op, Requantize):
            while isinstance(inner := ops[op.x], Requantize) and _covers(inner, builder.types[inner.x]):
                op = replace(op, x=inner.x)
        ops[node.name] = op
        builder.add(op, node.name, node.source)
    for output in graph.outputs:
        builder.output(output.name, output.value, output.source)
    merged = builder.build()
    return graph if merged == graph else drop_dead(merged)
