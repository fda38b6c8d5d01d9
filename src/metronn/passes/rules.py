"""What holds of a graph at some stage: the properties that passes need and give."""

from __future__ import annotations

from collections.abc import Iterator

from metronn.ir.graph import Graph
from metronn.ir.ops import Entry, Requantize, Rewire, operands
from metronn.model.graph import RealConstant, RealGraph
from metronn.passes.contract import Rule
from metronn.passes.integer.clean import covers
from metronn.passes.real.rewriting import affine_of
from metronn.passes.rewriting import moves_nothing


def _dead(graph: Graph | RealGraph) -> Iterator[str]:
    for node in graph.nodes:
        if not isinstance(node.op, Entry) and not graph.uses[node.name] and node.name not in graph.shown_values:
            yield node.name


def _made_of_constants(graph: RealGraph) -> Iterator[str]:
    for node in graph:
        reads = operands(node.op)
        if reads and all(isinstance(graph.by_name[x].op, RealConstant) for x in reads):
            yield node.name


def _neutral_real(graph: RealGraph) -> Iterator[str]:
    for node in graph:
        if isinstance(node.op, Rewire):
            x = node.op.xs[0] if moves_nothing(graph, node.op) else None
        else:
            affine = affine_of(graph, node)
            x = affine[0] if affine is not None and (affine[1] == 1).all() and (affine[2] == 0).all() else None
        if x is not None and not {x, node.name} <= graph.shown_values:
            yield node.name


def _movement_of_movement(graph: RealGraph) -> Iterator[str]:
    for node in graph:
        reader = graph.only_reader(node.name)
        if isinstance(node.op, Rewire) and reader is not None and isinstance(reader.op, Rewire):
            if reader.op.xs.count(node.name) == 1:
                yield reader.name


def _neutral_integer(graph: Graph) -> Iterator[str]:
    for node in graph:
        if isinstance(node.op, Rewire) and moves_nothing(graph, node.op):
            yield node.name
        if isinstance(node.op, Requantize) and graph.type_of(node.op.x) == node.type:
            if covers(node.op, node.type):
                yield node.name


def _needless_rounding(graph: Graph) -> Iterator[str]:
    for node in graph:
        inner = graph.by_name[node.op.x].op if isinstance(node.op, Requantize) else None
        if isinstance(inner, Requantize) and covers(inner, graph.type_of(inner.x)):
            yield node.name


NO_DEAD_REAL: Rule[RealGraph] = Rule(holds="an output or another node reads every node but inputs", broken=_dead)
NO_DEAD: Rule[Graph] = Rule(holds="an output or another node reads every node but inputs", broken=_dead)
CONSTANTS_COMPUTED: Rule[RealGraph] = Rule(
    holds="every op reads a value that is no constant", broken=_made_of_constants
)
NO_NEUTRAL_REAL: Rule[RealGraph] = Rule(
    holds="no x + 0, no x * 1 and no movement that keeps shape and order, but between two outputs",
    broken=_neutral_real,
)
MOVEMENTS_MERGED: Rule[RealGraph] = Rule(
    holds="no movement reads another one that it alone reads", broken=_movement_of_movement
)
NO_NEUTRAL: Rule[Graph] = Rule(
    holds="no movement keeps shape and order, no requantization keeps type and codes", broken=_neutral_integer
)
ROUNDED_ONCE: Rule[Graph] = Rule(holds="no requantization reads one that keeps every value", broken=_needless_rounding)
