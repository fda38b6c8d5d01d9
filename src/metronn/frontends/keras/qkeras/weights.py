"""Constants through quantizers of QKeras, in QKeras' own float32 arithmetic and order.

A result is (values, step): values are float64 and exactly on the grid; `step` has their shape when the grid is no power
of two, else it is None. QKeras adds x and -x around its result so that gradients pass; the float32 rounding of that sum
is left out, and so is that of a sum's order in a mean (both below 2^-22 of a value).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from metronn.frontends.common.builder import LayerBuilder, LayerProblem
from metronn.frontends.keras.qkeras.activations import power_exponents, quantized_value
from metronn.frontends.keras.qkeras.quantizers import Quantizer, Singles
from metronn.model.graph import Floats
from metronn.model.reference import run_reference

EPSILON = np.float32(1e-7)
"""Keras' epsilon."""

LN2 = np.float32(np.log(2.0))

Gridded = tuple[Floats, Floats | None]


def quantized_constant(quantizer: Quantizer, values: Floats) -> Gridded:
    """Return (values, step) of constants through a quantizer; raises LayerProblem when QKeras would give NaN."""
    x = values.astype(np.float32)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        quantize = _CONSTANTS.get(quantizer.name)
        if quantize is None:
            return _evaluated(quantizer, values), None
        codes, step = quantize(quantizer, x)
    scale = np.broadcast_to(step, x.shape).astype(np.float64)
    result = codes.astype(np.float64) * scale
    grid = np.asarray(np.where(scale > 0, scale, 1.0))
    if not np.isfinite(result).all():
        raise LayerProblem(f"{quantizer.name} makes NaN or infinities of finite weights")
    noise = quantizer.arguments.get("qnoise_factor", 1.0)
    if noise != 1:
        factor = np.float32(quantizer.number("qnoise_factor"))
        if quantizer.name == "quantized_relu_po2":
            x = np.where(x < 0, x * np.float32(quantizer.number("negative_slope")), x)
            x = np.minimum(x, np.inf if quantizer.arguments["max_value"] is None else quantizer.array("max_value"))
        mixed = x + factor * (result.astype(np.float32) - x)
        return mixed.astype(np.float64), None
    return result, None if (np.frexp(grid)[0] == 0.5).all() else grid


def _evaluated(quantizer: Quantizer, values: Floats) -> Floats:
    """Return constants through a quantizer that looks at one element at a time."""
    builder = LayerBuilder()
    shape = values.shape or (1,)
    y = quantized_value(builder, builder.input("x", shape), quantizer)
    graph = builder.finish([("y", y)], quantizer.name)
    found = run_reference(graph, {"x": values.reshape(1, *shape)})["y"]
    return np.broadcast_to(found[0], shape).reshape(values.shape)


def _fixed(quantizer: Quantizer) -> Singles:
    alpha = quantizer.alpha
    return np.float32(1.0) * np.ones((), np.float32) if alpha is None else alpha


def _power(exponent: float) -> np.float32:
    return np.float32(2.0**exponent)


def _bits(quantizer: Quantizer, x: Singles) -> tuple[Singles, Singles]:
    if quantizer.automatic is not None:
        return _bits_automatic(quantizer, x)
    keep = quantizer.flag("keep_negative")
    unsigned = quantizer.whole("bits") - keep
    scale = _fixed(quantizer)
    if unsigned <= 0:
        codes = np.where(x >= 0, np.float32(1), np.float32(-1 if keep else 0))
        return codes, scale
    m, whole = _power(unsigned), _power(quantizer.whole("integer"))
    low = -m + np.float32(quantizer.number("symmetric")) if keep else np.float32(0)
    return np.clip(np.rint(x * m / whole), low, m - 1), scale * (whole / m)


def _bits_automatic(quantizer: Quantizer, x: Singles) -> tuple[Singles, Singles]:
    bits = quantizer.whole("bits")
    m, whole = _power(bits - quantizer.flag("keep_negative")), _power(quantizer.whole("integer"))
    half = np.float32(2 ** (bits - 1) - 1)
    levels = half * 2
    x = x / whole

    def codes(scale: Singles) -> Singles:
        v = np.floor(np.abs(x) / scale + np.float32(0.5))
        return np.asarray(np.sign(x) * np.where(v < half, v, half))

    if quantizer.arguments.get("post_training_scale") is not None:
        scale = quantizer.array("post_training_scale") / m
        return codes(scale), scale * whole
    axis = _scaling_axes(quantizer.arguments.get("scale_axis"), x.ndim) if x.ndim > 1 else None
    scale = (np.max(np.abs(x), axis=axis, keepdims=True) * np.float32(2)) / levels
    if quantizer.automatic == "auto_po2":
        scale = _nearest_power(scale)
        for _ in range(5):
            scale = _least_squares(quantizer, x, codes(scale))
    return codes(scale), scale * whole


