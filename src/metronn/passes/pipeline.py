"""The ordered lists of passes, and the way from a trained network to its integer graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from metronn.events.data import Events
from metronn.ir.check import check
from metronn.ir.graph import Graph
from metronn.model.graph import RealGraph
from metronn.passes.integer.clean import drop_neutral_ops, merge_requantize, neutral_names
from metronn.passes.integer.fold_linear import drop_idle_weights, fold_into_linear
from metronn.passes.real.absorb_moves import absorb_into_matrix, fold_window_padding
from metronn.passes.real.clean import drop_neutral, merge_rewires
from metronn.passes.real.fold_affine import fold_into_consumers, fold_into_producer
from metronn.passes.real.fold_constants import fold_constants
from metronn.passes.real.sink_moves import sink_moves
from metronn.passes.rewriting import drop_dead
from metronn.quantize.exact.values import present
from metronn.quantize.options import QuantizeOptions
from metronn.quantize.quantize import Quantized, check_constants, quantize

REAL_PASSES: tuple[Callable[[RealGraph], RealGraph], ...] = (
    drop_dead,
    fold_constants,
    drop_neutral,
    sink_moves,
    drop_dead,
    merge_rewires,
    fold_window_padding,
    absorb_into_matrix,
    drop_dead,
    fold_into_producer,
    fold_into_consumers,
    drop_dead,
)
"""Before quantization; each keeps the network's function over real numbers."""

INTEGER_PASSES: tuple[Callable[[Graph], Graph], ...] = (
    drop_neutral_ops,
    merge_requantize,
    fold_into_linear,
    drop_idle_weights,
    drop_dead,
)
"""After quantization; each keeps every bit of every output."""


def prepare(model: RealGraph) -> RealGraph:
    """Run the real passes until nothing changes.

    Raises ModelError when the model holds NaN or infinite constants.
    """
    check_constants(model)
    while True:
        before = model
        for run in REAL_PASSES:
            model = run(model)
        if model == before:
            return model


def optimize(graph: Graph) -> Graph:
    """Run the integer passes until nothing changes; the graph is checked after each."""
    return optimized(graph)[0]


def optimized(graph: Graph) -> tuple[Graph, dict[str, str]]:
    """Run the integer passes until nothing changes; also return under which names removed values live on.

    A name that the result still has stands for the same codes as before.
    """
    names: dict[str, str] = {}
    while True:
        before = graph
        for run in INTEGER_PASSES:
            if run is drop_neutral_ops:
                removed = neutral_names(graph)
                names = {old: removed.get(new, new) for old, new in names.items()} | removed
            graph = check(run(graph))
        if graph == before:
            return graph, names


def quantize_model(
    model: RealGraph, events: Events, options: QuantizeOptions | None = None, *, base: Path = Path()
) -> Quantized:
    """Prepare, quantize and optimize: from what a frontend returns to the graph that is planned.

    Arguments and errors are those of `quantize`.
    """
    quantized = quantize(prepare(model), events, options, base=base)
    graph, names = optimized(quantized.graph)
    followed = [replace(exact, value=names.get(exact.value, exact.value)) for exact in quantized.frontier]
    return replace(quantized, graph=graph, frontier=present(followed, graph))
