"""Rung 1 of a quantized network: the integers of the graph are those of the trained network, value by value.

The expected integers come from the float64 reference. Float64 rounds too: an event whose integers differ from the
graph's is computed again in exact arithmetic (`metronn.model.rational`), and what that says counts.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from metronn.emit.build import npz
from metronn.errors import ModelError
from metronn.ir.arrays import Array
from metronn.ir.graph import Graph
from metronn.ir.types import TensorType
from metronn.model.graph import Floats, RealGraph, RealNode, real_operands
from metronn.model.rational import Rational, run_rational
from metronn.model.reference import run_reference
from metronn.quantize.calibration import chunks
from metronn.quantize.codes import decode, encode_inputs
from metronn.quantize.exact_input import absorbed
from metronn.quantize.exact_values import ExactValue, exact_values

ARRAYS = "exact.npz"
LIST = "exact.json"
KEPT = 1 << 22
"""Integers of inner values kept in a build; those nearest to the outputs are kept for all events."""
JUDGED = 32
"""Events computed again in exact arithmetic, at most: more differences than that are no rounding of float64."""
OFF_GRID = 1e-3
"""What lies farther than this beside a whole number of steps is no value of the grid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Events, bits compared, values that differ, and the first of them in words."""

    events: int
    bits: int
    values: tuple[str, ...]
    mismatches: int
    first: str


def outermost(model: RealGraph, frontier: Sequence[ExactValue]) -> frozenset[str]:
    """Return the real names of the exact values on which no other exact value depends."""
    exact = {value.real for value in frontier}
    covered: set[str] = set()
    for node in reversed(model.nodes):
        if node.name in covered or node.name in exact:
            covered.update(real_operands(node.op))
    return frozenset(exact - covered)


def exact_files(
    model: RealGraph, graph: Graph, frontier: Sequence[ExactValue], inputs: Mapping[str, Floats]
) -> dict[str, bytes]:
    """Return the files of the rung: the integers that the trained network has for every value of the frontier.

    `model` is the prepared network, `inputs` the events in its units. Nothing for an empty frontier.
    """
    if not frontier:
        return {}
    count = len(next(iter(inputs.values())))
    ends = outermost(model, frontier)
    inner = sum(graph.type_of(value.value).size for value in frontier if value.real not in ends)
    some = min(count, max(16, KEPT // max(1, inner)))
    expected = _expected(model, graph, frontier, inputs)
    arrays = {}
    for value in frontier:
        codes = expected[value.real]
        arrays[value.real] = codes if value.real in ends else codes[:some]
    listed = [value.to_json() for value in frontier]
    return {ARRAYS: npz(arrays), LIST: (json.dumps(listed, indent=1) + "\n").encode()}


def _expected(
    model: RealGraph, graph: Graph, frontier: Sequence[ExactValue], inputs: Mapping[str, Floats]
) -> dict[str, Array]:
    """Return the trained network's integers by real name, all events, judged exactly where they differ.

    An input that no quantizer of the network reads counts as what the graph's input makes of it.
    """
    codes = encode_inputs(graph, inputs)
    inputs = {
        node.name: inputs[node.name]
        if absorbed(model, node) is not None
        else decode(codes[node.name], graph.type_of(node.name))
        for node in model.inputs
    }
    wanted = {value.real: value for value in frontier}
    parts: dict[str, list[Array]] = {name: [] for name in wanted}
    largest = max(math.prod(node.shape) for node in model.nodes)
    count = len(next(iter(inputs.values())))
    for events in chunks(count, largest):
        batch = {name: values[events] for name, values in inputs.items()}
        size = len(next(iter(batch.values())))

        def keep(node: RealNode, values: Floats, size: int = size) -> None:
            if node.name in wanted:
                exact = wanted[node.name]
                steps = exact.codes_of(values, graph.type_of(exact.value))
                parts[node.name].append(np.broadcast_to(_whole(steps), (size, *values.shape[1:])))

        run_reference(model, batch, keep)
    expected = {name: np.concatenate(several) for name, several in parts.items()}
    found = exact_values(graph, frontier, codes)
    differing = np.zeros(count, dtype=bool)
    for name, value in wanted.items():
        differing |= (found[value.value] != expected[name]).reshape(count, -1).any(axis=1)
    judged = np.flatnonzero(differing)[:JUDGED]
    if judged.size:
        exact = _judged(model, graph, wanted, {name: values[judged] for name, values in inputs.items()})
        for name, right in exact.items():
            wide = expected[name].astype(object)
            wide[judged] = right
            small = all(abs(int(v)) < 2**62 for v in right.ravel())
            expected[name] = wide.astype(np.int64) if small else wide
    return expected


def _whole(steps: Floats) -> Array:
    """Return whole numbers; what is beside the grid becomes one that no code is."""
    nearest = np.rint(steps)
    off = ~(np.abs(steps - nearest) <= OFF_GRID)
    return np.where(off | (np.abs(nearest) >= 2.0**62), -(2.0**62), nearest).astype(np.int64)


def _judged(
    model: RealGraph, graph: Graph, wanted: Mapping[str, ExactValue], inputs: Mapping[str, Floats]
) -> dict[str, Array]:
    found: dict[str, Array] = {}

    def keep(node: RealNode, values: Rational) -> None:
        if node.name in wanted:
            found[node.name] = _steps(values, wanted[node.name], graph.type_of(wanted[node.name].value))

    run_rational(model, inputs, keep)
    return found


def _steps(values: Rational, exact: ExactValue, kind: TensorType) -> Array:
    """Return exact values in steps of a grid, rounded where the scale of the grid is itself a rounded product."""
    scales = np.broadcast_to(exact.scale.array, kind.shape).ravel().tolist()
    units = [
        values.unit * Fraction(2) ** frac / Fraction(scale)
        for scale, frac in zip(scales, kind.range.fracs(kind.size), strict=True)
    ]
    rows = values.numbers.reshape(-1, kind.size)
    codes = np.empty(rows.shape, dtype=object)
    for element, unit in enumerate(units):
        codes[:, element] = [round(int(number) * unit) for number in rows[:, element]]
    return codes.reshape(values.numbers.shape)


def compare_exactly(folder: Path, graph: Graph, inputs: Mapping[str, Array]) -> Comparison | None:
    """Compare the graph on these input codes with the files in `folder`; None when the network was not quantized.

    Raises ModelError when the files are damaged.
    """
    if not (folder / LIST).exists():
        return None
    try:
        frontier = [ExactValue.from_json(data) for data in json.loads((folder / LIST).read_text(encoding="utf-8"))]
        with np.load(folder / ARRAYS) as archive:
            expected = {name: _integers(archive[name]) for name in archive.files}
        order = {node.name: position for position, node in enumerate(graph.nodes)}
        frontier.sort(key=lambda value: order[value.value])
        wanted = [expected[value.real] for value in frontier]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder}: the files of rung 1 are damaged: {error}; compile again") from None
    found = exact_values(graph, frontier, inputs)
    events = bits = mismatches = 0
    first = ""
    for value, want in zip(frontier, wanted, strict=True):
        kind = graph.type_of(value.value)
        have = np.broadcast_to(found[value.value], (max(len(want), len(found[value.value])), *kind.shape))[: len(want)]
        if have.shape != want.shape:
            raise ModelError(f"{folder / ARRAYS}: {value.real} is not of this network; compile again")
        events = max(events, len(want))
        bits += len(want) * kind.total_bits
        wrong = np.argwhere((have != want).reshape(len(want), -1))
        mismatches += len(wrong)
        if len(wrong) and not first:
            event, element = (int(k) for k in wrong[0])
            names = ", ".join(value.tensors) or value.real
            first = (
                f"layer {value.source}, tensor {names} ({value.value}): event {event}, element {element} is "
                f"{int(have.reshape(len(want), -1)[event, element])} in the graph, "
                f"{int(want.reshape(len(want), -1)[event, element])} in the trained network"
            )
    return Comparison(
        events=events, bits=bits, values=tuple(v.real for v in frontier), mismatches=mismatches, first=first
    )


def _integers(array: Array) -> Array:
    if array.dtype.kind != "U":
        return array
    return np.array([int(text) for text in array.ravel()], dtype=object).reshape(array.shape)
