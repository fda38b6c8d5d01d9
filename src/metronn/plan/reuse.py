"""Reuse: how often the multipliers of a layer are used in an event, and which of them a user may ask for.

A matrix is folded over `reuse` cycles for all vectors it meets in an event: by outputs, or by inputs, of which
ceil(n_in / reuse) come in a cycle. That takes ceil(n_in * n_out / reuse) multipliers, but for the rounding; two
products packed into one make it fewer.
"""

from __future__ import annotations

from metronn.errors import ModelError
from metronn.ir.graph import Graph
from metronn.ir.ops import Linear
from metronn.plan.kernels.fold import input_slots, linear_of
from metronn.plan.kernels.spec import FoldInputs, FoldOutputs, KernelSpec, MatvecAdders, Streamed
from metronn.plan.kernels.stream import slice_of
from metronn.plan.options import PlanOptions


def layers_of(graph: Graph) -> list[str]:
    """Return the layers with a matrix, in their order."""
    return list(dict.fromkeys(node.source for node in graph.nodes if isinstance(node.op, Linear)))


def divisors(number: int) -> list[int]:
    """Return the divisors of a number, rising."""
    return [k for k in range(1, number + 1) if number % k == 0]


def keeps_reuse(spec: KernelSpec, graph: Graph, reuse: int) -> bool:
    """Whether the kernel of a Linear uses its multipliers (or, unrolled, its adders) so many times an event."""
    if isinstance(spec, Streamed):
        own, rows = slice_of(spec, graph), len(slice_of(spec, graph).starts)
        return reuse % rows == 0 and keeps_reuse(spec.inner, own.graph, reuse // rows)
    match spec:
        case MatvecAdders():
            return reuse == 1
        case FoldOutputs():
            return spec.beats == reuse
        case FoldInputs():
            inputs = linear_of(graph, spec.linear).weight.shape[0]
            return len(input_slots(spec.layout).multiplied) <= -(-inputs // reuse)
        case _:
            raise AssertionError(f"{spec}: makes no Linear")


def check_reuse(graph: Graph, options: PlanOptions, ii_cycles: int) -> None:
    """Raise ModelError that lists every reuse that does not divide the II, and every pattern without a layer."""
    layers = layers_of(graph)
    problems = []
    for pattern in options.layers:
        alone = options.model_copy(update={"layers": {pattern: options.layers[pattern]}})
        if not any(alone.reuse_of(layer) is not None for layer in layers):
            known = ", ".join(layers) or "none"
            problems.append(f'plan.layers."{pattern}": no layer with weights has such a name; they are: {known}')
    for layer in layers:
        reuse = options.reuse_of(layer)
        if reuse is not None and ii_cycles % reuse:
            allowed = ", ".join(str(k) for k in divisors(ii_cycles))
            problems.append(f"{layer}: reuse {reuse} does not divide the II of {ii_cycles} cycles; allowed: {allowed}")
    if problems:
        raise ModelError("\n".join(problems))


def impossible_reuse(graph: Graph, linear: str, reuse: int, ii_cycles: int) -> ModelError:
    """Return the error for a layer that no kernel makes with this reuse."""
    layer, rows = graph.by_name[linear].source, graph.type_of(linear).size // graph.type_of(linear).shape[-1]
    text = f"{layer}: reuse {reuse} is not possible at II {ii_cycles}"
    if rows > 1:
        text += f": its weights meet {rows:,} vectors an event, one after the other or several at a time"
    allowed = [k for k in divisors(ii_cycles) if k % rows == 0] if rows > 1 else divisors(ii_cycles)
    if allowed:
        others = ", ".join(str(k) for k in allowed if k != reuse) or "another II"
        text += f".\n  Try {others}, or leave the choice to the planner."
    else:
        text += f".\n  Raise the II to a multiple of {rows:,}, or leave the choice to the planner."
    return ModelError(text)
