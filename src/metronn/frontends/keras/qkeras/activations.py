"""Values through quantizers and activation functions of QKeras: a few real ops each.

Rounding goes half to even (`tf.round`), except where a fixed scale of training is kept (half away from zero). Sigmoid
and tanh are QKeras' hard ones unless the quantizer asks for real ones; `set_internal_sigmoid` is not kept in files.
A comparison x >= t is 1 + floor(x - t) clipped to [-1, 0].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from metronn.frontends.common.builder import LayerBuilder, LayerProblem
from metronn.frontends.keras.qkeras.quantizers import Quantizer, Singles
from metronn.ir.ops import Overflow, Rounding
from metronn.model.graph import FunctionKind

EPSILON = np.float32(1e-7)
"""Keras' epsilon: below it, powers of two are the smallest one."""


def quantized_value(builder: LayerBuilder, x: str, quantizer: Quantizer) -> str:
    """Return x through a quantizer; raises LayerProblem."""
    return _VALUES[quantizer.name](builder, x, quantizer)


def _multiplied(builder: LayerBuilder, x: str, factor: Singles | None) -> str:
    return x if factor is None or (factor == 1).all() else builder.scaled(x, factor.astype(np.float64))


def _mixed(builder: LayerBuilder, x: str, quantized: str, quantizer: Quantizer) -> str:
    """Return x + qnoise_factor * (quantized - x), the quantized value when the factor is 1."""
    factor = np.float32(quantizer.number("qnoise_factor"))
    if factor == 1:
        return quantized
    if factor == 0:
        return x
    rest = float(np.float32(1) - factor)
    return builder.plus(builder.scaled(x, rest), builder.scaled(quantized, float(factor)))


def _at_least(builder: LayerBuilder, x: str, thresholds: npt.ArrayLike) -> str:
    """Return 0 where x >= threshold, else -1, broadcast."""
    moved = x if np.ndim(thresholds) == 0 and thresholds == 0 else builder.scaled(x, 1.0, -np.asarray(thresholds))
    return builder.quantize(moved, 1.0, -1, 0, Rounding.TRN, Overflow.SAT, "compare")


def _signs(builder: LayerBuilder, x: str, low: float) -> str:
    """Return 1 where x >= 0, else `low`."""
    return builder.scaled(_at_least(builder, x, 0.0), 1 - low, 1.0)


def _bits(builder: LayerBuilder, x: str, quantizer: Quantizer) -> str:
    bits, keep = quantizer.whole("bits"), quantizer.flag("keep_negative")
    unsigned, integer = bits - keep, quantizer.whole("integer")
    if quantizer.automatic is not None:
        if quantizer.arguments.get("post_training_scale") is None:
            raise LayerProblem(f"{quantizer.name} with alpha {quantizer.automatic}: the scale depends on the batch")
        scale = quantizer.array("post_training_scale").astype(np.float64) * 2.0 ** (integer - unsigned)
        top = 2 ** (bits - 1) - 1
        y = builder.quantize(x, scale, -top, top, Rounding.RND_INF)
    elif unsigned <= 0:
        y = _multiplied(builder, _signs(builder, x, -1.0 if keep else 0.0), quantizer.alpha)
    else:
        low = -(2**unsigned) + int(quantizer.number("symmetric")) if keep else 0
        y = builder.quantize(x, 2.0 ** (integer - unsigned), low, 2**unsigned - 1)
        y = _multiplied(builder, y, quantizer.alpha)
    return _mixed(builder, x, y, quantizer)


def _linear(builder: LayerBuilder, x: str, quantizer: Quantizer) -> str:
    bits, keep = quantizer.whole("bits"), quantizer.flag("keep_negative")
    alpha = np.ones((), np.float32) if quantizer.alpha is None else quantizer.alpha
    if quantizer.automatic is not None:
        raise LayerProblem(f"{quantizer.name} with alpha {quantizer.automatic}: the scale depends on the batch")
    scale = alpha.astype(np.float64) * 2.0 ** (quantizer.whole("integer") - bits + keep)
    if bits == 1 and keep:
        y = builder.scaled(_signs(builder, x, -1.0), scale / 2)
    else:
        low = -(2 ** (bits - keep)) + int(quantizer.number("symmetric")) if keep else 0
        y = builder.quantize(x, scale, low, 2 ** (bits - keep) - 1)
    return _mixed(builder, x, y, quantizer)


