"""The quantizers of HGQ2 as saved: what they do to weights, in float32 as HGQ2 does it, and what to activations.

A fixed-point quantizer has, for each element or shared along axes, k (1: negative values too), i (integer bits) and
f (fraction bits): grid 2**-f, values from -k 2**i up to 2**i - 2**-f. Elements with k + i + f <= 0 are always 0.
Source: hgq2 0.2.0, hgq/quantizer/internal, and the package quantizers, fixed_point/_fixed_point_ops.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from metronn.frontends.common.builder import LayerBuilder, LayerProblem
from metronn.frontends.keras.hgq.weights import Float32, InnerLayer, WeightTree, child
from metronn.ir.ops import Overflow, Rounding
from metronn.model.graph import Floats

Config = Mapping[str, Any]

INNER = InnerLayer("quantizer", r"(fixed|float)_point_quantizer\w*")
"""From HGQ2's Quantizer layer to the one that holds the widths."""

SYMMETRIC, SATURATING, WRAPPING, REFLECTING = "SAT_SYM", "SAT", "WRAP", "WRAP_SM"

OVERFLOWS = (SYMMETRIC, SATURATING, WRAPPING, REFLECTING)

MOST_BITS = 52
"""Wider codes are no whole numbers of float64."""

FLOAT_EPSILON = np.float32(1e-7)
"""What HGQ2 adds to a magnitude before it takes the exponent of a minifloat."""

HARD_CONFIGS: Mapping[str, Config] = {
    "HardTanhConfig": {"overflow_mode": SATURATING},
    "HardSigmoidConfig": {"overflow_mode": SATURATING, "affine": [0.25, 0.5]},
}
"""What these configurations leave out of the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """What stands around a quantizer: y = q(x / scaler) * scaler, then y * affine[0] + affine[1]."""

    scaler: float | None = None
    affine: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PassThrough:
    """What HGQ2 calls a dummy quantizer: it passes everything as it is."""

    outside: Outside


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedQuantizer:
    """A fixed-point quantizer; k, i and f have the shape that the file gives, f + i the bits without sign.

    `free`: weights that wrap are rounded only, HGQ2 having seen to it that i is large enough.
    """

    k: Float32
    i: Float32
    f: Float32
    rounding: Rounding
    overflow: str
    free: bool
    outside: Outside


@dataclass(frozen=True, slots=True, kw_only=True)
class Minifloat:
    """Numbers of few bits with m mantissa bits and e exponent bits, the exponent moved by e0."""

    m: Float32
    e: Float32
    e0: Float32
    outside: Outside


Quantizer = PassThrough | FixedQuantizer | Minifloat


def plain(config: Config) -> dict[str, Any]:
    """Return a configuration with the tuples unwrapped that Keras saves as objects."""
    return {key: _unwrapped(inner) for key, inner in config.items()}


def _unwrapped(value: object) -> object:
    match value:
        case {"class_name": "__tuple__", "items": list() as items} | (list() as items):
            return [_unwrapped(item) for item in items]
        case dict():
            return plain(value)
        case _:
            return value


def read_quantizer(conf: object, tree: WeightTree | None, forced: Config | None = None) -> Quantizer:
    """Return a quantizer from its configuration and the arrays of its Quantizer layer.

    `forced` overrides the configuration. Raises LayerProblem and MissingWeightsError.
    """
    if not isinstance(conf, dict) or not isinstance(conf.get("config"), dict):
        raise LayerProblem("the configuration of a quantizer is missing")
    config = {**conf["config"], **HARD_CONFIGS.get(str(conf.get("class_name")), {}), **(forced or {})}
    if config.get("bw_mapper") is not None:
        raise LayerProblem("a quantizer has a bw_mapper of its own; only homogeneous and heterogeneous axes are read")
    affine = config.get("affine")
    scaler = config.get("scaler")
    outside = Outside(
        scaler=None if scaler is None else float(np.float32(scaler)),
        affine=None if affine is None else (float(np.float32(affine[0])), float(np.float32(affine[1]))),
    )
    kind = str(config.get("q_type"))
    if kind == "dummy":
        return PassThrough(outside=outside)
    held = None if tree is None else child(tree, INNER)
    if held is None:
        raise LayerProblem(f"the weights have no widths of a quantizer of type {kind}")
    if kind == "float":
        arrays = held.own(["m", "e", "e0"])
        m, e, e0 = (np.rint(arrays[name]) for name in ("m", "e", "e0"))
        return Minifloat(m=m, e=e, e0=e0, outside=outside)
    if kind not in ("kif", "kbi"):
        raise LayerProblem(f"quantizers of type {kind!r} are not known; kif, kbi, float and dummy are")
    return _fixed(kind, config, held, outside)


def _fixed(kind: str, config: Config, held: WeightTree, outside: Outside) -> FixedQuantizer:
    mode, overflow = str(config.get("round_mode")).upper().removeprefix("S_"), str(config.get("overflow_mode")).upper()
    if mode not in Rounding.__members__ or overflow not in OVERFLOWS:
        raise LayerProblem(f"a quantizer has round_mode {mode!r} and overflow_mode {overflow!r}, which are not known")
    width = "f" if kind == "kif" else "b"
    if overflow == WRAPPING:
        arrays = held.own([width, "k", "i", "i_decay_speed"])
    else:
        arrays = held.own(["i", "f", "k"] if kind == "kif" else ["b", "i", "k"])
    i, bits = np.rint(arrays["i"]), np.rint(arrays[width])
    traced = overflow == WRAPPING and bool(config.get("trainable", True)) and bool(config.get("is_weight", False))
    return FixedQuantizer(
        k=arrays["k"],
        i=i,
        f=bits if kind == "kif" else np.asarray(bits - i, dtype=np.float32),
        rounding=Rounding[mode],
        overflow=overflow,
        free=traced and (kind == "kif" or mode == "RND"),
        outside=outside,
    )


def _power(exponent: Float32) -> Float32:
    return np.ldexp(np.float32(1), exponent.astype(np.int32)).astype(np.float32)


def _rounded(x: Float32, rounding: Rounding) -> Float32:
    """Round in float32 by HGQ2's own formulas."""
    half = np.float32(0.5)
    match rounding:
        case Rounding.TRN:
            y = np.floor(x)
        case Rounding.RND:
            y = np.floor(x + half)
        case Rounding.RND_CONV:
            y = np.rint(x)
        case Rounding.TRN_ZERO:
            y = np.floor(np.abs(x)) * np.sign(x)
        case Rounding.RND_ZERO:
            y = -np.floor(half - np.abs(x)) * np.sign(x)
        case Rounding.RND_MIN_INF:
            y = -np.floor(half - x)
        case Rounding.RND_INF:
            y = np.floor(np.abs(x) + half) * np.sign(x)
    return np.asarray(y, dtype=np.float32)


