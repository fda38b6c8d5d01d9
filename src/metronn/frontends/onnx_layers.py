"""What each ONNX operator becomes: a table from operator to function, each function a few real ops.

A new operator is one function `(NodeContext) -> value` (or a tuple of values) and one line in `LAYERS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx.reference import ReferenceEvaluator

from metronn.frontends.lowering import LayerProblem, Lowering
from metronn.ir.ops import ReduceKind
from metronn.model.graph import Floats, FunctionKind

Array = npt.NDArray[Any]

EVALUATION_ERRORS = (ValueError, TypeError, IndexError, KeyError, AttributeError, RuntimeError, NotImplementedError)
"""What the reference evaluator raises on nodes that are wrong or that it does not know (its own errors included)."""


@dataclass(frozen=True, slots=True)
class Constant:
    """A constant array; `from_batch` when it was computed from the size of the batch axis."""

    name: str
    values: Array
    from_batch: bool = False


Operand = str | Constant
"""The name of a computed value, or a constant."""


def evaluate(node: onnx.NodeProto, feeds: Mapping[str, Array], opset: int) -> list[Array]:
    """Compute one node on arrays with the onnx package; raises LayerProblem when that fails."""
    graph = onnx.GraphProto(name="node", node=[node])
    graph.input.extend(onnx.ValueInfoProto(name=name) for name in feeds)
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in node.output)
    model = onnx.ModelProto(graph=graph, ir_version=8, opset_import=[onnx.OperatorSetIdProto(version=opset)])
    try:
        results = ReferenceEvaluator(model).run(None, dict(feeds))
    except EVALUATION_ERRORS as error:
        raise LayerProblem(f"cannot be computed: {error}") from None
    return [np.asarray(result) for result in results]


@dataclass(frozen=True, slots=True)
class NodeContext:
    """One node with its operands; None stands for an omitted optional input."""

    lowering: Lowering
    node: onnx.NodeProto
    opset: int
    batch: int
    operands: tuple[Operand | None, ...]

    def attribute(self, name: str, default: Any = None) -> Any:  # noqa: ANN401 - attributes have any type
        """Return an attribute's value, or the default."""
        for attribute in self.node.attribute:
            if attribute.name == name:
                return onnx.helper.get_attribute_value(attribute)
        return default

    def operand(self, position: int) -> Operand | None:
        """Return an operand, None when omitted."""
        return self.operands[position] if position < len(self.operands) else None

    def given(self, position: int) -> Operand:
        """Return an operand that must be there."""
        operand = self.operand(position)
        if operand is None:
            raise LayerProblem(f"input {position} is missing")
        return operand

    def value(self, position: int) -> str:
        """Return a computed operand."""
        operand = self.given(position)
        if isinstance(operand, Constant):
            raise LayerProblem(f"input {position} ({operand.name}) must not be constant")
        return operand

    def constant(self, position: int) -> Constant:
        """Return a constant operand that does not depend on the batch size."""
        operand = self.given(position)
        if isinstance(operand, str):
            raise LayerProblem(f"input {position} must be constant, here it is computed")
        if operand.from_batch:
            raise LayerProblem(f"input {position} depends on the size of the batch")
        return operand

    def floats(self, position: int) -> Floats:
        """Return a constant operand as float64, checked for NaN and infinities."""
        constant = self.constant(position)
        if constant.values.dtype.kind not in "fiub":
            raise LayerProblem(f"{constant.name} holds no numbers but {constant.values.dtype}")
        return self.lowering.checked(constant.values, constant.name)

    def rank(self, position: int) -> int:
        """Return the rank of an operand, batch axis included."""
        operand = self.given(position)
        return 1 + len(self.lowering.shape(operand)) if isinstance(operand, str) else operand.values.ndim

    def event_axis(self, axis: int, rank: int) -> int:
        """Turn an ONNX axis into an axis of the event; raises LayerProblem for the batch axis."""
        positive = axis + rank if axis < 0 else axis
        if not 0 <= positive < rank:
            raise LayerProblem(f"axis {axis} of a tensor with {rank} axes")
        if positive == 0:
            raise LayerProblem("works along the batch axis 0; events must stay independent")
        return positive - 1

    def event_axes(self, position: int, *, input_since: int) -> list[int]:
        """Return the event axes named by attribute `axes` or, since an opset, by an input."""
        axes = self.attribute("axes")
        if axes is None and self.opset >= input_since and self.operand(position) is not None:
            axes = self.constant(position).values.ravel().tolist()
        if not axes:
            raise LayerProblem("no axes given, so it works along the batch axis 0; events must stay independent")
        return [self.event_axis(int(axis), self.rank(0)) for axis in axes]

    def event(self, position: int, rank: int) -> str:
        """Return an operand as a value that broadcasts with events of `rank` axes (batch included)."""
        operand = self.given(position)
        if isinstance(operand, str):
            if self.rank(position) != rank:
                raise LayerProblem(f"inputs with {self.rank(position)} and {rank} axes would mix events")
            return operand
        return self.lowering.constant(self.event_floats(position, rank), "constant")

    def event_floats(self, position: int, rank: int) -> Floats:
        """Return a constant without its batch axis, so that it broadcasts with the shape of an event."""
        values, axis = self.floats(position), self.attribute("axis")
        if self.opset < 7 and axis is not None and position == 1:
            values = values.reshape(values.shape + (1,) * (rank - int(axis) - values.ndim))
        name = self.constant(position).name
        if values.ndim > rank:
            raise LayerProblem(f"{name} of shape {values.shape} has more axes than the other input ({rank})")
        if values.ndim == rank and values.shape[0] != 1:
            raise LayerProblem(f"{name} of shape {values.shape} has one entry per event of a batch")
        return values[0] if values.ndim == rank else values


