"""What each Keras activation becomes: functions by name, and layers that can stand for an activation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from metronn.frontends.common.builder import LayerProblem, Lowering
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
        return quantized_value(c.lowering, x, parse_quantizer(value))
    name = activation_name(value)
    if name is None:
        return x
    if isinstance(value, dict) and isinstance(value.get("config"), dict):
        inner = replace(c, config=value["config"], xs=(x,))
        return ACTIVATION_LAYERS[name](inner)
    return ACTIVATIONS[name](c, x)


def _function(kind: FunctionKind, *parameters: float) -> Callable[[LayerContext, str], str]:
    """Make an activation of a function of one variable."""
    return lambda c, x: c.lowering.function(x, kind, *parameters)


def _hard_sigmoid(c: LayerContext, x: str) -> str:
    """Keras 3: clip(x / 6 + 1 / 2, 0, 1); Keras 2: clip(x / 5 + 1 / 2, 0, 1)."""
    return c.lowering.hard_sigmoid(x, 1 / 6 if c.major_version >= 3 else 0.2, 0.5)


def hard_silu(c: LayerContext, x: str) -> str:
    """Return x * hard_sigmoid(x)."""
    return c.lowering.times(x, _hard_sigmoid(c, x))


def log_sigmoid(lowering: Lowering, x: str) -> str:
    """-softplus(-x)."""
    return lowering.scaled(lowering.function(lowering.scaled(x, -1.0), FunctionKind.SOFTPLUS), -1.0)


def squareplus(lowering: Lowering, x: str, b: float) -> str:
    """(x + sqrt(x**2 + b)) / 2."""
    root = lowering.function(lowering.scaled(lowering.times(x, x), 1.0, b), FunctionKind.SQRT)
    return lowering.scaled(lowering.plus(x, root), 0.5)


def sparse_plus(lowering: Lowering, x: str) -> str:
    """0 up to -1, (x + 1)**2 / 4 up to 1, x beyond: the parabola of the clipped x, and what is above 1."""
    root = lowering.scaled(lowering.clipped(x, -1.0, 1.0), 0.5, 0.5)
    return lowering.plus(lowering.times(root, root), lowering.relu(lowering.scaled(x, 1.0, -1.0)))


def glu(lowering: Lowering, x: str, axis: int) -> str:
    """Return the first half along an axis times the sigmoid of the second; raises LayerProblem."""
    index = lowering.indices(x)
    if index.shape[axis] % 2:
        raise LayerProblem(f"glu halves an axis of {index.shape[axis]}")
    half = index.shape[axis] // 2
    whole = (slice(None),) * axis
    first = lowering.rewire([x], index[(*whole, slice(None, half))], "first")
    second = lowering.rewire([x], index[(*whole, slice(half, None))], "second")
    return lowering.times(first, lowering.function(second, FunctionKind.SIGMOID))


def thresholded(lowering: Lowering, x: str, threshold: float, otherwise: float) -> str:
    """Return x where above the threshold, else `otherwise`."""
    moved = lowering.function(lowering.scaled(x, 1.0, -otherwise), FunctionKind.THRESHOLDED, threshold - otherwise)
    return lowering.scaled(moved, 1.0, otherwise)


def rectified(lowering: Lowering, x: str, slope: float, top: float | None, threshold: float) -> str:
    """Keras' ReLU: x above the threshold, slope * (x - threshold) below, at most `top`.

    Positive and negative part are computed apart, as Keras does, unless the threshold is 0.
    """
    if threshold == 0:
        return lowering.clipped(lowering.leaky_relu(x, slope), None, top)
    positive = lowering.function(x, FunctionKind.THRESHOLDED, threshold)
    if top is not None:
        positive = lowering.clipped(positive, 0.0, top)
    if slope == 0:
        return positive
    below = lowering.relu(lowering.scaled(x, -1.0, threshold))
    return lowering.minus(positive, lowering.scaled(below, slope))


def _last(c: LayerContext, x: str) -> int:
    return len(c.lowering.shape(x)) - 1


ACTIVATIONS: Mapping[str, Callable[[LayerContext, str], str]] = {
    "celu": _function(FunctionKind.CELU, 1.0),
    "elu": _function(FunctionKind.ELU, 1.0),
    "exponential": _function(FunctionKind.EXP),
    "gelu": _function(FunctionKind.GELU),
    "glu": lambda c, x: glu(c.lowering, x, _last(c, x)),
    "hard_shrink": _function(FunctionKind.SHRINK, 0.5, 0.0),
    "hard_sigmoid": _hard_sigmoid,
    "hard_silu": hard_silu,
    "hard_swish": hard_silu,
    "hard_tanh": lambda c, x: c.lowering.clipped(x, -1.0, 1.0),
    "leaky_relu": lambda c, x: c.lowering.leaky_relu(x, 0.2),
    "linear": lambda c, x: x,
    "log_sigmoid": lambda c, x: log_sigmoid(c.lowering, x),
    "log_softmax": lambda c, x: log_softmax(c.lowering, x, _last(c, x)),
    "mish": _function(FunctionKind.MISH),
    "relu": lambda c, x: c.lowering.relu(x),
    "relu6": lambda c, x: c.lowering.clipped(x, 0.0, 6.0),
    "selu": _function(FunctionKind.SELU),
    "sigmoid": _function(FunctionKind.SIGMOID),
    "silu": _function(FunctionKind.SILU),
    "soft_shrink": _function(FunctionKind.SHRINK, 0.5, 0.5),
    "softmax": lambda c, x: c.lowering.softmax(x, _last(c, x)),
    "softplus": _function(FunctionKind.SOFTPLUS),
    "softsign": _function(FunctionKind.SOFTSIGN),
    "sparse_plus": lambda c, x: sparse_plus(c.lowering, x),
    "sparse_sigmoid": lambda c, x: c.lowering.hard_sigmoid(x, 0.5, 0.5),
    "squareplus": lambda c, x: squareplus(c.lowering, x, 4.0),
    "swish": _function(FunctionKind.SILU),
    "tanh": _function(FunctionKind.TANH),
    "tanh_shrink": lambda c, x: c.lowering.minus(x, c.lowering.function(x, FunctionKind.TANH)),
}
"""Activations by name."""


def _relu_layer(c: LayerContext) -> str:
    slope, threshold = c.optional_number("negative_slope", 0.0), c.optional_number("threshold", 0.0)
    return rectified(c.lowering, c.x, slope or 0.0, c.optional_number("max_value"), threshold or 0.0)


def _leaky_relu_layer(c: LayerContext) -> str:
    key = "negative_slope" if "negative_slope" in c.config else "alpha"
    return c.lowering.leaky_relu(c.x, c.number(key, 0.3))


def _elu_layer(c: LayerContext) -> str:
    return c.lowering.function(c.x, FunctionKind.ELU, c.number("alpha", 1.0))


def _thresholded_relu_layer(c: LayerContext) -> str:
    return c.lowering.function(c.x, FunctionKind.THRESHOLDED, c.number("theta", 1.0))


def _prelu_layer(c: LayerContext) -> str:
    shared = [] if c.config.get("shared_axes") is None else [c.event_axis(a) for a in c.integers("shared_axes")]
    own = c.shape[c.lead :]
    shape = tuple(1 if axis + c.lead in shared else size for axis, size in enumerate(own))
    return c.lowering.leaky_relu(c.x, c.weights({"alpha": shape})[0])


def _softmax_layer(c: LayerContext) -> str:
    axes, x, shape = c.event_axes(), c.x, c.shape
    if len(axes) == 1:
        return c.lowering.softmax(x, axes[0])
    order = [*(axis for axis in range(len(shape)) if axis not in axes), *axes]
    moved = c.lowering.transpose(x, order)
    whole = c.lowering.shape(moved)
    kept = whole[: -len(axes)]
    flat = c.lowering.softmax(c.lowering.reshape(moved, [*kept, -1]), len(kept))
    return c.lowering.transpose(c.lowering.reshape(flat, whole), [order.index(axis) for axis in range(len(shape))])


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
