"""Passes over integer graphs: movements that move nothing, requantizations that change nothing."""

from __future__ import annotations

from dataclasses import replace

from metronn.ir.graph import Graph, GraphBuilder
from metronn.ir.ops import (
    Op,
    Requantize,
    Rewire,
)
from metronn.ir.types import TensorType
from metronn.passes.rewriting import drop_dead, moves_nothing, rebuilt


def drop_neutral_ops(graph: Graph) -> Graph:
    """Remove rewires that keep shape and order, and requantizations that change neither codes nor exponents."""
    names = neutral_names(graph)
    return rebuilt(graph, names=names, removed=set(names)) if names else graph


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
        return op.xs[0] if moves_nothing(graph, op) else None
    if isinstance(op, Requantize):
        return op.x if covers(op, graph.type_of(op.x)) and graph.type_of(op.x) == graph.type_of(name) else None
    return None


def covers(op: Requantize, source: TensorType) -> bool:
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
            while isinstance(inner := ops[op.x], Requantize) and covers(inner, builder.types[inner.x]):
                op = replace(op, x=inner.x)
        ops[node.name] = op
        builder.add(op, node.name, node.source)
    for output in graph.outputs:
        builder.output(output.name, output.value, output.source)
    merged = builder.build()
    return graph if merged == graph else drop_dead(merged)
