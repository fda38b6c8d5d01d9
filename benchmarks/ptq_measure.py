"""The measurement of ptq.py: what a network loses on events, by definitions that share no code with the product."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ptq_networks import Array, Network

MOST_DB = 200.0
"""What no noise counts as, and, with the other sign, noise without a signal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """SQNR in dB: of all answers, the median event, the worst hundredth of the events, the worst element.

    `loss` of the metric is relative to the float network's; `chance` is the standard deviation that it would have in
    another sample of as many events.
    """

    total_db: float
    median_db: float
    hundredth_db: float
    element_db: float
    metric: str = ""
    float_value: float | None = None
    fixed_value: float | None = None
    loss: float | None = None
    chance: float | None = None

    def cells(self) -> tuple[str, ...]:
        """Return the figures of a table row."""
        decibels = (self.total_db, self.median_db, self.hundredth_db, self.element_db)
        values = ("",) * 4
        if self.float_value is not None and self.fixed_value is not None and self.loss is not None:
            shown = (f"{self.float_value:.4f}", f"{self.fixed_value:.4f}", f"{100 * self.loss:.2f}")
            values = (self.metric.rpartition(":")[2], *shown)
        return (*(f"{value:.1f}" for value in decibels), *values)


def measured(network: Network, answers: Sequence[Array], outputs: Sequence[str]) -> Measurement:
    """Compare answers to the fresh events, every output in order, with those of the float network.

    Every output counts alike, in units of its own root mean square.
    """
    reference, found = [], []
    for expected, answer in zip(network.fresh.answers, answers, strict=True):
        flat = np.asarray(expected, dtype=np.float64).reshape(len(expected), -1)
        unit = np.sqrt(np.square(flat / (np.abs(flat).max() or 1.0)).mean()) * np.abs(flat).max() or 1.0
        reference.append(flat / unit)
        found.append(np.asarray(answer, dtype=np.float64).reshape(flat.shape) / unit)
    signal = np.square(np.concatenate(reference, axis=1))
    noise = np.square(np.concatenate(reference, axis=1) - np.concatenate(found, axis=1))
    events = ratio_db(signal.sum(axis=1), noise.sum(axis=1))
    decibels = {
        "total_db": float(ratio_db(signal.sum(), noise.sum())),
        "median_db": float(np.median(events)),
        "hundredth_db": float(np.quantile(events, 0.01)),
        "element_db": float(ratio_db(signal.sum(axis=0), noise.sum(axis=0)).min()),
    }
    function = metric_of(network)
    if function is None:
        return Measurement(**decibels)
    shapes = [np.shape(expected) for expected in network.fresh.answers]
    floats = dict(zip(outputs, network.fresh.answers, strict=True))
    fixed = {
        name: np.asarray(answer).reshape(shape) for name, answer, shape in zip(outputs, answers, shapes, strict=True)
    }
    loss = relative_loss(function, floats, fixed, network.fresh.extra)
    return Measurement(
        **decibels,
        metric=network.metric,
        float_value=function(floats, network.fresh.extra),
        fixed_value=function(fixed, network.fresh.extra),
        loss=loss,
        chance=chance(function, floats, fixed, network.fresh.extra),
    )


def ratio_db(signal: Array, noise: Array) -> Array:
    """Return 10 log10(signal / noise), at most `MOST_DB` either way; no noise is the most."""
    with np.errstate(all="ignore"):
        found = 10 * np.log10(np.asarray(signal) / np.asarray(noise))
    return np.clip(np.nan_to_num(np.where(np.asarray(noise) == 0, MOST_DB, found), nan=-MOST_DB), -MOST_DB, MOST_DB)


Metric = Callable[[Mapping[str, Array], Mapping[str, Array]], float]


def metric_of(network: Network) -> Metric | None:
    """Return the network's metric, larger is better, or None."""
    if network.metric == "none":
        return None
    if network.metric == "accuracy":
        return accuracy
    if network.metric == "auc":
        return area
    place, _, name = network.metric.rpartition(":")
    found = importlib.util.spec_from_file_location(f"ptq_{network.base.name}_{name}", network.base / place)
    if found is None or found.loader is None:
        raise ImportError(f"{place} is no Python file")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    function: Metric = getattr(module, name)
    return function


def accuracy(outputs: Mapping[str, Array], extra: Mapping[str, Array]) -> float:
    """Return the share of events whose largest score, or single score beside one half, is the label's."""
    scores = next(iter(outputs.values()))
    scores = scores.reshape(len(scores), -1)
    decided = scores[:, 0] > 0.5 if scores.shape[1] == 1 else scores.argmax(axis=1)
    return float((decided == extra["label"].reshape(-1)).mean())


def area(outputs: Mapping[str, Array], extra: Mapping[str, Array]) -> float:
    """Return the share of pairs of a signal and a background event that a single score orders right, ties half."""
    scores = next(iter(outputs.values())).reshape(len(extra["label"]))
    label = extra["label"].reshape(-1) > 0
    background = np.sort(scores[~label])
    below, not_above = (np.searchsorted(background, scores[label], side) for side in ("left", "right"))
    return float((below + not_above).mean() / 2 / len(background))


def relative_loss(
    function: Metric, floats: Mapping[str, Array], fixed: Mapping[str, Array], extra: Mapping[str, Array]
) -> float:
    """Return the loss of the metric relative to the float network's."""
    before, after = function(floats, extra), function(fixed, extra)
    return (before - after) / abs(before) if before else before - after


def chance(
    function: Metric, floats: Mapping[str, Array], fixed: Mapping[str, Array], extra: Mapping[str, Array]
) -> float:
    """Return the standard deviation of the loss, from its values in ten groups of the events."""
    count = len(next(iter(fixed.values())))
    losses = []
    for group in range(10):
        part = slice(group, count, 10)
        few = [{name: values[part] for name, values in arrays.items()} for arrays in (floats, fixed, extra)]
        losses.append(relative_loss(function, *few))
    known = [loss for loss in losses if math.isfinite(loss)]
    return float(np.std(known, ddof=1) / math.sqrt(len(known))) if len(known) > 1 else 0.0
