"""What a network is good for, as one number that is larger when better."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from metronn.errors import ModelError
from metronn.ir.arrays import Array
from metronn.model.graph import Floats

Metric = Callable[[Mapping[str, Floats], Mapping[str, Array]], float]
"""From outputs by name and arrays by name (labels under `label`) to a number."""

THRESHOLD = 0.5
"""A single output above it counts as class 1."""


def accuracy(scores: Floats, labels: Array) -> float:
    """Fraction of events whose largest score is the label's; a single score is compared with 0.5.

    Labels are class numbers, or one score per class whose largest counts.
    """
    flat, classes = _flattened(scores, labels)
    decided = (flat[:, 0] > THRESHOLD) if flat.shape[1] == 1 else flat.argmax(axis=1)
    return float((decided.astype(np.int64) == classes).mean())


def auc(scores: Floats, labels: Array) -> float:
    """Area under the ROC curve; ties count half. Two scores: of their difference; more: mean of one against the rest.

    Source: the Mann-Whitney statistic U / (n1 n0).
    """
    flat, classes = _flattened(scores, labels)
    if flat.shape[1] == 1:
        return _binary_auc(flat[:, 0], classes == 1)
    if flat.shape[1] == 2:
        return _binary_auc(flat[:, 1] - flat[:, 0], classes == 1)
    present = [k for k in range(flat.shape[1]) if 0 < (classes == k).sum() < len(classes)]
    if not present:
        raise ModelError("metric auc: the labels show one class only, at least two are needed")
    return float(np.mean([_binary_auc(flat[:, k], classes == k) for k in present]))


def _binary_auc(scores: Floats, positive: Array) -> float:
    ones, zeros = int(positive.sum()), int((~positive).sum())
    if not ones or not zeros:
        raise ModelError("metric auc: the labels show one class only, at least two are needed")
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return float((ranks[positive].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def _flattened(scores: Floats, labels: Array) -> tuple[Floats, Array]:
    """Return scores of shape (events, scores) and the class number of each event."""
    flat = scores.reshape(len(scores), -1)
    targets = np.asarray(labels).reshape(len(labels), -1)
    if len(flat) != len(targets):
        raise ModelError(f"metric: {len(targets)} labels for {len(flat)} events")
    if targets.shape[1] > 1:
        if targets.shape[1] != flat.shape[1]:
            raise ModelError(f"metric: labels have {targets.shape[1]} columns, the output has {flat.shape[1]} scores")
        return flat, targets.argmax(axis=1)
    if not whole_numbers(targets):
        raise ModelError("metric: labels are not whole numbers; give a function of your own for such labels")
    classes = targets[:, 0].astype(np.int64)
    allowed = max(2, flat.shape[1])
    if classes.size and (classes.min() < 0 or classes.max() >= allowed):
        raise ModelError(
            f"metric: labels go from {classes.min()} to {classes.max()}, the output's {flat.shape[1]} scores allow "
            f"0 to {allowed - 1}"
        )
    return flat, classes


def whole_numbers(labels: Array) -> bool:
    """Whether all labels are whole numbers."""
    return labels.dtype.kind in "iub" or bool((labels == np.rint(labels)).all())


def find_metric(spec: str, arrays: Mapping[str, Array], outputs: Mapping[str, int], base: Path) -> Metric | None:
    """Return the metric named by the option, or None for "none" and for "auto" without usable labels.

    `outputs` maps output names to their sizes; `file.py:function` is found relative to `base`. Raises ModelError
    when the metric needs labels that are missing or a function that cannot be loaded.
    """
    labels = arrays.get("label")
    if spec == "none":
        return None
    if spec == "auto":
        usable = labels is not None and whole_numbers(labels) and len(outputs) == 1
        if labels is None or not usable or not _classes_fit(labels, next(iter(outputs.values()))):
            return None
        spec = "accuracy"
    if spec in ("accuracy", "auc"):
        if labels is None:
            hint = 'add an array `label` or choose metric = "none"'
            raise ModelError(f"metric {spec}: the events have no labels; {hint}")
        if len(outputs) != 1:
            names = ", ".join(outputs)
            hint = "write a function file.py:name"
            raise ModelError(f"metric {spec}: the model has outputs {names}, one is needed; {hint}")
        function = accuracy if spec == "accuracy" else auc
        return lambda results, given: function(next(iter(results.values())), given["label"])
    return _load_function(spec, base)


def _classes_fit(labels: Array, scores: int) -> bool:
    columns = labels.reshape(len(labels), -1)
    if columns.shape[1] > 1:
        return columns.shape[1] == scores
    return bool(columns.min() >= 0 and columns.max() < max(2, scores))


def _load_function(spec: str, base: Path) -> Metric:
    place, _, name = spec.rpartition(":")
    path = base / place
    if not path.is_file():
        raise ModelError(f"metric {spec}: there is no file {place}")
    found = importlib.util.spec_from_file_location(f"metronn_metric_{path.stem}", path)
    if found is None or found.loader is None:
        raise ModelError(f"metric {spec}: {place} is not a Python file")
    module = importlib.util.module_from_spec(found)
    sys.modules[found.name] = module  # dataclasses look their module up there
    try:
        found.loader.exec_module(module)
    except (SyntaxError, ImportError, NameError, AttributeError, TypeError, ValueError, OSError) as error:
        raise ModelError(f"metric {spec}: {place} cannot be loaded: {type(error).__name__}: {error}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise ModelError(f"metric {spec}: {place} has no function {name}")

    def call(results: Mapping[str, Floats], given: Mapping[str, Array]) -> float:
        try:
            value = float(function(dict(results), dict(given)))
        except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError, NameError) as error:
            raise ModelError(f"metric {spec}: it failed with {type(error).__name__}: {error}") from error
        if not math.isfinite(value):
            raise ModelError(f"metric {spec}: it returned {value}, a finite number is needed")
        return value

    return call
