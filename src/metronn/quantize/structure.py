"""Questions about a real network that steer its lowering: what is constant, who can read exact values."""

from __future__ import annotations

from collections.abc import Mapping

from metronn.model.graph import (
    Floats,
    FunctionKind,
    RealAdd,
    RealExtremum,
    RealFunction,
    RealGraph,
    RealInput,
    RealMultiply,
    RealNode,
    RealReduce,
    RealRewire,
    RealSoftmax,
    RealWindow,
    real_operands,
)
from metronn.quantize.wide import is_wide


def constant_names(graph: RealGraph) -> frozenset[str]:
    """Return the values that no input reaches."""
    found: set[str] = set()
    for node in graph.nodes:
        if not isinstance(node.op, RealInput) and all(x in found for x in real_operands(node.op)):
            found.add(node.name)
    return frozenset(found)


def constants_of(graph: RealGraph, reference: Mapping[str, Floats]) -> dict[str, Floats]:
    """Return the constant values by name, given every value's floats (constants have a batch axis of length 1)."""
    return {name: reference[name][0] for name in sorted(constant_names(graph))}


def precise_values(graph: RealGraph, reference: Mapping[str, Floats]) -> frozenset[str]:
    """Return the values whose smallest numbers count: arguments of functions over a wide range, and what they sum.

    From the argument upwards through movement, sums, extrema and scales, to the products of two values and the inputs.
    """
    constant = constant_names(graph)
    found: set[str] = set()
    queue = [
        node.op.x
        for node in graph.nodes
        if isinstance(node.op, RealFunction) and is_wide(node.op, reference[node.op.x])
    ]
    while queue:
        name = queue.pop()
        if name in found or name in constant:
            continue
        found.add(name)
        op = graph.by_name[name].op
        match op:
            case RealRewire() | RealWindow() | RealReduce() | RealAdd() | RealExtremum():
                queue.extend(real_operands(op))
            case RealMultiply() if op.x in constant or op.y in constant:
                queue.extend(real_operands(op))
            case RealFunction(kind=FunctionKind.SQRT):
                queue.append(op.x)
            case _:
                pass
    return frozenset(found)


def defers(
    graph: RealGraph, constants: Mapping[str, Floats], precise: frozenset[str], user: RealNode, name: str
) -> bool:
    """Whether `user` reads `name` with all its bits, before any requantization.

    So do functions and softmax (they choose their own grid), ops with a constant, max(x, a x), and what leads from
    a product to a function of wide range (`precise_values`).
    """
    match user.op:
        case RealFunction() | RealSoftmax():
            return True
        case RealRewire() | RealWindow() | RealReduce():
            return user.name in precise
        case RealAdd() | RealMultiply() | RealExtremum():
            other = user.op.y if user.op.x == name else user.op.x
            if other in constants:
                return True
            if isinstance(user.op, RealMultiply):
                return False
            if user.name in precise:
                return True
            if not isinstance(user.op, RealExtremum):
                return False
            multiples = ((name, other), (other, name))
            return any(_is_own_multiple(graph, constants, user, whole, part) for whole, part in multiples)
        case _:
            return False


def _is_own_multiple(graph: RealGraph, constants: Mapping[str, Floats], user: RealNode, whole: str, part: str) -> bool:
    op = graph.by_name[part].op
    if not isinstance(op, RealMultiply) or graph.uses[part] != (user.name,):
        return False
    return (op.x == whole and op.y in constants) or (op.y == whole and op.x in constants)