def _broadcast_rank(c: NodeContext) -> int:
    return max(c.rank(k) for k in range(len(c.operands)) if isinstance(c.operands[k], str))


def _pairwise(combine: Callable[[Lowering, str, str], str]) -> Callable[[NodeContext], str]:
    """Make an n-ary elementwise operator of a binary one."""

    def layer(c: NodeContext) -> str:
        rank = _broadcast_rank(c)
        values = [c.event(k, rank) for k in range(len(c.operands))]
        return reduce(lambda x, y: combine(c.lowering, x, y), values)

    return layer


def _div(c: NodeContext) -> str:
    divisor = c.floats(1)
    if not divisor.all():
        raise LayerProblem(f"divides by zero ({c.constant(1).name})")
    inverse = Constant(c.constant(1).name, 1 / divisor)
    inverted = NodeContext(c.lowering, c.node, c.opset, c.batch, (c.value(0), inverse))
    return _pairwise(Lowering.times)(inverted)


def _mean(c: NodeContext) -> str:
    return c.lowering.scaled(_pairwise(Lowering.plus)(c), 1 / len(c.operands))


def _matmul(c: NodeContext) -> str:
    left, right, lowering = c.given(0), c.given(1), c.lowering
    if isinstance(left, str) and isinstance(right, str):
        raise LayerProblem("a product of two computed tensors; one factor must be constant")
    position = 1 if isinstance(left, str) else 0
    x, weight, rank = c.value(1 - position), c.floats(position), c.rank(1 - position)
    while weight.ndim > 2 and weight.shape[0] == 1 and weight.ndim <= rank:
        weight = weight[0]
    if weight.ndim not in (1, 2):
        raise LayerProblem(f"weights {c.constant(position).name} of shape {weight.shape}; 1 or 2 axes are allowed")
    matrix = weight.reshape(-1, 1) if weight.ndim == 1 else weight
    if position == 1:
        y = lowering.linear(x, matrix)
    else:
        matrix = weight.reshape(1, -1) if weight.ndim == 1 else weight
        if rank < 3:
            raise LayerProblem("constant @ x with a batch axis on the second last axis of x mixes events")
        axes = [*range(rank - 3), rank - 2, rank - 3]
        y = lowering.transpose(lowering.linear(lowering.transpose(x, axes), matrix.T), axes)
    if weight.ndim == 2:
        return y
    vanishing = len(lowering.shape(y)) - (1 if position == 1 else 2)
    return lowering.reshape(y, [n for a, n in enumerate(lowering.shape(y)) if a != vanishing])


