"""Which ops one kernel makes together, and which kernels keep the clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from metronn.ir.graph import Graph
from metronn.ir.ops import Constant, operands
from metronn.plan.figures import unrolled_part
from metronn.plan.hardware.timing import Timing
from metronn.plan.kernels.elementwise import chain, expanded
from metronn.plan.kernels.kernels import AnyKernel


def grow(
    graph: Graph,
    first: str,
    kinds: tuple[type, ...],
    fits: Callable[[Sequence[str]], bool] | None = None,
) -> tuple[str, ...]:
    """Follow a value through elementwise ops of one shape: the longest group that shows only its last value outside.

    An op joins when it works element by element (is one of `kinds`) and reads only constants and the group's values.
    `fits` is asked of the ops behind the first one.
    """
    shape = graph.type_of(first).shape
    group = [first]
    position = {node.name: index for index, node in enumerate(graph.nodes)}
    for node in graph.nodes[position[first] + 1 :]:
        reads = operands(node.op)
        if not isinstance(node.op, kinds) or node.type.shape != shape or not any(name in group for name in reads):
            continue
        if all(name in group or isinstance(graph.by_name[name].op, Constant) for name in reads):
            group.append(node.name)
    shown = {output.value for output in graph.outputs}
    for length in range(len(group), 1, -1):
        inside = set(group[:length])
        hidden = group[: length - 1]
        seen = any(name in shown or not set(graph.uses[name]) <= inside for name in hidden)
        if not seen and (fits is None or fits(group[1:length])):
            return tuple(group[:length])
    return (first,)


def stage_holds(graph: Graph, nodes: Sequence[str], *, timing: Timing) -> bool:
    """Whether one stage holds all these ops, as the epilogue of a fold does."""
    own, expanded_nodes = expanded(graph, nodes)
    return chain(own, expanded_nodes, timing).whole_ps <= timing.logic_ps


def closes(kernel: AnyKernel) -> bool:
    """Whether a kernel keeps the clock; an unrolled matrix is taken to, since it is cut wherever a stage is full."""
    return unrolled_part(kernel) is not None or kernel.slowest.ps <= kernel.timing.logic_ps