def quantized_weights(quantizer: Quantizer, values: Float32) -> Floats:
    """Return the weights that HGQ2 computes with, found in float32; raises LayerProblem when shapes do not fit."""
    outside = quantizer.outside
    x = np.asarray(values, dtype=np.float32)
    if outside.scaler is not None:
        x = x / np.float32(outside.scaler)
    match quantizer:
        case PassThrough():
            y = x
        case FixedQuantizer():
            y = _fixed_weights(quantizer, x)
        case Minifloat():
            y = _minifloat(quantizer, x)
    if outside.scaler is not None:
        y = y * np.float32(outside.scaler)
    if outside.affine is not None:
        y = y * np.float32(outside.affine[0]) + np.float32(outside.affine[1])
    return np.asarray(y, dtype=np.float64)


def _spread(arrays: tuple[Float32, ...], shape: tuple[int, ...]) -> list[Float32]:
    try:
        return [np.broadcast_to(array, shape) for array in arrays]
    except ValueError:
        raise LayerProblem(f"widths of shape {arrays[0].shape} for values of shape {shape}") from None


def _fixed_weights(quantizer: FixedQuantizer, x: Float32) -> Float32:
    k, i, f = _spread((quantizer.k, quantizer.i, quantizer.f), x.shape)
    grid = _power(f)
    if quantizer.free:
        return np.asarray(_rounded(x * grid, quantizer.rounding) / grid, dtype=np.float32)
    alive = k + i + f > 0
    top_bit = _power(np.maximum(i, -f))
    high = top_bit - _power(-f)
    match quantizer.overflow:
        case "WRAP":
            y = _rounded(x * grid, quantizer.rounding) / grid
            bias = k * top_bit
            y = np.mod(y + bias, top_bit * (1 + k)) - bias
        case "WRAP_SM":
            y = _reflected(x, k, quantizer, grid, top_bit)
        case _:
            low = -high * k if quantizer.overflow == SYMMETRIC else -top_bit * k
            y = _rounded(np.where(x > high, high, np.where(x < low, low, x)) * grid, quantizer.rounding) / grid
    return np.asarray(np.where(alive, y, 0), dtype=np.float32)


