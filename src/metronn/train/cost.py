"""What a Keras file costs in hardware, as the planner counts it: LUT-equivalents (`metronn.plan.estimate`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from metronn.events.data import Events
from metronn.frontends import load_model
from metronn.ir.graph import Graph
from metronn.model.graph import RealGraph
from metronn.passes.pipeline import quantize_model
from metronn.plan.estimate import Estimate, estimate
from metronn.plan.hardware.system import System
from metronn.plan.options import PlanOptions
from metronn.quantize.options import QuantizeOptions

COST_EVENTS = 512
"""Events with which a network is made integers to be counted; the widths of a quantized network do not need more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a network is to run, and how what has no widths of its own is quantized."""

    system: System
    plan: PlanOptions
    quantize: QuantizeOptions
    base: Path

    def graph(self, path: Path, events: Events) -> Graph:
        """Return the integer graph of a network file."""
        model = load_model(path)
        chosen = few(events, COST_EVENTS, model)
        options = self.quantize.model_copy(update={"metric": "none"})
        return quantize_model(model, chosen, options, base=self.base).graph

    def estimate(self, path: Path, events: Events) -> Estimate:
        """Return the resources of a network file and LUT-equivalents by layer."""
        return estimate(self.graph(path, events), self.system, self.plan)


def few(events: Events, count: int, model: RealGraph) -> Events:
    """Return the first events, under the input names of the network."""
    inputs = list(events.inputs.values())
    names = [node.name for node in model.inputs]
    by_name = events.inputs if set(names) == set(events.inputs) else dict(zip(names, inputs, strict=True))
    shapes = {node.name: node.shape for node in model.inputs}
    rows = slice(0, count)
    return Events(
        inputs={name: np.asarray(by_name[name][rows]).reshape(-1, *shapes[name]) for name in names},
        labels=None if events.labels is None else events.labels[rows],
        extra={name: array[rows] for name, array in events.extra.items()},
    )
