"""TensorFlow functions in functional models of Keras 2: `TFOpLambda` and `SlicingOpLambda` layers.

A layer names the function; a call holds the first argument as Keras 2 holds the inputs of layers, the others by name.
One table says what each function is among the operations of `operators`, and what that calls its arguments.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from metronn.frontends.common.builder import Ints, LayerProblem
from metronn.frontends.keras.operators import OPERATORS, Operand, Operator, OperatorContext, Tensor, movement
from metronn.ir.ops import ReduceKind
from metronn.model.graph import FunctionKind

TENSORFLOW = "tf."
"""Stands before the names of TensorFlow's functions."""

CLASSES = frozenset(("TFOpLambda", "SlicingOpLambda"))
"""Classes of such layers."""

CONSTANT = "_CONSTANT_VALUE"
"""Stands for the layer of a first argument that no layer makes."""

Slot = tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class Function:
    """What a function becomes: an operation, which arguments behind the first it has, and its names of options."""

    operator: Operator
    arguments: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)


def slots(node: object) -> list[Slot]:
    """Return where the tensors of a call come from, in order."""
    return list(_slots(node))


def _slots(value: object) -> Iterator[Slot]:
    match value:
        case [str() as name, int(), _, dict() as named]:
            if name != CONSTANT:
                yield from _slots(value[:3])
            yield from _slots(named)
        case [str() as name, int() as number, int() as position] if name != CONSTANT:
            yield name, number, position
        case dict():
            for inner in value.values():
                yield from _slots(inner)
        case list():
            for inner in value:
                yield from _slots(inner)


def call(
    function: str, node: object, values: Mapping[Slot, str], context: OperatorContext
) -> tuple[Operator, OperatorContext]:
    """Return the operation that a call is, and what it is called on; raises LayerProblem."""
    known = FUNCTIONS[function]
    first, named = _first(node, values)
    given = {name: _operand(value, values) for name, value in named.items()}
    arguments = [first, *(given.pop(name) for name in known.arguments if name in given)]
    options = {known.options.get(name, name): value for name, value in given.items() if value is not None}
    return known.operator, replace(context, config=options, arguments=arguments)


def _first(node: object, values: Mapping[Slot, str]) -> tuple[Operand, Mapping[str, Any]]:
    match node:
        case [str() as name, int() as number, held, dict() as named]:
            first = _operand(held if name == CONSTANT else [name, number, held], values)
            return first, named
        case [[*_], *_]:
            parts = [_first(part, values) for part in node]
            return [part for part, _ in parts], parts[0][1]
        case _:
            raise LayerProblem("the configuration is damaged: a call without arguments")


def _operand(value: object, values: Mapping[Slot, str]) -> Operand:
    match value:
        case [str() as name, int() as number, int() as position]:
            return Tensor(values[name, number, position])
        case {"class_name": "__ellipsis__"}:
            return Ellipsis
        case {"start": start, "stop": stop, "step": step}:
            return slice(_operand(start, values), _operand(stop, values), _operand(step, values))
        case list():
            return [_operand(inner, values) for inner in value]
        case None | bool() | int() | float() | str():
            return value
        case _:
            raise LayerProblem(f"an argument of kind {type(value).__name__} is not understood: {str(value)[:80]}")


def _numbers(value: Operand) -> list[int]:
    """Return integers of an argument that must not be computed."""
    listed = value if isinstance(value, list) else [value]
    if any(not isinstance(n, int) for n in listed):
        raise LayerProblem(f"needs constant integers, not {value!r}")
    return listed


def _matmul(c: OperatorContext) -> str:
    """A product of matrices, each transposed if the call says so."""
    arguments = list(c.arguments)
    for position, letter in enumerate("ab"):
        if not (c.option(f"transpose_{letter}") or c.option(f"adjoint_{letter}")):
            continue
        operand = arguments[position]
        if isinstance(operand, Tensor):
            rank = len(c.builder.shape(operand.value))
            if rank < 2:
                raise LayerProblem("transposes the batch axis 0; events must stay independent")
            axes = [*range(rank - 2), rank - 1, rank - 2]
            arguments[position] = Tensor(c.builder.transpose(operand.value, axes))
        else:
            arguments[position] = np.swapaxes(np.asarray(operand, dtype=np.float64), -1, -2)
    return str(OPERATORS["Matmul"](replace(c, arguments=arguments)))


def _tensordot(c: OperatorContext) -> str:
    if c.option("axes") != 1 or isinstance(c.arguments[1], Tensor):
        raise LayerProblem("a constant behind, and axes 1, are allowed")
    return str(OPERATORS["Matmul"](c))


