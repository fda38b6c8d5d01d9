"""Questions about a real network that steer its lowering: what is constant, who can read exact values."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from metronn.ir.ops import Add, Extremum, Multiply, Reduce, ReduceKind, Rewire, Window, operands
from metronn.model.graph import Floats, FunctionKind, RealFunction, RealGraph, RealInput, RealNode, RealOp, RealSoftmax
from metronn.quantize.calibrated.functions.tables import EXP_REACH
from metronn.quantize.calibrated.functions.wide import is_factor, is_wide


def constant_names(graph: RealGraph) -> frozenset[str]:
    """Return the values that no input reaches."""
    found: set[str] = set()
    for node in graph.nodes:
        if not isinstance(node.op, RealInput) and all(x in found for x in operands(node.op)):
            found.add(node.name)
    return frozenset(found)


def constants_of(graph: RealGraph, reference: Mapping[str, Floats]) -> dict[str, Floats]:
    """Return the constant values by name, given every value's floats (constants have a batch axis of length 1)."""
    return {name: reference[name][0] for name in sorted(constant_names(graph))}


def precise_values(graph: RealGraph, reference: Mapping[str, Floats]) -> frozenset[str]:
    """Return the values whose small numbers count beside large ones, because of what reads them.

    Those are arguments of functions over a wide range and what is multiplied by their results, arguments of an
    exponential whose smallest results are 0, and maxima (minima) of values of which some lie far below (above) them;
    and upwards what they are made of, through movement, sums, extrema and scales, for the former products too.
    """
    constant = constant_names(graph)
    shallow, deep = list[str](), list[str]()
    for node in graph.nodes:
        match node.op:
            case Reduce() if _reads_wide_values(node, node.op, reference):
                shallow.append(node.name)
            case RealFunction(kind=FunctionKind.EXP) if _reads_wide_values(node, node.op, reference):
                shallow.append(node.op.x)
            case RealFunction() if _reads_wide_values(node, node.op, reference):
                deep += [node.op.x, *(_multiplied(graph, node.name) if is_factor(node.op) else [])]
            case _:
                pass
    return _upwards(graph, constant, deep, products=True) | _upwards(graph, constant, shallow, products=False)


def _upwards(graph: RealGraph, constant: frozenset[str], names: list[str], *, products: bool) -> frozenset[str]:
    """Return the values and what they are made of, up to `products` of two values or beyond."""
    queue, found = list(names), set[str]()
    while queue:
        name = queue.pop()
        if name in found or name in constant:
            continue
        found.add(name)
        op = graph.by_name[name].op
        match op:
            case Rewire() | Window() | Reduce() | Add() | Extremum():
                queue.extend(operands(op))
            case Multiply() if products or op.x in constant or op.y in constant:
                queue.extend(operands(op))
            case RealFunction(kind=FunctionKind.SQRT):
                queue.append(op.x)
            case _:
                pass
    return frozenset(found)


def _multiplied(graph: RealGraph, factor: str) -> list[str]:
    """Return what is multiplied by a value, directly or after it was moved."""
    found = []
    for user in graph.uses[factor]:
        op = graph.by_name[user].op
        if isinstance(op, Rewire):
            found += _multiplied(graph, user)
        elif isinstance(op, Multiply):
            found.append(op.y if op.x == factor else op.x)
    return found


def is_product(constants: Mapping[str, Floats], op: RealOp) -> bool:
    """Whether the op multiplies two computed values."""
    return isinstance(op, Multiply) and op.x not in constants and op.y not in constants


def _reads_wide_values(node: RealNode, op: RealFunction | Reduce, reference: Mapping[str, Floats]) -> bool:
    if isinstance(op, RealFunction):
        if op.kind is FunctionKind.EXP:
            return float(np.ptp(reference[op.x])) > EXP_REACH
        return is_wide(op, reference[op.x])
    if op.kind is ReduceKind.SUM:
        return False
    sign = 1.0 if op.kind is ReduceKind.MAX else -1.0
    results = sign * reference[node.name]
    lowest, highest = float(results.min()), float(results.max())
    return float((sign * reference[op.x]).min()) < lowest - (highest - lowest)


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
        case Rewire() | Window() | Reduce():
            return user.name in precise
        case Add() | Multiply() | Extremum():
            other = user.op.y if user.op.x == name else user.op.x
            if other in constants:
                return True
            if isinstance(user.op, Multiply):
                return False
            if user.name in precise:
                return True
            if not isinstance(user.op, Extremum):
                return False
            multiples = ((name, other), (other, name))
            return any(_is_own_multiple(graph, constants, user, whole, part) for whole, part in multiples)
        case _:
            return False


def _is_own_multiple(graph: RealGraph, constants: Mapping[str, Floats], user: RealNode, whole: str, part: str) -> bool:
    op = graph.by_name[part].op
    if not isinstance(op, Multiply) or graph.uses[part] != (user.name,):
        return False
    return (op.x == whole and op.y in constants) or (op.y == whole and op.x in constants)
