"""What each Keras activation becomes: functions by name, and layers that can stand for an activation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from metronn.frontends.common.builder import LayerBuilder, LayerProblem
from metronn.frontends.common.products import log_softmax
from metronn.frontends.keras.context import LayerContext
from metronn.frontends.keras.qkeras.activations import quantized_value
from metronn.frontends.keras.qkeras.quantizers import parse_quantizer, quantizer_name
from metronn.model.graph import FunctionKind


def activation_name(value: object) -> str | None:
    """Return the activation's name, from a string or a serialized function or layer; None for none."""
    if isinstance(value, dict):
        inner = value.get("config")
        return inner if isinstance(inner, str) else str(value.get("class_name"))
    return None if value is None else str(value)


def apply_activation(c: LayerContext, x: str, value: object) -> str:
    """Apply an activation given as a string or as a serialized function, layer or quantizer."""
    if quantizer_name(value) is not None:
        return quantized_value(c.builder, x, parse_quantizer(value))
    name = activation_name(value)
    if name is None:
        return x
    if isinstance(value, dict) and isinstance(value.get("config"), dict):
        inner = replace(c, config=value["config"], xs=(x,))
        return ACTIVATION_LAYERS[name](inner)
    return ACTIVATIONS[name](c, x)


def _function(kind: FunctionKind, *parameters: float) -> Callable[[LayerContext, str], str]:
    """Make an activation of a function of one variable."""
    return lambda c, x: c.builder.function(x, kind, *parameters)


def _hard_sigmoid(c: LayerContext, x: str) -> str:
    """Keras 3: clip(x / 6 + 1 / 2, 0, 1); Keras 2: clip(x / 5 + 1 / 2, 0, 1)."""
    return c.builder.hard_sigmoid(x, 1 / 6 if c.major_version >= 3 else 0.2, 0.5)


def hard_silu(c: LayerContext, x: str) -> str:
    """Return x * hard_sigmoid(x)."""
    return c.builder.times(x, _hard_sigmoid(c, x))


def log_sigmoid(builder: LayerBuilder, x: str) -> str:
    """-softplus(-x)."""
    return builder.scaled(builder.function(builder.scaled(x, -1.0), FunctionKind.SOFTPLUS), -1.0)


def squareplus(builder: LayerBuilder, x: str, b: float) -> str:
    """(x + sqrt(x**2 + b)) / 2."""
    root = builder.function(builder.scaled(builder.times(x, x), 1.0, b), FunctionKind.SQRT)
    return builder.scaled(builder.plus(x, root), 0.5)


def sparse_plus(builder: LayerBuilder, x: str) -> str:
    """0 up to -1, (x + 1)**2 / 4 up to 1, x beyond: the parabola of the clipped x, and what is above 1."""
    root = builder.scaled(builder.clipped(x, -1.0, 1.0), 0.5, 0.5)
    return builder.plus(builder.times(root, root), builder.relu(builder.scaled(x, 1.0, -1.0)))


def glu(builder: LayerBuilder, x: str, axis: int) -> str:
    """Return the first half along an axis times the sigmoid of the second; raises LayerProblem."""
    index = builder.indices(x)
    if index.shape[axis] % 2:
        raise LayerProblem(f"glu halves an axis of {index.shape[axis]}")
    half = index.shape[axis] // 2
    whole = (slice(None),) * axis
    first = builder.rewire([x], index[(*whole, slice(None, half))], "first")
    second = builder.rewire([x], index[(*whole, slice(half, None))], "second")
    return builder.times(first, builder.function(second, FunctionKind.SIGMOID))


def thresholded(builder: LayerBuilder, x: str, threshold: float, otherwise: float) -> str:
    """Return x where above the threshold, else `otherwise`."""
    moved = builder.function(builder.scaled(x, 1.0, -otherwise), FunctionKind.THRESHOLDED, threshold - otherwise)
    return builder.scaled(moved, 1.0, otherwise)


def rectified(builder: LayerBuilder, x: str, slope: float, top: float | None, threshold: float) -> str:
    """Keras' ReLU: x above the threshold, slope * (x - threshold) below, at most `top`.

    Positive and negative part are computed apart, as Keras does, unless the threshold is 0.
    """
    if threshold == 0:
        return builder.clipped(builder.leaky_relu(x, slope), None, top)
    positive = builder.function(x, FunctionKind.THRESHOLDED, threshold)
    if top is not None:
        positive = builder.clipped(positive, 0.0, top)
    if slope == 0:
        return positive
    below = builder.relu(builder.scaled(x, -1.0, threshold))
    return builder.minus(positive, builder.scaled(below, slope))


