"""The ordered lists of passes, and the way from a trained network to its integer graph."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

from metronn.events.data import Events
from metronn.ir.graph import Graph
from metronn.model.graph import RealGraph
from metronn.passes.contract import Pass, applied, check_sound
from metronn.passes.integer.clean import drop_neutral_ops, merge_requantize, neutral_names
from metronn.passes.integer.fold_linear import drop_idle_weights, fold_into_linear
from metronn.passes.real.absorb_moves import absorb_into_matrix, fold_window_padding
from metronn.passes.real.clean import drop_neutral, merge_rewires
from metronn.passes.real.fold_affine import fold_into_consumers, fold_into_producer
from metronn.passes.real.fold_constants import fold_constants
from metronn.passes.real.sink_moves import sink_moves
from metronn.passes.rewriting import drop_dead
from metronn.passes.rules import (
    CONSTANTS_COMPUTED,
    CONSTANTS_MERGED,
    CONSTANTS_TAKEN_OVER,
    EVENTS_IN_ORDER,
    MOVEMENTS_MERGED,
    NO_AFFINE_BEFORE,
    NO_AFFINE_BEHIND,
    NO_DEAD,
    NO_DEAD_REAL,
    NO_IDLE_WEIGHTS,
    NO_NEUTRAL,
    NO_NEUTRAL_REAL,
    ORDERS_SUNK,
    ROUNDED_ONCE,
    WINDOWS_PAD,
)
from metronn.quantize.exact.values import present
from metronn.quantize.options import QuantizeOptions
from metronn.quantize.quantize import Quantized, check_constants, quantize
from metronn.quantize.traced import Origin, matrices_in

REAL_PASSES: tuple[Pass[RealGraph], ...] = (
    Pass(run=drop_dead, ensures=(NO_DEAD_REAL,)),
    Pass(run=fold_constants, ensures=(CONSTANTS_COMPUTED, CONSTANTS_MERGED)),
    Pass(run=drop_neutral, requires=(CONSTANTS_COMPUTED,), ensures=(NO_NEUTRAL_REAL,)),
    Pass(run=sink_moves, ensures=(ORDERS_SUNK,)),
    Pass(run=drop_dead, ensures=(NO_DEAD_REAL,)),
    Pass(run=merge_rewires, requires=(NO_DEAD_REAL,), ensures=(NO_DEAD_REAL, MOVEMENTS_MERGED)),
    Pass(run=fold_window_padding, ensures=(WINDOWS_PAD,)),
    Pass(run=absorb_into_matrix, ensures=(EVENTS_IN_ORDER,)),
    Pass(run=drop_dead, ensures=(NO_DEAD_REAL,)),
    Pass(run=fold_into_producer, requires=(NO_DEAD_REAL,), ensures=(NO_AFFINE_BEHIND,)),
    Pass(run=fold_into_consumers, ensures=(NO_AFFINE_BEFORE,)),
    Pass(run=drop_dead, ensures=(NO_DEAD_REAL,)),
)
"""Before quantization; each keeps the network's function over real numbers."""

INTEGER_PASSES: tuple[Pass[Graph], ...] = (
    Pass(run=drop_neutral_ops, ensures=(NO_NEUTRAL,), renames=neutral_names),
    Pass(run=merge_requantize, ensures=(ROUNDED_ONCE,)),
    Pass(run=fold_into_linear, ensures=(CONSTANTS_TAKEN_OVER,)),
    Pass(run=drop_idle_weights, ensures=(NO_IDLE_WEIGHTS,)),
    Pass(run=drop_dead, ensures=(NO_DEAD,)),
)
"""After quantization; each keeps every bit of every output."""


Watch = Callable[[str, RealGraph | Graph], None]
"""Is told each graph and the stage that made it, also where it is the graph before."""


def watch_nothing(stage: str, graph: RealGraph | Graph) -> None:
    """Watch nothing."""


def prepare(model: RealGraph, watch: Watch = watch_nothing) -> RealGraph:
    """Run the real passes until nothing changes; every rule that a pass ensures holds of the result.

    Raises ModelError when the model holds NaN or infinite constants.
    """
    return followed(model, watch)[0]


def followed(model: RealGraph, watch: Watch = watch_nothing) -> tuple[RealGraph, dict[str, tuple[str, ...]]]:
    """Run the real passes as `prepare` does; also return under which names the values of the model may live on.

    First those that the passes themselves send a value to, then those of the nodes that compute it now, which may hold
    its elements in another order, or something else folded in.
    """
    check_constants(model)
    check_sound("the network as read", model)
    values = {node.name for node in model}
    model = _following(model, values)
    while True:
        before = model
        for step in REAL_PASSES:
            model = _following(applied(step, model), values)
            watch(step.name, _plain(model))
        if _plain(model) == _plain(before):
            return _plain(model), _followed(model)


FOLLOWED = "\0"
"""Before the names of values that are followed through the passes as if they were tensors: in no framework's names."""


def _following(model: RealGraph, values: Collection[str]) -> RealGraph:
    """Follow every node that has the name of one of these values, from here on."""
    own = ((f"{FOLLOWED}{node.name}", node.name) for node in model if node.name in values)
    return replace(model, tensors=tuple(dict.fromkeys((*model.tensors, *own))))


def _plain(model: RealGraph) -> RealGraph:
    """Return the network with the tensors of its framework alone."""
    return replace(model, tensors=tuple(pair for pair in model.tensors if not pair[0].startswith(FOLLOWED)))


def _followed(model: RealGraph) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for name, value in model.tensors:
        if name.startswith(FOLLOWED):
            plain = name.removeprefix(FOLLOWED)
            found[plain] = (*found.get(plain, ()), value)
    return found


def optimize(graph: Graph) -> Graph:
    """Run the integer passes until nothing changes; every rule that a pass ensures holds of the result."""
    return optimized(graph)[0]


def optimized(graph: Graph, watch: Watch = watch_nothing) -> tuple[Graph, dict[str, str]]:
    """Run the integer passes until nothing changes; also return under which names removed values live on.

    A name that the result still has stands for the same codes as before.
    """
    check_sound("the graph as quantized", graph)
    names: dict[str, str] = {}
    while True:
        before = graph
        for step in INTEGER_PASSES:
            removed = step.renames(graph) if step.renames is not None else {}
            names = {old: removed.get(new, new) for old, new in names.items()} | dict(removed)
            graph = applied(step, graph)
            watch(step.name, graph)
        if graph == before:
            return graph, names


def quantize_model(
    model: RealGraph,
    events: Events,
    options: QuantizeOptions | None = None,
    *,
    base: Path = Path(),
    watch: Watch = watch_nothing,
) -> Quantized:
    """Prepare, quantize and optimize: from what a frontend returns to the graph that is planned.

    Arguments and errors are those of `quantize`; `watch` is told every stage.
    """
    prepared, lives_on = followed(model, watch)
    quantized = quantize(prepared, events, options, base=base, origin=Origin(graph=model, names=lives_on))
    watch("quantized", quantized.graph)
    graph, names = optimized(quantized.graph, watch)
    frontier = [replace(exact, value=names.get(exact.value, exact.value)) for exact in quantized.frontier]
    traced = tuple(replace(entry, value=names.get(entry.value, entry.value)) for entry in quantized.traced)
    matrices = matrices_in(graph, quantized.graph, quantized.matrices)
    return replace(quantized, graph=graph, frontier=present(frontier, graph), traced=traced, matrices=matrices)
