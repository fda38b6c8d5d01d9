"""Checks that a real graph keeps its rules; every problem found is reported, not only the first."""

from __future__ import annotations

from collections.abc import Sequence

from metronn.ir.check import network_problems
from metronn.model.graph import RealGraph, RealNode, real_shape


def real_problems(graph: RealGraph) -> tuple[str, ...]:
    """Return every broken rule as one line naming the node; empty for a sound graph."""
    found = list(network_problems(graph, graph.outputs, _shape_problem))
    found += [
        f"tensor {tensor}: is {value}, which no node defines"
        for tensor, value in graph.tensors
        if value not in graph.by_name
    ]
    if graph.output_sources and len(graph.output_sources) != len(graph.outputs):
        found.append(f"{len(graph.output_sources)} sources of {len(graph.outputs)} outputs")
    return tuple(found)


def _shape_problem(node: RealNode, reads: Sequence[RealNode]) -> str | None:
    try:
        shape = real_shape(node.op, [x.shape for x in reads])
    except ValueError as error:
        return str(error)
    return None if shape == node.shape else f"shape is {node.shape}, the op gives {shape}"
