"""Rung 1 of a quantized network: the integers of the graph are those of the trained network, value by value.

The expected integers come from the float64 reference. Float64 rounds too: a value that differs from the graph's is
disputed; it is computed again in exact arithmetic (`metronn.model.rational`), and what that says counts. That is slow.
When it has shown a real difference the rung has failed, and the rest need not be judged; when its time is over the rest
is not judged, which is neither right nor wrong: such a rung does not pass.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from metronn.emit.build import npz
from metronn.errors import ModelError
from metronn.events.codes import decode, encode_inputs
from metronn.ir.arrays import Array
from metronn.ir.graph import Graph
from metronn.ir.ops import operands
from metronn.ir.types import TensorType
from metronn.model.graph import Floats, RealGraph, RealNode
from metronn.model.rational import Rational, run_rational
from metronn.model.reference import run_reference
from metronn.quantize.calibrated.calibration import chunks
from metronn.quantize.exact.inputs import absorbed
from metronn.quantize.exact.values import ExactValue, exact_values

ARRAYS = "exact.npz"
LIST = "exact.json"
KEPT = 1 << 22
"""Integers of inner values kept in a build; those nearest to the outputs are kept for all events."""
JUDGED = 32
"""Events computed at a time in exact arithmetic, at most."""
JUDGED_ELEMENTS = 1 << 18
"""Python integers in the largest value of the events computed at a time, but one event at least."""
JUDGING_S = 300.0
"""Seconds after which no further event is judged."""
TELLING_S = 5.0
"""Seconds between two lines of progress."""
UNJUDGED = "unjudged:"
"""Array in exact.npz: positions of the disputed events that were not judged. No value has such a name."""
OFF_GRID = 1e-3
"""What lies farther than this beside a whole number of steps is no value of the grid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Events, bits compared, values that differ, and the first of them in words; `unjudged` says what nobody judged."""

    events: int
    bits: int
    values: tuple[str, ...]
    mismatches: int
    first: str
    unjudged: str = ""


def outermost(model: RealGraph, frontier: Sequence[ExactValue]) -> frozenset[str]:
    """Return the real names of the exact values on which no other exact value depends."""
    exact = {value.real for value in frontier}
    covered: set[str] = set()
    for node in reversed(model.nodes):
        if node.name in covered or node.name in exact:
            covered.update(operands(node.op))
    return frozenset(exact - covered)


def exact_files(
    model: RealGraph,
    graph: Graph,
    frontier: Sequence[ExactValue],
    inputs: Mapping[str, Floats],
    *,
    log: Callable[[str], None] = lambda _: None,
    seconds: float | None = None,
) -> dict[str, bytes]:
    """Return the files of the rung: the integers that the trained network has for every value of the frontier.

    `model` is the prepared network, `inputs` the events in its units. Exact arithmetic takes `seconds`
    (None: `JUDGING_S`) at most, plus the events at work then; `log` is told how far it is. Nothing for an empty
    frontier.
    """
    if not frontier:
        return {}
    count = len(next(iter(inputs.values())))
    ends = outermost(model, frontier)
    inner = sum(graph.type_of(value.value).size for value in frontier if value.real not in ends)
    some = min(count, max(16, KEPT // max(1, inner)))
    kept = {value.real: count if value.real in ends else some for value in frontier}
    expected, unjudged = _expected(model, graph, frontier, inputs, kept, log, JUDGING_S if seconds is None else seconds)
    arrays = {name: codes[: kept[name]] for name, codes in expected.items()} | {UNJUDGED: unjudged}
    listed = [value.to_json() for value in frontier]
    return {ARRAYS: npz(arrays), LIST: (json.dumps(listed, indent=1) + "\n").encode()}


def _expected(
    model: RealGraph,
    graph: Graph,
    frontier: Sequence[ExactValue],
    inputs: Mapping[str, Floats],
    kept: Mapping[str, int],
    log: Callable[[str], None],
    seconds: float,
) -> tuple[dict[str, Array], Array]:
    """Return the trained network's integers by real name, all events.

    Where the graph has others among the first events, as many as are `kept`, they are judged in exact arithmetic; the
    positions of disputed events that were not judged come second. An input that no quantizer of the network reads
    counts as what the graph's input makes of it.
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
    disputed = {
        name: (found[value.value] != expected[name]).reshape(count, -1).any(axis=1) & (np.arange(count) < kept[name])
        for name, value in wanted.items()
    }
    unjudged = _settle(model, graph, wanted, inputs, found, disputed, expected, log, seconds)
    return expected, unjudged


