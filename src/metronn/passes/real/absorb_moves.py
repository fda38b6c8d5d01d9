"""Movements disappear into what reads them: into the rows of a matrix, into the padding of a window."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from metronn.ir.arrays import Array, IntArray
from metronn.ir.names import free_name
from metronn.ir.ops import Padding, Rewire, Window
from metronn.model.graph import RealGraph, RealLinear, RealNode
from metronn.passes.real.rewriting import frozen, with_new_nodes
from metronn.passes.rewriting import rebuilt


def absorb_into_matrix(graph: RealGraph) -> RealGraph:
    """Let a matrix that reads a whole event in another order read it as it is, with its rows in that order.

    A movement that drops elements stays, since its matrix would grow.
    """
    for node in graph.nodes:
        if not isinstance(node.op, RealLinear) or len(graph.by_name[node.op.x].shape) != 1:
            continue
        rewire = graph.by_name[node.op.x].op
        if not isinstance(rewire, Rewire):
            continue
        index = rewire.index.array.ravel()
        total = sum(math.prod(graph.by_name[x].shape) for x in rewire.xs)
        if total > index.size or np.array_equal(index, np.arange(total)):
            continue
        weight = np.zeros((total, node.op.weight.shape[1]))
        inside = index >= 0
        np.add.at(weight, index[inside], node.op.weight.array[inside])
        flat = Rewire(xs=rewire.xs, index=IntArray.of(np.arange(total)), shape=(total,))
        graph = _reading(graph, node, flat, replace(node.op, weight=frozen(weight)))
    return graph


def fold_window_padding(graph: RealGraph) -> RealGraph:
    """Let a window with zero padding pad instead of the movement before it that puts zeros around."""
    for node in graph.nodes:
        if not isinstance(node.op, Window) or node.op.padding is not Padding.ZERO:
            continue
        rewire = graph.by_name[node.op.x].op
        if not isinstance(rewire, Rewire):
            continue
        box = _inside(rewire.index.array.reshape(rewire.shape), len(node.op.kernel))
        if box is None:
            continue
        index, before, after = box
        inner = Rewire(xs=rewire.xs, index=IntArray.of(index), shape=tuple(int(n) for n in index.shape))
        window = replace(
            node.op,
            before=tuple(a + b for a, b in zip(node.op.before, before, strict=True)),
            after=tuple(a + b for a, b in zip(node.op.after, after, strict=True)),
        )
        graph = _reading(graph, node, inner, window)
    return graph


def _reading(graph: RealGraph, node: RealNode, rewire: Rewire, op: RealLinear | Window) -> RealGraph:
    """Return the graph in which a node has a new op, which reads a new movement."""
    name = free_name(f"{node.name}.order", graph.by_name)
    inserted = RealNode(name=name, op=rewire, shape=rewire.shape, source=node.source)
    return with_new_nodes(rebuilt(graph, {node.name: replace(op, x=name)}), {node.name: (inserted,)})


def _inside(index: Array, rank: int) -> tuple[Array, tuple[int, ...], tuple[int, ...]] | None:
    """Return the index without zeros around the spatial axes, and how many there were; None when there are none."""
    held = index >= 0
    first, last = index.ndim - 1 - rank, index.ndim - 1
    if held.all() or not held.any():
        return None
    before, after = [], []
    slices = [slice(None)] * index.ndim
    for axis in range(first, last):
        where = np.flatnonzero(held.any(axis=tuple(a for a in range(index.ndim) if a != axis)))
        before.append(int(where[0]))
        after.append(int(index.shape[axis] - 1 - where[-1]))
        slices[axis] = slice(int(where[0]), int(where[-1]) + 1)
    block = index[tuple(slices)]
    return (block, tuple(before), tuple(after)) if any(before) or any(after) else None
