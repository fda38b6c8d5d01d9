"""Reordered sinks: f(transpose(x)) becomes transpose(f(x)), until a transpose meets its inverse or a matrix.

A channels-first network, whose frontend puts every convolution between two transposes, becomes a channels-last one.
One walk over the nodes in order; a movement that nothing reads any more is left to `drop_dead`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, assert_never

import numpy as np
import numpy.typing as npt

from metronn.ir.arrays import IntArray
from metronn.ir.moves import composed
from metronn.ir.ops import Add, Extremum, Multiply, Reduce, Rewire, Window, operands, with_operands
from metronn.model.graph import (
    Floats,
    RealConstant,
    RealFunction,
    RealGraph,
    RealGraphBuilder,
    RealInput,
    RealLinear,
    RealNode,
    RealOp,
    RealQuantize,
    RealSoftmax,
)
from metronn.passes.real.rewriting import frozen
from metronn.passes.rewriting import kept_tensors

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Reordered:
    """A value that is another one with its elements in another order: value.ravel()[i] = x.ravel()[index.ravel()[i]].

    `order` is that of the axes when the movement is a transpose.
    """

    x: str
    index: Ints
    order: tuple[int, ...] | None

    @property
    def inverse(self) -> tuple[int, ...]:
        """The order that undoes a transpose."""
        return tuple(int(axis) for axis in np.argsort(self.order or ()))


def sink_moves(graph: RealGraph) -> RealGraph:
    """Let transposes, and other changes of order, sink through what works element by element or along axes."""
    return _Sinking(graph).run()


def transposed(index: Ints, shape: Sequence[int]) -> tuple[int, ...] | None:
    """Return the order of axes if the index is a transpose of a tensor of this shape, else None.

    Of several orders, which differ in axes of size 1, the one that keeps most axes in place is returned.
    """
    if len(shape) != index.ndim or sorted(shape) != sorted(index.shape):
        return None
    plain = np.arange(math.prod(shape)).reshape(tuple(shape))
    steps = [
        int(index[tuple(int(a == axis) for a in range(index.ndim))]) if n > 1 else 0
        for axis, n in enumerate(index.shape)
    ]
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    for order in itertools.permutations(range(len(shape))):
        pairs = zip(order, index.shape, steps, strict=True)
        fits = all(shape[old] == n and (n == 1 or strides[old] == step) for old, n, step in pairs)
        if fits and np.array_equal(plain.transpose(order), index):
            return order
    return None


@dataclass(slots=True)
class _Sinking:
    graph: RealGraph
    builder: RealGraphBuilder = field(default_factory=RealGraphBuilder)
    names: dict[str, str] = field(default_factory=dict)
    movements: dict[str, Reordered] = field(default_factory=dict)
    constants: dict[str, Floats] = field(default_factory=dict)
    rewires: dict[Rewire, str] = field(default_factory=dict)
    inputs: set[str] = field(default_factory=set)

    def run(self) -> RealGraph:
        """Visit every node; names of nodes stay with the op that computes."""
        for node in self.graph.nodes:
            self.names[node.name] = self._visit(node)
        outputs = tuple((name, self.names[value]) for name, value in self.graph.outputs)
        nodes = tuple(self.builder.nodes)
        tensors = kept_tensors(self.graph, nodes, self.names)
        return replace(self.graph, nodes=nodes, outputs=outputs, tensors=tensors)

    def _shape(self, name: str) -> tuple[int, ...]:
        return self.builder.shapes[name]

    def _add(self, op: RealOp, node: RealNode) -> str:
        name = self.builder.add(op, node.name, node.source)
        if isinstance(op, RealConstant):
            self.constants[name] = op.values.array
        if isinstance(op, RealInput):
            self.inputs.add(name)
        return name

    def _constant(self, values: Floats, node: RealNode) -> str:
        name = self.builder.add(RealConstant(values=frozen(values)), f"{node.name}.constant", node.source)
        self.constants[name] = values
        return name

    def _rewire(self, xs: tuple[str, ...], index: Ints, node: RealNode, name: str) -> str:
        """Add a movement, or return the value that is it already."""
        shape = tuple(int(n) for n in index.shape)
        flat = index.ravel()
        if len(xs) == 1 and shape == self._shape(xs[0]) and np.array_equal(flat, np.arange(flat.size)):
            return xs[0]
        op = Rewire(xs=xs, index=IntArray.of(index), shape=shape)
        if op in self.rewires:
            return self.rewires[op]
        added = self.builder.add(op, name, node.source)
        self.rewires[op] = added
        if len(xs) == 1 and flat.size == math.prod(self._shape(xs[0])):
            if np.array_equal(np.sort(flat), np.arange(flat.size)):
                self.movements[added] = Reordered(xs[0], index, transposed(index, self._shape(xs[0])))
        return added

    def _moving(self, name: str) -> Reordered | None:
        """Return a value's movement when it changes the order of its elements."""
        movement = self.movements.get(name)
        if movement is None or np.array_equal(movement.index.ravel(), np.arange(movement.index.size)):
            return None
        return movement

    def _transpose(self, x: str, order: Sequence[int], node: RealNode) -> str:
        index = np.arange(math.prod(self._shape(x))).reshape(self._shape(x)).transpose(tuple(order))
        return self._rewire((x,), index, node, f"{node.name}.order")

    def _visit(self, node: RealNode) -> str:
        op = with_operands(node.op, self.names)
        moved: str | None
        match op:
            case Rewire():
                return self._visit_rewire(op, node)
            case RealFunction():
                moved = self._through(op, node)
            case RealQuantize():
                moved = self._through_quantizer(op, node)
            case Reduce() | RealSoftmax():
                moved = self._along_axes(op, node)
            case RealLinear():
                moved, movement = None, self._moving(op.x)
                if (
                    movement is not None
                    and movement.order is not None
                    and movement.order[-1] == len(movement.order) - 1
                ):
                    y = self._add(replace(op, x=movement.x), node)
                    moved = self._transpose(y, movement.order, node)
            case Add() | Multiply() | Extremum():
                moved = self._binary(op, node)
            case RealInput() | RealConstant() | Window():
                moved = None
            case _:
                assert_never(op)
        return self._add(op, node) if moved is None else moved

    def _visit_rewire(self, op: Rewire, node: RealNode) -> str:
        index = op.index.array.reshape(op.shape)
        found = [self.movements.get(x) for x in op.xs]
        sources = tuple(x if m is None else m.x for x, m in zip(op.xs, found, strict=True))
        starts = np.cumsum([0, *(math.prod(self._shape(x)) for x in op.xs)])
        parts = [
            start + (np.arange(math.prod(self._shape(x))) if m is None else m.index.ravel())
            for x, m, start in zip(op.xs, found, starts[:-1], strict=True)
        ]
        moved = composed(index, parts)
        orders = {None if self._moving(x) is None or m is None else m.order for x, m in zip(op.xs, found, strict=True)}
        order = orders.pop() if len(orders) == 1 else None
        if order is None or len(order) != index.ndim:
            return self._rewire(sources, moved, node, node.name)
        if len(sources) == 1 and np.array_equal(np.sort(moved.ravel()), np.arange(math.prod(self._shape(sources[0])))):
            return self._rewire(sources, moved, node, node.name)
        y = self._rewire(sources, moved.transpose(np.argsort(order)), node, node.name)
        return self._transpose(y, order, node)

    def _through(self, op: RealFunction, node: RealNode) -> str | None:
        movement = self._moving(op.x)
        if movement is None:
            return None
        y = self._add(replace(op, x=movement.x), node)
        return self._rewire((y,), movement.index, node, f"{node.name}.order")

    def _through_quantizer(self, op: RealQuantize, node: RealNode) -> str | None:
        movement = self._moving(op.x)
        if movement is None:
            return None
        shape, order = self._shape(movement.x), movement.index.ravel()

        def back(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
            """Return constants of the moved value as those of the value before; one for all stays one."""
            if values.size == 1:
                return values.reshape(())
            placed = np.empty(math.prod(shape), dtype=values.dtype)
            placed[order] = np.broadcast_to(values, node.shape).ravel()
            return placed.reshape(shape)

        scale, lo, hi = frozen(back(op.scale.array)), IntArray.of(back(op.lo.array)), IntArray.of(back(op.hi.array))
        y = self._add(replace(op, x=movement.x, scale=scale, lo=lo, hi=hi), node)
        return self._rewire((y,), movement.index, node, f"{node.name}.order")

    def _along_axes(self, op: Reduce | RealSoftmax, node: RealNode) -> str | None:
        movement = self._moving(op.x)
        if movement is None or movement.order is None:
            return None
        order = movement.order
        if isinstance(op, RealSoftmax):
            y = self._add(replace(op, x=movement.x, axis=order[op.axis]), node)
            return self._transpose(y, order, node)
        gone = tuple(sorted(order[axis] for axis in op.axes))
        y = self._add(replace(op, x=movement.x, axes=gone), node)
        kept = [axis for axis in range(len(order)) if axis not in gone]
        return self._transpose(y, [kept.index(axis) for axis in order if axis not in gone], node)

    def _binary(self, op: Add | Multiply | Extremum, node: RealNode) -> str | None:
        names = operands(op)
        for x, other in (names, names[::-1]):
            movement = self._moving(x)
            if movement is None or self._shape(x) != node.shape:
                continue
            partner = self._partner(movement, other, node)
            if partner is None:
                continue
            y = self._add(with_operands(op, {x: movement.x, other: partner}), node)
            if movement.order is not None:
                return self._transpose(y, movement.order, node)
            return self._rewire((y,), movement.index, node, f"{node.name}.order")
        return None

    def _partner(self, movement: Reordered, other: str, node: RealNode) -> str | None:
        """Return the other operand before the movement, if it is had without moving anything."""
        constant = self.constants.get(other)
        if constant is not None:
            return (
                other if constant.size == 1 and constant.ndim == 0 else self._moved_constant(movement, constant, node)
            )
        same = self._moving(other)
        if same is not None and same.order == movement.order and movement.order is not None:
            return same.x
        if same is not None and np.array_equal(same.index, movement.index):
            return same.x if self._shape(same.x) == self._shape(movement.x) else None
        if movement.order is None:
            return None
        shape = self._shape(other)
        full = (1,) * (len(movement.order) - len(shape)) + shape
        index = np.arange(math.prod(full)).reshape(full).transpose(movement.inverse)
        op = Rewire(xs=(other,), index=IntArray.of(index), shape=tuple(int(n) for n in index.shape))
        if op in self.rewires and other in self.inputs and movement.x not in self.inputs:
            return self.rewires[
                op
            ]  # the input is there in the other order too; never for two inputs, or it would swing
        plain = np.array_equal(index.ravel(), np.arange(index.size))
        return self._rewire((other,), index, node, f"{node.name}.shape") if plain else None

    def _moved_constant(self, movement: Reordered, constant: Floats, node: RealNode) -> str:
        shape = self._shape(movement.x)
        if movement.order is not None:
            full = constant.reshape((1,) * (len(shape) - constant.ndim) + constant.shape)
            return self._constant(full.transpose(movement.inverse), node)
        values = np.empty(math.prod(shape))
        values[movement.index.ravel()] = np.broadcast_to(constant, movement.index.shape).ravel()
        values = values.reshape(shape)
        for axis in range(len(shape)):
            first = values.take([0], axis=axis)
            values = first if (values == first).all() else values
        return self._constant(values, node)
