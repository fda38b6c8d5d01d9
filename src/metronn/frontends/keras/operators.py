"""Operations in Keras functional models that are no layers: `a + b`, `x[:, 1:]`, `keras.ops.mean(x, axis=1)`, ...

A node holds the arguments of the call: tensors, numbers, slices. Axes and shapes count the batch axis. Movement of
elements is done by NumPy on the elements' own indices, for two events at a time, which shows whether events stay apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from metronn.frontends.common.builder import Ints, LayerBuilder, LayerProblem
from metronn.frontends.common.products import constant_product, log_softmax, product
from metronn.frontends.keras.activations import (
    glu,
    log_sigmoid,
    rectified,
    sparse_plus,
    squareplus,
    thresholded,
)
from metronn.ir.ops import ReduceKind
from metronn.model.graph import FunctionKind

OPERATOR_MODULES = ("keras.src.ops.", "keras.ops", "keras.src.activations")
"""Modules whose classes are operations."""

EVENTS = 2
"""Stand-in batch for movement."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A computed value among the arguments of a call."""

    value: str


Operand = Any
"""What a call reads: a Tensor, a number, None, a slice, an array, or a list of these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorContext:
    """One call of an operation: what it was made with (`config`) and what it is called on."""

    builder: LayerBuilder
    config: Mapping[str, Any]
    arguments: Sequence[Operand]

    @property
    def x(self) -> str:
        """The first argument, which is computed."""
        return self.computed(0)

    def computed(self, position: int) -> str:
        """Return a computed argument; raises LayerProblem."""
        found = self.arguments[position] if position < len(self.arguments) else None
        if not isinstance(found, Tensor):
            raise LayerProblem(f"argument {position} must be computed, it is {found!r}")
        return found.value

    def option(self, name: str, default: object = None, position: int | None = None) -> Any:  # noqa: ANN401
        """Return an option of the operation, wherever the file keeps it."""
        if name in self.config:
            return self.config[name]
        if position is not None and position < len(self.arguments):
            return self.arguments[position]
        return default

    def axes(self, x: str) -> tuple[tuple[int, ...], bool]:
        """Return the event axes of a reduction and whether they stay; raises LayerProblem for the batch axis."""
        axis, rank = self.option("axis"), len(self.builder.shape(x)) + 1
        if axis is None:
            raise LayerProblem("works along all axes, the batch axis 0 among them; events must stay independent")
        listed = [axis] if isinstance(axis, int) else list(axis)
        return tuple(event_axis(a, rank) for a in listed), bool(self.option("keepdims", False))

    def axis(self, x: str, default: int = -1) -> int:
        """Return the event axis named by `axis`; raises LayerProblem for the batch axis."""
        return event_axis(int(self.option("axis", default)), len(self.builder.shape(x)) + 1)


def event_axis(axis: int, rank: int) -> int:
    """Turn an axis of a tensor with `rank` axes into one of the event; raises LayerProblem for the batch axis."""
    positive = axis + rank if axis < 0 else axis
    if not 0 < positive < rank:
        raise LayerProblem(f"axis {axis} of {rank} is the batch axis or does not exist; events must stay independent")
    return positive - 1


Operator = Callable[[OperatorContext], str | list[str]]


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _pair(c: OperatorContext) -> tuple[str, str]:
    """Return both arguments as values of events; a constant loses its batch axis. Raises LayerProblem."""
    given = c.arguments[:2]
    ranks = {len(c.builder.shape(v.value)) for v in given if isinstance(v, Tensor)}
    if len(given) != 2 or len(ranks) != 1:
        raise LayerProblem("needs two arguments with the same number of axes, so that events stay independent")

    def value(operand: Operand) -> str:
        if isinstance(operand, Tensor):
            return operand.value
        array = np.asarray(operand, dtype=np.float64)
        if array.ndim == max(ranks) + 1 and array.shape[0] == 1:
            array = array[0]
        if array.ndim > max(ranks):
            raise LayerProblem(f"a constant of shape {array.shape} would differ from event to event")
        return c.builder.constant(array)

    return value(given[0]), value(given[1])


def _binary(combine: Callable[[LayerBuilder, str, str], str]) -> Operator:
    return lambda c: combine(c.builder, *_pair(c))


def _divide(c: OperatorContext) -> str:
    divisor = c.arguments[1]
    if isinstance(divisor, Tensor):
        x, y = _pair(c)
        return c.builder.times(x, c.builder.function(y, FunctionKind.RECIPROCAL))
    array = np.asarray(divisor, dtype=np.float64)
    if not array.all():
        raise LayerProblem("divides by zero")
    inverse = OperatorContext(builder=c.builder, config=c.config, arguments=(c.arguments[0], 1 / array))
    return c.builder.times(*_pair(inverse))


def _power(c: OperatorContext) -> str:
    exponent = _number(c.arguments[1])
    if exponent is None:
        raise LayerProblem("the exponent must be a number")
    return c.builder.times(c.x, c.x) if exponent == 2 else c.builder.function(c.x, FunctionKind.POWER, exponent)


def _reduce(kind: ReduceKind) -> Operator:
    def operator(c: OperatorContext) -> str:
        axes, keep = c.axes(c.x)
        return c.builder.reduced(c.x, axes, kind, keep=keep)

    return operator


def _mean(c: OperatorContext) -> str:
    axes, keep = c.axes(c.x)
    return c.builder.mean(c.x, axes, keep=keep)


def _variance(c: OperatorContext) -> str:
    axes, keep = c.axes(c.x)
    below = c.builder.minus(c.x, c.builder.mean(c.x, axes, keep=True))
    return c.builder.mean(c.builder.times(below, below), axes, keep=keep)


def _clip(c: OperatorContext) -> str:
    low, high = (_number(c.option(name, None, k)) for k, name in ((1, "x_min"), (2, "x_max")))
    return c.builder.clipped(c.x, low, high)


def _matmul(c: OperatorContext) -> str:
    """A matrix product of two computed tensors, or with a constant matrix behind."""
    rank = len(c.builder.shape(c.x))
    labels = [chr(97 + k) for k in range(rank)]
    right = c.arguments[1]
    if not isinstance(right, Tensor):
        return c.builder.linear(c.x, np.asarray(right, dtype=np.float64))
    if rank < 2 or len(c.builder.shape(right.value)) != rank:
        raise LayerProblem("needs tensors with the same number of axes, at least three with the batch axis")
    theirs = [*labels[:-2], labels[-1], "Z"]
    return product(c.builder, c.x, right.value, ("".join(labels), "".join(theirs), "".join([*labels[:-1], "Z"])))


def _einsum(c: OperatorContext) -> str:
    """Sums of one or two operands whose first label is the batch axis."""
    equation = str(c.option("subscripts")).replace(" ", "")
    terms, _, out = equation.partition("->")
    labels = terms.split(",")
    if not out.isalpha() or not all(term.isalpha() for term in labels) or len(labels) != 2:
        raise LayerProblem(f"equation {equation!r}; two operands and a result, all axes named, are allowed")
    batch = out[0]
    tensors = [(k, v.value) for k, v in enumerate(c.arguments) if isinstance(v, Tensor)]
    if any(labels[k][0] != batch or batch in labels[k][1:] for k, _ in tensors):
        raise LayerProblem(f"equation {equation!r} mixes events: axis 0 must stay where it is")
    if len(tensors) == 2:
        return product(c.builder, tensors[0][1], tensors[1][1], (labels[0][1:], labels[1][1:], out[1:]))
    ((position, x),) = tensors
    weight = np.asarray(c.arguments[1 - position], dtype=np.float64)
    if batch in labels[1 - position]:
        raise LayerProblem(f"equation {equation!r} takes a constant for every event")
    return constant_product(c.builder, x, weight, (labels[position][1:], labels[1 - position], out[1:]))


def movement(move: Callable[[OperatorContext, list[Ints]], Ints | list[Ints]]) -> Operator:
    """Make an operator of a NumPy function of the operands (a list of tensors as first argument, or one)."""

    def operator(c: OperatorContext) -> str | list[str]:
        first = c.arguments[0]
        tensors = first if isinstance(first, list) else [first]
        if not tensors or not all(isinstance(tensor, Tensor) for tensor in tensors):
            raise LayerProblem("moves constants; all of its tensors must be computed")
        xs = [tensor.value for tensor in tensors]
        sizes = [c.builder.indices(x).size for x in xs]
        starts, total = np.cumsum([0, *sizes[:-1]]), sum(sizes)
        arrays = []
        for x, start in zip(xs, starts, strict=True):
            one = c.builder.indices(x) + start
            arrays.append(np.stack([one + event * total for event in range(EVENTS)]))
        try:
            moved = move(c, arrays)
        except (ValueError, IndexError, TypeError) as error:
            raise LayerProblem(f"cannot be applied to shapes {[c.builder.shape(x) for x in xs]}: {error}") from None
        results = []
        for result in moved if isinstance(moved, list) else [moved]:
            apart = result.shape[:1] == (EVENTS,)
            if apart:
                apart = np.array_equal(np.where(result[0] < 0, -1, result[0] + total), result[1])
            if not apart or result[0].max(initial=-1) >= total:
                raise LayerProblem("moves the batch axis 0; events must stay independent")
            results.append(c.builder.rewire(xs, np.asarray(result[0], dtype=np.int64), "move"))
        return results if isinstance(moved, list) else results[0]

    return operator


def _reshape(c: OperatorContext, xs: list[Ints]) -> Ints:
    shape = list(c.option("newshape", c.option("shape"), 1))
    return xs[0].reshape([EVENTS, *shape[1:]] if shape[0] in (None, -1) else shape)


def _get_item(c: OperatorContext, xs: list[Ints]) -> Ints:
    key = c.arguments[1]
    return np.asarray(xs[0][tuple(key) if isinstance(key, list) else key])


def _split(c: OperatorContext, xs: list[Ints]) -> list[Ints]:
    parts = c.option("indices_or_sections", None, 1)
    return list(np.split(xs[0], parts, axis=int(c.option("axis", 0))))


def _pad(c: OperatorContext, xs: list[Ints]) -> Ints:
    value = c.option("constant_values")
    if c.option("mode", "constant") != "constant" or value not in (None, 0, 0.0):
        raise LayerProblem("pads with something else than 0")
    return np.pad(xs[0], c.option("pad_width"), constant_values=-1)


def _named_axis(function: Callable[..., Ints], *names: str) -> Operator:
    """Make a movement of a NumPy function whose options have the names Keras gives them."""
    return movement(lambda c, xs: function(xs[0], *(c.option(name, None, k + 1) for k, name in enumerate(names))))


def _function(kind: FunctionKind) -> Operator:
    return lambda c: c.builder.function(c.x, kind)


def _gelu(c: OperatorContext) -> str:
    return c.builder.function(c.x, FunctionKind.GELU_TANH if c.option("approximate", True) else FunctionKind.GELU)


def _shrink(c: OperatorContext, *, soft: bool) -> str:
    threshold = float(c.option("threshold", 0.5))
    return c.builder.function(c.x, FunctionKind.SHRINK, threshold, threshold if soft else 0.0)


def _relu(c: OperatorContext) -> str:
    top = c.option("max_value")
    return rectified(c.builder, c.x, c.option("negative_slope", 0.0), top, c.option("threshold", 0.0))


def _cast(c: OperatorContext) -> str:
    kind = str(c.option("dtype", "float32", 1))
    if not kind.startswith(("float", "bfloat")):
        raise LayerProblem(f"casts to {kind}, which rounds; floats are allowed")
    return c.x


OPERATORS: Mapping[str, Operator] = {
    **{
        name: _function(kind)
        for name, kind in {
            "Arccos": FunctionKind.ACOS,
            "Arccosh": FunctionKind.ACOSH,
            "Arcsin": FunctionKind.ASIN,
            "Arcsinh": FunctionKind.ASINH,
            "Arctan": FunctionKind.ATAN,
            "Arctanh": FunctionKind.ATANH,
            "Ceil": FunctionKind.CEIL,
            "Cos": FunctionKind.COS,
            "Cosh": FunctionKind.COSH,
            "Erf": FunctionKind.ERF,
            "Exp": FunctionKind.EXP,
            "Floor": FunctionKind.FLOOR,
            "Log": FunctionKind.LOG,
            "Mish": FunctionKind.MISH,
            "Reciprocal": FunctionKind.RECIPROCAL,
            "Rsqrt": FunctionKind.RSQRT,
            "Selu": FunctionKind.SELU,
            "Sigmoid": FunctionKind.SIGMOID,
            "Sign": FunctionKind.SIGN,
            "Silu": FunctionKind.SILU,
            "Sin": FunctionKind.SIN,
            "Sinh": FunctionKind.SINH,
            "Softplus": FunctionKind.SOFTPLUS,
            "Softsign": FunctionKind.SOFTSIGN,
            "Sqrt": FunctionKind.SQRT,
            "Tan": FunctionKind.TAN,
            "Tanh": FunctionKind.TANH,
        }.items()
    },
    "Absolute": lambda c: c.builder.maximum(c.x, c.builder.scaled(c.x, -1.0)),
    "Add": _binary(LayerBuilder.plus),
    "Amax": _reduce(ReduceKind.MAX),
    "Amin": _reduce(ReduceKind.MIN),
    "Cast": _cast,
    "Celu": lambda c: c.builder.function(c.x, FunctionKind.CELU, c.option("alpha", 1.0)),
    "Clip": _clip,
    "Concatenate": movement(lambda c, xs: np.concatenate(xs, axis=c.option("axis", 0))),
    "Divide": _divide,
    "Einsum": _einsum,
    "Elu": lambda c: c.builder.function(c.x, FunctionKind.ELU, c.option("alpha", 1.0)),
    "ExpandDims": _named_axis(np.expand_dims, "axis"),
    "Expm1": lambda c: c.builder.scaled(c.builder.function(c.x, FunctionKind.EXP), 1.0, -1.0),
    "Flip": _named_axis(np.flip, "axis"),
    "Gelu": _gelu,
    "GetItem": movement(_get_item),
    "Glu": lambda c: glu(c.builder, c.x, c.axis(c.x)),
    "HardShrink": lambda c: _shrink(c, soft=False),
    "HardSigmoid": lambda c: c.builder.hard_sigmoid(c.x, 1 / 6, 0.5),
    "HardSilu": lambda c: c.builder.times(c.x, c.builder.hard_sigmoid(c.x, 1 / 6, 0.5)),
    "HardTanh": lambda c: c.builder.clipped(c.x, -1.0, 1.0),
    "LeakyRelu": lambda c: c.builder.leaky_relu(c.x, c.option("negative_slope", 0.2)),
    "Log1p": lambda c: c.builder.function(c.builder.scaled(c.x, 1.0, 1.0), FunctionKind.LOG),
    "LogSigmoid": lambda c: log_sigmoid(c.builder, c.x),
    "LogSoftmax": lambda c: log_softmax(c.builder, c.x, c.axis(c.x)),
    "Matmul": _matmul,
    "Max": _reduce(ReduceKind.MAX),
    "Maximum": _binary(LayerBuilder.maximum),
    "Mean": _mean,
    "Min": _reduce(ReduceKind.MIN),
    "Minimum": _binary(LayerBuilder.minimum),
    "Moveaxis": _named_axis(np.moveaxis, "source", "destination"),
    "Multiply": _binary(LayerBuilder.times),
    "Negative": lambda c: c.builder.scaled(c.x, -1.0),
    "Pad": movement(_pad),
    "Power": _power,
    "ReLU": _relu,
    "Relu": lambda c: c.builder.relu(c.x),
    "Relu6": lambda c: c.builder.clipped(c.x, 0.0, 6.0),
    "Repeat": _named_axis(np.repeat, "repeats", "axis"),
    "Reshape": movement(_reshape),
    "Roll": _named_axis(np.roll, "shift", "axis"),
    "Round": _function(FunctionKind.ROUND),
    "SoftShrink": lambda c: _shrink(c, soft=True),
    "Softmax": lambda c: c.builder.softmax(c.x, c.axis(c.x)),
    "SparsePlus": lambda c: sparse_plus(c.builder, c.x),
    "SparseSigmoid": lambda c: c.builder.hard_sigmoid(c.x, 0.5, 0.5),
    "Split": movement(_split),
    "Square": lambda c: c.builder.times(c.x, c.x),
    "Squareplus": lambda c: squareplus(c.builder, c.x, c.option("b", 4.0)),
    "Squeeze": _named_axis(np.squeeze, "axis"),
    "Stack": movement(lambda c, xs: np.stack(xs, axis=c.option("axis", 0))),
    "StopGradient": lambda c: c.x,
    "Subtract": _binary(LayerBuilder.minus),
    "Sum": _reduce(ReduceKind.SUM),
    "Swapaxes": _named_axis(np.swapaxes, "axis1", "axis2"),
    "TanhShrink": lambda c: c.builder.minus(c.x, c.builder.function(c.x, FunctionKind.TANH)),
    "Threshold": lambda c: thresholded(c.builder, c.x, c.option("threshold"), c.option("default_value")),
    "Tile": _named_axis(np.tile, "repeats"),
    "Transpose": _named_axis(np.transpose, "axes"),
    "TrueDivide": _divide,
    "Var": _variance,
}
"""Operations by class name."""


def operands(value: object, values: Mapping[tuple[str, int, int], str]) -> Operand:
    """Return an argument of a call as saved by Keras 3, tensors looked up by where they come from."""
    match value:
        case {"class_name": "__keras_tensor__", "config": {"keras_history": [str() as name, int() as k, int() as n]}}:
            return Tensor(values[name, k, n])
        case {"class_name": "__slice__", "config": {"start": start, "stop": stop, "step": step}}:
            return slice(start, stop, step)
        case {"class_name": "__ellipsis__"}:
            return Ellipsis
        case {"class_name": "__tensor__" | "__numpy__", "config": {"value": held}}:
            return np.asarray(held)
        case {"class_name": "__tuple__", "items": list() as items} | (list() as items):
            return [operands(item, values) for item in items]
        case None | bool() | int() | float() | str():
            return value
        case _:
            raise LayerProblem(f"an argument of kind {type(value).__name__} is not understood: {str(value)[:80]}")