def _settle(
    model: RealGraph,
    graph: Graph,
    wanted: Mapping[str, ExactValue],
    inputs: Mapping[str, Floats],
    found: Mapping[str, Array],
    disputed: Mapping[str, Array],
    expected: dict[str, Array],
    log: Callable[[str], None],
    seconds: float,
) -> Array:
    """Put what exact arithmetic says into `expected` for the disputed events; return those not judged."""
    events = np.flatnonzero(np.logical_or.reduce(list(disputed.values())))
    if not events.size:
        return events
    largest = max(math.prod(node.shape) for node in model.nodes)
    size = max(1, min(JUDGED, JUDGED_ELEMENTS // max(1, largest)))
    start = told = time.monotonic()
    for at in range(0, len(events), size):
        now = time.monotonic()
        if now - start > seconds:
            return events[at:]
        if now - told > TELLING_S:
            log(f"rung 1: {at:,} of {len(events):,} disputed events judged in exact arithmetic")
            told = now
        some = events[at : at + size]
        names = {name for name, where in disputed.items() if where[some].any()}
        part = _cut(model, names)
        exact = _judged(part, graph, {name: wanted[name] for name in names}, _picked(part, inputs, some))
        wrong = False
        for name, right in exact.items():
            wrong |= bool((np.broadcast_to(found[wanted[name].value], expected[name].shape)[some] != right).any())
            small = expected[name].dtype != object and all(abs(int(v)) < 2**62 for v in right.ravel())
            expected[name] = expected[name] if small else expected[name].astype(object)
            expected[name][some] = right.astype(np.int64) if small else right
        if wrong:
            return events[at + size :]
    return events[:0]


def _cut(model: RealGraph, names: Collection[str]) -> RealGraph:
    """Return the part of a network that computes these values."""
    needed = set(names)
    for node in reversed(model.nodes):
        if node.name in needed:
            needed.update(operands(node.op))
    return RealGraph(nodes=tuple(node for node in model.nodes if node.name in needed), outputs=())


def _picked(model: RealGraph, inputs: Mapping[str, Floats], events: Array) -> dict[str, Floats]:
    return {node.name: inputs[node.name][events] for node in model.inputs}


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
        unjudged = expected.pop(UNJUDGED)
        order = {node.name: position for position, node in enumerate(graph.nodes)}
        frontier.sort(key=lambda value: order[value.value])
        wanted = [expected[value.real] for value in frontier]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder}: the files of rung 1 are damaged: {error}; compile again") from None
    found = exact_values(graph, frontier, inputs)
    events = bits = mismatches = left = 0
    first = ""
    for value, want in zip(frontier, wanted, strict=True):
        kind = graph.type_of(value.value)
        have = np.broadcast_to(found[value.value], (max(len(want), len(found[value.value])), *kind.shape))[: len(want)]
        if have.shape != want.shape:
            raise ModelError(f"{folder / ARRAYS}: {value.real} is not of this network; compile again")
        events = max(events, len(want))
        bits += len(want) * kind.total_bits
        differs = (have != want).reshape(len(want), -1)
        open_events = unjudged[unjudged < len(want)]
        left += int(differs[open_events].sum())
        differs[open_events] = False
        wrong = np.argwhere(differs)
        mismatches += len(wrong)
        if len(wrong) and not first:
            event, element = (int(k) for k in wrong[0])
            names = ", ".join(value.tensors) or value.real
            first = (
                f"layer {value.source}, tensor {names} ({value.value}): event {event}, element {element} is "
                f"{int(have.reshape(len(want), -1)[event, element])} in the graph, "
                f"{int(want.reshape(len(want), -1)[event, element])} in the trained network"
            )
    said = ""
    if left:
        why = "those before are really different" if mismatches else "exact arithmetic took too long"
        said = (
            f"{left:,} values of {len(unjudged):,} events differ from those of float64, whose own rounding may be the "
            f"reason, and were not judged: {why}"
        )
    return Comparison(
        events=events,
        bits=bits,
        values=tuple(v.real for v in frontier),
        mismatches=mismatches,
        first=f"{first}; {said}" if first and said else first,
        unjudged=said,
    )


def _integers(array: Array) -> Array:
    if array.dtype.kind != "U":
        return array
    return np.array([int(text) for text in array.ravel()], dtype=object).reshape(array.shape)
