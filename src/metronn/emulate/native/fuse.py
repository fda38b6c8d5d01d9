"""What is computed together: windows inside the op that reads them, and elementwise ops behind one another.

A step is one op, or a chain of ops that run a tile of elements at a time, so that only the last one's result is ever
whole in memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from metronn.emulate.numpy import fused_windows
from metronn.ir.graph import Graph, Node
from metronn.ir.infer import reduce_shifts
from metronn.ir.ops import Linear, Reduce, Rewire, Window, is_elementwise, operands


@dataclass(frozen=True, slots=True, kw_only=True)
class FusedNodes:
    """Nodes computed together, in order; `window` is the window that the first of them applies to what it reads."""

    nodes: tuple[Node, ...]
    window: Node | None = None

    @property
    def result(self) -> Node:
        """The one value of the step that others read."""
        return self.nodes[-1]

    @property
    def reads(self) -> tuple[str, ...]:
        """Values from outside the step."""
        inside = {node.name for node in self.nodes}
        names = [name for node in self.nodes for name in operands(node.op) if name not in inside]
        if self.window is not None and isinstance(self.window.op, Window):
            names[0] = self.window.op.x
        return tuple(dict.fromkeys(names))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fusion:
    """The steps in order, and the values that are another value under a new shape, by name."""

    steps: tuple[FusedNodes, ...]
    aliases: dict[str, str]


def fuse(graph: Graph) -> Fusion:
    """Return what is computed together; every node is in a step, an alias, or a window inside a step."""
    aliases = _aliases(graph)
    windows = {name: graph.by_name[name] for name in fused_windows(graph)}
    pools = _pools(graph)
    hidden = {*windows, *(window.name for window in pools.values())}
    hidden |= {name for reduce in pools for name in operands(graph.by_name[reduce].op)}
    taken: set[str] = set()
    steps: list[FusedNodes] = []
    for node in graph.nodes:
        if node.name in hidden or node.name in aliases or node.name in taken:
            continue
        chain = _chain(graph, node, taken) if _starts_chain(node, pools) else (node,)
        taken.update(item.name for item in chain)
        window = pools.get(node.name)
        if isinstance(node.op, Linear):
            window = windows.get(node.op.x)
        steps.append(FusedNodes(nodes=chain, window=window))
    position = {node.name: index for index, node in enumerate(graph.nodes)}
    steps.sort(key=lambda step: position[step.result.name])
    return Fusion(steps=tuple(steps), aliases={name: x for name, x in aliases.items() if name not in hidden})


def _aliases(graph: Graph) -> dict[str, str]:
    """Rewires that keep every element in its place, with the value they show."""
    found: dict[str, str] = {}
    for node in graph.nodes:
        if isinstance(node.op, Rewire) and _keeps_places(graph, node.op):
            x = node.op.xs[0]
            found[node.name] = found.get(x, x)
    return found


def _keeps_places(graph: Graph, op: Rewire) -> bool:
    return len(op.xs) == 1 and np.array_equal(op.index.array.ravel(), np.arange(graph.type_of(op.xs[0]).size))


def _pools(graph: Graph) -> dict[str, Node]:
    """Return the reductions over the positions of a window that nothing else reads, with the window."""
    found: dict[str, Node] = {}
    for window in graph.nodes:
        if not isinstance(window.op, Window):
            continue
        x = graph.type_of(window.op.x)
        split = graph.only_reader(window.name)
        if split is None or not isinstance(split.op, Rewire) or not _keeps_places(graph, split.op):
            continue
        reduce = graph.only_reader(split.name)
        if reduce is None or not isinstance(reduce.op, Reduce):
            continue
        places = window.type.shape[:-1]
        shape = (*places, window.type.shape[-1] // x.shape[-1], x.shape[-1])
        if split.type.shape != shape or reduce.op.axes != (len(places),):
            continue
        if not reduce_shifts(reduce.op, split.type).any():
            found[reduce.name] = window
    return found


def _starts_chain(node: Node, pools: dict[str, Node]) -> bool:
    return isinstance(node.op, Linear) or node.name in pools or is_elementwise(node.op)


def _chain(graph: Graph, node: Node, taken: set[str]) -> tuple[Node, ...]:
    """Return the node and the elementwise ops behind it, each the only reader of the one before."""
    chain = [node]
    while True:
        reader = graph.only_reader(chain[-1].name)
        if reader is None or reader.name in taken or not is_elementwise(reader.op):
            return tuple(chain)
        if reader.type.shape != chain[-1].type.shape:
            return tuple(chain)
        chain.append(reader)
