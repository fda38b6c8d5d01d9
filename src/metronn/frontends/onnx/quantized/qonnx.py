"""QONNX operators: Quant (also called IntQuant), BipolarQuant and Trunc of both versions.

Semantics are those of the qonnx package, `qonnx.custom_op.general`: divide by the scale, add the zero point, clamp,
round, subtract the zero point, multiply by the scale. Constants are quantized in the file's own number type, which
decides the code; the value is then exactly code * scale.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from metronn.frontends.common.builder import LayerProblem
from metronn.frontends.onnx.context import Constant, NodeContext
from metronn.frontends.onnx.evaluate import Array
from metronn.frontends.onnx.grids import ROUNDINGS, bipolar, regrid, rounded
from metronn.model.graph import Floats

WIDEST = 2**40
"""Bound of whole numbers where an operator has none; beyond what 32-bit inputs reach."""


def _mode(c: NodeContext, default: str) -> str:
    mode = str(c.attribute("rounding_mode", default)).upper()
    if mode not in ROUNDINGS:
        raise LayerProblem(f"rounding mode {mode}; {', '.join(ROUNDINGS)} are allowed")
    return mode


def _range(bits: Floats, mode: str, *, signed: bool, narrow: bool) -> tuple[Floats, Floats]:
    """Return the bounds of the codes. Clamping before rounding is clamping to the rounded bounds."""
    if (bits < 1).any():
        raise LayerProblem(f"bit width {bits.min():g}; 1 and more is allowed")
    half = np.exp2(bits - 1)
    lo = (narrow - half) if signed else np.zeros_like(bits)
    hi = half - 1 if signed else 2 * half - 1 - narrow
    return ROUNDINGS[mode](lo), ROUNDINGS[mode](hi)


def _event(c: NodeContext, position: int) -> Floats:
    """Return a parameter of the quantizer as it broadcasts with events."""
    values = c.event_floats(position, c.rank(0))
    return values.reshape(()) if values.size == 1 else values


def _parameter(c: NodeContext, position: int) -> Array:
    """Return a parameter as the file has it."""
    c.floats(position)
    return c.constant(position).values


def _exact(c: NodeContext, whole: Array, scale: Array) -> Constant:
    """Return the constant whole * scale, with its steps when `whole` holds whole numbers."""
    factor = scale.astype(np.float64)
    codes = whole.astype(np.float64)
    steps = np.broadcast_to(np.abs(factor), np.broadcast_shapes(codes.shape, factor.shape))
    plain = not np.mod(codes, 1).any() and (steps > 0).all()
    return Constant(c.node.output[0], codes * factor, step=np.array(steps) if plain else None)


def _quant(c: NodeContext) -> str | Constant:
    mode = _mode(c, "ROUND")
    signed, narrow = bool(c.attribute("signed", 1)), bool(c.attribute("narrow", 1))
    if not isinstance(c.given(0), Constant):
        scale, zero, bits = (_event(c, k) for k in (1, 2, 3))
        if signed and (bits == 1).all():
            return bipolar(c.builder, c.value(0), scale, zero)
        if signed and (bits == 1).any():
            raise LayerProblem("signed channels of 1 bit (-1 and 1) beside wider ones")
        return rounded(c.builder, c.value(0), scale, zero, _range(bits, mode, signed=signed, narrow=narrow), mode)
    x, factor, offset = (_parameter(c, k) for k in (0, 1, 2))
    width = c.floats(3)
    with np.errstate(all="ignore"):
        codes = x / factor + offset
    if signed and (width == 1).all():
        return _exact(c, np.where(codes >= 0, 1, -1).astype(codes.dtype) - offset, factor)
    lo, hi = _range(width, mode, signed=signed, narrow=narrow)
    return _exact(c, ROUNDINGS[mode](np.clip(codes, lo, hi).astype(codes.dtype)) - offset, factor)


def _bipolar_quant(c: NodeContext) -> str | Constant:
    if isinstance(c.given(0), Constant):
        x, scale = (_parameter(c, k) for k in (0, 1))
        return _exact(c, np.where(x >= 0, 1, -1), scale)
    return bipolar(c.builder, c.value(0), _event(c, 1), np.zeros(()))


def _trunc(c: NodeContext) -> str | Constant:
    """Version 1 reads (x, scale, zero, bits in, bits out), version 2 (x, scale, zero, bits in, scale out, bits out)."""
    mode, second = _mode(c, "FLOOR"), len(c.operands) > 5
    if isinstance(c.given(0), Constant):
        return _truncated(c, mode, second=second)
    scale, zero, bits_in = (_event(c, k) for k in (1, 2, 3))
    builder, x = c.builder, c.value(0)
    if second:
        scale_out, bits_out = _event(c, 4), _event(c, 5)
        shift = np.exp2(np.round(np.log2(scale_out / scale)))
        signed, narrow = bool(c.attribute("signed", 1)), bool(c.attribute("narrow", 0))
        bounds = _range(bits_out, mode, signed=signed, narrow=narrow)
        zero_out = zero / shift
    else:
        scale_out, zero_out, shift = scale, zero, np.exp2(bits_in - _event(c, 4))
        bounds = (np.full((), -float(WIDEST)), np.full((), float(WIDEST)))
    if zero.any():
        x = builder.plus(x, builder.constant(zero * scale, "zero_point"))
    none, widest = np.zeros(()), (np.full((), -float(WIDEST)), np.full((), float(WIDEST)))
    whole = rounded(builder, x, scale, none, widest, "ROUND")
    kept = rounded(builder, whole, scale * shift, none, bounds, mode)
    y = regrid(builder, kept, scale * shift, scale_out, *bounds)
    return builder.minus(y, builder.constant(zero_out * scale_out, "zero_point_out")) if zero.any() else y


def _truncated(c: NodeContext, mode: str, *, second: bool) -> Constant:
    """Trunc of a constant."""
    x, scale, zero, bits_in = (_parameter(c, k) for k in (0, 1, 2, 3))
    whole = np.round(x / scale + zero)
    if not second:
        return _exact(c, ROUNDINGS[mode](whole / 2.0 ** (bits_in - _parameter(c, 4))) - zero, scale)
    scale_out = _parameter(c, 4)
    shift = 2 ** np.round(np.log2(scale_out / scale))
    signed, narrow = bool(c.attribute("signed", 1)), bool(c.attribute("narrow", 0))
    lo, hi = _range(c.floats(5), mode, signed=signed, narrow=narrow)
    return _exact(c, ROUNDINGS[mode](np.clip(whole / shift, lo, hi)) - zero / shift, scale_out)


QONNX: Mapping[str, Callable[[NodeContext], str | Constant]] = {
    "BipolarQuant": _bipolar_quant,
    "IntQuant": _quant,
    "Quant": _quant,
    "Trunc": _trunc,
}
"""The operators of this file; their domain has changed over the years and is not looked at."""
