"""Grids of quantized ONNX tensors: steps of weights, roundings, whole numbers made of values and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from metronn.frontends.common.builder import LayerBuilder, LayerProblem, powers_of_two
from metronn.frontends.onnx.context import Codes, Constant
from metronn.ir.ops import Rounding
from metronn.model.graph import Floats

Numbers = npt.NDArray[Any]

ROUNDINGS: Mapping[str, Callable[[Numbers], Numbers]] = {
    "ROUND": np.round,
    "HALF_EVEN": np.round,
    "CEIL": np.ceil,
    "FLOOR": np.floor,
    "UP": lambda x: np.sign(x) * np.ceil(np.abs(x)),
    "DOWN": np.trunc,
    "ROUND_TO_ZERO": np.trunc,
    "HALF_UP": lambda x: np.sign(x) * np.floor(np.abs(x) + 0.5),
    "HALF_DOWN": lambda x: np.sign(x) * np.ceil(np.abs(x) - 0.5),
}
"""The rounding modes of QONNX, as the qonnx package computes them; ROUND_TO_ZERO is an older name of DOWN."""

_FIXED_POINT: Mapping[str, Rounding] = {
    "ROUND": Rounding.RND_CONV,
    "HALF_EVEN": Rounding.RND_CONV,
    "FLOOR": Rounding.TRN,
    "DOWN": Rounding.TRN_ZERO,
    "ROUND_TO_ZERO": Rounding.TRN_ZERO,
    "HALF_UP": Rounding.RND_INF,
    "HALF_DOWN": Rounding.RND_ZERO,
}
"""Those that `RealQuantize` has; CEIL and UP are made of them."""


def column_steps(values: Floats, steps: Floats | None) -> Floats | None:
    """Return the step of every column of weights [n_in, n_out], from the steps of the weights themselves.

    None when there are none, or when a column has no common one: then the weights are exact as they stand.
    """
    if steps is None or not values.size:
        return None
    smallest = np.where(values != 0, steps, np.inf).min(axis=0)
    smallest = np.asarray(np.where(np.isfinite(smallest), smallest, steps.min(axis=0)), dtype=np.float64)
    whole = np.rint(values / smallest)
    if not np.array_equal(whole * smallest, values):
        return None
    return smallest


def inlined_constant(
    kind: str, operands: Sequence[Constant], values: Sequence[Numbers]
) -> tuple[Numbers, Floats] | None:
    """Return (values, steps) of a constant behind an operator of a spelled-out quantizer; None for other constants.

    Round, Floor, Ceil and Sign give whole numbers; bounds, sums and negation keep a step where their result is still in
    steps; a product or quotient with a scale scales it. Such a product is exact, as behind DequantizeLinear: the file's
    number type has decided the codes, and does not round what they mean.
    """
    if len(values) != 1 or values[0].dtype.kind != "f" or not operands:
        return None
    first, result = operands[0], values[0].astype(np.float64)
    if kind in ("Round", "Floor", "Ceil", "Sign"):
        return values[0], np.ones(result.shape)
    stepped = [operand for operand in operands if operand.step is not None]
    if len(stepped) != 1:
        return None
    data = stepped[0]
    grid = np.asarray(data.step, dtype=np.float64)
    if kind in ("Mul", "Div") and len(operands) == 2 and (kind == "Mul" or data is first):
        factor = (operands[1] if data is first else first).values.astype(np.float64)
        if not factor.all() or not np.isfinite(factor).all():
            return None
        factor = 1 / factor if kind == "Div" else factor
        codes = np.rint(data.values.astype(np.float64) / grid)
        steps = np.broadcast_to(grid * np.abs(factor), result.shape)
        return np.sign(factor) * codes * steps, np.array(steps)
    if kind in ("Add", "Sub", "Clip", "Min", "Max", "Neg", "Abs", "Relu", "Where"):
        if np.broadcast_shapes(grid.shape, result.shape) != result.shape:
            return None
        steps = np.array(np.broadcast_to(grid, result.shape))
        return (values[0], steps) if np.array_equal(np.rint(result / steps) * steps, result) else None
    return None


def whole_numbers(builder: LayerBuilder, codes: Codes) -> str:
    """Return codes - zero, exactly."""
    return regrid(builder, codes.value, codes.scale, np.ones(()), codes.lo - codes.zero, codes.hi - codes.zero)


def made(builder: LayerBuilder, codes: Codes) -> str:
    """Return the codes themselves."""
    x = whole_numbers(builder, codes)
    return builder.plus(x, builder.constant(codes.zero, "zero_point")) if codes.zero.any() else x


def regrid(builder: LayerBuilder, x: str, old: Floats, new: Floats, lo: npt.ArrayLike, hi: npt.ArrayLike) -> str:
    """Return k * new of x = k * old with whole k in [lo, hi], exactly."""
    if np.array_equal(old, new):
        return x
    ratio = np.asarray(new / old)
    if powers_of_two(ratio) and np.array_equal(old * ratio, new):
        return builder.times(x, builder.constant(ratio, "step"))
    x = builder.times(x, builder.constant(1 / old, "inverse_step"))
    if not powers_of_two(old):
        x = builder.quantize(x, 1.0, np.asarray(lo).astype(np.int64), np.asarray(hi).astype(np.int64), part="codes")
    return x if (np.asarray(new) == 1).all() else builder.times(x, builder.constant(new, "step"))


def rounded(
    builder: LayerBuilder, x: str, scale: Floats, zero: Floats, bounds: tuple[Floats, Floats], mode: str
) -> str:
    """Return (clip(round(x / scale + zero), *bounds) - zero) * scale, rounded as QONNX does in this mode.

    The bounds are whole numbers. The zero point becomes part of them where the mode rounds alike on both sides of a
    shift by it; else it is added before the quantizer and subtracted behind it.
    """
    if not (scale > 0).all():
        raise LayerProblem(f"scale {scale.min():g}; it must be positive")
    if mode not in ROUNDINGS:
        raise LayerProblem(f"rounding mode {mode}; {', '.join(ROUNDINGS)} are allowed")
    if np.broadcast_shapes(scale.shape, zero.shape, builder.shape(x)) != builder.shape(x):
        raise LayerProblem(f"a scale {scale.shape} and zero point {zero.shape} for values of shape {builder.shape(x)}")
    lo, hi = bounds
    period = 1 if mode in ("FLOOR", "CEIL") else 2 if mode in ("ROUND", "HALF_EVEN") else 0
    if not zero.any() or (period and not np.mod(zero, period).any()):
        return _quantized(builder, x, scale, (lo - zero, hi - zero), mode)
    shift = builder.constant(zero * scale, "zero_point")
    return builder.minus(_quantized(builder, builder.plus(x, shift), scale, (lo, hi), mode), shift)


def _quantized(builder: LayerBuilder, x: str, scale: Floats, bounds: tuple[Floats, Floats], mode: str) -> str:
    lo, hi = (np.asarray(bound).astype(np.int64) for bound in bounds)
    if mode in _FIXED_POINT:
        return builder.quantize(x, scale, lo, hi, _FIXED_POINT[mode])
    if mode == "CEIL" or (lo >= 0).all():
        down = builder.quantize(builder.scaled(x, -1.0), scale, -hi, -lo, Rounding.TRN)
        return builder.scaled(down, -1.0)
    below = builder.minimum(x, builder.constant(0.0, "zero"))
    negative = builder.quantize(below, scale, lo, np.maximum(hi, 0), Rounding.TRN)
    raised = builder.quantize(builder.scaled(builder.relu(x), -1.0), scale, -hi, np.maximum(-lo, 0), Rounding.TRN)
    return builder.minus(negative, raised)


def bipolar(builder: LayerBuilder, x: str, scale: Floats, zero: Floats) -> str:
    """Return (1 - zero) * scale where x / scale + zero >= 0, else (-1 - zero) * scale."""
    if not (scale > 0).all():
        raise LayerProblem(f"scale {scale.min():g}; it must be positive")
    shift = zero * scale
    if zero.any():
        x = builder.plus(x, builder.constant(shift, "zero_point"))
    sign = builder.quantize(x, 2 * scale, -1, 0, Rounding.TRN)
    return builder.plus(sign, builder.constant(scale - shift, "offset"))
