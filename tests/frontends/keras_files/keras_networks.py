"""Keras models for the tests of the frontend: random weights, and the comparison of a saved model with Keras."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metronn.frontends import load_model
from metronn.model.graph import RealGraph
from metronn.model.reference import run_reference

Close = Callable[[object, object], None]
FORMATS = ("model.keras", "model.h5")


def randomized(model: Any, seed: int = 3) -> Any:
    """Give every weight of a model a random value; variances stay positive."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        if variable.dtype.startswith("float"):
            values = rng.normal(size=variable.shape)
            variable.assign(np.abs(values) + 0.1 if "variance" in variable.path else values)
    return model


def check(
    model: Any, folder: Path, close: Close, formats: Sequence[str] = FORMATS, *, low: float = -2.0, high: float = 2.0
) -> list[RealGraph]:
    """Save, load and compare on random events in [low, high]; returns the graphs read, one per format."""
    import keras

    rng = np.random.default_rng(11)
    events = [rng.uniform(low, high, size=(4, *tensor.shape[1:])).astype(np.float32) for tensor in model.inputs]
    expected = keras.tree.flatten(model(events if len(events) > 1 else events[0], training=False))
    graphs = []
    for name in formats:
        model.save(folder / name)
        graph = load_model(folder / name)
        feeds = {node.name: x.astype(np.float64) for node, x in zip(graph.inputs, events, strict=True)}
        found = run_reference(graph, feeds)
        assert len(found) == len(expected)
        for value, reference in zip(found.values(), expected, strict=True):
            close(value, np.asarray(reference))
        graphs.append(graph)
    return graphs