def _gemm(c: NodeContext) -> str:
    if isinstance(c.given(0), Constant):
        raise LayerProblem("the batch must be on axis 0 of the first input, which is constant here")
    if c.attribute("transA", 0):
        raise LayerProblem("transA moves the batch axis 0; events must stay independent")
    if c.rank(0) != 2:
        raise LayerProblem(f"the first input has {c.rank(0)} axes, 2 are allowed")
    weight = c.floats(1)
    if weight.ndim != 2:
        raise LayerProblem(f"weights {c.constant(1).name} of shape {weight.shape}; 2 axes are allowed")
    weight = (weight.T if c.attribute("transB", 0) else weight) * float(c.attribute("alpha", 1.0))
    beta, addend = float(c.attribute("beta", 1.0)), c.operand(2)
    if isinstance(addend, Constant):
        bias = c.floats(2) * beta
        if bias.ndim == 2 and bias.shape[0] == 1:
            bias = bias[0]
        if bias.ndim > 1 or bias.size not in (1, weight.shape[1]):
            raise LayerProblem(f"bias {addend.name} of shape {bias.shape} does not fit {weight.shape[1]} outputs")
        return c.lowering.linear(c.value(0), weight, np.broadcast_to(bias, weight.shape[1:]))
    y = c.lowering.linear(c.value(0), weight)
    if addend is None or beta == 0:
        return y
    return c.lowering.plus(y, c.lowering.scaled(addend, beta))


def _batch_normalization(c: NodeContext) -> str:
    if c.attribute("training_mode", 0) or (c.opset < 7 and not c.attribute("is_test", 0)):
        raise LayerProblem("is in training mode; export the model for inference")
    x, epsilon = c.value(0), float(c.attribute("epsilon", 1e-5))
    gamma, beta, mean, variance = (c.floats(k) for k in (1, 2, 3, 4))
    lowering = c.lowering
    if c.opset < 9 and not c.attribute("spatial", 1):
        shape = lowering.shape(x)
        flat = lowering.reshape(x, [math.prod(shape)])
        stats = (gamma.ravel(), beta.ravel(), mean.ravel(), variance.ravel())
        return lowering.reshape(lowering.normalized(flat, 0, stats, epsilon), shape)
    return lowering.normalized(x, 0, (gamma, beta, mean, variance), epsilon)


def _softmax(c: NodeContext) -> str:
    x, lowering, rank = c.value(0), c.lowering, c.rank(0)
    axis = c.event_axis(int(c.attribute("axis", -1 if c.opset >= 13 else 1)), rank)
    if c.opset >= 13:
        return lowering.softmax(x, axis)
    shape = lowering.shape(x)
    flat = lowering.reshape(x, [math.prod(shape[:axis]), math.prod(shape[axis:])]) if axis != rank - 2 else x
    return lowering.reshape(lowering.softmax(flat, len(lowering.shape(flat)) - 1), shape)


def _clip(c: NodeContext) -> str:
    if c.opset < 11:
        return c.lowering.clipped(c.value(0), c.attribute("min"), c.attribute("max"))
    bounds = (None if c.operand(k) is None else c.constant(k).values for k in (1, 2))
    low, high = (None if bound is None else float(bound.item()) for bound in bounds)
    return c.lowering.clipped(c.value(0), low, high)


def _prelu(c: NodeContext) -> str:
    rank = c.rank(0)
    slope = c.event_floats(1, rank)
    if c.opset < 7 and slope.ndim == 1 and slope.size > 1:
        slope = slope.reshape(-1, *(1,) * (rank - 2))
    return c.lowering.leaky_relu(c.value(0), slope)


def _reduce(kind: ReduceKind, input_since: int) -> Callable[[NodeContext], str]:
    def layer(c: NodeContext) -> str:
        axes = c.event_axes(1, input_since=input_since)
        return c.lowering.reduced(c.value(0), axes, kind, keep=bool(c.attribute("keepdims", 1)))

    return layer


def _reduce_mean(c: NodeContext) -> str:
    return c.lowering.mean(c.value(0), c.event_axes(1, input_since=18), keep=bool(c.attribute("keepdims", 1)))


def _cast(c: NodeContext) -> str:
    target = int(c.attribute("to", 1)) if not isinstance(c.attribute("to"), bytes) else 1
    name = onnx.TensorProto.DataType.Name(target)
    if name not in ("FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16"):
        raise LayerProblem(f"casts to {name}, which rounds; FLOAT, DOUBLE, FLOAT16 and BFLOAT16 are allowed")
    return c.value(0)


def _dropout(c: NodeContext) -> str:
    training = c.operand(2)
    if c.opset >= 12 and training is not None and (isinstance(training, str) or bool(training.values.any())):
        raise LayerProblem("is in training mode; export the model for inference")
    return c.value(0)


