"""ONNX operators that work element by element: arithmetic, functions of one variable, comparisons, choice.

Truth values are the numbers 0 and 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import reduce

import numpy as np
import onnx

from metronn.frontends.common.builder import FLOAT32_MAX, LayerProblem, Lowering
from metronn.frontends.onnx.context import Constant, Layer, NodeContext
from metronn.model.graph import FunctionKind

SELU_ALPHA, SELU_GAMMA = 1.67326319217681884765625, 1.05070102214813232421875
"""Defaults of Selu in the ONNX standard; `FunctionKind.SELU` has them."""

FLOAT_TYPES = frozenset(("FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16"))
INTEGER_TYPES = frozenset(("INT32", "INT64"))


def pairwise(combine: Callable[[Lowering, str, str], str]) -> Layer:
    """Make an n-ary elementwise operator of a binary one."""

    def layer(c: NodeContext) -> str:
        rank = c.broadcast_rank()
        values = [c.event(k, rank) for k in range(len(c.operands))]
        return reduce(lambda x, y: combine(c.lowering, x, y), values)

    return layer


def _function(kind: FunctionKind) -> Layer:
    return lambda c: c.lowering.function(c.value(0), kind)


def _with_parameter(kind: FunctionKind, name: str, default: float) -> Layer:
    return lambda c: c.lowering.function(c.value(0), kind, float(c.attribute(name, default)))


def absolute(lowering: Lowering, x: str) -> str:
    """Return |x|."""
    return lowering.maximum(x, lowering.scaled(x, -1.0))


def _div(c: NodeContext) -> str:
    divisor = c.given(1)
    if isinstance(divisor, str):
        inverse: str | Constant = c.lowering.function(divisor, FunctionKind.RECIPROCAL)
    elif c.floats(1).all():
        inverse = Constant(divisor.name, 1 / c.floats(1))
    else:
        raise LayerProblem(f"divides by zero ({divisor.name})")
    return str(pairwise(Lowering.times)(c.reading(c.given(0), inverse)))


def _mean(c: NodeContext) -> str:
    return c.lowering.scaled(str(pairwise(Lowering.plus)(c)), 1 / len(c.operands))


def power(lowering: Lowering, x: str, exponent: float) -> str:
    """Return x to a constant power: products for 1, 2, 3 and 4, else a function."""
    special = {-1.0: FunctionKind.RECIPROCAL, 0.5: FunctionKind.SQRT, -0.5: FunctionKind.RSQRT}
    if exponent in (1.0, 2.0, 3.0, 4.0):
        square = lowering.times(x, x) if exponent > 1 else x
        if exponent == 4:
            return lowering.times(square, square)
        return lowering.times(square, x) if exponent == 3 else square
    if exponent in special:
        return lowering.function(x, special[exponent])
    return lowering.function(x, FunctionKind.POWER, exponent)


def _pow(c: NodeContext) -> str:
    lowering, exponent = c.lowering, c.given(1)
    if isinstance(exponent, str):
        base = c.floats(0)
        if (base <= 0).any():
            raise LayerProblem(f"a power with a computed exponent needs a positive constant base, not {base.min():g}")
        logarithm = Constant(c.constant(0).name, np.log(base))
        return lowering.function(str(pairwise(Lowering.times)(c.reading(logarithm, exponent))), FunctionKind.EXP)
    x, exponents = c.value(0), c.event_floats(1, c.broadcast_rank())
    distinct = np.unique(exponents)
    if distinct.size == 1 and exponents.ndim <= len(lowering.shape(x)):
        return power(lowering, x, float(distinct[0]))
    shape = np.broadcast_shapes(lowering.shape(x), exponents.shape)
    index, which = np.broadcast_to(lowering.indices(x), shape), np.broadcast_to(exponents, shape)
    parts = [power(lowering, lowering.rewire([x], index[which == e], "part"), float(e)) for e in distinct]
    order = np.concatenate([np.flatnonzero(which == e) for e in distinct])
    return lowering.rewire(parts, np.argsort(order).reshape(shape), "join")


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


def _selu(c: NodeContext) -> str:
    alpha, gamma = float(c.attribute("alpha", SELU_ALPHA)), float(c.attribute("gamma", SELU_GAMMA))
    if np.isclose([alpha, gamma], [SELU_ALPHA, SELU_GAMMA], rtol=1e-6).all():
        return c.lowering.function(c.value(0), FunctionKind.SELU)
    return c.lowering.scaled(c.lowering.function(c.value(0), FunctionKind.ELU, alpha), gamma)


def _gelu(c: NodeContext) -> str:
    exact = c.attribute("approximate", "none") == "none"
    return c.lowering.function(c.value(0), FunctionKind.GELU if exact else FunctionKind.GELU_TANH)


def _swish(c: NodeContext) -> str:
    alpha, x = float(c.attribute("alpha", 1.0)), c.value(0)
    if alpha == 1:
        return c.lowering.function(x, FunctionKind.SILU)
    return c.lowering.times(x, c.lowering.function(c.lowering.scaled(x, alpha), FunctionKind.SIGMOID))


def _hard_sigmoid(c: NodeContext) -> str:
    return c.lowering.hard_sigmoid(c.value(0), float(c.attribute("alpha", 0.2)), float(c.attribute("beta", 0.5)))


def _shrink(c: NodeContext) -> str:
    lambd, bias = float(c.attribute("lambd", 0.5)), float(c.attribute("bias", 0.0))
    return c.lowering.function(c.value(0), FunctionKind.SHRINK, lambd, bias)


def _cast_to(c: NodeContext, target: str) -> str | Constant:
    lowering, operand = c.lowering, c.given(0)
    if target in FLOAT_TYPES:
        return operand
    x = c.value(0)
    if x in lowering.whole and target in INTEGER_TYPES:
        return x
    if target == "BOOL":
        return absolute(lowering, lowering.function(x, FunctionKind.SIGN))
    if target in INTEGER_TYPES:
        up = lowering.function(lowering.clipped(x, None, 0.0), FunctionKind.CEIL)
        return lowering.plus(lowering.function(lowering.relu(x), FunctionKind.FLOOR), up)
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
    return (x,) if len(c.node.output) < 2 else (x, c.lowering.constant(np.ones(c.lowering.shape(x)), "mask"))


def _negated(lowering: Lowering, truth: str) -> str:
    return lowering.scaled(truth, -1.0, 1.0)


def _positive(lowering: Lowering, x: str) -> str:
    """Return 1 where x > 0, else 0."""
    return lowering.relu(lowering.function(x, FunctionKind.SIGN))


def _less(lowering: Lowering, x: str, y: str) -> str:
    return _positive(lowering, lowering.minus(y, x))


def _greater(lowering: Lowering, x: str, y: str) -> str:
    return _positive(lowering, lowering.minus(x, y))


def _equal(lowering: Lowering, x: str, y: str) -> str:
    return _negated(lowering, absolute(lowering, lowering.function(lowering.minus(x, y), FunctionKind.SIGN)))


def _add(c: NodeContext) -> str:
    """Return the sum; a constant mask of minus infinities, as attention adds, counts as the lowest numbers."""
    for position in range(len(c.operands)):
        c = _finite(c, position)
    return str(pairwise(Lowering.plus)(c))


def _finite(c: NodeContext, position: int) -> NodeContext:
    """Return the node with infinities of a constant operand as the largest numbers of float32: masks have them."""
    operand = c.given(position)
    if isinstance(operand, str) or operand.values.dtype.kind not in "fV":
        return c
    values = np.clip(operand.values.astype(np.float64), -FLOAT32_MAX, FLOAT32_MAX)
    return c.reading(*c.operands[:position], replace(operand, values=values), *c.operands[position + 1 :])


def _where(c: NodeContext) -> str:
    lowering, condition, rank = c.lowering, c.given(0), c.broadcast_rank()
    x, y = (_finite(c, k).event(k, rank) for k in (1, 2))
    if isinstance(condition, str):
        chosen = lowering.times(c.event(0, rank), x)
        return lowering.plus(chosen, lowering.times(_negated(lowering, c.event(0, rank)), y))
    mask = c.without_batch(c.constant(0).values.astype(np.float64), rank, condition.name) != 0
    left, right = lowering.indices(x), lowering.indices(y)
    return lowering.rewire([x, y], np.where(mask, left, right + left.size), "where")


def _binarizer(c: NodeContext) -> str:
    return _positive(c.lowering, c.lowering.scaled(c.value(0), 1.0, -float(c.attribute("threshold", 0.0))))


MATH: Mapping[str, Callable[[NodeContext], str | Constant | tuple[str, ...]]] = {
    "Abs": lambda c: absolute(c.lowering, c.value(0)),
    "Acos": _function(FunctionKind.ACOS),
    "Acosh": _function(FunctionKind.ACOSH),
    "Add": _add,
    "And": pairwise(Lowering.times),
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
    "GreaterOrEqual": pairwise(lambda lowering, x, y: _negated(lowering, _less(lowering, x, y))),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda c: c.lowering.times(c.value(0), c.lowering.hard_sigmoid(c.value(0), 1 / 6, 0.5)),
    "Identity": lambda c: c.value(0),
    "LeakyRelu": lambda c: c.lowering.leaky_relu(c.value(0), float(c.attribute("alpha", 0.01))),
    "Less": pairwise(_less),
    "LessOrEqual": pairwise(lambda lowering, x, y: _negated(lowering, _greater(lowering, x, y))),
    "Log": _function(FunctionKind.LOG),
    "Max": pairwise(Lowering.maximum),
    "Mean": _mean,
    "Min": pairwise(Lowering.minimum),
    "Mish": _function(FunctionKind.MISH),
    "Mul": pairwise(Lowering.times),
    "Neg": lambda c: c.lowering.scaled(c.value(0), -1.0),
    "Not": lambda c: _negated(c.lowering, c.value(0)),
    "Or": pairwise(Lowering.maximum),
    "PRelu": _prelu,
    "Pow": _pow,
    "Reciprocal": _function(FunctionKind.RECIPROCAL),
    "Relu": lambda c: c.lowering.relu(c.value(0)),
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
    "Sub": pairwise(Lowering.minus),
    "Sum": pairwise(Lowering.plus),
    "Swish": _swish,
    "Tan": _function(FunctionKind.TAN),
    "Tanh": _function(FunctionKind.TANH),
    "ThresholdedRelu": _with_parameter(FunctionKind.THRESHOLDED, "alpha", 1.0),
    "Where": _where,
    "Xor": pairwise(lambda lowering, x, y: absolute(lowering, lowering.minus(x, y))),
    "ai.onnx.ml.Binarizer": _binarizer,
}
"""The operators of this file."""