def _relu(builder: LayerBuilder, x: str, quantizer: Quantizer) -> str:
    slope, integer = quantizer.number("negative_slope"), quantizer.whole("integer")
    free = quantizer.whole("bits") - (slope != 0)
    count, whole = 2**free, 2.0**integer
    unit = whole / count
    if quantizer.flag("use_sigmoid"):
        y = _relu_of_sigmoid(builder, x, quantizer)
    else:
        lowest = slope * count
        y = builder.leaky_relu(x, slope) if slope else x
        y = builder.quantize(y, unit, -int(np.ceil(lowest)), count - 1)
        if lowest != int(lowest):
            y = builder.maximum(y, builder.constant(-whole * slope, "lowest"))
    upper = quantizer.arguments["relu_upper_bound"]
    clips = quantizer.flag("is_quantized_clip")
    if upper and not clips:
        upper = float(np.float32(quantizer.number("relu_upper_bound")))
        y = builder.minimum(y, builder.constant(upper, "upper"))
    if quantizer.number("qnoise_factor") == 1:
        return y
    bound = whole - unit if clips else upper
    rectified = builder.leaky_relu(x, slope)
    if bound is not None:
        rectified = builder.minimum(rectified, builder.constant(float(np.float32(bound)), "upper"))
    return _mixed(builder, rectified, y, quantizer)


def _relu_of_sigmoid(builder: LayerBuilder, x: str, quantizer: Quantizer) -> str:
    """2 * sigmoid(x) - 1 above 0, on steps of twice the unit; below 0, the same of slope * sigmoid(x)."""
    slope, whole = quantizer.number("negative_slope"), 2.0 ** quantizer.whole("integer")
    count = 2 ** (quantizer.whole("bits") - (slope != 0))
    sigmoid = _hard_sigmoid(builder, builder.scaled(x, 1 / whole))
    rounded = builder.quantize(sigmoid, 1 / count, 0, count)
    y = builder.clipped(builder.scaled(rounded, 2.0, -1.0), 0.0, 1 - 1 / count)
    if slope:
        rounded = builder.quantize(builder.scaled(sigmoid, slope), 1 / count, 0, max(1, int(count * slope)))
        below = builder.clipped(builder.scaled(rounded, 2 / slope, -1.0), -1.0, 0.0)
        y = builder.plus(y, builder.scaled(below, slope))
    return builder.scaled(y, whole)


def _ternary(builder: LayerBuilder, x: str, quantizer: Quantizer) -> str:
    if quantizer.automatic is not None:
        raise LayerProblem(f"{quantizer.name} with alpha {quantizer.automatic}: the scale depends on the batch")
    given = quantizer.arguments["threshold"]
    threshold = max(0.0, float(np.float32(0.33 if given is None else quantizer.number("threshold"))))
    above = _at_least(builder, x, threshold)
    below = _at_least(builder, builder.scaled(x, -1.0), threshold)
    return _multiplied(builder, builder.minus(above, below), quantizer.alpha)


def _binary(builder: LayerBuilder, x: str, quantizer: Quantizer) -> str:
    if quantizer.automatic is not None:
        raise LayerProblem(f"{quantizer.name} with alpha {quantizer.automatic}: the scale depends on the batch")
    low = 0.0 if quantizer.arguments.get("use_01") else -1.0
    return _multiplied(builder, _signs(builder, x, low), quantizer.alpha)


def _tanh(builder: LayerBuilder, x: str, quantizer: Quantizer) -> str:
    real = quantizer.flag("use_real_tanh")
    y = builder.function(x, FunctionKind.TANH) if real else builder.clipped(x, -1.0, 1.0)
    count = 2 ** (quantizer.whole("bits") - 1)
    return builder.quantize(y, 1 / count, -count + quantizer.flag("symmetric"), count - 1)


def _sigmoid(builder: LayerBuilder, x: str, quantizer: Quantizer) -> str:
    real = quantizer.flag("use_real_sigmoid")
    y = builder.function(x, FunctionKind.SIGMOID) if real else _hard_sigmoid(builder, x)
    count = 2 ** quantizer.whole("bits")
    return builder.quantize(y, 1 / count, int(quantizer.flag("symmetric")), count - 1)


