"""Inputs of quantized networks: a quantizer that every reader applies becomes the input's own format."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from metronn.ir.arrays import IntArray, object_array
from metronn.ir.ops import Input, Overflow, Rounding
from metronn.ir.types import Range
from metronn.model.graph import RealGraph, RealNode, RealQuantize, RealRewire
from metronn.quantize.exact_chain import power_of_two

Index = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Absorbed:
    """The input op that holds the quantizers, and the quantizers that are done with it."""

    op: Input
    quantizers: frozenset[str]


def absorbed(graph: RealGraph, node: RealNode) -> Absorbed | None:
    """Return the input with the quantizers that all its readers apply first, element by element; None without."""
    size = math.prod(node.shape)
    specs: list[tuple[float, int, int] | None] = [None] * size
    found: set[str] = set()
    modes: set[tuple[Rounding, Overflow]] = set()
    for reader, index in _readers(graph, node):
        if not isinstance(reader.op, RealQuantize):
            return None
        op = reader.op
        modes.add((op.rounding, op.overflow))
        full = [np.broadcast_to(part, reader.shape).ravel() for part in (op.scale.array, op.lo.array, op.hi.array)]
        for element, scale, lo, hi in zip(index.ravel().tolist(), *(part.tolist() for part in full), strict=True):
            if element < 0:
                continue
            spec = (float(scale), int(lo), int(hi))
            if specs[element] not in (None, spec):
                return None
            specs[element] = spec
        found.add(reader.name)
    if len(modes) != 1 or not found:
        return None
    rounding, overflow = modes.pop()
    return Absorbed(_input(node, specs, rounding, overflow), frozenset(found))


def _readers(graph: RealGraph, node: RealNode) -> Iterator[tuple[RealNode, Index]]:
    """Iterate over what reads the input but movements, each with the input's elements it reads (-1: zero)."""
    queue: list[tuple[str, Index]] = [(node.name, np.arange(math.prod(node.shape)).reshape(node.shape))]
    shown = {value for _, value in graph.outputs}
    while queue:
        name, index = queue.pop()
        if name in shown:
            yield graph.by_name[name], index
        for user in graph.uses[name]:
            reader = graph.by_name[user]
            if isinstance(reader.op, RealRewire) and reader.op.xs == (name,):
                moved = reader.op.index.array
                picked = np.where(moved < 0, -1, index.ravel()[np.maximum(moved, 0)])
                queue.append((user, picked.reshape(reader.shape)))
            else:
                yield reader, index


def _input(node: RealNode, specs: list[tuple[float, int, int] | None], rounding: Rounding, overflow: Overflow) -> Input:
    los, his, fracs, steps = [], [], [], []
    for spec in specs:
        scale, lo, hi = (1.0, 0, 0) if spec is None else spec
        if overflow is Overflow.SAT_SYM and lo < 0:
            lo = -hi
        power = power_of_two(Fraction(scale))
        top, bottom = scale.as_integer_ratio()
        los.append(lo)
        his.append(hi)
        fracs.append(bottom.bit_length() - 1 if power is None else -power)
        steps.append(top if power is None else 1)
    step = None if set(steps) == {1} else IntArray.of(object_array(steps, node.shape))
    if step is not None and len(set(steps)) == 1:
        step = IntArray.of(np.array(steps[0]))
    return Input(
        shape=node.shape,
        range=Range(tuple(los), tuple(his), tuple(fracs)),
        rounding=rounding,
        overflow=Overflow.SAT if overflow is Overflow.SAT_SYM else overflow,
        step=step,
    )
