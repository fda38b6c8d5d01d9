"""Reading one node whose operands are known, wherever their batch is.

An operator with all batches alone on axis 0 is read as it stands. Otherwise its function is given one event with all
axes of the tensors, and the operator is tried on random numbers to see that it keeps the events apart, and where.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from metronn.frontends.common.builder import LayerProblem
from metronn.frontends.onnx.batch import FRONT, Elsewhere, Place, Trial, aligned, places, probed, without_batch
from metronn.frontends.onnx.context import BatchProblem, Codes, Constant, NodeContext, Operand
from metronn.frontends.onnx.layers import ELEMENTWISE, LAYERS
from metronn.frontends.onnx.moves import ANY_PLACE

Tensor = Operand | Codes | Elsewhere
"""What a name of the model means."""


def read_node(c: NodeContext, kind: str) -> tuple[Tensor, ...]:
    """Return the results of a node; raises LayerProblem when it mixes events or cannot be read."""
    if kind not in ANY_PLACE and any(place != FRONT for place in c.places):
        return _on_one_event(c, kind)
    try:
        return _results(c, kind)
    except BatchProblem as problem:
        if c.batch is None:
            raise
        try:
            return _on_one_event(c, kind)
        except LayerProblem:
            raise problem from None


def _results(c: NodeContext, kind: str) -> tuple[Tensor, ...]:
    made = LAYERS[kind](c)
    return made if isinstance(made, tuple) else (made,)


def _on_one_event(c: NodeContext, kind: str) -> tuple[Tensor, ...]:
    """Read an operator on one event that has all axes of the tensors."""
    builder = c.builder
    values = {
        k: builder.reshape(x, (1, *builder.shape(x))) if c.places[k] == FRONT else x
        for k, x in enumerate(c.operands)
        if isinstance(x, str)
    }
    at = {k: c.places[k] for k in values}
    operands = [values.get(k, operand) for k, operand in enumerate(c.operands)]
    if kind in ELEMENTWISE:
        place = aligned([(len(builder.shape(x)), at[k]) for k, x in values.items()])
        operands = [_one_event(c, operand, values, place) for operand in operands]
    results = _results(replace(c, batch=None, places=(), operands=tuple(operands)), kind)
    if kind in ELEMENTWISE:
        found = [place] * len(results)
    elif c.events == 1:
        found = [next(places(_shape(c, result), 1), FRONT) for result in results]
    else:
        found = _tried(c, values, at)
    return tuple(_placed(c, result, where) for result, where in zip(results, found, strict=False))


def _one_event(c: NodeContext, operand: Operand | None, values: dict[int, str], place: Place) -> Operand | None:
    """Return an operand of an elementwise operator, constants without the batch."""
    if not isinstance(operand, Constant):
        return operand
    events = [c.builder.shape(x) for x in values.values()]
    event = max(events, key=len)
    if operand.values.ndim > len(event):
        raise LayerProblem(f"{operand.name} of shape {operand.values.shape} has more axes than the other input")
    return replace(operand, values=without_batch(operand.values, place, event, c.events))


def _tried(c: NodeContext, values: dict[int, str], at: dict[int, Place]) -> list[Place]:
    names = list(c.node.input)
    trials = {}
    for k, x in values.items():
        codes = c.codes[k] if k < len(c.codes) else None
        bounds = None if codes is None else (codes.lo, codes.hi)
        trials[names[k]] = Trial(c.builder.shape(x), at[k], bounds)
    constants = {
        names[k]: operand.values.astype(np.float64) if operand.values.dtype.kind == "f" else operand.values
        for k, operand in enumerate(c.operands)
        if isinstance(operand, Constant)
    }
    return probed(c.node, c.opset, trials, constants, c.events)


def _shape(c: NodeContext, result: Tensor) -> tuple[int, ...]:
    match result:
        case Constant():
            return tuple(result.values.shape)
        case Codes() | Elsewhere():
            return c.builder.shape(result.value)
        case str():
            return c.builder.shape(result)


def _placed(c: NodeContext, result: Tensor, place: Place) -> Tensor:
    """Return a result on one event with all axes as what its name means."""
    shape = _shape(c, result)
    match result:
        case Constant() | Elsewhere():
            return result
        case str() if place == FRONT:
            return c.builder.reshape(result, shape[1:])
        case str():
            return Elsewhere(result, place)
        case Codes() if place == FRONT:
            scale, zero = (a[0] if a.ndim == len(shape) else a for a in (result.scale, result.zero))
            return replace(result, value=c.builder.reshape(result.value, shape[1:]), scale=scale, zero=zero)
        case Codes():
            return replace(result, place=place)