def _ulaw(builder: LayerBuilder, x: str, quantizer: Quantizer) -> str:
    """sign(r) * log(1 + u * |r|) / log(1 + u) of r = 2 * rounded sigmoid - 1; the result is on no grid."""
    count, whole = 2 ** (quantizer.whole("bits") - 1), 2.0 ** quantizer.whole("integer")
    u = quantizer.number("u")
    if u <= 0:
        raise LayerProblem(f"quantized_ulaw: u is {u:g}, a positive number is needed")
    sigmoid = _hard_sigmoid(builder, builder.scaled(x, 1 / whole))
    r = builder.scaled(builder.quantize(sigmoid, 1 / count, 0, count), 2.0, -1.0)
    size = builder.maximum(r, builder.scaled(r, -1.0), "absolute")
    bent = builder.function(builder.scaled(size, u, 1.0), FunctionKind.LOG)
    y = builder.times(builder.function(r, FunctionKind.SIGN), builder.scaled(bent, 1 / float(np.log1p(u))))
    y = builder.clipped(y, -1.0 + quantizer.flag("symmetric") / count, 1 - 1 / count)
    return builder.scaled(y, whole)


def _hswish(builder: LayerBuilder, x: str, quantizer: Quantizer) -> str:
    """quantized_bits of x * clip(x + shift, 0, upper) / upper.

    The product is rounded before the division, on steps `upper` times as wide: so no tie is lost to 1 / upper.
    """
    shift, upper = quantizer.number("relu_shift"), quantizer.number("relu_upper_bound")
    inner = {**quantizer.arguments, "keep_negative": True}
    product = builder.times(x, builder.clipped(builder.scaled(x, 1.0, shift), 0.0, upper))
    plain = builder.scaled(product, 1 / upper)
    bits, integer = quantizer.whole("bits"), quantizer.whole("integer")
    if quantizer.automatic is None and bits > 1 and quantizer.number("qnoise_factor") == 1:
        low, top = -(2 ** (bits - 1)) + int(quantizer.number("symmetric")), 2 ** (bits - 1) - 1
        wide = builder.quantize(product, upper * 2.0 ** (integer - bits + 1), low, top)
        plain = builder.scaled(wide, 1 / upper)
    return _bits(builder, plain, Quantizer("quantized_bits", inner))