def _sum(c: OperatorContext) -> str:
    tensors = [operand.value for operand in c.arguments[0] if isinstance(operand, Tensor)]
    total = tensors[0]
    for other in tensors[1:]:
        total = c.builder.plus(total, other)
    return total


def _squared_difference(c: OperatorContext) -> str:
    below = str(OPERATORS["Subtract"](c))
    return c.builder.times(below, below)


def _deviation(c: OperatorContext) -> str:
    return c.builder.function(str(OPERATORS["Var"](c)), FunctionKind.SQRT)


def _norm(c: OperatorContext) -> str:
    if c.option("ord", "euclidean") not in ("euclidean", 2):
        raise LayerProblem(f"a norm of order {c.option('ord')}; euclidean is allowed")
    axes, keep = c.axes(c.x)
    square = c.builder.times(c.x, c.x)
    return c.builder.function(c.builder.reduced(square, axes, ReduceKind.SUM, keep=keep), FunctionKind.SQRT)


def _gelu(c: OperatorContext) -> str:
    return c.builder.function(c.x, FunctionKind.GELU_TANH if c.option("approximate", False) else FunctionKind.GELU)


def _split(c: OperatorContext, xs: list[Ints]) -> list[Ints]:
    parts, axis = c.option("num_or_size_splits"), int(c.option("axis", 0))
    if isinstance(parts, int):
        return list(np.split(xs[0], parts, axis=axis))
    sizes = _numbers(parts)
    whole = xs[0].shape[axis]
    sizes = [whole - sum(n for n in sizes if n >= 0) if n < 0 else n for n in sizes]
    return list(np.split(xs[0], np.cumsum(sizes)[:-1], axis=axis))


def _unstack(c: OperatorContext, xs: list[Ints]) -> list[Ints]:
    return [np.asarray(part) for part in np.moveaxis(xs[0], int(c.option("axis", 0)), 0)]


def _reshape(c: OperatorContext, xs: list[Ints]) -> Ints:
    return xs[0].reshape(_numbers(c.option("shape")))


def _pad(c: OperatorContext, xs: list[Ints]) -> Ints:
    if str(c.option("mode", "CONSTANT")).upper() != "CONSTANT" or c.option("constant_values", 0) != 0:
        raise LayerProblem("pads with something else than 0")
    return np.pad(xs[0], [_numbers(pair) for pair in c.option("paddings")], constant_values=-1)


def _slice(c: OperatorContext, xs: list[Ints]) -> Ints:
    begin, size = _numbers(c.option("begin")), _numbers(c.option("size"))
    cut = [slice(first, None if n == -1 else first + n) for first, n in zip(begin, size, strict=True)]
    return np.asarray(xs[0][tuple(cut)])


def _squeeze(c: OperatorContext, xs: list[Ints]) -> Ints:
    axis = c.option("axis")
    return np.squeeze(xs[0], None if axis is None else tuple(_numbers(axis)))


