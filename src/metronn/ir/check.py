"""Checks that a graph keeps the rules of the IR; every problem found is reported, not only the first."""

from __future__ import annotations

from metronn.ir.graph import NAME, Graph
from metronn.ir.infer import TypeRuleError, infer
from metronn.ir.ops import operands
from metronn.ir.types import TensorType


def problems(graph: Graph) -> tuple[str, ...]:
    """Return every broken rule as one line naming the node; empty for a sound graph."""
    found: list[str] = []
    types: dict[str, TensorType] = {}
    for node in graph.nodes:
        if node.name in types:
            found.append(f"{node.name}: the name is used twice")
        if not NAME.match(node.name):
            found.append(f"{node.name!r}: a name holds letters, digits, _ and . and starts with a letter or _")
        unknown = [name for name in operands(node.op) if name not in types]
        if unknown:
            found.append(f"{node.name}: reads {', '.join(unknown)}, defined nowhere before it")
        else:
            try:
                inferred = infer(node.op, [types[name] for name in operands(node.op)])
            except TypeRuleError as error:
                found.append(f"{node.name}: {error}")
            else:
                if inferred != node.type:
                    found.append(f"{node.name}: type is {node.type.describe()}, the op gives {inferred.describe()}")
        types[node.name] = node.type
    if not graph.inputs:
        found.append("the graph has no input")
    if not graph.outputs:
        found.append("the graph has no output")
    seen: set[str] = set()
    for output in graph.outputs:
        if output.value not in types:
            found.append(f"output {output.name}: shows {output.value}, which no node defines")
        if output.name in seen:
            found.append(f"output {output.name}: the name is used twice")
        seen.add(output.name)
    return tuple(found)


def check(graph: Graph) -> Graph:
    """Return the graph unchanged; raise ValueError with every broken rule when there is one."""
    found = problems(graph)
    if found:
        raise ValueError("the graph breaks the rules of the IR:\n  " + "\n  ".join(found))
    return graph
