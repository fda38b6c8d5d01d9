"""Calibration events that would cost precision, and inputs that calibration says too little about.

A fill value or a broken event reaches far beyond everything else: a format that covers it has no bits left for the
rest. Such events are found before anything is calibrated, named, and left out; what they hold saturates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from metronn.ir.arrays import Array
from metronn.model.graph import Floats, RealGraph, RealLinear
from metronn.quantize.calibrated.structure import constant_names

OUTLIER_EVENTS = 0.005
"""At most this part of the events, but at least one, can be outliers of one element: what is more frequent is data."""
OUTLIER_GAP = 8.0
"""An outlier is at least this many times as large as everything below it: three bits of an input's format."""
MOST_EVENTS = 0.02
"""Where more of the events than this hold outliers of an input, its data are like that."""
JUDGED_EVENTS = 32
"""Fewer events say nothing about what is usual."""
NAMED = 3
"""So many of a kind are named one by one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outliers:
    """Events with a value far beyond all others of the same element; `reach` is what the others reach to."""

    input: str
    element: int
    events: tuple[int, ...]
    value: float
    reach: float


def find_outliers(inputs: Mapping[str, Floats]) -> tuple[Outliers, ...]:
    """Return the outliers of every input, (events, *shape), feature by feature.

    A feature is an element of a vector, else an entry of the last axis, which has one format. Within the largest 0.5 %
    of a feature's magnitudes (at least one), an outlier lies above a gap of a factor 8. A feature that is 0 but for few
    events has none: these values are all there is. Neither has an input where more than 2 % of the events would go.
    """
    found = []
    for name, values in inputs.items():
        events = len(values)
        features = values.shape[-1] if values.ndim > 1 else 1
        apart = np.abs(values).reshape(events, -1, features)
        reached = apart.max(axis=1)
        if events < JUDGED_EVENTS:
            continue
        most = max(1, math.floor(OUTLIER_EVENTS * events))
        top = np.sort(np.partition(reached, events - most - 1, axis=0)[events - most - 1 :], axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            jumps = np.where(top[:-1] > 0, top[1:] / top[:-1], 1.0)
        own = []
        for feature in np.flatnonzero((jumps >= OUTLIER_GAP).any(axis=0)):
            below = float(top[int(np.argmax(jumps[:, feature] >= OUTLIER_GAP)), feature])
            far = np.flatnonzero(reached[:, feature] > below)
            worst = int(far[np.argmax(reached[far, feature])])
            element = int(np.argmax(apart[worst, :, feature])) * features + int(feature)
            own.append(
                Outliers(
                    input=name,
                    element=element,
                    events=(worst, *(int(event) for event in far if event != worst)),
                    value=float(values.reshape(events, -1)[worst, element]),
                    reach=below,
                )
            )
        if outlying(tuple(own), events).mean() <= MOST_EVENTS:
            found += own
    return tuple(found)


def outlying(found: tuple[Outliers, ...], events: int) -> Array:
    """Return which of the events hold an outlier."""
    mask = np.zeros(events, dtype=np.bool_)
    for outliers in found:
        mask[list(outliers.events)] = True
    return mask


def outlier_sentences(found: tuple[Outliers, ...]) -> list[str]:
    """Return a warning for each input and event, the first of many: where, what, and what to change."""
    together: dict[tuple[str, tuple[int, ...]], list[Outliers]] = {}
    for outliers in found:
        together.setdefault((outliers.input, outliers.events), []).append(outliers)
    lines = []
    for name in dict.fromkeys(name for name, _ in together):
        own = [(events, elements) for (where, events), elements in together.items() if where == name]
        lines += [_sentence(name, events, elements) for events, elements in own[:NAMED]]
        rest = {event for events, _ in own[NAMED:] for event in events}
        if rest:
            lines.append(
                f"input {name}: {len(rest)} more events have values far beyond all others: left out of the calibration"
            )
    return lines


def _sentence(name: str, events: tuple[int, ...], elements: list[Outliers]) -> str:
    worst = max(elements, key=lambda outliers: abs(outliers.value))
    shown = ", ".join(str(outliers.element) for outliers in elements[:NAMED])
    shown += f" and {len(elements) - NAMED} more" if len(elements) > NAMED else ""
    more = f" (and in {len(events) - 1} more)" if len(events) > 1 else ""
    return (
        f"input {name}, element{'s' if len(elements) > 1 else ''} {shown}: {worst.value:g} in event {events[0]}{more} "
        f"lies far beyond all other events (up to {worst.reach:g}): left out of the calibration, it saturates; remove "
        f"or repair such events, or give [quantize] inputs.{name} = {{bits = ..., frac = ...}} that holds them"
    )


def constant_sentences(model: RealGraph, values: Mapping[str, Floats]) -> list[str]:
    """Return one line for each input with elements, and for each layer, that calibration never saw change."""
    lines = []
    for node in model.inputs:
        flat = values[node.name].reshape(len(values[node.name]), -1)
        still = np.flatnonzero((flat == flat[0]).all(axis=0))
        if len(flat) > 1 and still.size:
            shown = ", ".join(f"{int(k)} ({flat[0, k]:g})" for k in still[:NAMED])
            more = f" and {still.size - NAMED} more" if still.size > NAMED else ""
            lines.append(
                f"input {node.name}: element{'s' if still.size > 1 else ''} {shown}{more} of {flat.shape[1]} never "
                "change in the calibration events: other values may saturate; calibrate with events that show them"
            )
    constant = constant_names(model)
    quiet = [
        node.source
        for node in model.nodes
        if node.name not in constant and isinstance(node.op, RealLinear) and not values[node.name].any()
    ]
    lines += [
        f"layer {source}: 0 in every calibration event (a dead layer, or events that do not reach it)"
        for source in dict.fromkeys(quiet)
    ]
    return lines
