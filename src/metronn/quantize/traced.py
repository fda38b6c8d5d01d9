"""Which integers stand for which value of a network as it was read: what a trace shows beside the trained values.

Passes fold, move and drop values, and calibration scales channels and softens masks. Names say which value could be
which; only those are taken whose floats agree on the calibration events once the scale is undone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from metronn.ir.arrays import Array
from metronn.ir.graph import Graph, Node
from metronn.ir.ops import Linear, Window
from metronn.ir.types import TensorType
from metronn.model.graph import FloatArray, Floats, RealConstant, RealGraph, RealLinear, RealNode
from metronn.model.reference import run_reference
from metronn.quantize.calibrated.calibration import chunks
from metronn.quantize.exact.values import scale_from_json, scale_json, steps
from metronn.quantize.records import Held

AGREEMENT = 1e-9
"""Floats of one value in two networks differ by at most so much of the tensor's largest: float64 adds in any order."""
MAX_ORDERED_AXES = 4
"""Values of so many axes at most are looked for with their axes in another order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The network as it was read.

    `names` has, by the name of each of its values, under which names the network that is quantized may still have it.
    """

    graph: RealGraph
    names: Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedValue:
    """A value of the network as it was read, and the integers that stand for it.

    `real` is its name in that network, `value` that in the integer graph. real value = code * 2**-frac * scale, frac
    being that of the value's type and `scale` broadcasting to its shape; then the axes in `order`, as in
    `numpy.transpose`. `exact`: the integers are the framework's, in real arithmetic; else they were rounded.
    """

    real: str
    value: str
    scale: FloatArray
    order: tuple[int, ...]
    exact: bool

    def step(self, kind: TensorType) -> Floats:
        """Return what one code of each element is worth, in the order of the axes of the network as it was read."""
        return steps(kind, self.scale).transpose(self.order)

    def decoded(self, codes: Array, kind: TensorType) -> Floats:
        """Return the real values of codes (events, *shape), in the shape that the network as it was read has."""
        return self.ordered(codes).astype(np.float64) * self.step(kind)

    def ordered(self, codes: Array) -> Array:
        """Return what is there for every code (events, *shape) in the order of the network as it was read."""
        return codes.transpose((0, *(axis + 1 for axis in self.order)))

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "real": self.real,
            "value": self.value,
            "scale": scale_json(self.scale),
            "order": list(self.order),
            "exact": self.exact,
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> TracedValue:
        """Read what `to_json` wrote; raises KeyError, TypeError or ValueError for anything else."""
        return TracedValue(
            real=str(data["real"]),
            value=str(data["value"]),
            scale=scale_from_json(data["scale"]),
            order=tuple(map(int, data["order"])),
            exact=bool(data["exact"]),
        )