def _reflected(x: Float32, k: Float32, quantizer: FixedQuantizer, grid: Float32, top_bit: Float32) -> Float32:
    """WRAP_SM: what passes a bound comes back from it, as from a mirror."""
    step = 1 / grid
    high = top_bit - step
    low = -(high + step) * k
    interval = top_bit * (1 + k)
    outer = (np.mod(x / interval, 2) >= 1) & (np.abs(x) > step / 2)
    inner = np.mod((x + step / 2) / (interval / 2), 2) >= 1
    y = np.mod(_rounded(x * grid, quantizer.rounding) / grid - high - step, interval) + low
    y = np.where(inner, -y - step, y)
    return np.asarray(np.where(outer, -y - step, y), dtype=np.float32)


def _minifloat(quantizer: Minifloat, x: Float32) -> Float32:
    m, e, e0 = _spread((quantizer.m + 1, quantizer.e, quantizer.e0), x.shape)
    reach = np.maximum(_power(e - 1), np.float32(1))
    lowest, highest = -reach + e0 + 1, reach + e0 - 1
    exponent = np.clip(np.floor(np.log2(np.abs(x) + FLOAT_EPSILON)), lowest, highest)
    scale = _power(exponent - m + 1)
    most = np.where(highest != exponent, _power(m), _power(m) - 1)
    return np.asarray(np.clip(np.rint(x / scale), -most, most) * scale, dtype=np.float32)


def quantize_values(builder: LayerBuilder, quantizer: Quantizer, x: str, part: str) -> str:
    """Return x through a quantizer; raises LayerProblem when there is no exact integer form."""
    outside = quantizer.outside
    match quantizer:
        case PassThrough():
            y = x
        case Minifloat():
            raise LayerProblem(
                f"quantizer {part} makes minifloats of activations; only fixed point (kif, kbi) has an exact integer "
                "form, use q_type kif or kbi for activations (weights may be minifloats)"
            )
        case FixedQuantizer():
            y = _fixed_values(builder, quantizer, x, part)
    if outside.affine is None:
        return y
    return builder.scaled(y, *outside.affine)


def _per_event(array: Float32, shape: tuple[int, ...], part: str) -> Float32:
    """Drop the batch axis."""
    if array.ndim != len(shape) + 1 or array.shape[0] != 1:
        raise LayerProblem(f"quantizer {part} has widths of shape {array.shape} for values of shape {shape} per event")
    return np.asarray(array[0], dtype=np.float32)


def _fixed_values(builder: LayerBuilder, quantizer: FixedQuantizer, x: str, part: str) -> str:
    if quantizer.free or quantizer.overflow == REFLECTING:
        found = "is one of weights (is_weight) and has no bounds" if quantizer.free else f"has {REFLECTING}"
        raise LayerProblem(f"quantizer {part} of activations {found}; use WRAP, SAT or SAT_SYM with the place datalane")
    shape = builder.shape(x)
    k, i, f = (_per_event(array, shape, part) for array in (quantizer.k, quantizer.i, quantizer.f))
    alive = k + i + f > 0
    k, i, f = (np.where(alive, array, 0) for array in (k, i, f))
    bits = i + f
    if bits.size and bits.max() > MOST_BITS:
        raise LayerProblem(f"quantizer {part} has {int(bits.max())} bits, {MOST_BITS} are allowed")
    count = np.ldexp(1.0, bits.astype(np.int64))
    high = count - 1
    if quantizer.overflow != WRAPPING:
        top = _power(i) - _power(-f)  # in float32, so 2**i when there are more than 24 bits
        high = top.astype(np.float64) * np.ldexp(1.0, f.astype(np.int64))
    low = -k * (high if quantizer.overflow == SYMMETRIC else count)
    scale = np.ldexp(1.0, -f.astype(np.int64)) * (1.0 if quantizer.outside.scaler is None else quantizer.outside.scaler)
    overflow = Overflow.WRAP if quantizer.overflow == WRAPPING else Overflow.SAT
    low, high = np.where(alive, low, 0.0), np.where(alive, high, 0.0)
    arrays = [_shared(array) for array in (scale, low, high)]
    return builder.quantize(
        x, arrays[0], arrays[1].astype(np.int64), arrays[2].astype(np.int64), quantizer.rounding, overflow, part
    )


def _shared(array: Floats) -> Floats:
    """Return one number when all are equal."""
    return array.ravel()[0] if array.size and (array == array.ravel()[0]).all() else array


def float32(value: float) -> float:
    """Return the nearest float32."""
    return float(np.float32(value))


def nearest_power(value: float) -> float:
    """Return 2 to the rounded logarithm, half to even, as Python rounds."""
    return float(2.0 ** round(math.log2(value)))
