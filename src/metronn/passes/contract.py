"""What a pass needs and what it gives, checked around every run: a pass that breaks it is a bug of this program."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic

from metronn.ir.check import problems
from metronn.ir.graph import Graph
from metronn.model.check import real_problems
from metronn.model.graph import RealGraph
from metronn.passes.rewriting import GraphT


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule(Generic[GraphT]):
    """A property of a graph: what holds, and the names of the nodes for which it does not."""

    holds: str
    broken: Callable[[GraphT], Iterable[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass(Generic[GraphT]):
    """A function from graph to graph and its contract.

    Beside what it `requires` and `ensures`, every pass takes and gives a graph that keeps the rules of its kind, with
    the same inputs and outputs. `renames` returns, for the graph that the pass is given, the values it removes of which
    another one holds the same codes.
    """

    run: Callable[[GraphT], GraphT]
    requires: tuple[Rule[GraphT], ...] = ()
    ensures: tuple[Rule[GraphT], ...] = ()
    renames: Callable[[GraphT], Mapping[str, str]] | None = None

    @property
    def name(self) -> str:
        """The name of the function."""
        return self.run.__name__


def applied(step: Pass[GraphT], graph: GraphT) -> GraphT:
    """Run a pass and return its result.

    Raises AssertionError naming pass, nodes and rules where the contract is broken.
    """
    check_rules(f"before pass {step.name}", graph, step.requires)
    after = step.run(graph)
    if after is not graph:
        check_sound(f"after pass {step.name}", after)
        _raise(f"after pass {step.name}", list(_moved_border(graph, after)))
    check_rules(f"after pass {step.name}", after, step.ensures)
    return after


def check_rules(place: str, graph: GraphT, rules: Sequence[Rule[GraphT]]) -> None:
    """Raise AssertionError naming the place, the nodes and the rules that they break."""
    _raise(place, [f"{node}: breaks the rule: {rule.holds}" for rule in rules for node in rule.broken(graph)])


def check_sound(place: str, graph: Graph | RealGraph) -> None:
    """Raise AssertionError naming the place and every rule of its kind that a graph breaks."""
    _raise(place, sound(graph))


def sound(graph: Graph | RealGraph) -> tuple[str, ...]:
    """Return every rule of its kind that the graph breaks."""
    return problems(graph) if isinstance(graph, Graph) else real_problems(graph)


def _raise(place: str, found: Sequence[str]) -> None:
    if found:
        raise AssertionError(f"{place}:\n  " + "\n  ".join(found))


def _moved_border(before: Graph | RealGraph, after: Graph | RealGraph) -> Iterator[str]:
    """Tell what became of the inputs and outputs, which belong to whoever uses the network."""
    old, new = _border(before), _border(after)
    for name in dict.fromkeys((*old, *new)):
        if old.get(name) != new.get(name):
            yield f"{name}: inputs and outputs stay as they are: was {old.get(name)!s:.200}, is {new.get(name)!s:.200}"


def _border(graph: Graph | RealGraph) -> dict[str, object]:
    """Inputs and outputs by name: the ops of those, the sources, shapes and exponents of these; and their order."""
    found: dict[str, object] = {f"input {node.name}": (node.op, node.source) for node in graph.inputs}
    if isinstance(graph, Graph):
        for output in graph.outputs:
            kind = graph.type_of(output.value)
            found[f"output {output.name}"] = (output.source, kind.shape, kind.range.fracs(kind.size))
    else:
        for name, value in graph.outputs:
            found[f"output {name}"] = graph.by_name[value].shape
        found["outputs"] = graph.output_sources
    found["order"] = tuple(found)
    return found
