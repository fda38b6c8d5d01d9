"""One layer as several smaller ones, exactly: by output rows, each with its share of what follows, or by inputs.

Rows are columns of `Linear.weight`: every part reads all inputs and makes some of the results. What follows element by
element goes with each part, so that parts end in narrow codes; a movement joins them under the name that the whole
had. By inputs, every part is a sum over some of them, with exact bounds of its own, and the partial sums are added.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import assert_never

import numpy as np

from metronn.ir.arrays import IntArray
from metronn.ir.graph import Graph, GraphBuilder, Node
from metronn.ir.infer import linear_frac
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
    with_operands,
)
from metronn.ir.types import Range, TensorType
from metronn.passes.rewriting import grow

FOLLOWING = (Add, Multiply, Extremum, Requantize, Lookup)
"""What goes with the rows of a matrix: ops that work element by element."""


def evenly(count: int, parts: int) -> tuple[range, ...]:
    """Return so many ranges that cover `count` places in order, none of them longer than another by more than 1."""
    ends = [count * k // parts for k in range(parts + 1)]
    return tuple(range(first, last) for first, last in zip(ends, ends[1:], strict=False))


def split_rows(graph: Graph, name: str, parts: int) -> Graph:
    """Return the graph with the results of the Linear `name` made in `parts` shares, 2 or more and at most all rows.

    The value at the end of what follows keeps its name; those before it are gone.
    """
    group = grow(graph, name, FOLLOWING)
    whole = graph.by_name[group[-1]]
    shares = evenly(whole.shape[-1], parts)
    builder = GraphBuilder()
    for node in graph:
        if node.name == group[-1]:
            ends = [_share(graph, builder, group, number, share) for number, share in enumerate(shares)]
            builder.add(_joined(whole.shape, shares, ends), node.name, node.source)
        elif node.name not in group:
            builder.add(node.op, node.name, node.source)
    return _finished(builder, graph)


def _share(graph: Graph, builder: GraphBuilder, group: Sequence[str], number: int, share: range) -> str:
    """Add a share of a group of nodes; returns the value at its end."""
    names: dict[str, str] = {}
    for name in group:
        node = graph.by_name[name]
        for x in operands(node.op):
            constant = graph.by_name[x]
            if x not in names and isinstance(constant.op, Constant):
                names[x] = _constant_share(builder, constant, constant.op, number, share)
        read = builder.types.get(names.get(operands(node.op)[0], ""))
        op = _op_share(node, graph.type_of(operands(node.op)[0]), read, share)
        names[name] = builder.add(with_operands(op, names), f"{name}.part{number}", node.source)
    return names[group[-1]]


def _constant_share(builder: GraphBuilder, node: Node, op: Constant, number: int, share: range) -> str:
    if not op.values.shape or op.values.shape[-1] == 1:
        return node.name
    values = IntArray.of(op.values.array[..., share.start : share.stop])
    return builder.add(replace(op, values=values), f"{node.name}.part{number}", node.source)


def _op_share(node: Node, x: TensorType, read: TensorType | None, share: range) -> Op:
    """Return what makes some elements of the last axis; `x`, `read`: the first operand as a whole, and the share's."""
    columns = slice(share.start, share.stop)
    match node.op:
        case Linear() as op:
            fracs = op.weight_frac if isinstance(op.weight_frac, int) else op.weight_frac[columns]
            weight, bias = op.weight.array[:, columns], op.bias.array[columns]
            return replace(op, weight=IntArray.of(weight), bias=IntArray.of(bias), weight_frac=fracs)
        case Requantize() as op:
            return replace(op, out=_range_share(op.out, node.shape, columns))
        case Lookup() as op:
            assert read is not None
            first = read.range.lowest - x.range.lowest
            table = op.table.array[first : first + read.range.highest - read.range.lowest + 1]
            return replace(op, table=IntArray.of(table))
        case Add() | Multiply() | Extremum() as op:
            return op
        case Input() | Constant() | Rewire() | Window() | Reduce():
            raise AssertionError(f"{node.name}: is no part of a layer")
        case _:
            assert_never(node.op)


def _range_share(out: Range, shape: tuple[int, ...], columns: slice) -> Range:
    if out.uniform:
        return out

    def share(values: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(np.array(values, dtype=object).reshape(shape)[..., columns].ravel().tolist())

    count = math.prod(shape)
    return Range(share(out.los(count)), share(out.his(count)), share(out.fracs(count)))


def _joined(shape: tuple[int, ...], shares: Sequence[range], values: Sequence[str]) -> Rewire:
    """Return the movement that puts shares of the last axis side by side."""
    index, start = [], 0
    for share in shares:
        own = (*shape[:-1], len(share))
        index.append(np.arange(start, start + math.prod(own)).reshape(own))
        start += math.prod(own)
    return Rewire(xs=tuple(values), index=IntArray.of(np.concatenate(index, axis=-1)), shape=shape)


def split_inputs(graph: Graph, name: str, parts: int) -> Graph:
    """Return the graph with the Linear `name` as a sum of `parts` sums, each over a share of its inputs.

    There are 2 shares or more, and at most as many as inputs; the last sum keeps the name.
    """
    node = graph.by_name[name]
    assert isinstance(node.op, Linear)
    x = graph.by_name[node.op.x]
    builder = GraphBuilder()
    for other in graph:
        if other.name != name:
            builder.add(other.op, other.name, other.source)
            continue
        total, biased = "", False
        shares = evenly(x.shape[-1], parts)
        for number, share in enumerate(shares):
            read = _inputs(graph, builder, x, number, share, node.source)
            # Its bias is on the grid of the whole, which the share that has the finest input has too.
            fine = not biased and linear_frac(_partial(node.op, read, share), builder.types[read]) == linear_frac(
                node.op, x.type
            )
            value = builder.add(_partial(node.op, read, share, biased=fine), f"{name}.part{number}", node.source)
            biased = biased or fine
            if number:
                end = name if number == len(shares) - 1 else f"{name}.sum{number}"
                value = builder.add(Add(x=total, y=value), end, node.source)
            total = value
    return _finished(builder, graph)


def _inputs(graph: Graph, builder: GraphBuilder, x: Node, number: int, share: range, source: str) -> str:
    """Return the value of some elements of the last axis: that which a movement joined with others, or a new one."""
    index = np.arange(x.type.size).reshape(x.shape)[..., share.start : share.stop]
    if isinstance(x.op, Rewire):
        joined = x.op.index.array.reshape(x.shape)[..., share.start : share.stop]
        start = 0
        for part in x.op.xs:
            size = graph.type_of(part).size
            whole = np.arange(start, start + size)
            if graph.type_of(part).shape == joined.shape and np.array_equal(joined.ravel(), whole):
                return part
            start += size
    op = Rewire(xs=(x.name,), index=IntArray.of(index), shape=index.shape)
    return builder.add(op, f"{x.name}.part{number}", source)


def _partial(op: Linear, x: str, share: range, *, biased: bool = False) -> Linear:
    """Return the sum over some inputs."""
    rows = slice(share.start, share.stop)
    fracs = op.input_frac if isinstance(op.input_frac, int) else op.input_frac[rows]
    bias = op.bias if biased else IntArray.of(np.zeros(op.bias.shape, dtype=np.int64))
    return replace(op, x=x, weight=IntArray.of(op.weight.array[rows]), bias=bias, input_frac=fracs)


def _finished(builder: GraphBuilder, graph: Graph) -> Graph:
    for output in graph.outputs:
        builder.output(output.name, output.value, output.source)
    return builder.build()
