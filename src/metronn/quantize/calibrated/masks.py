"""Masks in front of softmax, maximum, exp and sigmoid: as far below the rest as the reader can tell, and no farther.

Attention adds 0 to what counts and -1e9, the lowest float32 or minus infinity to what does not. A format that holds
such a number has no bits left for the rest. Here the number becomes a power of two that gives the same answer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from metronn.ir.arrays import Array
from metronn.ir.ops import (
    Add,
    Extremum,
    ExtremumKind,
    Movement,
    Multiply,
    Reduce,
    ReduceKind,
    Rewire,
    Window,
    operands,
    with_operands,
)
from metronn.model.graph import (
    FloatArray,
    Floats,
    FunctionKind,
    RealConstant,
    RealFunction,
    RealGraph,
    RealInput,
    RealLinear,
    RealNode,
    RealOp,
    RealSoftmax,
)
from metronn.quantize.calibrated.functions.tables import JUMPING
from metronn.quantize.calibrated.structure import constant_names

MASKED = 512.0
"""A number this far below 0 is a mask; softmax, exp and sigmoid give less than 2**-700 there."""
UNSEEN = 18 * math.log(2)
"""exp of minus this is a quarter of a step of 16 bits: no reader tells such an element from one farther below."""
SAME = 1e-6
"""Numbers this near to each other, relative to their size, are one number in float32."""


def soften_masks(graph: RealGraph, values: Mapping[str, Floats]) -> RealGraph:
    """Return the network with masks of moderate size; the same graph when there are none.

    A mask is a constant with one number below -MASKED among others, or a value computed from constants, inputs of 0 and
    1 and functions with steps that is always 0 or one number below -MASKED (above MASKED where it is subtracted). It is
    looked for behind softmax, a maximum or minimum along axes, exp and sigmoid, through movement, sums, maxima and
    scales. Its new size is a power of two above twice the span of everything it is added to, plus what the reader's
    table can tell apart; zeros stay zero. Where calibration shows a maximum of masked elements alone, that mask stays.

    `values` are the floats of every node on the calibration events.
    """
    search = _Search(graph=graph, values=values, constant=constant_names(graph))
    readers = {node.name: gain for node in graph.nodes if (gain := _gain(node, values)) is not None}
    found = {name: gain for name, gain in readers.items() if search.masks(_operand(graph, name), gain)}
    if not found:
        return graph
    span = max(search.span(_operand(graph, name), gain) for name, gain in found.items())
    depth = 2.0 ** math.ceil(math.log2(2 * span + UNSEEN))
    softer = _Softening(search=search, depth=depth)
    nodes: list[RealNode] = []
    for node in graph.nodes:
        if node.name in found and isinstance(node.op, RealSoftmax | Reduce | RealFunction):
            x = softer.softened(node.op.x, found[node.name])
            nodes += softer.taken()
            node = replace(node, op=replace(node.op, x=x))
        nodes.append(node)
    return _without_dead(replace(graph, nodes=tuple(nodes)))


def _operand(graph: RealGraph, name: str) -> str:
    return operands(graph.by_name[name].op)[0]


def _gain(node: RealNode, values: Mapping[str, Floats]) -> float | None:
    """Return 1 where the node does not tell very negative operands apart, -1 for very positive ones, else None."""
    match node.op:
        case RealSoftmax() | RealFunction(kind=FunctionKind.EXP | FunctionKind.SIGMOID):
            return 1.0
        case Reduce(kind=ReduceKind.MAX) if values[node.name].min() > -MASKED:
            return 1.0
        case Reduce(kind=ReduceKind.MIN) if values[node.name].max() < MASKED:
            return -1.0
        case _:
            return None


@dataclass(slots=True, kw_only=True)
class _Search:
    """Questions about what lies behind a reader; `gain` is the factor from the value to the reader."""

    graph: RealGraph
    values: Mapping[str, Floats]
    constant: frozenset[str]
    stepped: dict[str, bool] = field(default_factory=dict)
    known: dict[tuple[str, float], bool] = field(default_factory=dict)

    def masks(self, name: str, gain: float) -> bool:
        """Whether there is a mask in the value."""
        if (name, gain) not in self.known:
            own = self.size(name, gain) is not None or bool(self.columns(name, gain).any())
            self.known[name, gain] = own or any(self.masks(x, g) for x, g in self.parts(name, gain))
        return self.known[name, gain]

    def size(self, name: str, gain: float) -> float | None:
        """Return how large the masked elements of the value are, if it is a mask by itself."""
        if name not in self.constant and not self._stepped(name):
            return None
        values = self.values[name] * gain
        low = float(values.min())
        if low > -MASKED:
            return None
        alike = np.abs(values - low) <= SAME * -low
        rest = values > -MASKED if name in self.constant else values == 0
        return -low if bool((alike | rest).all()) else None

    def columns(self, name: str, gain: float) -> Array:
        """Return which columns of a matrix a mask was added to, by a constant that is part of its bias now."""
        op = self.graph.by_name[name].op
        if not isinstance(op, RealLinear) or name in self.constant:
            return np.zeros(1, dtype=np.bool_)
        masked = op.bias.array * gain < -MASKED
        results = self.values[name].reshape(-1, len(masked)) * gain
        return np.asarray(masked & (results.max(axis=0) < -MASKED / 2))

    def parts(self, name: str, gain: float) -> list[tuple[str, float]]:
        """Return the values that this one is made of so that masks remain masks, each with its gain."""
        op = self.graph.by_name[name].op
        if isinstance(op, Movement):
            return [(x, gain) for x in operands(op)]
        match op:
            case Add():
                return [(op.x, gain), (op.y, -gain if op.subtract else gain)]
            case Extremum() if (op.kind is ExtremumKind.MAX) == (gain > 0):
                return [(op.x, gain), (op.y, gain)]
            case Multiply() if (number := self._number(op)) is not None:
                return [(number[0], gain * number[1])]
            case _:
                return []

    def _number(self, op: Multiply) -> tuple[str, float] | None:
        for x, y in ((op.x, op.y), (op.y, op.x)):
            if y in self.constant and x not in self.constant:
                numbers = np.unique(self.values[y])
                alike = numbers.size == 1 and numbers[0] != 0 and self.values[y].ndim <= self.values[x].ndim
                return (x, float(numbers[0])) if alike else None
        return None

    def span(self, name: str, gain: float) -> float:
        """Return how far apart the elements lie at the reader, masks left out."""
        if self.size(name, gain) is not None:
            values = self.values[name] * gain
            kept = values[values > -MASKED]
            return float(kept.max() - min(0.0, float(kept.min()))) if kept.size else 0.0
        parts = self.parts(name, gain)
        if parts and any(self.masks(x, own) for x, own in parts):
            return sum(self.span(x, own) for x, own in parts)
        values = self.values[name] * gain
        masked = self.columns(name, gain)
        if masked.any():
            values = values[..., ~masked]
        return max(0.0, float(values.max(initial=0.0))) - min(0.0, float(values.min(initial=0.0)))

    def _stepped(self, name: str) -> bool:
        """Whether the value can only be one of a few numbers: made of constants, zeros and ones, and steps."""
        if name not in self.stepped:
            op = self.graph.by_name[name].op
            match op:
                case RealInput():
                    self.stepped[name] = bool(np.isin(self.values[name], (0.0, 1.0)).all())
                case RealFunction(kind=kind) if kind in JUMPING:
                    self.stepped[name] = True
                case RealSoftmax() | RealFunction():
                    self.stepped[name] = False
                case _:
                    self.stepped[name] = all(self._stepped(x) for x in operands(op))
        return self.stepped[name]


@dataclass(slots=True, kw_only=True)
class _Softening:
    """Makes the new values; `depth` is the size of masks at the readers."""

    search: _Search
    depth: float
    made: dict[tuple[str, float, float], str] = field(default_factory=dict)
    fresh: list[RealNode] = field(default_factory=list)
    names: set[str] = field(default_factory=set)

    def taken(self) -> list[RealNode]:
        """Return the nodes made since the last call."""
        fresh, self.fresh = self.fresh, []
        return fresh

    def softened(self, name: str, gain: float) -> str:
        """Return the value with its masks at `depth`."""
        if not self.search.masks(name, gain):
            return name
        key = (name, gain, 0.0)
        if key not in self.made:
            self.made[key] = self._softened(name, gain)
        return self.made[key]

    def _softened(self, name: str, gain: float) -> str:
        node = self.search.graph.by_name[name]
        size = self.search.size(name, gain)
        if size is not None and size <= self.depth:
            return name
        if name in self.search.constant:
            values = self.search.values[name][0]
            clipped = np.where(values * gain <= -MASKED, np.maximum(values * gain, -self.depth) / gain, values)
            return self._add(node, RealConstant(values=FloatArray.of(clipped)))
        if size is not None:
            return self._scaled(name, self.depth / size, self.depth / abs(gain))
        masked = self.search.columns(name, gain)
        if masked.any() and isinstance(node.op, RealLinear):
            weight = np.where(masked, 0.0, node.op.weight.array)
            bias = np.where(masked, np.maximum(node.op.bias.array * gain, -self.depth) / gain, node.op.bias.array)
            return self._add(node, replace(node.op, weight=FloatArray.of(weight), bias=FloatArray.of(bias)))
        parts = {x: self.softened(x, own) for x, own in self.search.parts(name, gain)}
        return self._add(node, with_operands(node.op, parts))

    def _scaled(self, name: str, factor: float, unit: float) -> str:
        """Return a mask times a factor; constants next to a whole multiple of `unit` become that."""
        key = (name, 0.0, factor)
        if key not in self.made:
            node = self.search.graph.by_name[name]
            self.made[key] = self._add(node, self._scaled_op(node, factor, unit))
        return self.made[key]

    def _scaled_op(self, node: RealNode, factor: float, unit: float) -> RealOp:
        op = node.op
        if node.name in self.search.constant:
            return RealConstant(values=_snapped(self.search.values[node.name][0] * factor, unit))
        match op:
            case Rewire() | Window() | Add() | Extremum():
                return with_operands(op, {x: self._scaled(x, factor, unit) for x in operands(op)})
            case Multiply() if op.x in self.search.constant:
                return replace(op, x=self._scaled(op.x, factor, unit))
            case Multiply() if op.y in self.search.constant:
                return replace(op, y=self._scaled(op.y, factor, unit))
            case RealLinear():
                weight, bias = op.weight.array * factor, op.bias.array * factor
                return replace(op, weight=_snapped(weight, unit), bias=_snapped(bias, unit))
            case _:
                by = self._add(node, RealConstant(values=FloatArray.of(factor)))
                return Multiply(x=node.name, y=by)

    def _add(self, node: RealNode, op: RealOp) -> str:
        shape = op.values.shape if isinstance(op, RealConstant) else node.shape
        name, count = f"{node.name}.soft", 1
        while name in self.search.graph.by_name or name in self.names:
            count += 1
            name = f"{node.name}.soft{count}"
        self.names.add(name)
        self.fresh.append(RealNode(name=name, op=op, shape=shape, source=node.source))
        return name


def _snapped(values: Floats, unit: float) -> FloatArray:
    ratio = values / unit
    near = np.rint(ratio)
    return FloatArray.of(np.where(np.abs(ratio - near) <= SAME * np.maximum(1.0, np.abs(near)), near * unit, values))


def _without_dead(graph: RealGraph) -> RealGraph:
    needed = {value for _, value in graph.outputs}
    for node in reversed(graph.nodes):
        if node.name in needed:
            needed.update(operands(node.op))
    nodes = tuple(node for node in graph.nodes if node.name in needed or isinstance(node.op, RealInput))
    kept = {node.name for node in nodes}
    tensors = tuple((tensor, value) for tensor, value in graph.tensors if value in kept)
    return replace(graph, nodes=nodes, tensors=tensors)