def _linear(quantizer: Quantizer, x: Singles) -> tuple[Singles, Singles]:
    bits, keep = quantizer.whole("bits"), quantizer.flag("keep_negative")
    sign = bits == 1 and keep
    unit = _power(quantizer.whole("integer") - bits + keep)
    top = np.float32(0.5) if sign else _power(bits - keep) - 1
    low = -top if sign else np.float32(keep) * (-_power(bits - keep) + np.float32(quantizer.number("symmetric")))
    shift = np.float32(0.5 if sign else 0.0)

    def codes(scale: Singles) -> Singles:
        return np.asarray(np.rint(np.clip(x / scale, low, top) - shift) + shift)

    if quantizer.automatic is None:
        scale = _fixed(quantizer) * unit
        return codes(scale), scale
    axis = _scaling_axes(quantizer.arguments.get("scale_axis"), x.ndim)
    if keep:
        scale = (np.max(np.abs(x), axis=axis, keepdims=True) * np.float32(2)) / (top - low)
    else:
        scale = np.max(x, axis=axis, keepdims=True) / (top - low)
    scale = np.maximum(scale, EPSILON)
    if quantizer.automatic == "auto_po2":
        scale = _nearest_power(scale)
        last = -np.ones_like(scale)
        for _ in range(1 if sign else 5):
            if (last == scale).all():
                break
            last, scale = scale, _least_squares(quantizer, x, codes(scale))
    return codes(scale), scale


def _ternary(quantizer: Quantizer, x: Singles) -> tuple[Singles, Singles]:
    if quantizer.automatic is None:
        threshold = np.float32(0.33 if quantizer.arguments["threshold"] is None else quantizer.number("threshold"))
        return np.where(np.abs(x) >= threshold, np.sign(x), np.float32(0)), _fixed(quantizer)
    if quantizer.arguments["threshold"] is not None:
        raise LayerProblem(f"{quantizer.name}: threshold beside alpha {quantizer.automatic}, one of both is allowed")
    axis = None if x.ndim == 1 else tuple(range(x.ndim - 1))
    scale = np.float32(2) * np.max(np.abs(x), axis=axis, keepdims=True) / np.float32(3)
    if quantizer.automatic == "auto_po2":
        scale = _nearest_power(scale)
    codes = np.zeros_like(x)
    for _ in range(quantizer.whole("number_of_unrolls")):
        rounded = scale * np.rint(x / scale)
        codes = np.where(np.abs(rounded) >= scale / np.float32(2), np.sign(x), np.float32(0))
        scale = _least_squares(quantizer, x, codes)
    return codes, scale


def _binary(quantizer: Quantizer, x: Singles) -> tuple[Singles, Singles]:
    codes = np.where(x >= 0, np.float32(1), np.float32(0 if quantizer.arguments.get("use_01") else -1))
    if quantizer.automatic is None:
        return codes, _fixed(quantizer)
    return codes, _least_squares(quantizer, x, codes)


def _po2(quantizer: Quantizer, x: Singles) -> tuple[Singles, Singles]:
    powers = np.exp2(power_exponents(quantizer, np.abs(x)).astype(np.float64))
    return np.where(x >= 0, powers, -powers).astype(np.float32), np.ones((), np.float32)


def _relu_po2(quantizer: Quantizer, x: Singles) -> tuple[Singles, Singles]:
    slope = np.float32(quantizer.number("negative_slope"))
    above = np.exp2(power_exponents(quantizer, np.maximum(x, np.float32(0))).astype(np.float64))
    below = np.exp2(power_exponents(quantizer, np.maximum(-x, np.float32(0)) * slope).astype(np.float64))
    return np.where((x >= 0) | (slope == 0), above, -below).astype(np.float32), np.ones((), np.float32)


def _scaling_axes(scale_axis: object, rank: int) -> tuple[int, ...]:
    """Return the axes that one scale serves: all but the last, or all but those named."""
    if scale_axis is None:
        return tuple(range(max(rank - 1, 0)))
    kept = scale_axis if isinstance(scale_axis, list | tuple) else [scale_axis]
    return tuple(axis for axis in range(rank) if axis not in kept)


def _nearest_power(scale: Singles) -> Singles:
    return np.asarray(np.exp2(np.rint(np.log(scale + EPSILON) / LN2)), dtype=np.float32)


def _least_squares(quantizer: Quantizer, x: Singles, codes: Singles) -> Singles:
    """Return the scale that fits scale * codes to x best; each element of a vector has one of its own."""
    if x.ndim > 1:
        axis = _scaling_axes(quantizer.arguments.get("scale_axis"), x.ndim)
        both = np.mean(x * codes, axis=axis, keepdims=True, dtype=np.float32)
        square = np.mean(codes * codes, axis=axis, keepdims=True, dtype=np.float32)
    else:
        both, square = x * codes, codes * codes
    scale = np.asarray(both / (square + EPSILON), dtype=np.float32)
    if quantizer.automatic == "auto_po2":
        scale = _nearest_power(scale)
        for key, bound in (("min_po2_exponent", np.maximum), ("max_po2_exponent", np.minimum)):
            if quantizer.arguments.get(key) is not None:
                scale = np.asarray(bound(scale, _power(quantizer.whole(key))), dtype=np.float32)
    return scale


_CONSTANTS: Mapping[str, Callable[[Quantizer, Singles], tuple[Singles, Singles]]] = {
    "binary": _binary,
    "quantized_bits": _bits,
    "quantized_linear": _linear,
    "quantized_po2": _po2,
    "quantized_relu_po2": _relu_po2,
    "stochastic_binary": _binary,
    "stochastic_ternary": _ternary,
    "ternary": _ternary,
}
"""Quantizers that look at all values, or whose float32 arithmetic decides a bit."""
