"""What each Keras layer and activation becomes: tables from name to function, each function a few real ops.

A new layer is one function `(LayerContext) -> value` and one line in `LAYERS`. Axes in Keras configurations count
the batch axis as 0; `LayerContext.event_axis` turns them into axes of the event.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np

from metronn.frontends.keras_weights import LayerPlace, MissingWeightsError, WeightStore
from metronn.frontends.lowering import LayerProblem, Lowering
from metronn.model.graph import Floats, FunctionKind

Config = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerContext:
    """One call of a layer: its configuration, its weights and the values it reads."""

    lowering: Lowering
    kind: str
    config: Config
    path: tuple[LayerPlace, ...]
    store: WeightStore
    xs: tuple[str, ...]
    major_version: int

    @property
    def x(self) -> str:
        """The only input; raises LayerProblem when there are more."""
        if len(self.xs) != 1:
            raise LayerProblem(f"reads {len(self.xs)} tensors, one is allowed")
        return self.xs[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the only input, without the batch axis."""
        return self.lowering.shape(self.x)

    def number(self, key: str, default: float | None = None) -> float:
        """Return a number from the configuration; raises LayerProblem when it is none."""
        value = self.optional_number(key, default)
        if value is None:
            raise LayerProblem(f"{key} is missing in the configuration")
        return value

    def optional_number(self, key: str, default: float | None = None) -> float | None:
        """Return a number from the configuration, or None."""
        value = self.config.get(key, default)
        if isinstance(value, dict) and "config" in value and isinstance(value["config"], dict):
            value = value["config"].get("value")
        elif isinstance(value, dict):
            value = value.get("value")
        if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
            return value
        raise LayerProblem(f"{key} is {value!r} in the configuration, a number is needed")

    def integers(self, key: str) -> list[int]:
        """Return integers from the configuration; raises LayerProblem when there are none."""
        value = self.config.get(key)
        values = value if isinstance(value, list | tuple) else [value]
        if not all(isinstance(v, int) and not isinstance(v, bool) for v in values):
            raise LayerProblem(f"{key} is {value!r} in the configuration, integers are needed")
        return list(values)

    def event_axis(self, axis: int) -> int:
        """Turn a Keras axis into an axis of the event; raises LayerProblem for the batch axis."""
        rank = len(self.lowering.shape(self.xs[0])) + 1
        positive = axis + rank if axis < 0 else axis
        if not 0 < positive < rank:
            raise LayerProblem(f"axis {axis} is the batch axis or outside a tensor with {rank} axes")
        return positive - 1

    def weights(self, shapes: Mapping[str, tuple[int, ...]]) -> list[Floats]:
        """Return the layer's arrays, checked for shape, NaN and infinities.

        What is wrong is noted as a problem, and ones stand for the arrays, so that the layers behind are read too.
        """
        stand_ins = [np.ones(shape) for shape in shapes.values()]
        try:
            arrays = self.store.arrays(self.path, tuple(shapes))
        except MissingWeightsError as error:
            self.lowering.note(f"{self.lowering.layer} ({self.kind}): {error}")
            return stand_ins
        wrong = [
            f"{name} has shape {array.shape} in the weights, the configuration gives {shape}"
            for (name, shape), array in zip(shapes.items(), arrays, strict=True)
            if array.shape != shape
        ]
        if wrong:
            self.lowering.note(f"{self.lowering.layer} ({self.kind}): {'; '.join(wrong)}")
            return stand_ins
        return [self.lowering.checked(array, name) for name, array in zip(shapes, arrays, strict=True)]


def activation_name(value: object) -> str | None:
    """Return the activation's name, from a string or a serialized function or layer; None for none."""
    if isinstance(value, dict):
        inner = value.get("config")
        return inner if isinstance(inner, str) else str(value.get("class_name"))
    return None if value is None else str(value)


def apply_activation(c: LayerContext, x: str, value: object) -> str:
    """Apply an activation given as a string or as a serialized function or layer."""
    name = activation_name(value)
    if name is None:
        return x
    if isinstance(value, dict) and isinstance(value.get("config"), dict):
        inner = replace(c, config=value["config"], xs=(x,))
        return ACTIVATION_LAYERS[name](inner)
    return ACTIVATIONS[name](c, x)