def first_present(traced: Iterable[TracedValue], graph: Graph) -> tuple[TracedValue, ...]:
    """Return of every real value the first entry whose integers the graph still has."""
    found: dict[str, TracedValue] = {}
    for entry in traced:
        if entry.value in graph.by_name:
            found.setdefault(entry.real, entry)
    return tuple(found.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedMatrix:
    """A matrix of the prepared network, and the `Linear` of the integer graph that stands for it.

    weight[i, o] = code * 2**-(input_frac[i] + weight_frac[o]) * rows[i] * columns[o] but for rounding; rows and columns
    may be one number for all.
    """

    real: str
    value: str
    rows: FloatArray
    columns: FloatArray

    def step(self, op: Linear) -> Floats:
        """Return what one code of each weight is worth in the prepared network's units."""
        fracs = np.asarray(op.input_frac)[..., np.newaxis] + np.asarray(op.weight_frac)
        ones = np.ldexp(np.ones(op.weight.shape), -fracs)
        return np.asarray(ones * self.rows.array[..., np.newaxis] * self.columns.array)

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        scales = {"rows": scale_json(self.rows), "columns": scale_json(self.columns)}
        return {"real": self.real, "value": self.value} | scales

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> TracedMatrix:
        """Read what `to_json` wrote; raises KeyError, TypeError or ValueError for anything else."""
        rows, columns = (scale_from_json(data[name]) for name in ("rows", "columns"))
        return TracedMatrix(real=str(data["real"]), value=str(data["value"]), rows=rows, columns=columns)


@dataclass(frozen=True, slots=True)
class Lowered:
    """The network that was lowered, what channels (the last axis) of its values are multiplied by, and its integers."""

    graph: RealGraph
    factors: Mapping[str, Floats]
    held: Sequence[Held]

    def undo(self, name: str) -> Floats:
        """Return what the values of a name are multiplied by to be those of the network before its channels scaled."""
        return 1.0 / self.factors[name] if name in self.factors else np.ones(())

    def channel_scale(self, real: str, value: str | None = None) -> Floats | None:
        """Return what decoded codes of each channel are multiplied by, its scaling undone, for one of the values held.

        None where that is not known, or differs within a channel.
        """
        found = (entry for entry in self.held if entry.real == real and value in (None, *entry.values))
        scale = next((entry.scale.array * self.undo(real) for entry in found), None)
        if scale is None or scale.ndim <= 1:
            return scale
        rows = scale.reshape(-1, scale.shape[-1])
        return rows[0] if (rows == rows[0]).all() else None


def traced_matrices(lowered: Lowered, nodes: Mapping[str, Node]) -> tuple[TracedMatrix, ...]:
    """Return the matrices of the lowered network that the integer graph, whose nodes are given, has by their names.

    In a quantized network a matrix whose weights did not stay what they are on their grid is left out.
    """
    found = []
    for node in lowered.graph.nodes:
        integers = nodes.get(node.name)
        if not isinstance(node.op, RealLinear) or integers is None or not isinstance(integers.op, Linear):
            continue
        read, made = lowered.channel_scale(node.op.x), lowered.channel_scale(node.name, node.name)
        if read is None or made is None:
            continue
        rows, columns = FloatArray.of(1.0 / read), FloatArray.of(made)
        matrix = TracedMatrix(real=node.name, value=node.name, rows=rows, columns=columns)
        if not lowered.graph.quantized or _is_weight(matrix, integers.op, node.op.weight.array):
            found.append(matrix)
    return tuple(found)


def matrices_in(graph: Graph, before: Graph, matrices: Iterable[TracedMatrix]) -> tuple[TracedMatrix, ...]:
    """Return the matrices that a graph still has, after passes over the one before, with the names they have there.

    A matrix that took over a constant has the name of the sum; it is known by its weights.
    """
    linears = {node.name: node.op for node in graph.nodes if isinstance(node.op, Linear)}
    found = []
    for matrix in matrices:
        old = before.by_name[matrix.value].op
        if not isinstance(old, Linear):
            raise AssertionError(f"{matrix.value} is no matrix")
        alike = [name for name, op in linears.items() if _same_weights(op, old)]
        if matrix.value in alike or len(alike) == 1:
            found.append(replace(matrix, value=matrix.value if matrix.value in alike else alike[0]))
    return tuple(found)


def _same_weights(x: Linear, y: Linear) -> bool:
    return (x.weight, x.weight_frac, x.input_frac) == (y.weight, y.weight_frac, y.input_frac)


def _is_weight(matrix: TracedMatrix, op: Linear, weight: Floats) -> bool:
    if op.weight.shape != weight.shape:
        return False
    decoded = op.weight.array.astype(np.float64) * matrix.step(op)
    return bool(np.abs(decoded - weight).max(initial=0.0) <= AGREEMENT * np.abs(weight).max(initial=0.0))


def proved(origin: Origin, lowered: Lowered, inputs: Mapping[str, Floats]) -> tuple[TracedValue, ...]:
    """Return the values of the origin that the lowered network still has, by their floats on the events `inputs`.

    Constants and windows, whose elements are those of other values, are left out. Several entries of one real value
    stand in the order in which they are to be taken.
    """
    by_real: dict[str, list[Held]] = {}
    for entry in lowered.held:
        by_real.setdefault(entry.real, []).append(entry)
    candidates = tuple(_candidates(origin, lowered, by_real))
    first: dict[str, _Candidate] = {}
    for candidate in _agreeing(candidates, origin.graph, lowered.graph, inputs):
        first.setdefault(candidate.real, candidate)
    return tuple(
        TracedValue(
            real=found.real,
            value=value,
            scale=FloatArray.of(entry.scale.array * found.undo),
            order=found.order,
            exact=entry.exact,
        )
        for found in first.values()
        for entry in by_real[found.lowered]
        for value in entry.values
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Candidate:
    """A value of the origin that may be one of the lowered network, with its axes in some order."""

    real: str
    lowered: str
    undo: Floats
    order: tuple[int, ...]

    def difference(self, floats: Floats, lowered: Floats) -> float:
        """Return the largest difference between the values of both networks on some events, NaN where one is NaN."""
        found = (lowered * self.undo).transpose((0, *(axis + 1 for axis in self.order)))
        return float(np.abs(found - floats).max(initial=0.0))


def _candidates(origin: Origin, lowered: Lowered, held: Mapping[str, Sequence[Held]]) -> Iterator[_Candidate]:
    for node in origin.graph.nodes:
        if isinstance(node.op, RealConstant | Window):
            continue
        for name in dict.fromkeys((*origin.names.get(node.name, ()), node.name)):
            if name in held:
                for order in orders(lowered.graph.by_name[name].shape, node.shape):
                    yield _Candidate(real=node.name, lowered=name, undo=lowered.undo(name), order=order)


def orders(shape: tuple[int, ...], wanted: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Iterate over the orders of the axes that turn a shape into the wanted one, that which moves nothing first."""
    if len(shape) != len(wanted):
        return
    plain = tuple(range(len(shape)))
    for order in itertools.permutations(plain) if len(shape) <= MAX_ORDERED_AXES else [plain]:
        if tuple(shape[axis] for axis in order) == wanted:
            yield order


def _agreeing(
    candidates: Sequence[_Candidate], origin: RealGraph, lowered: RealGraph, inputs: Mapping[str, Floats]
) -> list[_Candidate]:
    """Return the candidates whose floats agree on all events."""
    sides = ((origin, {c.real for c in candidates}), (lowered, {c.lowered for c in candidates}))
    elements = sum(math.prod(graph.by_name[name].shape) for graph, names in sides for name in names)
    difference, largest = dict.fromkeys(candidates, 0.0), dict.fromkeys(sides[0][1], 0.0)
    for events in chunks(len(next(iter(inputs.values()))), elements):
        part = {name: array[events] for name, array in inputs.items()}
        with np.errstate(all="ignore"):
            floats, kept = (values_of(graph, part, names) for graph, names in sides)
            for name, values in floats.items():
                largest[name] = max(largest[name], float(np.abs(values).max(initial=0.0)))
            for candidate in candidates:
                found = candidate.difference(floats[candidate.real], kept[candidate.lowered])
                difference[candidate] = float(np.maximum(difference[candidate], found))
    return [c for c in candidates if difference[c] <= AGREEMENT * largest[c.real]]


def values_of(graph: RealGraph, inputs: Mapping[str, Floats], names: Iterable[str]) -> dict[str, Floats]:
    """Return the floats of some values of a network on events; those of a constant come once."""
    wanted, found = set(names), {}

    def keep(node: RealNode, values: Floats) -> None:
        if node.name in wanted:
            found[node.name] = values

    run_reference(graph, inputs, keep)
    return found
