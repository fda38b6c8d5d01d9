"""Questions about a real network that steer its lowering: what is constant, who can read exact values."""

from __future__ import annotations

from collections.abc import Mapping

from metronn.model.graph import (
    Floats,
    RealAdd,
    RealExtremum,
    RealFunction,
    RealGraph,
    RealInput,
    RealMultiply,
    RealNode,
    RealSoftmax,
    real_operands,
)


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


def defers(graph: RealGraph, constants: Mapping[str, Floats], user: RealNode, name: str) -> bool:
    """Whether `user` reads `name` with all its bits, before any requantization.

    So do functions and softmax (they choose their own grid), ops with a constant, and max(x, a x).
    """
    match user.op:
        case RealFunction() | RealSoftmax():
            return True
        case RealAdd() | RealMultiply() | RealExtremum():
            other = user.op.y if user.op.x == name else user.op.x
            if other in constants:
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
