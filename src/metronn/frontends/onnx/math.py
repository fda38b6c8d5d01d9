"""ONNX operators that work element by element: arithmetic, functions of one variable, comparisons, choice.

Truth values are the numbers 0 and 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import reduce

import numpy as np
import onnx

from metronn.frontends.common.builder import FLOAT32_MAX, LayerBuilder, LayerProblem
from metronn.frontends.onnx.context import Constant, Layer, NodeContext
from metronn.model.graph import FunctionKind

SELU_ALPHA, SELU_GAMMA = 1.67326319217681884765625, 1.05070102214813232421875
"""Defaults of Selu in the ONNX standard; `FunctionKind.SELU` has them."""

FLOAT_TYPES = frozenset(("FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16"))
INTEGER_TYPES = frozenset(("INT32", "INT64"))


def pairwise(combine: Callable[[LayerBuilder, str, str], str]) -> Layer:
    """Make an n-ary elementwise operator of a binary one."""

    def layer(c: NodeContext) -> str:
        rank = c.broadcast_rank()
        values = [c.event(k, rank) for k in range(len(c.operands))]
        return reduce(lambda x, y: combine(c.builder, x, y), values)

    return layer


def _function(kind: FunctionKind) -> Layer:
    return lambda c: c.builder.function(c.value(0), kind)


def _with_parameter(kind: FunctionKind, name: str, default: float) -> Layer:
    return lambda c: c.builder.function(c.value(0), kind, float(c.attribute(name, default)))


def absolute(builder: LayerBuilder, x: str) -> str:
    """Return |x|."""
    return builder.maximum(x, builder.scaled(x, -1.0))


def _div(c: NodeContext) -> str:
    divisor = c.given(1)
    if isinstance(divisor, str):
        inverse: str | Constant = c.builder.function(divisor, FunctionKind.RECIPROCAL)
    elif c.floats(1).all():
        inverse = Constant(divisor.name, 1 / c.floats(1))
    else:
        raise LayerProblem(f"divides by zero ({divisor.name})")
    return str(pairwise(LayerBuilder.times)(c.reading(c.given(0), inverse)))


def _mean(c: NodeContext) -> str:
    return c.builder.scaled(str(pairwise(LayerBuilder.plus)(c)), 1 / len(c.operands))


def power(builder: LayerBuilder, x: str, exponent: float) -> str:
    """Return x to a constant power: products for 1, 2, 3 and 4, else a function."""
    special = {-1.0: FunctionKind.RECIPROCAL, 0.5: FunctionKind.SQRT, -0.5: FunctionKind.RSQRT}
    if exponent in (1.0, 2.0, 3.0, 4.0):
        square = builder.times(x, x) if exponent > 1 else x
        if exponent == 4:
            return builder.times(square, square)
        return builder.times(square, x) if exponent == 3 else square
    if exponent in special:
        return builder.function(x, special[exponent])
    return builder.function(x, FunctionKind.POWER, exponent)


def _pow(c: NodeContext) -> str:
    builder, exponent = c.builder, c.given(1)
    if isinstance(exponent, str):
        base = c.floats(0)
        if (base <= 0).any():
            raise LayerProblem(f"a power with a computed exponent needs a positive constant base, not {base.min():g}")
        logarithm = Constant(c.constant(0).name, np.log(base))
        return builder.function(str(pairwise(LayerBuilder.times)(c.reading(logarithm, exponent))), FunctionKind.EXP)
    x, exponents = c.value(0), c.event_floats(1, c.broadcast_rank())
    distinct = np.unique(exponents)
    if distinct.size == 1 and exponents.ndim <= len(builder.shape(x)):
        return power(builder, x, float(distinct[0]))
    shape = np.broadcast_shapes(builder.shape(x), exponents.shape)
    index, which = np.broadcast_to(builder.indices(x), shape), np.broadcast_to(exponents, shape)
    parts = [power(builder, builder.rewire([x], index[which == e], "part"), float(e)) for e in distinct]
    order = np.concatenate([np.flatnonzero(which == e) for e in distinct])
    return builder.rewire(parts, np.argsort(order).reshape(shape), "join")


def _clip(c: NodeContext) -> str:
    if c.opset < 11:
        return c.builder.clipped(c.value(0), c.attribute("min"), c.attribute("max"))
    bounds = (None if c.operand(k) is None else c.constant(k).values for k in (1, 2))
    low, high = (None if bound is None else float(bound.item()) for bound in bounds)
    return c.builder.clipped(c.value(0), low, high)


def _prelu(c: NodeContext) -> str:
    rank = c.rank(0)
    slope = c.event_floats(1, rank)
    if c.opset < 7 and slope.ndim == 1 and slope.size > 1:
        slope = slope.reshape(-1, *(1,) * (rank - 2))
    return c.builder.leaky_relu(c.value(0), slope)


def _selu(c: NodeContext) -> str:
    alpha, gamma = float(c.attribute("alpha", SELU_ALPHA)), float(c.attribute("gamma", SELU_GAMMA))
    if np.isclose([alpha, gamma], [SELU_ALPHA, SELU_GAMMA], rtol=1e-6).all():
        return c.builder.function(c.value(0), FunctionKind.SELU)
    return c.builder.scaled(c.builder.function(c.value(0), FunctionKind.ELU, alpha), gamma)


def _gelu(c: NodeContext) -> str:
    exact = c.attribute("approximate", "none") == "none"
    return c.builder.function(c.value(0), FunctionKind.GELU if exact else FunctionKind.GELU_TANH)


def _swish(c: NodeContext) -> str:
    alpha, x = float(c.attribute("alpha", 1.0)), c.value(0)
    if alpha == 1:
        return c.builder.function(x, FunctionKind.SILU)
    return c.builder.times(x, c.builder.function(c.builder.scaled(x, alpha), FunctionKind.SIGMOID))


def _hard_sigmoid(c: NodeContext) -> str:
    return c.builder.hard_sigmoid(c.value(0), float(c.attribute("alpha", 0.2)), float(c.attribute("beta", 0.5)))


def _shrink(c: NodeContext) -> str:
    lambd, bias = float(c.attribute("lambd", 0.5)), float(c.attribute("bias", 0.0))
    return c.builder.function(c.value(0), FunctionKind.SHRINK, lambd, bias)


def _cast_to(c: NodeContext, target: str) -> str | Constant:
    builder, operand = c.builder, c.given(0)
    if target in FLOAT_TYPES:
        return operand
    x = c.value(0)
    if x in builder.whole and target in INTEGER_TYPES:
        return x
    if target == "BOOL":
        return absolute(builder, builder.function(x, FunctionKind.SIGN))
    if target in INTEGER_TYPES:
        up = builder.function(builder.clipped(x, None, 0.0), FunctionKind.CEIL)
        return builder.plus(builder.function(builder.relu(x), FunctionKind.FLOOR), up)
    allowed = ", ".join(sorted(FLOAT_TYPES | INTEGER_TYPES | {"BOOL"}))
    raise LayerProblem(f"casts to {target}, which rounds or wraps; {allowed} are allowed")


def _cast(c: NodeContext) -> str | Constant:
    to = c.attribute("to", 1)
    return _cast_to(c, to if isinstance(to, str) else onnx.TensorProto.DataType.Name(int(to)))


def _cast_like(c: NodeContext) -> str | Constant:
    like = c.given(1)
    if isinstance(like, str):
        return c.given(0)
    kind = onnx.helper.np_dtype_to_tensor_dtype(like.values.dtype)
    return _cast_to(c, onnx.TensorProto.DataType.Name(kind))


def _dropout(c: NodeContext) -> tuple[str, ...]:
    training, ratio = c.operand(2), c.operand(1)
    on = training is not None and (isinstance(training, str) or bool(training.values.any()))
    keeps_all = isinstance(ratio, Constant) and not ratio.values.any()
    if c.opset >= 12 and on and not keeps_all:
        raise LayerProblem("is in training mode; export the model for inference")
    x = c.value(0)
    return (x,) if len(c.node.output) < 2 else (x, c.builder.constant(np.ones(c.builder.shape(x)), "mask"))


def _negated(builder: LayerBuilder, truth: str) -> str:
    return builder.scaled(truth, -1.0, 1.0)


def _positive(builder: LayerBuilder, x: str) -> str:
    """Return 1 where x > 0, else 0."""
    return builder.relu(builder.function(x, FunctionKind.SIGN))


def _less(builder: LayerBuilder, x: str, y: str) -> str:
    return _positive(builder, builder.minus(y, x))


def _greater(builder: LayerBuilder, x: str, y: str) -> str:
    return _positive(builder, builder.minus(x, y))


def _equal(builder: LayerBuilder, x: str, y: str) -> str:
    return _negated(builder, absolute(builder, builder.function(builder.minus(x, y), FunctionKind.SIGN)))


def _add(c: NodeContext) -> str:
    """Return the sum; a constant mask of minus infinities, as attention adds, counts as the lowest numbers."""
    for position in range(len(c.operands)):
        c = _finite(c, position)
    return str(pairwise(LayerBuilder.plus)(c))


def _finite(c: NodeContext, position: int) -> NodeContext:
    """Return the node with infinities of a constant operand as the largest numbers of float32: masks have them."""
    operand = c.given(position)
    if isinstance(operand, str) or operand.values.dtype.kind not in "fV":
        return c
    values = np.clip(operand.values.astype(np.float64), -FLOAT32_MAX, FLOAT32_MAX)
    return c.reading(*c.operands[:position], replace(operand, values=values), *c.operands[position + 1 :])


def _where(c: NodeContext) -> str:
    builder, condition, rank = c.builder, c.given(0), c.broadcast_rank()
    x, y = (_finite(c, k).event(k, rank) for k in (1, 2))
    if isinstance(condition, str):
        chosen = builder.times(c.event(0, rank), x)
        return builder.plus(chosen, builder.times(_negated(builder, c.event(0, rank)), y))
    mask = c.without_batch(c.constant(0).values.astype(np.float64), rank, condition.name) != 0
    left, right = builder.indices(x), builder.indices(y)
    return builder.rewire([x, y], np.where(mask, left, right + left.size), "where")


def _binarizer(c: NodeContext) -> str:
    return _positive(c.builder, c.builder.scaled(c.value(0), 1.0, -float(c.attribute("threshold", 0.0))))


MATH: Mapping[str, Callable[[NodeContext], str | Constant | tuple[str, ...]]] = {
    "Abs": lambda c: absolute(c.builder, c.value(0)),
    "Acos": _function(FunctionKind.ACOS),
    "Acosh": _function(FunctionKind.ACOSH),
    "Add": _add,
    "And": pairwise(LayerBuilder.times),
    "Asin": _function(FunctionKind.ASIN),
    "Asinh": _function(FunctionKind.ASINH),
    "Atan": _function(FunctionKind.ATAN),
    "Atanh": _function(FunctionKind.ATANH),
    "Cast": _cast,
    "CastLike": _cast_like,
    "Ceil": _function(FunctionKind.CEIL),
    "Celu": _with_parameter(FunctionKind.CELU, "alpha", 1.0),
    "Clip": _clip,
    "Cos": _function(FunctionKind.COS),
    "Cosh": _function(FunctionKind.COSH),
    "Div": _div,
    "Dropout": _dropout,
    "Elu": _with_parameter(FunctionKind.ELU, "alpha", 1.0),
    "Equal": pairwise(_equal),
    "Erf": _function(FunctionKind.ERF),
    "Exp": _function(FunctionKind.EXP),
    "Floor": _function(FunctionKind.FLOOR),
    "Gelu": _gelu,
    "Greater": pairwise(_greater),
    "GreaterOrEqual": pairwise(lambda builder, x, y: _negated(builder, _less(builder, x, y))),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda c: c.builder.times(c.value(0), c.builder.hard_sigmoid(c.value(0), 1 / 6, 0.5)),
    "Identity": lambda c: c.value(0),
    "LeakyRelu": lambda c: c.builder.leaky_relu(c.value(0), float(c.attribute("alpha", 0.01))),
    "Less": pairwise(_less),
    "LessOrEqual": pairwise(lambda builder, x, y: _negated(builder, _greater(builder, x, y))),
    "Log": _function(FunctionKind.LOG),
    "Max": pairwise(LayerBuilder.maximum),
    "Mean": _mean,
    "Min": pairwise(LayerBuilder.minimum),
    "Mish": _function(FunctionKind.MISH),
    "Mul": pairwise(LayerBuilder.times),
    "Neg": lambda c: c.builder.scaled(c.value(0), -1.0),
    "Not": lambda c: _negated(c.builder, c.value(0)),
    "Or": pairwise(LayerBuilder.maximum),
    "PRelu": _prelu,
    "Pow": _pow,
    "Reciprocal": _function(FunctionKind.RECIPROCAL),
    "Relu": lambda c: c.builder.relu(c.value(0)),
    "Round": _function(FunctionKind.ROUND),
    "Selu": _selu,
    "Shrink": _shrink,
    "Sigmoid": _function(FunctionKind.SIGMOID),
    "Sign": _function(FunctionKind.SIGN),
    "Sin": _function(FunctionKind.SIN),
    "Sinh": _function(FunctionKind.SINH),
    "Softplus": _function(FunctionKind.SOFTPLUS),
    "Softsign": _function(FunctionKind.SOFTSIGN),
    "Sqrt": _function(FunctionKind.SQRT),
    "Sub": pairwise(LayerBuilder.minus),
    "Sum": pairwise(LayerBuilder.plus),
    "Swish": _swish,
    "Tan": _function(FunctionKind.TAN),
    "Tanh": _function(FunctionKind.TANH),
    "ThresholdedRelu": _with_parameter(FunctionKind.THRESHOLDED, "alpha", 1.0),
    "Where": _where,
    "Xor": pairwise(lambda builder, x, y: absolute(builder, builder.minus(x, y))),
    "ai.onnx.ml.Binarizer": _binarizer,
}
"""The operators of this file."""
