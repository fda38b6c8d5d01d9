"""ONNX operators that move elements, and those that are linear in the one tensor they read.

Neither kind is described here operator by operator: the operator itself, as the onnx package evaluates it, is run on
the elements' own numbers, or on unit vectors, and the result is read as a movement or a matrix.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

import numpy as np
import onnx

from metronn.frontends.common.builder import LayerBuilder, LayerProblem
from metronn.frontends.onnx.batch import FRONT, Elsewhere, Place, places, unplaced
from metronn.frontends.onnx.context import BatchProblem, Constant, NodeContext
from metronn.frontends.onnx.evaluate import Array, evaluate
from metronn.model.graph import Floats

LARGEST_MATRIX = 2**24
"""Coefficients of a matrix found with unit vectors."""


Moved = tuple[str | Elsewhere, ...]
"""Values of the results of a movement."""


def move(c: NodeContext) -> Moved:
    """Any static movement of the elements of the first operand; every other operand must be constant."""
    return moved(c, [0])


def moved(c: NodeContext, data: Collection[int], fill: float = 0.0) -> Moved:
    """Read a node as a movement of the operands at positions `data`; where it puts 0, `fill` is put.

    Event b of the batch has the numbers 1 + b * total + i, so that the result also shows where the events are in it:
    number by number, event b must be event 0 plus b * total.
    """
    builder, events = c.builder, c.batch or 1
    place = next((known for k, known in enumerate(c.places) if k in data and known != FRONT), FRONT)
    feeds: dict[str, Array] = {}
    named: dict[str, tuple[str, Place]] = {}
    for position, (name, operand) in enumerate(zip(c.node.input, c.operands, strict=True)):
        if operand is None:
            continue
        if position in data:
            own = isinstance(operand, str) and position < len(c.places)
            at = c.places[position] if own else place
            named[name] = operand if isinstance(operand, str) else _event_rows(c, operand, at), at
        elif isinstance(operand, str):
            raise LayerProblem(f"input {position} must be constant, here it is computed")
        else:
            feeds[name] = operand.values
    xs = [x for x, _ in named.values()]
    starts = [0, *np.cumsum([math.prod(builder.shape(x)) for x in xs]).tolist()]
    total = starts.pop()
    step = total * np.arange(events, dtype=np.int64)
    for (name, (x, at)), start in zip(named.items(), starts, strict=True):
        index = builder.indices(x) + start + 1
        if c.lead:
            rows = index[np.newaxis] + step.reshape(-1, *(1,) * index.ndim)
            index = rows if at == FRONT else at.joined(rows)
        feeds[name] = index
    if c.node.op_type == "Resize":
        feeds |= {name: feeds[name].astype(np.float64) for name in named}
    filler: list[str] = []
    results: list[str | Elsewhere] = []
    for result in evaluate(c.node, feeds, c.opset):
        numbers = result.astype(np.int64)
        first, found = _one_event(numbers, events, step, total) if c.lead else (numbers, FRONT)
        index = np.where(first > 0, first - 1, -1)
        if fill and (index < 0).any():
            filler = filler or [builder.constant(np.full(1, fill), "fill")]
            index = np.where(index < 0, total, index)
        y = builder.rewire([*xs, *filler], index, "move")
        results.append(y if found == FRONT else Elsewhere(y, found))
    return tuple(results)


def _one_event(numbers: Array, events: int, step: Array, total: int) -> tuple[Array, Place]:
    """Return event 0 of a tensor of numbers and where the batch is in it; at `FRONT` it has no axis for it."""
    for place in places(numbers.shape, events):
        rows = place.parted(numbers, events)
        first = rows[0]
        expected = np.where(first > 0, first + step.reshape(-1, *(1,) * first.ndim), 0)
        within = first.min(initial=0) >= 0 and first.max(initial=0) <= total
        if within and np.array_equal(rows, expected):
            return np.asarray(first[0] if place == FRONT and first.shape[0] == 1 else first), place
    raise unplaced(numbers.shape, events)


def _event_rows(c: NodeContext, operand: Constant, place: Place) -> str:
    """Return a constant given for every event of the batch as one constant of the event."""
    values = operand.values
    if c.lead:
        problem = LayerProblem(f"{operand.name} of shape {values.shape} must be the same for every event")
        if values.ndim <= place.axis or values.shape[place.axis] % c.events:
            raise problem
        rows = place.parted(values, c.events)
        if not (rows == rows[:1]).all():
            raise problem
        values = rows[0][0] if place == FRONT else rows[0]
    return c.builder.constant(c.builder.checked(values, operand.name))


def linear(c: NodeContext, data: int = 0) -> str:
    """Read a node as an affine function of one operand, found with unit vectors and tried on random numbers."""
    x, builder = c.value(data), c.builder
    shape = builder.shape(x)
    size = math.prod(shape)
    feeds = {
        name: operand.values
        for name, operand in zip(c.node.input, c.operands, strict=True)
        if isinstance(operand, Constant)
    }
    computed = [position for position, operand in enumerate(c.operands) if isinstance(operand, str)]
    if computed != [data]:
        raise LayerProblem(f"input {computed[-1]} must be constant, here it is computed")
    name = c.node.input[data]
    shift = _responses(c, name, feeds, np.zeros((1, *shape)))
    outputs = math.prod(shift.shape[1:])
    if size * outputs > LARGEST_MATRIX:
        raise LayerProblem(f"a matrix of {size} x {outputs} numbers; up to {LARGEST_MATRIX} are allowed")
    flat_shift = shift.reshape(-1)
    matrix = _responses(c, name, feeds, np.eye(size).reshape(size, *shape)).reshape(size, outputs) - flat_shift
    trial = np.random.default_rng(0).normal(size=(c.batch or 1, size))
    found = _responses(c, name, feeds, trial.reshape(-1, *shape)).reshape(-1, outputs)
    if not np.allclose(found, trial @ matrix + flat_shift, rtol=1e-4, atol=1e-4 * max(1.0, float(np.abs(found).max()))):
        raise LayerProblem("mixes the elements of different events, or is not linear")
    y = builder.linear(builder.reshape(x, [size]), matrix, flat_shift)
    return builder.reshape(y, shift.shape[1:])


def _responses(c: NodeContext, name: str, feeds: Mapping[str, Array], events: Floats) -> Floats:
    """Run the node on events, as many at a time as the batch has; missing ones are zero."""
    rows = []
    size = c.batch or 1
    for start in range(0, len(events), size):
        part = events[start : start + size]
        full = np.concatenate([part, np.zeros((size - len(part), *part.shape[1:]))])
        result = evaluate(c.node, {**feeds, name: full if c.lead else full[0]}, c.opset)[0]
        if c.lead and result.shape[:1] != (size,):
            raise BatchProblem(f"moves the batch axis 0: result {result.shape} for {size} events")
        rows.append(result[: len(part)] if c.lead else result[np.newaxis])
    return np.concatenate(rows).astype(np.float64)


def _gather(c: NodeContext) -> Moved:
    """Entries of a constant chosen by a computed index are a table; else a movement."""
    table, index = c.given(0), c.given(1)
    if not isinstance(table, Constant) or not isinstance(index, str):
        return move(c)
    axis = int(c.attribute("axis", 0)) % max(1, table.values.ndim)
    if c.lead and axis:
        raise LayerProblem(f"its index is computed, and chooses along axis {axis} of {table.name}; axis 0 is allowed")
    y = c.builder.looked_up(index, c.floats(0), axis)
    place = c.places[1] if c.places else FRONT
    return (y if place == FRONT else Elsewhere(y, place),)


def _padded(c: NodeContext) -> Moved:
    if c.opset < 11:
        return moved(_without(c, "value"), [0], float(c.attribute("value", 0.0)))
    given = c.operand(2)
    if given is None or not c.floats(2).size:
        return move(c)
    name, value = c.constant(2).name, c.floats(2)
    zero = Constant(name, np.zeros(value.shape, dtype=np.int64))
    return moved(c.reading(*c.operands[:2], zero, *c.operands[3:]), [0], float(value.item()))


def _without(c: NodeContext, *names: str) -> NodeContext:
    """Return the node without some attributes, so that they have their defaults."""
    node = onnx.NodeProto()
    node.CopyFrom(c.node)
    del node.attribute[:]
    node.attribute.extend(attribute for attribute in c.node.attribute if attribute.name not in names)
    return replace(c, node=node)


def _resize(c: NodeContext) -> Moved | str:
    mode = c.attribute("mode", "nearest")
    if mode == "nearest":
        return moved(_without(c, "extrapolation_value"), [0], float(c.attribute("extrapolation_value", 0.0)))
    plain = c.attribute("keep_aspect_ratio_policy", "stretch") == "stretch"
    if not plain or c.attribute("coordinate_transformation_mode") == "tf_crop_and_resize" or c.opset < 11:
        return linear(c)
    sizes, scales = c.operand(3), c.operand(2)
    axes = [axis % c.rank(0) for axis in c.attribute("axes", range(c.rank(0)))]
    targets = c.constant(3 if sizes is not None else 2).values.tolist()
    x = c.value(0)
    for axis, target in zip(axes, targets, strict=True):
        if axis < c.lead:
            if target not in ((1.0,) if scales is not None and sizes is None else (c.batch, 1)):
                raise LayerProblem("resizes the batch axis 0; events must stay independent")
            continue
        event_axis = axis - c.lead
        count = c.builder.shape(x)[event_axis]
        x = _along(c.builder, x, event_axis, _resize_matrix(c, count, target, by_size=sizes is not None))
    return x


def _resize_matrix(c: NodeContext, count: int, target: float, *, by_size: bool) -> Floats:
    """Return the matrix of a resize along one axis, by resizing unit vectors."""
    kept = {"mode", "coordinate_transformation_mode", "cubic_coeff_a", "exclude_outside", "antialias"}
    node = onnx.NodeProto(op_type="Resize", input=["x", "", "", "sizes"] if by_size else ["x", "", "scales"])
    node.output.append("y")
    node.attribute.extend(attribute for attribute in c.node.attribute if attribute.name in kept)
    wanted = {"sizes": np.array([count, int(target)])} if by_size else {"scales": np.array([1.0, target], np.float32)}
    return np.asarray(evaluate(node, {"x": np.eye(count), **wanted}, max(c.opset, 19))[0], dtype=np.float64)


def _along(builder: LayerBuilder, x: str, axis: int, matrix: Floats) -> str:
    """Apply a matrix along one axis."""
    if matrix.shape[0] == matrix.shape[1] and (matrix == np.eye(matrix.shape[0])).all():
        return x
    order = list(range(len(builder.shape(x))))
    order[axis], order[-1] = order[-1], order[axis]
    return builder.transpose(builder.linear(builder.transpose(x, order), matrix), order)


def _upsample(c: NodeContext) -> Moved | str:
    return move(c) if c.attribute("mode", "nearest") == "nearest" else linear(c)


def _cumulated(c: NodeContext) -> tuple[str, int, bool, bool]:
    """Return operand, event axis, exclusive, reverse of a cumulative operator."""
    axis = c.event_axis(c.integers(1)[0], c.rank(0))
    return c.value(0), axis, bool(c.attribute("exclusive", 0)), bool(c.attribute("reverse", 0))


def _cumulative_sum(c: NodeContext) -> str:
    x, axis, exclusive, reverse = _cumulated(c)
    count = c.builder.shape(x)[axis]
    below = np.triu(np.ones((count, count)), 1 if exclusive else 0)
    return _along(c.builder, x, axis, below.T if reverse else below)


def _cumulative_product(c: NodeContext) -> str:
    x, axis, exclusive, reverse = _cumulated(c)
    builder = c.builder
    index = np.moveaxis(builder.indices(x), axis, 0)
    parts = [builder.rewire([x], part, "part") for part in (index[::-1] if reverse else index)]
    results = [builder.constant(np.ones(index.shape[1:]), "one")] if exclusive else [parts.pop(0)]
    for part in parts[: len(index) - 1]:
        results.append(builder.times(results[-1], part))
    ordered = results[::-1] if reverse else results
    taken = np.arange(index.size).reshape(index.shape)
    return builder.rewire(ordered, np.moveaxis(taken, 0, axis), "cumulated")


def _scatter(c: NodeContext) -> Moved | str:
    node = onnx.NodeProto()
    node.CopyFrom(c.node)
    if node.op_type == "Scatter":
        node.op_type = "ScatterElements"
    renamed = replace(c, node=node, opset=max(c.opset, 18))
    match c.attribute("reduction", "none"):
        case "none":
            return moved(renamed, [0, 2])
        case "add":
            data = c.event(0, c.rank(0))
            lead = () if c.batch is None else (c.batch,)
            zeros = Constant("zeros", np.zeros((*lead, *c.builder.shape(data))))
            return c.builder.plus(data, linear(renamed.reading(zeros, c.given(1), c.value(2)), 2))
        case other:
            raise LayerProblem(f"scatters with reduction {other}; none and add are allowed")


MOVES: Mapping[str, Callable[[NodeContext], Moved | str]] = {
    "AffineGrid": linear,
    "CenterCropPad": move,
    "Col2Im": linear,
    "Compress": move,
    "Concat": lambda c: moved(c, range(len(c.operands))),
    "CumProd": _cumulative_product,
    "CumSum": _cumulative_sum,
    "DFT": linear,
    "DepthToSpace": move,
    "Expand": move,
    "Flatten": move,
    "Gather": _gather,
    "DeformConv": linear,
    "GridSample": linear,
    "MaxUnpool": move,
    "RoiAlign": linear,
    "GatherElements": move,
    "GatherND": move,
    "Pad": _padded,
    "Reshape": move,
    "Resize": _resize,
    "ReverseSequence": move,
    "STFT": linear,
    "Scatter": _scatter,
    "ScatterElements": _scatter,
    "ScatterND": _scatter,
    "Slice": move,
    "SpaceToDepth": move,
    "Split": move,
    "Squeeze": move,
    "Tile": move,
    "TensorScatter": lambda c: moved(c, [0, 1]),
    "Transpose": move,
    "Trilu": move,
    "Unsqueeze": move,
    "ai.onnx.ml.ArrayFeatureExtractor": move,
    "Upsample": _upsample,
}
"""The operators of this file."""

ANY_PLACE = frozenset(
    ("Concat", "Gather", "Pad", "TensorScatter", *(name for name, layer in MOVES.items() if layer is move))
)
"""Operators of this file that find out by themselves where the batch goes."""
