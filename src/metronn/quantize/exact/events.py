"""Events for a quantized network that came without any: uniform over what its input quantizers can tell apart."""

from __future__ import annotations

import numpy as np

from metronn.events.data import Events
from metronn.model.graph import RealGraph
from metronn.quantize.exact.inputs import absorbed

BEYOND = 0.05
"""Part of the span by which events go beyond both ends, so that overflow is met too."""


def inputs_without_grid(model: RealGraph) -> tuple[str, ...]:
    """Return the inputs of a prepared network whose grid is not known: not every reader applies one quantizer first."""
    return tuple(node.name for node in model.inputs if absorbed(model, node) is None)


def drawn_events(model: RealGraph, count: int, seed: int = 0) -> Events | None:
    """Return `count` seeded random events for a prepared network, or None when the grid of an input is not known.

    Which those are, `inputs_without_grid` tells.
    """
    rng = np.random.default_rng(seed)
    inputs = {}
    for node in model.inputs:
        found = absorbed(model, node)
        if found is None:
            return None
        codes = found.op.range
        step = np.ldexp(np.ones(node.shape), -codes.frac_array(node.shape))
        if found.op.step is not None:
            step = step * found.op.step.array.astype(np.float64)
        low = codes.lo_array(node.shape).astype(np.float64)
        high = codes.hi_array(node.shape).astype(np.float64)
        margin = np.maximum((high - low) * BEYOND, 1.0)
        unit = rng.uniform(size=(count, *node.shape))
        inputs[node.name] = (low - margin + unit * (high - low + 2 * margin)) * step
    return Events(inputs=inputs)
