"""Functions of one variable over float64, exact to the definition the frameworks share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import assert_never

import numpy as np

from metronn.model.graph import Floats, FunctionKind

SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946
"""Source: G. Klambauer et al., Self-Normalizing Neural Networks, arXiv:1706.02515."""


def _elementwise(function: Callable[[float], float], x: Floats) -> Floats:
    """Apply a function of the standard library, which has what NumPy lacks."""
    return np.fromiter(map(function, x.ravel().tolist()), dtype=np.float64, count=x.size).reshape(x.shape)


def apply_function(kind: FunctionKind, x: Floats, parameters: Sequence[float] = ()) -> Floats:
    """Evaluate a function in float64; outside its domain the result is NaN or infinite, as in NumPy."""
    x = np.asarray(x, dtype=np.float64)
    with np.errstate(all="ignore"):
        return np.asarray(_value(kind, x, tuple(parameters)), dtype=np.float64)


def _value(kind: FunctionKind, x: Floats, parameters: tuple[float, ...]) -> Floats:
    match kind:
        case FunctionKind.SIGMOID:
            return _sigmoid(x)
        case FunctionKind.TANH:
            return np.tanh(x)
        case FunctionKind.EXP:
            return np.exp(x)
        case FunctionKind.RECIPROCAL:
            return 1 / x
        case FunctionKind.SQRT:
            return np.sqrt(x)
        case FunctionKind.RSQRT:
            return 1 / np.sqrt(x)
        case FunctionKind.LOG:
            return np.log(x)
        case FunctionKind.POWER:
            return np.asarray(np.power(x, parameters[0]))
        case FunctionKind.ERF:
            return _elementwise(math.erf, x)
        case FunctionKind.SIN:
            return np.sin(x)
        case FunctionKind.COS:
            return np.cos(x)
        case FunctionKind.TAN:
            return np.tan(x)
        case FunctionKind.ASIN:
            return np.arcsin(x)
        case FunctionKind.ACOS:
            return np.arccos(x)
        case FunctionKind.ATAN:
            return np.arctan(x)
        case FunctionKind.SINH:
            return np.sinh(x)
        case FunctionKind.COSH:
            return np.cosh(x)
        case FunctionKind.ASINH:
            return np.arcsinh(x)
        case FunctionKind.ACOSH:
            return np.arccosh(x)
        case FunctionKind.ATANH:
            return np.arctanh(x)
        case FunctionKind.FLOOR:
            return np.floor(x)
        case FunctionKind.CEIL:
            return np.ceil(x)
        case FunctionKind.ROUND:
            return np.rint(x)
        case FunctionKind.SIGN:
            return np.sign(x)
        case FunctionKind.ELU:
            return np.where(x > 0, x, parameters[0] * np.expm1(np.minimum(x, 0.0)))
        case FunctionKind.SELU:
            return np.where(x > 0, SELU_SCALE * x, SELU_SCALE * SELU_ALPHA * np.expm1(np.minimum(x, 0.0)))
        case FunctionKind.CELU:
            return np.where(x > 0, x, parameters[0] * np.expm1(np.minimum(x, 0.0) / parameters[0]))
        case FunctionKind.GELU:
            return 0.5 * x * _elementwise(math.erfc, -x / math.sqrt(2))
        case FunctionKind.GELU_TANH:
            inner: Floats = math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)
            return np.asarray(0.5 * x * (1 + np.tanh(inner)))
        case FunctionKind.SILU:
            return x * _sigmoid(x)
        case FunctionKind.SOFTPLUS:
            return np.logaddexp(0.0, x)
        case FunctionKind.SOFTSIGN:
            return np.asarray(x / (1 + np.abs(x)))
        case FunctionKind.MISH:
            return x * np.tanh(np.logaddexp(0.0, x))
        case FunctionKind.THRESHOLDED:
            return np.where(x > parameters[0], x, 0.0)
        case FunctionKind.SHRINK:
            lambd, bias = parameters
            return np.where(x < -lambd, x + bias, np.where(x > lambd, x - bias, 0.0))
        case FunctionKind.TABLE:
            places = np.clip(np.nan_to_num(np.floor(x + 0.5)), 0, len(parameters) - 1)
            return np.asarray(np.asarray(parameters, dtype=np.float64)[places.astype(np.int64)])
        case _:
            assert_never(kind)


def _sigmoid(x: Floats) -> Floats:
    positive = 1 / (1 + np.exp(-np.abs(x)))
    return np.where(x >= 0, positive, np.exp(-np.abs(x)) * positive)