def _move(c: NodeContext) -> tuple[str, ...]:
    """Any static movement of elements: the operator is run on the elements' own indices.

    Event b of the stand-in batch has the indices b * total + i, so that the result also shows whether events stay
    apart: index by index, event b must be event 0 plus b * total.
    """
    lowering, batch = c.lowering, c.batch
    data_count = len(c.operands) if c.node.op_type == "Concat" else 1
    feeds: dict[str, Array] = {}
    data: dict[str, str] = {}
    for position, (name, operand) in enumerate(zip(c.node.input, c.operands, strict=True)):
        if operand is None:
            continue
        if position < data_count:
            data[name] = operand if isinstance(operand, str) else _event_rows(c, operand)
        elif isinstance(operand, str):
            raise LayerProblem(f"input {position} must be constant, here it is computed")
        else:
            feeds[name] = operand.values
    xs = list(data.values())
    starts = [0, *np.cumsum([math.prod(lowering.shape(x)) for x in xs]).tolist()]
    total = starts.pop()
    step = total * np.arange(batch, dtype=np.int64)
    for (name, x), start in zip(data.items(), starts, strict=True):
        index = lowering.indices(x) + start
        feeds[name] = index[np.newaxis] + step.reshape(-1, *(1,) * index.ndim)
    results = []
    for moved in evaluate(c.node, feeds, c.opset):
        if moved.ndim < 1 or moved.shape[0] != batch or moved.ndim == 1:
            raise LayerProblem(f"moves the batch axis 0: result {moved.shape} for {batch} events")
        if not np.array_equal(moved, moved[:1] + step.reshape(-1, *(1,) * (moved.ndim - 1))):
            raise LayerProblem("mixes the elements of different events")
        if moved[0].min(initial=0) < 0 or moved[0].max(initial=0) >= total:
            raise LayerProblem("mixes the elements of different events")
        results.append(lowering.rewire(xs, moved[0].astype(np.int64), "move"))
    return tuple(results)


def _event_rows(c: NodeContext, operand: Constant) -> str:
    """Return a constant given for every event of the batch as one constant of the event."""
    if operand.values.ndim < 2 or not (operand.values == operand.values[:1]).all():
        raise LayerProblem(f"{operand.name} of shape {operand.values.shape} must be the same for every event")
    return c.lowering.constant(c.lowering.checked(operand.values[0], operand.name))


LAYERS: Mapping[str, Callable[[NodeContext], str | tuple[str, ...]]] = {
    "Abs": lambda c: c.lowering.maximum(c.value(0), c.lowering.scaled(c.value(0), -1.0)),
    "Add": _pairwise(Lowering.plus),
    "BatchNormalization": _batch_normalization,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": _move,
    "Div": _div,
    "Dropout": _dropout,
    "Exp": lambda c: c.lowering.function(c.value(0), FunctionKind.EXP),
    "Flatten": _move,
    "Gather": _move,
    "Gemm": _gemm,
    "HardSigmoid": lambda c: c.lowering.hard_sigmoid(
        c.value(0), float(c.attribute("alpha", 0.2)), float(c.attribute("beta", 0.5))
    ),
    "Identity": lambda c: c.value(0),
    "LeakyRelu": lambda c: c.lowering.leaky_relu(c.value(0), float(c.attribute("alpha", 0.01))),
    "MatMul": _matmul,
    "Max": _pairwise(Lowering.maximum),
    "Mean": _mean,
    "Min": _pairwise(Lowering.minimum),
    "Mul": _pairwise(Lowering.times),
    "Neg": lambda c: c.lowering.scaled(c.value(0), -1.0),
    "PRelu": _prelu,
    "ReduceMax": _reduce(ReduceKind.MAX, 18),
    "ReduceMean": _reduce_mean,
    "ReduceMin": _reduce(ReduceKind.MIN, 18),
    "ReduceSum": _reduce(ReduceKind.SUM, 13),
    "Relu": lambda c: c.lowering.relu(c.value(0)),
    "Reshape": _move,
    "Sigmoid": lambda c: c.lowering.function(c.value(0), FunctionKind.SIGMOID),
    "Slice": _move,
    "Softmax": _softmax,
    "Split": _move,
    "Squeeze": _move,
    "Sub": _pairwise(Lowering.minus),
    "Sum": _pairwise(Lowering.plus),
    "Tanh": lambda c: c.lowering.function(c.value(0), FunctionKind.TANH),
    "Transpose": _move,
    "Unsqueeze": _move,
}
"""The supported operators of the default ONNX domain. `Shape`, and any operator on constants, is computed at once."""
