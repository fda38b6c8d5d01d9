"""What each layer's rounding does to the outputs: local errors, carried through the float network one by one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from metronn.events.codes import decode
from metronn.ir.ops import Movement, operands
from metronn.model.graph import Floats, RealLinear, RealNode
from metronn.model.reference import evaluate_real
from metronn.quantize.calibrated.lowering import Lowering
from metronn.quantize.judge import WORST, Typical, usual_of_all

TRACED_ELEMENTS = 1 << 20
"""Values of the whole network that are traced at a time; fewer events for larger networks."""
TRACED_EVENTS = 256
LEAST_EVENTS = 16


@dataclass(frozen=True, slots=True, order=True)
class Site:
    """A place where bits are chosen: the `kind` of width ("weight", "activation", "input", "output") of a layer."""

    layer: str
    kind: str


@dataclass(frozen=True, slots=True)
class Usual:
    """An output's floats (elements, events), and what is usual for its elements."""

    values: Floats
    typical: Typical

    @staticmethod
    def of(values: Floats) -> Usual:
        """Look at the floats of an output, (events, *shape)."""
        flat = np.ascontiguousarray(values.reshape(len(values), -1).T)
        return Usual(flat, usual_of_all(flat))

    def noise(self, error: Floats) -> float:
        """Return how much an error counts: of the worst element, or of the event that 1 % of the events exceed."""
        relative = self.typical.noise(self.values, error.reshape(len(error), -1).T)
        return max(float(relative.mean(axis=1).max()), float(np.quantile(relative.mean(axis=0), WORST)))


def contributions(lowering: Lowering) -> dict[Site, float]:
    """Return how much noise every site causes in the outputs, relative to their signal: of the worst element or event.

    The error that a node adds is its integer result less what its float op makes of the integer operands that it read:
    rounding of weights and constants, tables, saturation; and what a narrower form of the result loses, for those that
    read it. Each is carried through the float network alone; errors of a layer are taken as independent.
    """
    events = traced_events(lowering)
    values = {node.name: lowering.reference.part(node.name, events) for node in lowering.graph.nodes}
    usual = {value: Usual.of(values[value]) for _, value in lowering.graph.outputs}
    found: dict[Site, float] = {}
    for node in lowering.graph.nodes:
        if node.name in lowering.constants or isinstance(node.op, Movement):
            continue
        for error in _local_errors(lowering, node, values, events):
            if error.values.any():
                noise = _noise(lowering, node, error, values, usual)
                found[error.site] = found.get(error.site, 0.0) + noise
    for name, value in lowering.graph.outputs:
        shown = next(output.value for output in lowering.emitter.builder.outputs if output.name == name)
        if value in lowering.exact:
            lost = _decoded(lowering, shown, events) - _decoded(lowering, lowering.exact[value], events)
            if lost.any():
                found[Site(name, "output")] = usual[value].noise(lost)
    return found


def traced_events(lowering: Lowering) -> slice:
    """Return the calibration events that are traced: as many as memory and patience allow, evenly spaced."""
    elements = sum(math.prod(node.shape) for node in lowering.graph.nodes)
    count = max(LEAST_EVENTS, min(TRACED_EVENTS, TRACED_ELEMENTS // max(1, elements)))
    return slice(None, None, max(1, lowering.events // count))


def _decoded(lowering: Lowering, value: str, events: slice) -> Floats:
    """Return the values of an integer node on some events; a constant has one event."""
    return np.asarray(
        decode(lowering.emitter.codes.part(value, events), lowering.emitter.type_of(value)), dtype=np.float64
    )


@dataclass(frozen=True, slots=True)
class _Error:
    """An error of a node's result that `readers` see (None: all, and the outputs)."""

    site: Site
    values: Floats
    readers: frozenset[str] | None = None


def _local_errors(lowering: Lowering, node: RealNode, values: Mapping[str, Floats], events: slice) -> Iterator[_Error]:
    exact = _decoded(lowering, lowering.exact[node.name], events)
    if not operands(node.op):
        yield _Error(Site(node.name, "input"), exact - values[node.name])
        return
    held = {
        x: values[x] if x in lowering.constants else _decoded(lowering, lowering.form_read(x, node), events)
        for x in operands(node.op)
    }
    exactly = evaluate_real(node, held, {})
    record = lowering.record_of.get(node.name)
    layer = node.source if record is None else record.source
    if isinstance(node.op, RealLinear):
        made = _decoded(lowering, lowering.sums[node.name], events)
        yield _Error(Site(node.source, "weight"), made - exactly)
        exactly = made
    # What an op with a constant loses before its result is narrowed, it loses by the width of the constant.
    beside = any(x in lowering.constants for x in operands(node.op))
    yield _Error(Site(node.source, "weight") if beside else Site(layer, "activation"), exact - exactly)
    forms: dict[str, set[str]] = {}
    for user in lowering.graph.uses[node.name]:
        form = lowering.form_read(node.name, lowering.graph.by_name[user])
        if form != lowering.exact[node.name]:
            forms.setdefault(form, set()).add(user)
    for form, readers in forms.items():
        yield _Error(Site(layer, "activation"), _decoded(lowering, form, events) - exact, frozenset(readers))


def _noise(
    lowering: Lowering, node: RealNode, error: _Error, values: Mapping[str, Floats], usual: Mapping[str, Usual]
) -> float:
    """Return what an error of one node does to the outputs, relative to their signal."""
    changed: dict[str, Floats] = {}
    own = {node.name: values[node.name] + error.values}
    if error.readers is None:
        changed |= own
    for other in lowering.graph.nodes:
        read = operands(other.op)
        sees = node.name in read and (error.readers is None or other.name in error.readers)
        if other.name != node.name and (sees or any(x in changed for x in read)):
            seen = changed | own if sees else changed
            with np.errstate(all="ignore"):
                changed[other.name] = evaluate_real(other, {x: seen.get(x, values[x]) for x in read}, {})
    noise = 0.0
    for value, of_output in usual.items():
        if value in changed:
            difference = changed[value] - values[value]
            difference[~np.isfinite(difference)] = 0.0
            noise = max(noise, of_output.noise(difference))
    return noise
