"""Regions of a quantized network in which every result depends on one code: between quantizers, whatever is between.

A region begins at quantizers and ends at a quantizer. It may hold matrices, sums over hidden axes and functions: where
every element of its result depends on at most one element of one narrow quantizer, it is a table for each element.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import assert_never

import numpy as np
import numpy.typing as npt

from metronn.ir.moves import element_index
from metronn.ir.ops import Add, Extremum, Movement, Multiply, Overflow, Reduce, Rewire, Window, operands
from metronn.model.graph import (
    Floats,
    RealConstant,
    RealFunction,
    RealGraph,
    RealInput,
    RealLinear,
    RealNode,
    RealQuantize,
    RealSoftmax,
)
from metronn.quantize.exact.weights import SIGNIFICANT_BITS, integer_weights

MAX_CODES = 1 << 12
"""Quantizers of more codes begin no region."""
MAX_EVALUATED = 1 << 26
"""As many results, over all codes, are computed for one region."""

Index = npt.NDArray[np.int64]
NONE = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """What lies between quantizers and the quantizer `closing`.

    `depends`, of the closing quantizer's shape, tells for every element which one it depends on among the elements of
    all `sources`, one source after the other; -1: on none. `nodes` are those between, in order, constants among them.
    """

    closing: RealNode
    sources: tuple[RealNode, ...]
    nodes: tuple[RealNode, ...]
    depends: Index


def regions(graph: RealGraph, constants: Mapping[str, Floats]) -> dict[str, Region]:
    """Return the regions of a network by their closing quantizer, where chains of each element would not be exact."""
    found = {}
    for node in graph.nodes:
        if isinstance(node.op, RealQuantize) and node.name not in constants:
            region = _region(graph, constants, node)
            if region is not None:
                found[node.name] = region
    return found


def inner_names(graph: RealGraph, found: Mapping[str, Region]) -> frozenset[str]:
    """Return the values that nothing but regions reads."""
    inside = {node.name for region in found.values() for node in region.nodes}
    shown = {value for _, value in graph.outputs}
    inner: set[str] = set()
    for node in reversed(graph.nodes):
        users = graph.uses[node.name]
        if node.name in inside and node.name not in shown and all(user in inner or user in found for user in users):
            inner.add(node.name)
    return frozenset(inner)


def _region(graph: RealGraph, constants: Mapping[str, Floats], closing: RealNode) -> Region | None:
    between: set[str] = set()
    ends: set[str] = set()
    queue = list(operands(closing.op))
    while queue:
        name = queue.pop()
        op = graph.by_name[name].op
        if name in between or name in ends:
            continue
        if isinstance(op, RealInput):
            return None
        if isinstance(op, RealQuantize) and name not in constants:
            ends.add(name)
        else:
            between.add(name)
            queue.extend(() if name in constants else operands(op))
    nodes = tuple(node for node in graph.nodes if node.name in between)
    if not _beyond_chains(nodes, constants):
        return None
    sources = tuple(node for node in graph.nodes if node.name in ends)
    depends = _depends(nodes, sources, constants, closing)
    if depends is None:
        return None
    return Region(closing, sources, nodes, depends)


def _beyond_chains(nodes: tuple[RealNode, ...], constants: Mapping[str, Floats]) -> bool:
    """Whether functions or float constants stand before an op that needs numbers: chains end there, rounded."""
    pending: set[str] = set()
    for node in nodes:
        op = node.op
        if node.name in constants:
            continue
        unfinished = any(x in pending for x in operands(op))
        if isinstance(op, RealLinear) and integer_weights(op) is None:
            return True
        if unfinished and _needs_numbers(op, constants):
            return True
        if unfinished or isinstance(op, RealFunction) or _float_constant(op, constants):
            pending.add(node.name)
    return False


def _needs_numbers(op: object, constants: Mapping[str, Floats]) -> bool:
    match op:
        case RealLinear() | Reduce() | RealSoftmax():
            return True
        case Add() | Multiply() | Extremum():
            return op.x not in constants and op.y not in constants
        case Rewire():
            return bool((op.index.array < 0).any())
        case Window():
            return any(op.before) or any(op.after)
        case _:
            return False


def _float_constant(op: object, constants: Mapping[str, Floats]) -> bool:
    """Whether an op has constants that no quantizer made: of too many bits for its result to be numbers."""
    if not isinstance(op, Multiply | Add):
        return False
    values = constants.get(op.x, constants.get(op.y))
    if values is None:
        return False
    mantissas, _ = np.frexp(values)
    scaled = np.ldexp(mantissas, SIGNIFICANT_BITS)
    return bool((scaled != np.rint(scaled)).any())


@dataclass(frozen=True, slots=True, eq=False)
class _Span:
    """The least and largest source element of each element; NONE and -1 where there is none."""

    low: Index
    high: Index

    @staticmethod
    def none(shape: tuple[int, ...]) -> _Span:
        return _Span(np.full(shape, NONE, dtype=np.int64), np.full(shape, -1, dtype=np.int64))

    def where(self, kept: npt.NDArray[np.bool_]) -> _Span:
        """Return the same with no source where an element is not kept."""
        return _Span(np.where(kept, self.low, NONE), np.where(kept, self.high, -1))

    def over(self, axes: tuple[int, ...], *, keep: bool = False) -> _Span:
        """Return what sums along axes depend on."""
        low = self.low.min(axis=axes, keepdims=keep, initial=NONE)
        return _Span(np.asarray(low), np.asarray(self.high.max(axis=axes, keepdims=keep, initial=-1)))

    def moved(self, index: Index) -> _Span:
        """Return the elements at flat positions; none for those outside."""
        size = self.low.size
        at = np.where((index < 0) | (index >= size), size, index)
        return _Span(np.append(self.low.ravel(), NONE)[at], np.append(self.high.ravel(), -1)[at])


def _depends(
    nodes: tuple[RealNode, ...], sources: tuple[RealNode, ...], constants: Mapping[str, Floats], closing: RealNode
) -> Index | None:
    """Return on which source element each result depends; None when one depends on several or on a wide one."""
    spans: dict[str, _Span] = {}
    counts = []
    start = 0
    for node in sources:
        op = node.op
        assert isinstance(op, RealQuantize)
        size = math.prod(node.shape)
        count = _code_counts(op, node.shape)
        own = np.arange(start, start + size).reshape(node.shape)
        spans[node.name] = _Span(own, own).where(count > 1)
        counts.append(count.ravel())
        start += size
    for node in nodes:
        spans[node.name] = _Span.none(node.shape) if node.name in constants else _span(node, spans, constants)
    result = spans[operands(closing.op)[0]]
    single = np.where(result.high < 0, -1, result.low)
    several = (result.high >= 0) & (result.low != result.high)
    if several.any():
        return None
    used = np.concatenate(counts)[single[single >= 0]]
    most = int(used.max(initial=1))
    if most > MAX_CODES or most * single.size > MAX_EVALUATED:
        return None
    return np.asarray(single)


def _code_counts(op: RealQuantize, shape: tuple[int, ...]) -> Index:
    """Return how many codes each element of a quantizer can have."""
    lo = op.lo.array.astype(np.int64)
    hi = op.hi.array.astype(np.int64)
    if op.overflow is Overflow.SAT_SYM:
        lo = np.where(lo < 0, np.maximum(lo, -hi), lo)
    return np.asarray(np.broadcast_to(hi - lo + 1, shape))


def _span(node: RealNode, spans: Mapping[str, _Span], constants: Mapping[str, Floats]) -> _Span:
    op = node.op
    if isinstance(op, Movement):
        xs = [spans[x] for x in operands(op)]
        joined = _Span(np.concatenate([x.low.ravel() for x in xs]), np.concatenate([x.high.ravel() for x in xs]))
        return joined.moved(element_index(op, [x.low.shape for x in xs]).astype(np.int64))
    match op:
        case RealInput() | RealConstant() | RealQuantize():
            raise AssertionError(f"{node.name} is no inner value of a region")
        case RealLinear():
            parts = [spans[op.x].where(column != 0).over((-1,)) for column in op.weight.array.T]
            return _Span(np.stack([p.low for p in parts], axis=-1), np.stack([p.high for p in parts], axis=-1))
        case Add() | Multiply() | Extremum():
            both = [spans[name] for name in (op.x, op.y)]
            if isinstance(op, Multiply):
                for constant in {op.x, op.y} & set(constants):
                    kept = np.broadcast_to(constants[constant] != 0, node.shape)
                    both = [_Span(*np.broadcast_arrays(s.low, s.high, kept)[:2]).where(kept) for s in both]
            x, y = both
            return _Span(np.minimum(x.low, y.low), np.maximum(x.high, y.high))
        case Reduce():
            return spans[op.x].over(op.axes)
        case RealFunction():
            return spans[op.x]
        case RealSoftmax():
            span = spans[op.x].over((op.axis,), keep=True)
            shape = node.shape
            return _Span(np.broadcast_to(span.low, shape), np.broadcast_to(span.high, shape))
        case _:
            assert_never(op)
