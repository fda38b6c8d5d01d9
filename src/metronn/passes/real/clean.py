"""Removing what a real network does not need: movements that move nothing, neutral arithmetic."""

from __future__ import annotations

import math

import numpy as np

from metronn.ir.arrays import IntArray
from metronn.ir.moves import composed, shifted
from metronn.ir.ops import Add, Multiply, Rewire
from metronn.model.graph import RealGraph, RealOp
from metronn.passes.real.rewriting import affine_of
from metronn.passes.rewriting import moves_nothing, rebuilt


def drop_neutral(graph: RealGraph) -> RealGraph:
    """Remove x + 0, x * 1 and rewires that keep shape and order; their readers read x."""
    names: dict[str, str] = {}
    for node in graph.nodes:
        kept = _neutral(graph, node.op, node.name)
        if kept is not None and not {node.name, kept} <= graph.shown_values:
            names[node.name] = names.get(kept, kept)
    return rebuilt(graph, names=names, removed=set(names)) if names else graph


def _neutral(graph: RealGraph, op: RealOp, name: str) -> str | None:
    node = graph.by_name[name]
    if isinstance(op, Rewire):
        return op.xs[0] if moves_nothing(graph, op) else None
    if isinstance(op, Add | Multiply):
        affine = affine_of(graph, node)
        if affine is not None and (affine[1] == 1).all() and (affine[2] == 0).all():
            return affine[0]
    return None


def merge_rewires(graph: RealGraph) -> RealGraph:
    """Make one movement of a movement of a movement: operands that are rewires read nowhere else are looked through."""
    while (merged := _merge_one(graph)) is not None:
        graph = merged
    return graph


def _merge_one(graph: RealGraph) -> RealGraph | None:
    for node in graph.nodes:
        op = node.op
        if not isinstance(op, Rewire):
            continue
        for position, name in enumerate(op.xs):
            inner = graph.by_name[name].op
            alone = graph.uses[name] == (node.name,) and op.xs.count(name) == 1 and name not in graph.shown_values
            if isinstance(inner, Rewire) and alone:
                merged = _composed(graph, op, position, inner)
                return rebuilt(graph, {node.name: merged}, removed={name})
    return None


def _composed(graph: RealGraph, outer: Rewire, position: int, inner: Rewire) -> Rewire:
    parts, start = [], 0
    for place, x in enumerate(outer.xs):
        read = inner.xs if place == position else (x,)
        size = sum(math.prod(graph.by_name[name].shape) for name in read)
        parts.append(shifted(inner.index.array.ravel() if place == position else np.arange(size), start))
        start += size
    xs = (*outer.xs[:position], *inner.xs, *outer.xs[position + 1 :])
    return Rewire(xs=xs, index=IntArray.of(composed(outer.index.array, parts)), shape=outer.shape)
