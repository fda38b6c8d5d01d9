"""HGQ2's layers with weights: dense, convolution, Einstein sum, batch normalization (also merged into the weights).

Each is the input quantizer, Keras' own layer on quantized weights, and the output quantizer. Weights that a batch
normalization scales are scaled and quantized in float32, in HGQ2's order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from metronn.frontends.common.builder import LayerProblem
from metronn.frontends.keras.hgq.context import HgqContext
from metronn.frontends.keras.hgq.weights import COST, Float32

KERAS_EPSILON = np.float32(1e-7)
"""What QEinsumDenseBatchnorm adds to a variance, whatever its own epsilon."""

Layer = Callable[[HgqContext], str]


def _weighted(kind: str, biased: Callable[[HgqContext], bool]) -> Layer:
    """Make the layer of Keras' `kind` with quantized kernel and bias."""

    def layer(h: HgqContext) -> str:
        names = ["kernel", *(["bias"] if biased(h) else [])]
        own = h.own([*names, COST])
        arrays = {"kernel": h.weights("kq", own["kernel"])}
        if biased(h):
            arrays["bias"] = h.weights("bq", own["bias"])
        return h.left(h.keras(kind, [h.entered(h.c.x)], arrays))

    return layer


def _use_bias(h: HgqContext) -> bool:
    return bool(h.config.get("use_bias", True))


def _bias_axes(h: HgqContext) -> bool:
    return bool(h.config.get("bias_axes"))


def _scale(h: HgqContext, gamma: Float32 | None, variance: Float32, epsilon: np.float32) -> Float32:
    one = np.float32(1) if gamma is None else gamma
    return np.asarray(one / np.sqrt(variance + epsilon), dtype=np.float32)


def _batch_norm_dense(h: HgqContext) -> str:
    gamma = ["bn_gamma"] if h.config.get("scale", True) else []
    own = h.own(["kernel", "bias", *gamma, COST, "moving_mean", "moving_variance"])
    kernel, mean = own["kernel"], own["moving_mean"]
    scale = _scale(h, own.get("bn_gamma"), own["moving_variance"], np.float32(h.c.number("epsilon", 1e-3)))
    # HGQ2 leaves the order of this sum to its backend; the exact sum, rounded once, is within its noise.
    offset = -(mean.astype(np.float64) @ kernel.astype(np.float64)).astype(np.float32)
    arrays = {"kernel": h.weights("kq", scale[:, np.newaxis] * kernel), "bias": h.weights("bq", own["bias"] + offset)}
    return h.left(h.keras("Dense", [h.entered(h.c.x)], arrays))


def _einsum_batch_norm(h: HgqContext) -> str:
    gamma = ["gamma"] if h.config.get("scale", True) else []
    own = h.own(["kernel", "bias", *gamma, COST, "moving_mean", "moving_variance"])
    equation = str(h.config.get("equation")).replace(" ", "").replace("...", "0")
    weight, result = equation.split(",")[1].split("->")
    axes = str(h.config.get("normalize_axes") or h.config.get("bias_axes"))
    if not set(axes) <= set(weight) & set(result):
        raise LayerProblem(f"normalize_axes {axes!r} are not all axes of the weights and of the result")
    kernel, mean, bias = own["kernel"], own["moving_mean"], own["bias"]
    scale = _scale(h, own.get("gamma"), own["moving_variance"], KERAS_EPSILON)
    order = [label for label in weight if label in axes]
    sizes = dict(zip(order, scale.shape, strict=True))
    fused = kernel * scale.reshape([sizes[label] if label in axes else 1 for label in weight])
    labels = result[min(result.index(label) for label in axes) :]
    offset = (-mean * scale).reshape([sizes[label] if label in axes else 1 for label in labels])
    arrays = {"kernel": h.weights("kq", fused), "bias": h.weights("bq", bias + offset)}
    return h.left(h.keras("EinsumDense", [h.entered(h.c.x)], arrays))


def _batch_normalization(h: HgqContext) -> str:
    scaled, centred = bool(h.config.get("scale", True)), bool(h.config.get("center", True))
    numbered = [*(["bn_gamma"] if scaled else []), *(["bn_beta"] if centred else [])]
    own = h.own([*numbered, "moving_mean", "moving_variance", COST])
    scale = _scale(h, own.get("bn_gamma"), own["moving_variance"], np.float32(h.c.number("epsilon", 1e-3)))
    # Without `center` HGQ2 adds 1, not 0.
    offset = own.get("bn_beta", np.float32(1)) - own["moving_mean"] * scale
    axes = h.c.event_axes()
    shape = [size if axis in axes else 1 for axis, size in enumerate(h.c.shape)]
    factor, shift = (h.weights(role, values).reshape(shape) for role, values in (("kq", scale), ("bq", offset)))
    return h.left(h.builder.scaled(h.entered(h.c.x), factor, shift))


WEIGHTED: Mapping[str, Layer] = {
    "QBatchNormDense": _batch_norm_dense,
    "QBatchNormalization": _batch_normalization,
    "QConv1D": _weighted("Conv1D", _use_bias),
    "QConv2D": _weighted("Conv2D", _use_bias),
    "QDense": _weighted("Dense", _use_bias),
    "QEinsumDense": _weighted("EinsumDense", _bias_axes),
    "QEinsumDenseBatchnorm": _einsum_batch_norm,
}
"""Layers by class name."""
