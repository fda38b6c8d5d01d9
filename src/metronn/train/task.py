"""What a network is trained for: its loss and targets, the data in two parts, and the metric that must hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from metronn.errors import ModelError
from metronn.events.data import Events
from metronn.events.metrics import Metric, find_metric, whole_numbers
from metronn.ir.arrays import Array
from metronn.model.graph import Floats
from metronn.train.backend import Backend, KerasObject
from metronn.train.graph_walk import one
from metronn.train.options import Loss

COMPILED: Mapping[str, Loss] = {
    "categorical_crossentropy": Loss.CATEGORICAL,
    "sparse_categorical_crossentropy": Loss.CATEGORICAL,
    "binary_crossentropy": Loss.BINARY,
    "mean_squared_error": Loss.REGRESSION,
    "mse": Loss.REGRESSION,
}
"""Losses of Keras in files, and what stands for them."""


@dataclass(frozen=True, slots=True)
class Part:
    """Events as Keras takes them: `inputs` float32 in the order of the model, `targets`, and arrays for the metric."""

    inputs: tuple[Array, ...]
    targets: Array
    arrays: Mapping[str, Array]

    @property
    def count(self) -> int:
        """Number of events."""
        return len(self.targets)


@dataclass(frozen=True, slots=True)
class Task:
    """Training and validation events, the Keras loss, and the metric (larger is better) with its name."""

    train: Part
    held_out: Part
    loss: KerasObject
    loss_name: str
    metric: Metric
    metric_name: str
    output: str

    def measure(self, model: KerasObject, batch: int) -> float:
        """Return the metric of a network on the validation events."""
        return self.metric({self.output: answers(model, self.held_out.inputs, batch)}, self.held_out.arrays)


def answers(model: KerasObject, inputs: tuple[Array, ...], batch: int) -> Floats:
    """Return the answers of a network to any number of events, as float64."""
    result = model.predict(one(list(inputs)), batch_size=max(batch, 1024), verbose=0)
    return np.asarray(result, dtype=np.float64)


def split(events: Events, share: float, seed: int) -> tuple[Events, Events]:
    """Divide events at random into those to train with and a share to validate with."""
    order = np.random.Generator(np.random.PCG64([seed, 1])).permutation(events.count)
    kept = round(events.count * share)
    if kept < 1 or kept >= events.count:
        raise ModelError(f"{events.count} events cannot be divided: {share:g} of them for validation leaves none")
    return _picked(events, np.sort(order[kept:])), _picked(events, np.sort(order[:kept]))


def _picked(events: Events, rows: Array) -> Events:
    return Events(
        inputs={name: array[rows] for name, array in events.inputs.items()},
        labels=None if events.labels is None else events.labels[rows],
        extra={name: array[rows] for name, array in events.extra.items()},
    )


def make_task(
    backend: Backend,
    model: KerasObject,
    train: Events,
    held_out: Events,
    *,
    loss: Loss,
    compiled: Any,  # noqa: ANN401 - a loss as Keras writes it
    metric: str,
    base: Path,
    output: str,
    batch: int,
) -> Task:
    """Choose loss, targets and metric. `model` is the reference network, the teacher where one is asked for.

    Raises ModelError where labels are missing or do not fit the loss or the network's output.
    """
    shape = tuple(int(n) for n in model.outputs[0].shape[1:])
    last = _last_activation(model)
    chosen = loss if loss is not Loss.AUTO else _by_itself(compiled, train.labels, shape, last)
    parts = []
    for events in (train, held_out):
        inputs = tuple(array.astype(np.float32) for array in events.inputs.values())
        if chosen is Loss.TEACHER:
            targets = np.asarray(answers(model, inputs, batch), dtype=np.float32)
        else:
            targets = _targets(events.labels, chosen, shape)
        parts.append(Part(inputs, targets, events.arrays()))
    found = find_metric(metric, parts[1].arrays, {output: int(np.prod(shape))}, base)
    name = "accuracy" if metric == "auto" and found is not None else metric.rpartition("/")[2]
    keras_loss, loss_name = _keras_loss(backend, chosen, parts[0].targets, last)
    if found is None:
        name = f"-{loss_name}"
        found = _minus_loss(keras_loss, parts[1].targets)
    return Task(parts[0], parts[1], keras_loss, loss_name, found, name, output)


def _last_activation(model: KerasObject) -> str:
    layer = model.outputs[0]._keras_history.operation
    function = getattr(layer, "activation", None)
    return str(getattr(function, "__name__", "linear")) if function is not None else "linear"


def _by_itself(compiled: Any, labels: Array | None, shape: tuple[int, ...], last: str) -> Loss:  # noqa: ANN401
    """Choose the loss: what the file was compiled with, else what suits the labels."""
    if labels is None:
        raise ModelError(
            "the data have no labels (array `label`; --label NAME names another): training needs them.\n"
            "  Add them, or train with the answers of the network itself: --loss teacher."
        )
    name = compiled.get("class_name") if isinstance(compiled, dict) else compiled
    if isinstance(name, str):
        found = COMPILED.get(_snake_case(name))
        if found is not None:
            return found
    size = int(np.prod(shape))
    if not whole_numbers(labels):
        return Loss.CATEGORICAL if _probabilities(labels, size) else Loss.REGRESSION
    if size == 1:
        return Loss.BINARY if set(np.unique(labels)) <= {0, 1} else Loss.REGRESSION
    columns = labels.reshape(len(labels), -1).shape[1]
    if columns == size and last == "sigmoid":
        return Loss.BINARY
    return Loss.CATEGORICAL


def _probabilities(labels: Array, size: int) -> bool:
    flat = labels.reshape(len(labels), -1)
    return bool(flat.shape[1] == size > 1 and flat.min() >= 0 and np.allclose(flat.sum(axis=1), 1.0, atol=1e-3))


def _snake_case(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


def _targets(labels: Array | None, loss: Loss, shape: tuple[int, ...]) -> Array:
    """Return labels in the shape of the network's output (class numbers where there is a column less)."""
    if labels is None:
        raise ModelError(
            f"loss {loss.value}: the data have no labels (array `label`; --label NAME names another).\n"
            "  Add them, or train with the answers of the network itself: --loss teacher."
        )
    size = int(np.prod(shape))
    flat = labels.reshape(len(labels), -1)
    if loss is Loss.CATEGORICAL and flat.shape[1] == 1:
        if not whole_numbers(flat) or flat.min() < 0 or flat.max() >= size:
            raise ModelError(
                f"loss {loss.value}: labels go from {flat.min():g} to {flat.max():g}, the network has {size} classes "
                f"(0 to {size - 1})"
            )
        return np.asarray(flat[:, 0], dtype=np.int32)
    if flat.shape[1] != size:
        raise ModelError(f"loss {loss.value}: labels have {flat.shape[1]} columns, the network's output has {size}")
    if loss is Loss.BINARY and (flat.min() < 0 or flat.max() > 1):
        raise ModelError(f"loss {loss.value}: labels go from {flat.min():g} to {flat.max():g}, allowed is 0 to 1")
    return np.asarray(labels.reshape(len(labels), *shape), dtype=np.float32)


def _keras_loss(backend: Backend, loss: Loss, targets: Array, last: str) -> tuple[KerasObject, str]:
    losses = backend.keras.losses
    match loss:
        case Loss.CATEGORICAL if targets.ndim == 1:
            return losses.SparseCategoricalCrossentropy(from_logits=last != "softmax"), "categorical cross entropy"
        case Loss.CATEGORICAL:
            return losses.CategoricalCrossentropy(from_logits=last != "softmax"), "categorical cross entropy"
        case Loss.BINARY:
            return losses.BinaryCrossentropy(from_logits=last != "sigmoid"), "binary cross entropy"
        case Loss.REGRESSION:
            return losses.MeanSquaredError(), "mean squared error"
        case Loss.TEACHER if last == "softmax":
            return losses.KLDivergence(), "divergence from the float network"
        case _:
            return losses.MeanSquaredError(), "mean squared difference from the float network"


def _minus_loss(loss: KerasObject, targets: Array) -> Metric:
    """Return the metric of last resort: the loss, larger when better."""

    def call(results: Mapping[str, Floats], _arrays: Mapping[str, Array]) -> float:
        (values,) = results.values()
        return -float(loss(targets, values.astype(np.float32)))

    return call
