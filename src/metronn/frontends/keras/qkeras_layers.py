"""Layers of QKeras: the layer of Keras read with quantized weights, and an activation that may be a quantizer.

A store between the layer and the file quantizes its arrays as QKeras does before every call; a layer that folds its
batch normalization gets the folded kernel and bias from there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from metronn.frontends.common.builder import LayerProblem
from metronn.frontends.common.spatial import PoolKind
from metronn.frontends.keras.activations import activation_name, apply_activation
from metronn.frontends.keras.context import Config, LayerContext
from metronn.frontends.keras.normalization import dense
from metronn.frontends.keras.qkeras.activations import FUNCTIONS
from metronn.frontends.keras.qkeras.quantizers import Quantizer, parse_quantizer, quantizer_name, refusal
from metronn.frontends.keras.qkeras.weights import quantized_constant
from metronn.frontends.keras.spatial import SPATIAL_LAYERS, global_pooling, pooling
from metronn.frontends.keras.weights import Array, LayerPlace, MissingWeightsError, WeightStore
from metronn.model.graph import FloatArray, Floats, RealLinear
from metronn.model.grid import grid_exponent

Layer = Callable[[LayerContext], str]
Area = Callable[[LayerContext], int]

WEIGHTS = ("kernel", "depthwise", "pointwise")
"""Weights whose quantizers find their scale themselves when they have no alpha; so do gamma and variance."""

MOST_STEPS = 2**20
"""Weights of more steps are on no grid: not every quantizer of QKeras has one."""

NORMALIZING: Mapping[str, Any] = {
    "gamma_quantizer": "quantized_relu_po2(6, 2048)",
    "beta_quantizer": "quantized_po2(5)",
    "mean_quantizer": "quantized_po2(5)",
    "variance_quantizer": "quantized_relu_po2(6, quadratic_approximation=True)",
}
"""Default quantizers of QBatchNormalization."""


def _quantizer(config: Config, role: str, default: object = None) -> Quantizer | None:
    """Return the quantizer of an array, as the layer uses it; raises LayerProblem."""
    value = config.get(f"{role}_quantizer", default)
    if value is None:
        return None
    quantizer = parse_quantizer(value)
    return quantizer.trainable() if role in (*WEIGHTS, "gamma", "variance") else quantizer


@dataclass(frozen=True, slots=True)
class _QuantizedStore:
    """The arrays of a layer through its quantizers.

    `steps` gathers the grids that are no powers of two, `dyadic` the names of the kernels that are on others.
    """

    store: WeightStore
    config: Config
    steps: dict[str, Floats] = field(default_factory=dict)
    dyadic: list[str] = field(default_factory=list)

    def arrays(self, path: Sequence[LayerPlace], names: Sequence[str]) -> list[Array]:
        """Return the quantized arrays; raises MissingWeightsError."""
        return [self.quantized(name, x) for name, x in zip(names, self.raw(path, names), strict=True)]

    def raw(self, path: Sequence[LayerPlace], names: Sequence[str]) -> list[Array]:
        """Return the arrays as the file has them. A depthwise kernel has one of two names."""
        try:
            return self.store.arrays(path, names)
        except MissingWeightsError:
            if "kernel" not in names or "depthwise_quantizer" not in self.config:
                raise
        return self.store.arrays(path, ["depthwise_kernel" if name == "kernel" else name for name in names])

    def quantized(self, name: str, values: Array) -> Array:
        """Return one array through its quantizer, and keep its step."""
        role = name.removesuffix("_kernel")
        if role == "kernel" and "depthwise_quantizer" in self.config:
            role = "depthwise"
        quantizer = _quantizer(self.config, role)
        if quantizer is None:
            return values
        result, step = quantized_constant(quantizer, values)
        if step is not None and role in WEIGHTS:
            self.steps[role] = step
        elif role in WEIGHTS:
            self.dyadic.append(role)
        return result


@dataclass(frozen=True, slots=True)
class _FoldingStore(_QuantizedStore):
    """As `_QuantizedStore`, with the batch normalization of the layer folded in first, in float32."""

    def raw(self, path: Sequence[LayerPlace], names: Sequence[str]) -> list[Array]:
        """Return kernel and bias times gamma / sqrt(variance + epsilon), moved by the mean; both folding modes do so.

        They differ in training only, where QKeras takes the statistics of the batch.
        """
        depthwise = "depthwise_quantizer" in self.config
        kernel = "depthwise_kernel" if depthwise else "kernel"
        own = [kernel, *(["bias"] if self.config.get("use_bias", True) else [])]
        scale, center = (
            (["gamma"] if self.config.get("scale", True) else []),
            (["beta"] if self.config.get("center", True) else []),
        )
        stats = [*scale, *center, "moving_mean", "moving_variance"]
        held = self._held(path, own, stats)
        arrays = {name: np.asarray(array, np.float32) for name, array in held.items()}
        epsilon = np.float32(self.config.get("epsilon", 1e-3))
        inverse = np.float32(1) / np.sqrt(arrays["moving_variance"] + epsilon)
        inverse = inverse * arrays.get("gamma", np.float32(1))
        bias = inverse * (arrays.get("bias", np.float32(0)) - arrays["moving_mean"]) + arrays.get("beta", np.float32(0))
        factor = inverse.reshape(arrays[kernel].shape[2:]) if depthwise else inverse
        return [np.asarray(factor * arrays[kernel], np.float64), np.asarray(bias, np.float64)]

    def _held(self, path: Sequence[LayerPlace], own: list[str], stats: list[str]) -> dict[str, Array]:
        """Return kernel, bias and the arrays of the normalization, which Keras 3 keeps in a layer inside this one."""
        try:
            return dict(zip([*own, *stats], self.store.arrays(path, [*own, *stats]), strict=True))
        except MissingWeightsError as missing:
            inner = [*path, LayerPlace("batchnorm", "batchnorm")]
            for names in (own, [*own, "iteration"]):
                try:
                    arrays = [*self.store.arrays(path, names)[: len(own)], *self.store.arrays(inner, stats)]
                except MissingWeightsError:
                    continue
                return dict(zip([*own, *stats], arrays, strict=True))
            raise missing from None


def _read(c: LayerContext, store: _QuantizedStore, plain: Layer, config: Config) -> str:
    """Read a layer of Keras from a store, give its matrices the steps of their grids, and apply the activation."""
    first = len(c.builder.graph.nodes)
    y = plain(replace(c, store=store, config={**config, "activation": None}))
    _set_steps(c, store.steps, first)
    _keep_dyadic_steps(c, store.dyadic, first)
    return _activated(c, y)


def _keep_dyadic_steps(c: LayerContext, roles: Sequence[str], first: int) -> None:
    """Tell of the matrices read since node `first` whose weights are on a grid of a power of two."""
    matrices = [node for node in c.builder.graph.nodes[first:] if isinstance(node.op, RealLinear)]
    for role in roles:
        node = matrices[-1 if role == "pointwise" else 0]
        if not isinstance(node.op, RealLinear):
            raise AssertionError(f"{node.name} is no matrix")
        weights = node.op.weight.array
        step = 2.0 ** grid_exponent(weights)
        if np.abs(weights).max(initial=0.0) < MOST_STEPS * step:
            c.builder.dyadic_steps[node.name] = np.full(node.shape[-1:], step)


def _set_steps(c: LayerContext, steps: Mapping[str, Floats], first: int) -> None:
    """Give the matrices read since node `first` the step of each column; raises LayerProblem."""
    nodes = c.builder.graph.nodes
    places = [k for k in range(first, len(nodes)) if isinstance(nodes[k].op, RealLinear)]
    for role, step in steps.items():
        node = nodes[places[-1 if role == "pointwise" else 0]]
        if not isinstance(node.op, RealLinear):
            raise AssertionError(f"{node.name} is no matrix")
        columns = step.reshape(-1, node.op.weight.shape[1])
        if not (columns == columns[0]).all():
            raise LayerProblem(
                f"{role}_quantizer: the scale differs within one output and is no power of two; "
                "scales are needed per output (scale_axis -1), or powers of two (auto_po2)"
            )
        op = replace(node.op, step=FloatArray.of(columns[0]))
        nodes[nodes.index(node)] = replace(node, op=op)


def _activated(c: LayerContext, y: str) -> str:
    """Apply the activation of a layer of QKeras: its own functions and quantizers come before those of Keras."""
    value = c.config.get("activation")
    name = activation_name(value)
    if name is not None and name in FUNCTIONS:
        return FUNCTIONS[name](c.builder, y)
    return apply_activation(c, y, value)


def _quantized(plain: Layer) -> Layer:
    return lambda c: _read(c, _QuantizedStore(c.store, c.config), plain, c.config)


def _folded(plain: Layer) -> Layer:
    return lambda c: _read(c, _FoldingStore(c.store, c.config), plain, {**c.config, "use_bias": True})


def _convolution(plain: Layer) -> Layer:
    """QConv2D, whose kernel may have a mask (an array in the configuration)."""

    def layer(c: LayerContext) -> str:
        if c.config.get("mask") is not None:
            raise LayerProblem("has a mask in the configuration; multiply the kernel by it before saving")
        return _quantized(plain)(c)

    return layer


def _activation(c: LayerContext) -> str:
    return _activated(c, c.x)


def _batch_normalization(c: LayerContext) -> str:
    """(x - mean) * inverse + beta with each array quantized; inverse = gamma / sqrt(variance + epsilon)."""
    axes = c.event_axes()
    if len(axes) != 1:
        raise LayerProblem(f"normalizes along axes {axes}, one is allowed")
    size = c.shape[axes[0]]
    names = [name for name, flag in (("gamma", "scale"), ("beta", "center")) if c.config.get(flag, True)]
    names += ["moving_mean", "moving_variance"]
    arrays: dict[str, Any] = {}
    for name, values in zip(names, c.weights(dict.fromkeys(names, (size,))), strict=True):
        role = name.removeprefix("moving_")
        quantizer = _quantizer(c.config, role, NORMALIZING[f"{role}_quantizer"])
        kept = values if quantizer is None else quantized_constant(quantizer, values)[0]
        arrays[role] = kept.astype(np.float32)
    inverse = np.float32(1) / np.sqrt(arrays["variance"] + np.float32(c.number("epsilon", 1e-3)))
    if "gamma" in arrays:
        inverse = inverse * arrays["gamma"]
    quantizer = _quantizer(c.config, "inverse")
    if quantizer is not None:
        inverse = quantized_constant(quantizer, inverse.astype(np.float64))[0].astype(np.float32)
    shift = arrays.get("beta", np.float32(0)) - arrays["mean"] * inverse
    shape = (-1, *(1,) * (len(c.shape) - 1 - axes[0]))
    return c.builder.scaled(c.x, inverse.astype(float).reshape(shape), shift.astype(float).reshape(shape))


def _pooling(plain: Layer, average: Callable[[int, PoolKind, float], Layer], area_of: Area) -> Layer:
    """An average: the sum of the window times the quantized 1 / area, or Keras' average without a quantizer.

    Windows that padding cuts are averaged over what is inside, times area * quantized(1 / area).
    """

    def layer(c: LayerContext) -> str:
        quantizer = _quantizer(c.config, "average")
        if quantizer is None:
            return _activated(c, plain(c))
        area = area_of(c)
        inverse = np.asarray(np.float32(1) / np.float32(area), dtype=np.float64)
        factor = float(quantized_constant(quantizer, inverse)[0])
        return _activated(c, average(2, PoolKind.AVERAGE, area * factor)(c))

    return layer


def _global_area(c: LayerContext) -> int:
    first = c.lead + (c.config.get("data_format") == "channels_first")
    return math.prod(c.shape[first : first + 2])


QKERAS_LAYERS: Mapping[str, Layer] = {
    "QActivation": _activation,
    "QAveragePooling2D": _pooling(
        SPATIAL_LAYERS["AveragePooling2D"], pooling, lambda c: math.prod(c.sizes("pool_size", 2, 2))
    ),
    "QBatchNormalization": _batch_normalization,
    "QConv1D": _quantized(SPATIAL_LAYERS["Conv1D"]),
    "QConv2D": _convolution(SPATIAL_LAYERS["Conv2D"]),
    "QConv2DBatchnorm": _folded(SPATIAL_LAYERS["Conv2D"]),
    "QConv2DTranspose": _quantized(SPATIAL_LAYERS["Conv2DTranspose"]),
    "QDense": _quantized(dense),
    "QDenseBatchnorm": _folded(dense),
    "QDepthwiseConv2D": _quantized(SPATIAL_LAYERS["DepthwiseConv2D"]),
    "QDepthwiseConv2DBatchnorm": _folded(SPATIAL_LAYERS["DepthwiseConv2D"]),
    "QGlobalAveragePooling2D": _pooling(SPATIAL_LAYERS["GlobalAveragePooling2D"], global_pooling, _global_area),
    "QSeparableConv1D": _quantized(SPATIAL_LAYERS["SeparableConv1D"]),
    "QSeparableConv2D": _quantized(SPATIAL_LAYERS["SeparableConv2D"]),
}
"""Layers by class name."""


def unsupported_quantizer(class_name: str, config: Config) -> str | None:
    """Return what is not supported among the quantizers of a layer, or None."""
    roles = [key for key in config if key.endswith("_quantizer") and config[key] is not None]
    reasons = [_reason(config[key], of_values=False) for key in roles if class_name in QKERAS_LAYERS]
    activation = config.get("activation")
    if quantizer_name(activation) is not None:
        reasons.append(_reason(activation, of_values=True))
    elif class_name == "QActivation" and activation_name(activation) is None:
        reasons.append("activation None")
    found = [reason for reason in reasons if reason is not None]
    return f"{class_name} with {', '.join(found)}" if found else None


def _reason(value: object, *, of_values: bool) -> str | None:
    """Return why a quantizer cannot be read or be exact, or None."""
    try:
        return refusal(value, of_values=of_values)
    except LayerProblem as problem:
        return str(problem)
