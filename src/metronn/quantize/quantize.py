"""Quantization after training: a real network and calibration events to an integer graph and a report."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from metronn.errors import ModelError
from metronn.ir.check import check
from metronn.ir.graph import Graph
from metronn.ir.types import Range, TensorType
from metronn.model.graph import Floats, RealGraph, RealNode, real_op_arrays
from metronn.model.reference import run_reference
from metronn.quantize.codes import encode
from metronn.quantize.data import Events
from metronn.quantize.emitter import Emitter
from metronn.quantize.lower import Lowering
from metronn.quantize.options import QuantizeOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantized:
    """The integer network and what its making cost."""

    graph: Graph


def quantize(model: RealGraph, events: Events, options: QuantizeOptions | None = None) -> Quantized:
    """Quantize a network to integers.

    Raises ModelError when the model holds NaN or infinite constants or events are missing.
    """
    options = options or QuantizeOptions()
    check_constants(model)
    chosen = calibration_subset(events, options.calibration_events)
    values: dict[str, Floats] = {}

    def keep(node: RealNode, value: Floats) -> None:
        values[node.name] = value

    run_reference(model, chosen, keep)
    emitter = Emitter()

    def encode_input(node: RealNode, codes: Range) -> None:
        emitter.inputs[node.name] = encode(chosen[node.name], TensorType(node.shape, codes))

    lowering = Lowering(graph=model, options=options, reference=values, encode_input=encode_input, emitter=emitter)
    lowering.run()
    graph = check(emitter.builder.build())
    return Quantized(graph=graph)


def calibration_subset(events: Events, limit: int) -> dict[str, Floats]:
    """Return at most `limit` events, evenly spaced over all."""
    count = events.count
    picked = np.arange(min(limit, count)) * count // max(1, min(limit, count))
    return {name: np.asarray(array[picked], dtype=np.float64) for name, array in events.inputs.items()}


def check_constants(model: RealGraph) -> None:
    """Raise ModelError listing every layer with NaN or infinite constants."""
    problems = []
    for node in model.nodes:
        for array in real_op_arrays(node.op):
            bad = int((~np.isfinite(array.array)).sum())
            if bad:
                problems.append(f"layer {node.source}: {bad} of {array.array.size} constants are NaN or infinite")
    if problems:
        raise ModelError("\n".join(dict.fromkeys(problems)))