def _dense(c: LayerContext) -> str:
    if not c.shape:
        raise LayerProblem("reads one number per event, a vector is needed")
    units = int(c.number("units"))
    shapes: dict[str, tuple[int, ...]] = {"kernel": (c.shape[-1], units)}
    if c.config.get("use_bias", True):
        shapes["bias"] = (units,)
    kernel, *bias = c.weights(shapes)
    y = c.lowering.linear(c.x, kernel, bias[0] if bias else None)
    return apply_activation(c, y, c.config.get("activation"))


def _activation(c: LayerContext) -> str:
    return apply_activation(c, c.x, c.config.get("activation"))


def _batch_normalization(c: LayerContext) -> str:
    axes = c.integers("axis") if "axis" in c.config else [-1]
    if len(axes) != 1:
        raise LayerProblem(f"normalizes along axes {axes}, one is allowed")
    axis = c.event_axis(axes[0])
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
    stats = (gamma, beta, arrays["moving_mean"], arrays["moving_variance"])
    return c.lowering.normalized(c.x, axis, stats, c.number("epsilon", 1e-3))


def _relu_layer(c: LayerContext) -> str:
    threshold = c.number("threshold", 0.0) if c.config.get("threshold") is not None else 0.0
    if threshold != 0:
        raise LayerProblem(f"threshold {threshold:g} makes a jump; only 0 is allowed")
    slope = c.number("negative_slope", 0.0) if c.config.get("negative_slope") is not None else 0.0
    return c.lowering.clipped(c.lowering.leaky_relu(c.x, slope), None, c.optional_number("max_value"))


def _leaky_relu_layer(c: LayerContext) -> str:
    key = "negative_slope" if "negative_slope" in c.config else "alpha"
    return c.lowering.leaky_relu(c.x, c.number(key, 0.3))


def _prelu_layer(c: LayerContext) -> str:
    shared = [] if c.config.get("shared_axes") is None else [c.event_axis(a) for a in c.integers("shared_axes")]
    shape = tuple(1 if axis in shared else size for axis, size in enumerate(c.shape))
    return c.lowering.leaky_relu(c.x, c.weights({"alpha": shape})[0])


def _softmax_layer(c: LayerContext) -> str:
    axes = c.integers("axis") if "axis" in c.config else [-1]
    if len(axes) != 1:
        raise LayerProblem(f"softmax along axes {axes}, one is allowed")
    return c.lowering.softmax(c.x, c.event_axis(axes[0]))


def _flatten(c: LayerContext) -> str:
    x, shape = c.x, c.shape
    if c.config.get("data_format") == "channels_first" and len(shape) > 1:
        x = c.lowering.transpose(x, [*range(1, len(shape)), 0])
    return c.lowering.reshape(x, [-1])


def _permute(c: LayerContext) -> str:
    return c.lowering.transpose(c.x, [dim - 1 for dim in c.integers("dims")])


def _repeat_vector(c: LayerContext) -> str:
    index = np.tile(c.lowering.indices(c.x), (int(c.number("n")), 1))
    return c.lowering.rewire([c.x], index, "repeat")


def _concatenate(c: LayerContext) -> str:
    axis = c.integers("axis") if "axis" in c.config else [-1]
    return c.lowering.concatenate(c.xs, c.event_axis(axis[0]))


def _rescaling(c: LayerContext) -> str:
    scale, offset = (
        np.asarray(value, dtype=np.float64) if isinstance(value, list) else c.number(key, default)
        for key, default in (("scale", 1.0), ("offset", 0.0))
        for value in [c.config.get(key)]
    )
    return c.lowering.scaled(c.x, scale, offset)


def _merge(combine: Callable[[Lowering, str, str], str]) -> Callable[[LayerContext], str]:
    """Make a merging layer of a binary op."""

    def layer(c: LayerContext) -> str:
        if len(c.xs) < 2:
            raise LayerProblem("reads one tensor, at least two are needed")
        return reduce(lambda x, y: combine(c.lowering, x, y), c.xs)

    return layer


def _subtract(c: LayerContext) -> str:
    if len(c.xs) != 2:
        raise LayerProblem(f"reads {len(c.xs)} tensors, two are needed")
    return c.lowering.minus(*c.xs)


