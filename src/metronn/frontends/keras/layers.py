"""What each Keras layer becomes: tables from class name to function, each function a few real ops.

A new layer is one function `(LayerContext) -> value` and one line in a table: here, or in the file of its family
(`activations`, `spatial`, `normalization`, `qkeras_layers`). Axes in Keras configurations count the
batch axis as 0; `LayerContext.event_axis` turns them into axes of the event.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce

import numpy as np

from metronn.frontends.common.builder import LayerBuilder, LayerProblem
from metronn.frontends.keras.activations import ACTIVATION_LAYERS, ACTIVATIONS, activation_name, apply_activation
from metronn.frontends.keras.activations import LAYERS as ACTIVATION_FAMILY
from metronn.frontends.keras.context import Config, LayerContext
from metronn.frontends.keras.normalization import NORMALIZATION_LAYERS
from metronn.frontends.keras.qkeras.activations import FUNCTIONS as QKERAS_FUNCTIONS
from metronn.frontends.keras.qkeras.quantizers import quantizer_name
from metronn.frontends.keras.qkeras_layers import QKERAS_LAYERS, unsupported_quantizer
from metronn.frontends.keras.spatial import SPATIAL_LAYERS, unsupported_interpolation


def _activation(c: LayerContext) -> str:
    return apply_activation(c, c.x, c.config.get("activation"))


def _flatten(c: LayerContext) -> str:
    x, lead, shape = c.x, c.shape[: c.lead], c.shape[c.lead :]
    if c.config.get("data_format") == "channels_first" and len(shape) > 1:
        axes = [*range(1, len(shape)), 0]
        x = c.builder.transpose(x, [*range(c.lead), *(axis + c.lead for axis in axes)])
    return c.builder.reshape(x, [*lead, -1])


def _reshape(c: LayerContext) -> str:
    return c.builder.reshape(c.x, [*c.shape[: c.lead], *c.integers("target_shape")])


def _permute(c: LayerContext) -> str:
    return c.builder.transpose(c.x, [dim - 1 for dim in c.integers("dims")])


def _repeat_vector(c: LayerContext) -> str:
    index = np.tile(c.builder.indices(c.x), (int(c.number("n")), 1))
    return c.builder.rewire([c.x], index, "repeat")


def _concatenate(c: LayerContext) -> str:
    return c.builder.concatenate(c.xs, c.event_axes()[0])


def _embedding(c: LayerContext) -> str:
    if c.config.get("mask_zero"):
        raise LayerProblem("mask_zero true, which hides entries from later layers; false is allowed")
    (table,) = c.weights({"embeddings": (int(c.number("input_dim")), int(c.number("output_dim")))})
    return c.builder.looked_up(c.x, table)


def _merge(combine: Callable[[LayerBuilder, str, str], str]) -> Callable[[LayerContext], str]:
    """Make a merging layer of a binary op."""

    def layer(c: LayerContext) -> str:
        if len(c.xs) < 2:
            raise LayerProblem("reads one tensor, at least two are needed")
        return reduce(lambda x, y: combine(c.builder, x, y), c.xs)

    return layer


def _subtract(c: LayerContext) -> str:
    if len(c.xs) != 2:
        raise LayerProblem(f"reads {len(c.xs)} tensors, two are needed")
    return c.builder.minus(*c.xs)


def _average(c: LayerContext) -> str:
    return c.builder.scaled(_merge(LayerBuilder.plus)(c), 1 / len(c.xs))


def _identity(c: LayerContext) -> str:
    return c.x


LAYERS: Mapping[str, Callable[[LayerContext], str]] = {
    **ACTIVATION_FAMILY,
    **NORMALIZATION_LAYERS,
    **SPATIAL_LAYERS,
    **QKERAS_LAYERS,
    "Activation": _activation,
    "ActivityRegularization": _identity,
    "Add": _merge(LayerBuilder.plus),
    "AlphaDropout": _identity,
    "Average": _average,
    "Concatenate": _concatenate,
    "Dropout": _identity,
    "Embedding": _embedding,
    "Flatten": _flatten,
    "GaussianDropout": _identity,
    "GaussianNoise": _identity,
    "Identity": _identity,
    "Maximum": _merge(LayerBuilder.maximum),
    "Minimum": _merge(LayerBuilder.minimum),
    "Multiply": _merge(LayerBuilder.times),
    "Permute": _permute,
    "RepeatVector": _repeat_vector,
    "Reshape": _reshape,
    "SpatialDropout1D": _identity,
    "SpatialDropout2D": _identity,
    "Subtract": _subtract,
}
"""Layers by class name. `InputLayer`, `TimeDistributed` and models are read by `metronn.frontends.keras.read`."""

DISTRIBUTED = frozenset(LAYERS) - {"Dot", "EinsumDense", "Normalization", "Permute", "RepeatVector", "Rescaling"}
"""Layers that TimeDistributed repeats as one, along leading axes; others are read once for every position."""


def unsupported_part(class_name: str, config: Config) -> str | None:
    """Return what is not supported in a layer of a supported class, or None."""
    reason = unsupported_quantizer(class_name, config)
    if reason is not None:
        return reason
    activation = config.get("activation")
    name = None if quantizer_name(activation) is not None else activation_name(activation)
    table: Sequence[str] = (*ACTIVATIONS, *(QKERAS_FUNCTIONS if class_name in QKERAS_LAYERS else ()))
    if isinstance(activation, dict) and isinstance(activation.get("config"), dict):
        table = tuple(ACTIVATION_LAYERS)
    if name is not None and name not in table:
        return f"{class_name} with activation {name}"
    interpolation = unsupported_interpolation(class_name, config)
    if interpolation is not None:
        return interpolation
    policy = config.get("dtype")
    if isinstance(policy, dict) and policy.get("class_name") not in (None, "DTypePolicy", "Policy"):
        return f"{class_name} with dtype policy {policy.get('class_name')}"
    return None
