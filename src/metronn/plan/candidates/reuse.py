"""Reuse: how often the multipliers of a layer are used in an event, and which of them a user may ask for.

A matrix is folded over `reuse` cycles for all vectors it meets in an event: by outputs, or by inputs, of which
ceil(n_in / reuse) come in a cycle. That takes ceil(n_in * n_out / reuse) multipliers, but for the rounding; two
products packed into one make it fewer.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from metronn.errors import ModelError
from metronn.ir.graph import Graph
from metronn.ir.ops import Linear
from metronn.plan.kernels.adders.matvec import PlannedAdders
from metronn.plan.kernels.folds.fold import linear_of
from metronn.plan.kernels.folds.planned import PlannedFoldInputs, PlannedFoldOutputs
from metronn.plan.kernels.kernels import AnyKernel
from metronn.plan.kernels.streamed import PlannedStreamed
from metronn.plan.options import PlanOptions


def layers_of(graph: Graph) -> list[str]:
    """Return the layers with a matrix, in their order."""
    return list(dict.fromkeys(node.source for node in graph.nodes if isinstance(node.op, Linear)))


def divisors(number: int) -> list[int]:
    """Return the divisors of a number, rising."""
    return [k for k in range(1, number + 1) if number % k == 0]


def keeps_reuse(kernel: AnyKernel, reuse: int) -> bool:
    """Whether the kernel of a Linear uses its multipliers (or, unrolled, its adders) so many times an event."""
    match kernel:
        case PlannedStreamed():
            rows = len(kernel.slice.starts)
            return reuse % rows == 0 and keeps_reuse(kernel.inner, reuse // rows)
        case PlannedAdders():
            return reuse == 1
        case PlannedFoldOutputs():
            return kernel.spec.beats == reuse
        case PlannedFoldInputs():
            inputs = linear_of(kernel.graph, kernel.spec.linear).weight.shape[0]
            return len(kernel.slots.multiplied) <= -(-inputs // reuse)
        case _:
            raise AssertionError(f"{kernel.spec}: makes no Linear")


def check_reuse(graph: Graph, options: PlanOptions) -> None:
    """Raise ModelError that lists every pattern without a layer."""
    layers = layers_of(graph)
    problems = []
    for pattern in options.layers:
        if not any(fnmatchcase(layer, pattern) for layer in layers):
            known = ", ".join(layers) or "none"
            problems.append(f'plan.layers."{pattern}": no layer with weights has such a name; they are: {known}')
    if problems:
        raise ModelError("\n".join(problems))


def impossible_reuse(graph: Graph, linear: str, reuse: int, ii_cycles: int, allowed: Sequence[int]) -> str:
    """Say that no kernel makes a layer with this reuse, and with which ones (`allowed`) one does."""
    layer, rows = graph.by_name[linear].source, graph.type_of(linear).size // graph.type_of(linear).shape[-1]
    if ii_cycles % reuse:
        text = f"{layer}: reuse {reuse} does not divide the II of {ii_cycles} cycles"
    else:
        text = f"{layer}: reuse {reuse} is not possible at II {ii_cycles}"
    if rows > 1:
        text += f": its weights meet {rows:,} vectors an event, one after the other or several at a time"
    if not allowed:
        return f"{text}.\n  No reuse is possible for it at this II: leave the choice to the planner."
    values = ", ".join(str(k) for k in allowed)
    return f'{text}.\n  Set plan.layers."{layer}".reuse to one of {values}, or leave the choice to the planner.'