def _average(c: LayerContext) -> str:
    return c.lowering.scaled(_merge(Lowering.plus)(c), 1 / len(c.xs))


def _identity(c: LayerContext) -> str:
    return c.x


def _hard_sigmoid(c: LayerContext, x: str) -> str:
    """Keras 3: clip(x / 6 + 1 / 2, 0, 1); Keras 2: clip(x / 5 + 1 / 2, 0, 1)."""
    return c.lowering.hard_sigmoid(x, 1 / 6 if c.major_version >= 3 else 0.2, 0.5)


ACTIVATIONS: Mapping[str, Callable[[LayerContext, str], str]] = {
    "exponential": lambda c, x: c.lowering.function(x, FunctionKind.EXP),
    "hard_sigmoid": _hard_sigmoid,
    "hard_silu": lambda c, x: c.lowering.times(x, _hard_sigmoid(c, x)),
    "hard_swish": lambda c, x: c.lowering.times(x, _hard_sigmoid(c, x)),
    "hard_tanh": lambda c, x: c.lowering.clipped(x, -1.0, 1.0),
    "leaky_relu": lambda c, x: c.lowering.leaky_relu(x, 0.2),
    "linear": lambda c, x: x,
    "relu": lambda c, x: c.lowering.relu(x),
    "relu6": lambda c, x: c.lowering.clipped(x, 0.0, 6.0),
    "sigmoid": lambda c, x: c.lowering.function(x, FunctionKind.SIGMOID),
    "silu": lambda c, x: c.lowering.times(x, c.lowering.function(x, FunctionKind.SIGMOID)),
    "softmax": lambda c, x: c.lowering.softmax(x, len(c.lowering.shape(x)) - 1),
    "swish": lambda c, x: c.lowering.times(x, c.lowering.function(x, FunctionKind.SIGMOID)),
    "tanh": lambda c, x: c.lowering.function(x, FunctionKind.TANH),
}
"""Activations by name."""

ACTIVATION_LAYERS: Mapping[str, Callable[[LayerContext], str]] = {
    "LeakyReLU": _leaky_relu_layer,
    "ReLU": _relu_layer,
    "Softmax": _softmax_layer,
}
"""Layers that can also stand as the activation of another layer."""

LAYERS: Mapping[str, Callable[[LayerContext], str]] = {
    **ACTIVATION_LAYERS,
    "Activation": _activation,
    "ActivityRegularization": _identity,
    "Add": _merge(Lowering.plus),
    "AlphaDropout": _identity,
    "Average": _average,
    "BatchNormalization": _batch_normalization,
    "Concatenate": _concatenate,
    "Dense": _dense,
    "Dropout": _identity,
    "Flatten": _flatten,
    "GaussianDropout": _identity,
    "GaussianNoise": _identity,
    "Identity": _identity,
    "Maximum": _merge(Lowering.maximum),
    "Minimum": _merge(Lowering.minimum),
    "Multiply": _merge(Lowering.times),
    "PReLU": _prelu_layer,
    "Permute": _permute,
    "RepeatVector": _repeat_vector,
    "Rescaling": _rescaling,
    "Reshape": lambda c: c.lowering.reshape(c.x, c.integers("target_shape")),
    "SpatialDropout1D": _identity,
    "SpatialDropout2D": _identity,
    "Subtract": _subtract,
}
"""Layers by class name. `InputLayer`, `Sequential` and `Functional` are read by `metronn.frontends.keras`."""


def unsupported_part(class_name: str, config: Config) -> str | None:
    """Return what is not supported in a layer of a supported class, or None."""
    activation = config.get("activation")
    name = activation_name(activation)
    table: Sequence[str] = tuple(ACTIVATIONS)
    if isinstance(activation, dict) and isinstance(activation.get("config"), dict):
        table = tuple(ACTIVATION_LAYERS)
    if name is not None and name not in table:
        return f"{class_name} with activation {name}"
    policy = config.get("dtype")
    if isinstance(policy, dict) and policy.get("class_name") not in (None, "DTypePolicy", "Policy"):
        return f"{class_name} with dtype policy {policy.get('class_name')}"
    return None
