"""Judging one choice of widths: quantize, count the cost, measure the metric on events held out of calibration."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from metronn.errors import ModelError
from metronn.events.data import Events
from metronn.events.metrics import find_metric
from metronn.ir.arrays import IntArray
from metronn.ir.graph import Graph
from metronn.ir.ops import Linear
from metronn.ir.text import graph_hash
from metronn.ir.types import width_bits
from metronn.model.graph import FloatArray, Floats, RealGraph
from metronn.quantize.calibrated.calibration import affordable_events
from metronn.quantize.measure import run_fixed, run_float
from metronn.quantize.options import QuantizeOptions
from metronn.quantize.quantize import quantize
from metronn.search.space import Layers, applied

NO_SIGNAL_DB = -1000.0
"""The choice is what it is, however poor: nothing is widened, and no advice is looked for."""
CALIBRATION_EVENTS = 1024
"""At most so many of the events that are not held out calibrate each choice of a search."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a graph costs in hardware, altogether and by layer."""

    total: float
    layers: Mapping[str, float]


CostModel = Callable[[Graph], Cost]
"""Given by the caller; it must be possible to send it to another process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """One choice of widths: cost, metric and noise on the held-out events, and the graph's hash.

    `noise` is the mean squared error of the outputs over their variance, summed over outputs: the surrogate that ranks
    choices. `channels` holds the bits in use by output channel of each layer that is one matrix.
    """

    cost: float
    layers: Mapping[str, float]
    metric: float
    noise: float
    graph: str
    channels: Mapping[str, tuple[int, ...]]

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {**dataclasses.asdict(self), "channels": {name: list(bits) for name, bits in self.channels.items()}}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Evaluation:
        """Read what `to_json` made. Raises KeyError or TypeError when it did not."""
        return Evaluation(
            cost=float(data["cost"]),
            layers={str(name): float(value) for name, value in data["layers"].items()},
            metric=float(data["metric"]),
            noise=float(data["noise"]),
            graph=str(data["graph"]),
            channels={str(name): tuple(int(b) for b in bits) for name, bits in data["channels"].items()},
        )


@dataclass(frozen=True, kw_only=True)
class Evaluator:
    """Everything that judging needs; it can be sent to another process. `model` is prepared already."""

    model: RealGraph
    options: QuantizeOptions
    base: Path
    calibration: Events
    held_out: Events
    reference: Mapping[str, Floats]
    float_metric: float
    cost: CostModel

    def __call__(self, layers: Layers) -> Evaluation:
        """Judge these widths. Deterministic. Raises ModelError as `quantize` does."""
        silent = applied(self.options, layers).model_copy(update={"metric": "none", "min_sqnr_db": NO_SIGNAL_DB})
        graph = quantize(self.model, self.calibration, silent, base=self.base).graph
        results = run_fixed(graph, {name: np.asarray(x, dtype=np.float64) for name, x in self.held_out.inputs.items()})
        cost = self.cost(graph)
        metric = _metric(self.options, self.base, self.held_out, self.reference)
        return Evaluation(
            cost=cost.total,
            layers=cost.layers,
            metric=metric(results, self.held_out.arrays()),
            noise=sum(_noise(self.reference[name], results[name]) for name in results),
            graph=graph_hash(graph),
            channels=channel_bits(graph),
        )

    def loss(self, metric: float) -> float:
        """Relative loss of the metric, as `MetricReport.loss`."""
        difference = self.float_metric - metric
        return difference / abs(self.float_metric) if self.float_metric else difference


def evaluator(
    model: RealGraph, events: Events, options: QuantizeOptions, base: Path, cost: CostModel, held_out_events: int
) -> Evaluator:
    """Split the events and run the float network on those held out: every second one, at most so many, evenly spaced.

    The others calibrate. Raises ModelError when there are fewer than two events, or no metric to hold.
    """
    if events.count < 2:
        raise ModelError("search: 1 event is too few; some calibrate and others judge, so at least 2 are needed")
    judged = _picked(np.arange(1, events.count, 2), held_out_events)
    calibrating = np.arange(0, events.count, 2)
    limit = min(options.calibration_events, CALIBRATION_EVENTS, affordable_events(model, len(calibrating)))
    held_out = subset(events, judged)
    reference = run_float(model, {name: np.asarray(x, dtype=np.float64) for name, x in held_out.inputs.items()})
    metric = _metric(options, base, held_out, reference)
    return Evaluator(
        model=model,
        options=options,
        base=base.absolute(),
        calibration=subset(events, _picked(calibrating, limit)),
        held_out=held_out,
        reference={name: np.array(values) for name, values in reference.items()},
        float_metric=metric(reference, held_out.arrays()),
        cost=cost,
    )


def _metric(
    options: QuantizeOptions, base: Path, events: Events, reference: Mapping[str, Floats]
) -> Callable[[Mapping[str, Floats], Mapping[str, Any]], float]:
    sizes = {name: int(np.prod(values.shape[1:])) for name, values in reference.items()}
    metric = find_metric(options.metric, events.arrays(), sizes, base)
    if metric is None:
        found = f"metric = {options.metric!r}" + ("" if options.metric == "none" else " finds no labels that fit")
        raise ModelError(
            f"search: there is no metric to hold ({found}).\n"
            "  Add labels to the events, or give [quantize] metric = accuracy, auc or file.py:function."
        )
    return metric


def _picked(indices: np.ndarray[Any, np.dtype[np.int64]], limit: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return at most `limit` of the indices, evenly spaced."""
    count = min(limit, len(indices))
    return indices[np.arange(count) * len(indices) // count]


def subset(events: Events, indices: np.ndarray[Any, np.dtype[np.int64]]) -> Events:
    """Return some of the events."""
    return Events(
        inputs={name: array[indices] for name, array in events.inputs.items()},
        labels=None if events.labels is None else events.labels[indices],
        extra={name: array[indices] for name, array in events.extra.items()},
    )


def _noise(reference: Floats, fixed: Floats) -> float:
    power = float(reference.var())
    error = float(np.square(reference - fixed).mean())
    return error / power if power > 0 else error


def channel_bits(graph: Graph) -> dict[str, tuple[int, ...]]:
    """Return the bits, sign included and at least 2, that hold each output channel's weights: of one-matrix layers."""
    found: dict[str, list[tuple[int, ...]]] = {}
    for node in graph.nodes:
        if isinstance(node.op, Linear):
            columns = node.op.weight.array.T
            bits = tuple(max(2, width_bits(min(-1, int(c.min())), max(0, int(c.max())))) for c in columns)
            found.setdefault(node.source, []).append(bits)
    return {source: several[0] for source, several in found.items() if len(several) == 1}


def network_digest(model: RealGraph) -> str:
    """Return a hash of everything in a network."""
    digest = hashlib.sha256()
    for node in model.nodes:
        digest.update(f"{node.name} {node.source} {node.shape} {type(node.op).__name__}".encode())
        for item in dataclasses.fields(node.op):
            value = getattr(node.op, item.name)
            plain = value.digest if isinstance(value, FloatArray | IntArray) else repr(value)
            digest.update(f" {item.name}={plain}".encode())
    digest.update(repr(model.outputs).encode())
    return digest.hexdigest()[:16]


def events_digest(events: Events) -> str:
    """Return a hash of inputs, labels and extra arrays."""
    digest = hashlib.sha256()
    for name, array in sorted({**events.inputs, **events.arrays()}.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(repr(array.tolist()).encode() if array.dtype.kind == "O" else array.tobytes())
    return digest.hexdigest()[:16]