def _last(c: LayerContext, x: str) -> int:
    return len(c.builder.shape(x)) - 1


ACTIVATIONS: Mapping[str, Callable[[LayerContext, str], str]] = {
    "celu": _function(FunctionKind.CELU, 1.0),
    "elu": _function(FunctionKind.ELU, 1.0),
    "exponential": _function(FunctionKind.EXP),
    "gelu": _function(FunctionKind.GELU),
    "glu": lambda c, x: glu(c.builder, x, _last(c, x)),
    "hard_shrink": _function(FunctionKind.SHRINK, 0.5, 0.0),
    "hard_sigmoid": _hard_sigmoid,
    "hard_silu": hard_silu,
    "hard_swish": hard_silu,
    "hard_tanh": lambda c, x: c.builder.clipped(x, -1.0, 1.0),
    "leaky_relu": lambda c, x: c.builder.leaky_relu(x, 0.2),
    "linear": lambda c, x: x,
    "log_sigmoid": lambda c, x: log_sigmoid(c.builder, x),
    "log_softmax": lambda c, x: log_softmax(c.builder, x, _last(c, x)),
    "mish": _function(FunctionKind.MISH),
    "relu": lambda c, x: c.builder.relu(x),
    "relu6": lambda c, x: c.builder.clipped(x, 0.0, 6.0),
    "selu": _function(FunctionKind.SELU),
    "sigmoid": _function(FunctionKind.SIGMOID),
    "silu": _function(FunctionKind.SILU),
    "soft_shrink": _function(FunctionKind.SHRINK, 0.5, 0.5),
    "softmax": lambda c, x: c.builder.softmax(x, _last(c, x)),
    "softplus": _function(FunctionKind.SOFTPLUS),
    "softsign": _function(FunctionKind.SOFTSIGN),
    "sparse_plus": lambda c, x: sparse_plus(c.builder, x),
    "sparse_sigmoid": lambda c, x: c.builder.hard_sigmoid(x, 0.5, 0.5),
    "squareplus": lambda c, x: squareplus(c.builder, x, 4.0),
    "swish": _function(FunctionKind.SILU),
    "tanh": _function(FunctionKind.TANH),
    "tanh_shrink": lambda c, x: c.builder.minus(x, c.builder.function(x, FunctionKind.TANH)),
}
"""Activations by name."""


def _relu_layer(c: LayerContext) -> str:
    slope, threshold = c.optional_number("negative_slope", 0.0), c.optional_number("threshold", 0.0)
    return rectified(c.builder, c.x, slope or 0.0, c.optional_number("max_value"), threshold or 0.0)


def _leaky_relu_layer(c: LayerContext) -> str:
    key = "negative_slope" if "negative_slope" in c.config else "alpha"
    return c.builder.leaky_relu(c.x, c.number(key, 0.3))


def _elu_layer(c: LayerContext) -> str:
    return c.builder.function(c.x, FunctionKind.ELU, c.number("alpha", 1.0))


def _thresholded_relu_layer(c: LayerContext) -> str:
    return c.builder.function(c.x, FunctionKind.THRESHOLDED, c.number("theta", 1.0))


def _prelu_layer(c: LayerContext) -> str:
    shared = [] if c.config.get("shared_axes") is None else [c.event_axis(a) for a in c.integers("shared_axes")]
    own = c.shape[c.lead :]
    shape = tuple(1 if axis + c.lead in shared else size for axis, size in enumerate(own))
    return c.builder.leaky_relu(c.x, c.weights({"alpha": shape})[0])


def _softmax_layer(c: LayerContext) -> str:
    axes, x, shape = c.event_axes(), c.x, c.shape
    if len(axes) == 1:
        return c.builder.softmax(x, axes[0])
    order = [*(axis for axis in range(len(shape)) if axis not in axes), *axes]
    moved = c.builder.transpose(x, order)
    whole = c.builder.shape(moved)
    kept = whole[: -len(axes)]
    flat = c.builder.softmax(c.builder.reshape(moved, [*kept, -1]), len(kept))
    return c.builder.transpose(c.builder.reshape(flat, whole), [order.index(axis) for axis in range(len(shape))])


ACTIVATION_LAYERS: Mapping[str, Callable[[LayerContext], str]] = {
    "ELU": _elu_layer,
    "LeakyReLU": _leaky_relu_layer,
    "ReLU": _relu_layer,
    "Softmax": _softmax_layer,
    "ThresholdedReLU": _thresholded_relu_layer,
}
"""Layers that can also stand as the activation of another layer."""

LAYERS: Mapping[str, Callable[[LayerContext], str]] = {**ACTIVATION_LAYERS, "PReLU": _prelu_layer}
"""Activations that are layers, by class name."""
