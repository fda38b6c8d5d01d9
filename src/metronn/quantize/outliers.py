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
from metronn.quantize.structure import constant_names

OUTLIER_EVENTS = 0.005
"""At most this part of the events, but at least one, can be outliers of one element: what is more frequent is data."""
OUTLIER_GAP = 8.0
"""An outlier is at least this many times as large as everything below it: three bits of an input's format."""
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

    def sentence(self) -> str:
        """Return the warning: where, what, and what to change."""
        first = self.events[0]
        several = f" and in {len(self.events) - 1} more events" if len(self.events) > 1 else ""
        return (
            f"input {self.input}, element {self.element}: {self.value:g} in event {first}{several} lies far beyond all "
            f"other events (up to {self.reach:g}): left out of the calibration, it saturates; remove or repair such "
            f"events, or give [quantize] inputs.{self.input} = {{bits, frac}} that hold them"
        )


def find_outliers(inputs: Mapping[str, Floats]) -> tuple[Outliers, ...]:
    """Return the outliers of every input, (events, *shape), element by element.

    Within the largest 0.5 % of an element's magnitudes (at least one), an outlier lies above a gap of a factor 8. An
    element that is 0 but for few events has none: these values are all there is.
    """
    found = []
    for name, values in inputs.items():
        flat = np.abs(values.reshape(len(values), -1))
        events = len(flat)
        if events < JUDGED_EVENTS:
            continue
        most = max(1, math.floor(OUTLIER_EVENTS * events))
        top = np.sort(np.partition(flat, events - most - 1, axis=0)[events - most - 1 :], axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            jumps = np.where(top[:-1] > 0, top[1:] / top[:-1], 1.0)
        for element in np.flatnonzero((jumps >= OUTLIER_GAP).any(axis=0)):
            below = float(top[int(np.argmax(jumps[:, element] >= OUTLIER_GAP)), element])
            if below * OUTLIER_GAP <= np.median(flat[:, element]):
                continue
            far = np.flatnonzero(flat[:, element] > below)
            worst = int(far[np.argmax(flat[far, element])])
            found.append(
                Outliers(
                    input=name,
                    element=int(element),
                    events=(worst, *(int(event) for event in far if event != worst)),
                    value=float(values.reshape(events, -1)[worst, element]),
                    reach=below,
                )
            )
    return tuple(found)


def outlying(found: tuple[Outliers, ...], events: int) -> Array:
    """Return which of the events hold an outlier."""
    mask = np.zeros(events, dtype=np.bool_)
    for outliers in found:
        mask[list(outliers.events)] = True
    return mask


def outlier_sentences(found: tuple[Outliers, ...]) -> list[str]:
    """Return one line for each element with outliers, the rest of many in one line for each input."""
    lines = []
    for name in dict.fromkeys(outliers.input for outliers in found):
        own = [outliers for outliers in found if outliers.input == name]
        lines += [outliers.sentence() for outliers in own[:NAMED]]
        if len(own) > NAMED:
            events = len({event for outliers in own[NAMED:] for event in outliers.events})
            lines.append(
                f"input {name}: {len(own) - NAMED} more elements have values far beyond all other events, in {events} "
                "events: left out of the calibration"
            )
    return lines


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