def power_exponents(quantizer: Quantizer, x: Singles) -> Singles:
    """Return the exponents that quantized_po2 and quantized_relu_po2 give to numbers >= 0, in QKeras' float32."""
    signed = quantizer.name == "quantized_po2"
    limit = quantizer.arguments["max_value"]
    if limit is not None and quantizer.number("max_value") < 0:
        raise LayerProblem(f"{quantizer.name}: max_value is {limit}, at least 0 is needed")
    effective = quantizer.whole("bits") - signed - (limit is None or limit > 1)
    lowest, highest = -(2.0**effective), 2.0**effective - 1
    quadratic = quantizer.flag("quadratic_approximation")
    if quadratic:
        highest = 2 * (highest // 2)
    kept = np.where(x < EPSILON, EPSILON, x).astype(np.float32)
    if limit is not None:
        kept = np.where(kept >= np.float32(limit), np.float32(limit), kept)
    logs = np.log(np.sqrt(kept) if quadratic else kept) / np.float32(np.log(2.0))
    whole = np.floor(logs) if quantizer.arguments["log2_rounding"] == "floor" else np.rint(logs)
    exponents = np.clip(whole, np.float32(lowest), np.float32(highest)) * np.float32(1 + quadratic)
    return np.where(x < EPSILON, np.float32(lowest), exponents).astype(np.float32)


def _steps(quantizer: Quantizer) -> tuple[float, npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return (base, thresholds, heights) of the staircase 2**power_exponents(x), x >= 0, found by bisection.

    A float32 that is not negative grows with its bit pattern, so every threshold is a float32.
    """
    first = EPSILON.view(np.int32)
    last = np.float32(np.finfo(np.float32).max).view(np.int32)
    low = int(power_exponents(quantizer, np.asarray([EPSILON]))[0])
    high = int(power_exponents(quantizer, np.asarray([last]).view(np.float32))[0])
    levels = np.arange(low + 1, high + 1)
    below, above = np.full(levels.shape, first), np.full(levels.shape, last)
    while np.any(above - below > 1):
        middle = (below + (above - below) // 2).astype(np.int32)
        reached = power_exponents(quantizer, middle.view(np.float32)) >= levels
        above, below = np.where(reached, middle, above), np.where(reached, below, middle)
    found = above.astype(np.int32).view(np.float32).astype(np.float64)
    thresholds = np.concatenate([[float(EPSILON)], np.unique(found)])
    base = power_exponents(quantizer, np.zeros(1, np.float32)).astype(np.float64)
    reached = power_exponents(quantizer, thresholds.astype(np.float32)).astype(np.float64)
    heights = np.diff(np.exp2(np.concatenate([base, reached])))
    return float(np.exp2(base[0])), thresholds[heights != 0], heights[heights != 0]


def _staircase(builder: LayerBuilder, x: str, quantizer: Quantizer) -> str:
    """Return the power of two of x where positive, the smallest one elsewhere."""
    base, thresholds, heights = _steps(quantizer)
    shape = builder.shape(x)
    reached = builder.scaled(_at_least(builder, builder.reshape(x, (*shape, 1)), thresholds), 1.0, 1.0)
    y = builder.linear(reached, heights[:, np.newaxis], np.asarray([base]))
    return builder.reshape(y, shape)


def _po2(builder: LayerBuilder, x: str, quantizer: Quantizer) -> str:
    """Powers of two: for x >= 0 of x; for x < 0 minus those of -slope * x (quantized_po2: slope 1).

    Either staircase stays at its base b on the other side, so their difference plus b * sign(x) is the result.
    """
    relu = quantizer.name == "quantized_relu_po2"
    slope = quantizer.number("negative_slope") if relu else 1.0
    y = _staircase(builder, x, quantizer)
    if slope:
        base = _steps(quantizer)[0]
        below = _staircase(builder, builder.scaled(x, -slope), quantizer)
        signs = builder.scaled(_at_least(builder, x, 0.0), 2 * base, base)
        y = builder.plus(builder.minus(y, below), signs)
    if quantizer.number("qnoise_factor") == 1:
        return y
    if relu:
        x = builder.leaky_relu(x, slope)
        if quantizer.arguments["max_value"] is not None:
            x = builder.minimum(x, builder.constant(float(np.float32(quantizer.number("max_value"))), "upper"))
    return _mixed(builder, x, y, quantizer)


_VALUES: Mapping[str, Callable[[LayerBuilder, str, Quantizer], str]] = {
    "binary": _binary,
    "quantized_bits": _bits,
    "quantized_hswish": _hswish,
    "quantized_linear": _linear,
    "quantized_po2": _po2,
    "quantized_relu": _relu,
    "quantized_relu_po2": _po2,
    "quantized_sigmoid": _sigmoid,
    "quantized_tanh": _tanh,
    "quantized_ulaw": _ulaw,
    "stochastic_binary": _binary,
    "stochastic_ternary": _ternary,
    "ternary": _ternary,
}


def _hard_sigmoid(builder: LayerBuilder, x: str) -> str:
    return builder.hard_sigmoid(x, 0.5, 0.5)


def _smooth_sigmoid(builder: LayerBuilder, x: str) -> str:
    return builder.hard_sigmoid(x, 0.1875, 0.5)


def _binary_sigmoid(builder: LayerBuilder, x: str) -> str:
    return builder.quantize(_hard_sigmoid(builder, x), 1.0, 0, 1)


FUNCTIONS: Mapping[str, Callable[[LayerBuilder, str], str]] = {
    "binary_sigmoid": _binary_sigmoid,
    "binary_tanh": lambda builder, x: builder.scaled(_binary_sigmoid(builder, x), 2.0, -1.0),
    "hard_sigmoid": _hard_sigmoid,
    "hard_tanh": lambda builder, x: builder.clipped(x, -1.0, 1.0),
    "smooth_sigmoid": _smooth_sigmoid,
    "smooth_tanh": lambda builder, x: builder.scaled(_smooth_sigmoid(builder, x), 2.0, -1.0),
}
"""Activation functions of QKeras; in a layer of QKeras they stand before those of Keras with the same name."""