def _strided_slice(c: OperatorContext, xs: list[Ints]) -> Ints:
    begin, end = _numbers(c.option("begin")), _numbers(c.option("end"))
    steps = _numbers(c.option("strides", [1] * len(begin)))
    masks = {name: int(c.option(f"{name}_mask", 0)) for name in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")}
    if masks["ellipsis"] or masks["new_axis"]:
        raise LayerProblem("ellipsis_mask and new_axis_mask are not read; 0 is allowed")

    def entry(k: int) -> int | slice:
        if masks["shrink_axis"] >> k & 1:
            return begin[k]
        first = None if masks["begin"] >> k & 1 else begin[k]
        return slice(first, None if masks["end"] >> k & 1 else end[k], steps[k])

    return np.asarray(xs[0][tuple(entry(k) for k in range(len(begin)))])


def _gather(c: OperatorContext, xs: list[Ints]) -> Ints:
    axis, depth = c.option("axis"), int(c.option("batch_dims", 0))
    if depth:
        raise LayerProblem(f"batch_dims {depth}; 0 is allowed")
    return np.take(xs[0], np.asarray(c.option("indices"), dtype=np.int64), axis=0 if axis is None else int(axis))


def _elementwise(*names: str) -> dict[str, Function]:
    """Return functions of one tensor that bear the same name in Keras 3, but for its capital letters."""
    return {
        name: Function(OPERATORS["".join(word.capitalize() for word in name.split(".")[-1].split("_"))])
        for name in names
    }


def _reduction(operator: Operator) -> Function:
    return Function(operator, options={"keep_dims": "keepdims", "reduction_indices": "axis"})


_BINARY = ("y",)
FUNCTIONS: Mapping[str, Function] = {
    **_elementwise("math.cos", "math.cosh", "math.erf", "math.exp", "math.expm1", "math.floor", "math.log"),
    **_elementwise("math.log1p", "math.log_sigmoid", "math.negative", "math.reciprocal", "math.round", "math.rsqrt"),
    **_elementwise("math.sigmoid", "math.sign", "math.sin", "math.sinh", "math.softplus", "math.sqrt", "math.square"),
    **_elementwise("math.tan", "math.tanh", "nn.elu", "nn.relu", "nn.relu6", "nn.selu", "nn.silu", "nn.softsign"),
    **_elementwise("nn.softmax", "nn.log_softmax", "nn.softplus", "nn.sigmoid", "nn.tanh"),
    "__operators__.add": Function(OPERATORS["Add"], _BINARY),
    "__operators__.getitem": Function(OPERATORS["GetItem"], ("slice_spec",)),
    "cast": Function(OPERATORS["Cast"]),
    "clip_by_value": Function(OPERATORS["Clip"], options={"clip_value_min": "x_min", "clip_value_max": "x_max"}),
    "compat.v1.gather": Function(movement(_gather)),
    "compat.v1.norm": _reduction(_norm),
    "compat.v1.pad": Function(movement(_pad)),
    "compat.v1.squeeze": Function(movement(_squeeze), options={"squeeze_dims": "axis"}),
    "compat.v1.transpose": Function(OPERATORS["Transpose"], options={"perm": "axes"}),
    "concat": Function(OPERATORS["Concatenate"]),
    "expand_dims": Function(OPERATORS["ExpandDims"]),
    "gather": Function(movement(_gather)),
    "identity": Function(OPERATORS["StopGradient"]),
    "linalg.matmul": Function(_matmul, ("b",)),
    "math.abs": Function(OPERATORS["Absolute"]),
    "math.acos": Function(OPERATORS["Arccos"]),
    "math.acosh": Function(OPERATORS["Arccosh"]),
    "math.add": Function(OPERATORS["Add"], _BINARY),
    "math.add_n": Function(_sum),
    "math.asin": Function(OPERATORS["Arcsin"]),
    "math.asinh": Function(OPERATORS["Arcsinh"]),
    "math.atan": Function(OPERATORS["Arctan"]),
    "math.atanh": Function(OPERATORS["Arctanh"]),
    "math.ceil": Function(OPERATORS["Ceil"]),
    "math.divide": Function(OPERATORS["Divide"], _BINARY),
    "math.maximum": Function(OPERATORS["Maximum"], _BINARY),
    "math.minimum": Function(OPERATORS["Minimum"], _BINARY),
    "math.multiply": Function(OPERATORS["Multiply"], _BINARY),
    "math.pow": Function(OPERATORS["Power"], _BINARY),
    "math.reduce_euclidean_norm": _reduction(_norm),
    "math.reduce_max": _reduction(OPERATORS["Max"]),
    "math.reduce_mean": _reduction(OPERATORS["Mean"]),
    "math.reduce_min": _reduction(OPERATORS["Min"]),
    "math.reduce_std": _reduction(_deviation),
    "math.reduce_sum": _reduction(OPERATORS["Sum"]),
    "math.reduce_variance": _reduction(OPERATORS["Var"]),
    "math.squared_difference": Function(_squared_difference, _BINARY),
    "math.subtract": Function(OPERATORS["Subtract"], _BINARY),
    "math.truediv": Function(OPERATORS["Divide"], _BINARY),
    "nn.gelu": Function(_gelu),
    "nn.leaky_relu": Function(OPERATORS["LeakyRelu"], options={"alpha": "negative_slope"}),
    "pad": Function(movement(_pad)),
    "repeat": Function(OPERATORS["Repeat"]),
    "reshape": Function(movement(_reshape)),
    "reverse": Function(OPERATORS["Flip"]),
    "roll": Function(OPERATORS["Roll"]),
    "slice": Function(movement(_slice)),
    "split": Function(movement(_split)),
    "squeeze": Function(movement(_squeeze)),
    "stack": Function(OPERATORS["Stack"]),
    "stop_gradient": Function(OPERATORS["StopGradient"]),
    "strided_slice": Function(movement(_strided_slice)),
    "tensordot": Function(_tensordot, ("b",)),
    "tile": Function(OPERATORS["Tile"], options={"multiples": "repeats"}),
    "transpose": Function(OPERATORS["Transpose"], options={"perm": "axes"}),
    "unstack": Function(movement(_unstack)),
}
"""Functions by TensorFlow's canonical name without `tf.`, as the files have it."""

NOT_SAVED = frozenset(("einsum",))
"""Functions whose tensors Keras 2 does not save."""
