"""Checks that a graph keeps the rules of the IR; every problem found is reported, not only the first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from metronn.ir.graph import NAME, Graph, Node
from metronn.ir.infer import TypeRuleError, infer
from metronn.ir.network import AnyNode, Network
from metronn.ir.ops import operands

NodeT = TypeVar("NodeT", bound=AnyNode)


def network_problems(
    graph: Network[NodeT],
    outputs: Iterable[tuple[str, str]],
    type_problem: Callable[[NodeT, Sequence[NodeT]], str | None],
) -> tuple[str, ...]:
    """Return every broken rule of a graph of any kind as one line that begins with the node's name.

    `outputs` are names with the values they show; `type_problem` tells what is wrong with a node, given those it reads.
    """
    found: list[str] = []
    above: dict[str, NodeT] = {}
    for node in graph.nodes:
        if node.name in above:
            found.append(f"{node.name}: the name is used twice")
        if not NAME.match(node.name):
            found.append(f"{node.name!r}: a name holds letters, digits, _ and . and starts with a letter or _")
        unknown = [name for name in operands(node.op) if name not in above]
        if unknown:
            found.append(f"{node.name}: reads {', '.join(unknown)}, defined nowhere before it")
        elif problem := type_problem(node, [above[name] for name in operands(node.op)]):
            found.append(f"{node.name}: {problem}")
        above[node.name] = node
    if not graph.inputs:
        found.append("the graph has no input")
    seen: set[str] = set()
    for name, value in outputs:
        if value not in above:
            found.append(f"output {name}: shows {value}, which no node defines")
        if name in seen:
            found.append(f"output {name}: the name is used twice")
        seen.add(name)
    if not seen:
        found.append("the graph has no output")
    return tuple(found)


def problems(graph: Graph) -> tuple[str, ...]:
    """Return every broken rule as one line naming the node; empty for a sound graph."""
    return network_problems(graph, ((output.name, output.value) for output in graph.outputs), _type_problem)


def _type_problem(node: Node, reads: Sequence[Node]) -> str | None:
    try:
        inferred = infer(node.op, [x.type for x in reads])
    except TypeRuleError as error:
        return str(error)
    if inferred != node.type:
        return f"type is {node.type.describe()}, the op gives {inferred.describe()}"
    return None


def check(graph: Graph) -> Graph:
    """Return the graph unchanged; raise ValueError with every broken rule when there is one."""
    found = problems(graph)
    if found:
        raise ValueError("the graph breaks the rules of the IR:\n  " + "\n  ".join(found))
    return graph
