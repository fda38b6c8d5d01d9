"""Keras layers that normalize, rescale, or multiply along chosen axes."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping

import numpy as np

from metronn.frontends.common.builder import LayerProblem
from metronn.frontends.common.products import constant_product, layer_normalized, product, unit_normalized
from metronn.frontends.keras.activations import apply_activation
from metronn.frontends.keras.context import LayerContext
from metronn.model.graph import Floats

KERAS_EPSILON = 1e-7
"""What Keras adds where it divides by a deviation or a length."""


def dense(c: LayerContext) -> str:
    """Return x @ kernel + bias on the last axis."""
    if len(c.shape) == c.lead:
        raise LayerProblem("reads one number per event, a vector is needed")
    units = int(c.number("units"))
    shapes: dict[str, tuple[int, ...]] = {"kernel": (c.shape[-1], units)}
    if c.config.get("use_bias", True):
        shapes["bias"] = (units,)
    kernel, *bias = c.weights(shapes)
    y = c.builder.linear(c.x, kernel, bias[0] if bias else None)
    return apply_activation(c, y, c.config.get("activation"))


def normalized(c: LayerContext, axis: int, stats: Mapping[str, Floats]) -> str:
    """Return x * scale + shift along an axis, both constants computed in float32 and in Keras' order.

    `stats` has gamma, beta, moving_mean, moving_variance. Raises LayerProblem when a variance is negative.
    """
    gamma, beta, mean, variance = (
        np.asarray(stats[name], dtype=np.float32) for name in ("gamma", "beta", "moving_mean", "moving_variance")
    )
    raised = variance + np.float32(c.number("epsilon", 1e-3))
    if np.any(raised <= 0):
        raise LayerProblem(f"variance {float(variance.min()):g} + epsilon must be positive")
    scale = np.float32(1) / np.sqrt(raised) * gamma
    shift = beta - mean * scale
    shape = (-1, *(1,) * (len(c.shape) - 1 - axis))
    x = c.builder.times(c.x, c.builder.constant(scale.reshape(shape), "scale"))
    return c.builder.plus(x, c.builder.constant(shift.reshape(shape), "shift"))


def _batch_normalization(c: LayerContext) -> str:
    axes = c.event_axes()
    if len(axes) != 1:
        raise LayerProblem(f"normalizes along axes {axes}, one is allowed")
    axis = axes[0]
    channels = (c.shape[axis],)
    names = [name for name, flag in (("gamma", "scale"), ("beta", "center")) if c.config.get(flag, True)]
    arrays = dict(
        zip(
            [*names, "moving_mean", "moving_variance"],
            c.weights(dict.fromkeys([*names, "moving_mean", "moving_variance"], channels)),
            strict=True,
        )
    )
    gamma, beta = arrays.get("gamma", np.ones(channels)), arrays.get("beta", np.zeros(channels))
    return normalized(c, axis, {**arrays, "gamma": gamma, "beta": beta})


def _over_axes(c: LayerContext, values: Floats, axes: list[int]) -> Floats:
    """Give an array over some axes of the event size 1 along the others."""
    return values.reshape([size if axis in axes else 1 for axis, size in enumerate(c.shape)])


def _layer_normalization(c: LayerContext) -> str:
    axes, rms = c.event_axes(), bool(c.config.get("rms_scaling", False))
    # Keras keeps the sizes in the order of the axes' numbers, -1 before 1, and reshapes the array as it is.
    listed = sorted(c.integers("axis")) if c.config.get("axis") is not None else [-1]
    shape = tuple(c.shape[c.event_axis(axis)] for axis in listed)
    names = ["gamma"] if c.config.get("scale", True) or rms else []
    names += ["beta"] if c.config.get("center", True) and not rms else []
    arrays = dict(zip(names, c.weights(dict.fromkeys(names, shape)), strict=True)) if names else {}
    y = layer_normalized(c.builder, c.x, axes, c.number("epsilon", 1e-3), centred=not rms)
    shaped = {name: _over_axes(c, values, axes) for name, values in arrays.items()}
    return c.builder.scaled(y, shaped.get("gamma", 1.0), shaped.get("beta"))


def _unit_normalization(c: LayerContext) -> str:
    return unit_normalized(c.builder, c.x, c.event_axes(), 1e-24)


def _normalization(c: LayerContext) -> str:
    """(x - mean) / deviation with constants from the configuration, or from the weights after `adapt`."""
    axes = [] if c.config.get("axis", -1) is None else c.event_axes()
    if c.config.get("mean") is None:
        shape = tuple(c.shape[axis] for axis in axes)
        mean, variance, _ = c.weights({"mean": shape, "variance": shape, "count": ()})
    else:
        mean, variance = (np.asarray(c.config[key], dtype=np.float64) for key in ("mean", "variance"))
    full = [c.shape[axis] for axis in axes]
    mean, variance = (np.broadcast_to(np.squeeze(v), full) if v.size == 1 else v for v in (mean, variance))
    if mean.size != math.prod(full) or variance.size != math.prod(full):
        raise LayerProblem(f"{mean.size} means and {variance.size} variances for axes of {full}")
    mean, variance = _over_axes(c, mean, axes), _over_axes(c, variance, axes)
    deviation = np.maximum(np.sqrt(variance), KERAS_EPSILON)
    if c.config.get("invert", False):
        return c.builder.scaled(c.x, deviation, mean)
    return c.builder.scaled(c.x, 1 / deviation, -mean / deviation)


def _rescaling(c: LayerContext) -> str:
    scale, offset = (
        np.asarray(value, dtype=np.float64) if isinstance(value, list) else c.number(key, default)
        for key, default in (("scale", 1.0), ("offset", 0.0))
        for value in [c.config.get(key)]
    )
    return c.builder.scaled(c.x, scale, offset)


def _einsum_dense(c: LayerContext) -> str:
    """Weights with axes of their own names; an ellipsis stands for the axes that neither sum nor weight names."""
    equation = str(c.config.get("equation")).replace(" ", "").replace("...", "0")
    parts = re.fullmatch(r"(0?[a-zA-Z]+0?),([a-zA-Z]+)->(0?[a-zA-Z]+0?)", equation)
    if parts is None:
        raise LayerProblem(f"equation {c.config.get('equation')!r} is not of the form ab,bc->ac")
    named, weight, result = parts.groups()
    hidden = len(c.shape) + 1 - len(named.replace("0", ""))
    taken = set(equation)
    rest = "".join(label for label in map(chr, range(0x3B1, 0x3B1 + hidden)) if label not in taken)
    if hidden < 0 or (hidden and "0" not in named) or len(set(named)) != len(named):
        raise LayerProblem(f"equation {c.config.get('equation')!r} does not fit {len(c.shape) + 1} axes")
    ours, out = named.replace("0", rest), result.replace("0", rest)
    if ours[0] != out[:1] or ours[0] in weight:
        raise LayerProblem(f"equation {c.config.get('equation')!r} mixes events: axis 0 must stay where it is")
    ours, out = ours[1:], out[1:]
    sizes = dict(zip(ours, c.shape, strict=True))
    shape = c.config.get("output_shape")
    given = list(shape) if isinstance(shape, list | tuple) else [shape]
    shown = [label for label in out if label not in rest]
    # The ellipsis may also hide the batch axis; then the first label counts among the sizes given.
    for label, size in zip(reversed(shown), reversed(given), strict=False):
        if isinstance(size, int):
            sizes.setdefault(label, size)
    missing = [label for label in {*weight, *out} if label not in sizes]
    if missing:
        raise LayerProblem(f"no size for {', '.join(sorted(missing))} in output_shape {shape!r}")
    shapes = {"kernel": tuple(sizes[label] for label in weight)}
    bias_axes = str(c.config.get("bias_axes") or "")
    labels = ""
    if bias_axes:
        if not set(bias_axes) <= set(out):
            raise LayerProblem(f"bias_axes {bias_axes!r} are not all among the axes of the result")
        labels = out[min(out.index(label) for label in bias_axes) :]
        shapes["bias"] = tuple(sizes[label] if label in bias_axes else 1 for label in labels)
    kernel, *bias = c.weights(shapes)
    kept = "".join(label for label in labels if label in bias_axes)
    shift = (bias[0].reshape([sizes[label] for label in kept]), kept) if bias else None
    y = constant_product(c.builder, c.x, kernel, (ours, weight, out), shift)
    return apply_activation(c, y, c.config.get("activation"))


def _dot(c: LayerContext) -> str:
    """Sum over one axis of each of two tensors; the others stay, those of the first tensor first."""
    if len(c.xs) != 2:
        raise LayerProblem(f"reads {len(c.xs)} tensors, two are needed")
    axes, shapes = c.integers("axes"), [c.builder.shape(x) for x in c.xs]
    axes = axes * 2 if len(axes) == 1 else axes
    axes = [axis + len(shape) + 1 if axis < 0 else axis for axis, shape in zip(axes, shapes, strict=True)]
    if not all(0 < axis <= len(shape) for axis, shape in zip(axes, shapes, strict=True)):
        raise LayerProblem(f"axes {axes} of tensors with {[len(shape) + 1 for shape in shapes]} axes; 0 is the batch")
    xs = list(c.xs)
    if c.config.get("normalize", False):
        xs = [unit_normalized(c.builder, x, [axis - 1], KERAS_EPSILON**2) for x, axis in zip(xs, axes, strict=True)]
    ours = [chr(97 + k) for k in range(len(shapes[0]))]
    theirs = [chr(65 + k) for k in range(len(shapes[1]))]
    theirs[axes[1] - 1] = ours[axes[0] - 1]
    common = ours[axes[0] - 1]
    out = [label for label in (*ours, *theirs) if label != common]
    y = product(c.builder, xs[0], xs[1], ("".join(ours), "".join(theirs), "".join(out)))
    return y if out else c.builder.reshape(y, [1])


NORMALIZATION_LAYERS: Mapping[str, Callable[[LayerContext], str]] = {
    "BatchNormalization": _batch_normalization,
    "Dense": dense,
    "Dot": _dot,
    "EinsumDense": _einsum_dense,
    "LayerNormalization": _layer_normalization,
    "Normalization": _normalization,
    "Rescaling": _rescaling,
    "UnitNormalization": _unit_normalization,
}
"""Layers by class name."""
