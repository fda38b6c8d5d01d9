"""HGQ2's layers of tables: every input element reaches every output through a small network of its own, then a sum.

The small networks are written out element by element: each value behind the input quantizer depends on one code only,
up to the quantizer `toq`, so all between them is a table.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from metronn.frontends.common.builder import LayerBuilder, LayerProblem
from metronn.frontends.common.spatial import same_pads
from metronn.frontends.keras.activations import ACTIVATIONS, activation_name, apply_activation
from metronn.frontends.keras.hgq.context import HgqContext
from metronn.frontends.keras.hgq.quantizers import float32
from metronn.frontends.keras.hgq.weights import COST, Float32, InnerLayer, WeightTree
from metronn.ir.ops import ReduceKind, Window

TABLE_KEYS = ("n_hl", "d_hl", "subnn_activation", "batch_norm", "bn_center", "bn_scale", "bn_epsilon")
"""Parameters that an attention layer hands to its projections."""

Labels = tuple[str, str, str]


def _aligned(values: Float32, weight: str, presum: str, extra: int) -> Float32:
    """Return weights over the axes `weight`, and `extra` more behind, over the axes `presum`."""
    order = [weight.index(label) for label in presum if label in weight]
    moved = values.transpose([*order, *range(len(weight), len(weight) + extra)])
    sizes = dict(zip(weight, values.shape, strict=False))
    return moved.reshape([*(sizes.get(label, 1) for label in presum), *moved.shape[len(weight) :]])


def _stack(h: HgqContext, x: str, labels: Labels, presum: str, *, bias: bool) -> str:
    """Return the small networks' results for x, which has the axes `presum`."""
    builder, weight = h.builder, labels[1]
    module = h.inner(InnerLayer("module", r"sequential(_\d+)?"))
    inside: list[WeightTree] = module.children(InnerLayer("layers", r"(?!)")) or [module]
    layers = inside[0].children(InnerLayer("einsum_dense", r"einsum_dense(_\d+)?", many=True))
    hidden = int(h.config.get("n_hl", 1))
    if len(layers) != hidden + 1:
        raise LayerProblem(f"the weights hold {len(layers)} layers of its small networks, {hidden + 1} are needed")
    activation = h.config.get("subnn_activation")
    if activation_name(activation) not in (None, *ACTIVATIONS):
        raise LayerProblem(f"its small networks have the activation {activation_name(activation)}, which is not known")
    y = builder.reshape(x, [*builder.shape(x), 1])
    for number, layer in enumerate(layers):
        last = number == hidden
        arrays = layer.own(["kernel", *(["bias"] if bias else [])])
        kernel = _aligned(arrays["kernel"], weight, presum, 1 if last else 2)
        y = _mixed(builder, y, kernel[..., np.newaxis] if last else kernel)
        y = builder.reshape(y, builder.shape(y)[:-1]) if last else y
        y = builder.plus(y, builder.constant(arrays["bias"], "bias")) if bias else y
        y = y if last else apply_activation(h.c, y, activation)
    return y


def _mixed(builder: LayerBuilder, x: str, kernel: Float32) -> str:
    """Return sum over d of x[..., d] kernel[..., d, D], element by element in the axes before."""
    if kernel.shape[-2] == 1:
        return builder.times(x, builder.constant(kernel[..., 0, :], "kernel"))
    wide = builder.times(builder.reshape(x, [*builder.shape(x), 1]), builder.constant(kernel, "kernel"))
    return builder.reduced(wide, [len(builder.shape(wide)) - 2], ReduceKind.SUM, keep=False)


def _presum(h: HgqContext, x: str, labels: Labels, sizes: Mapping[str, int]) -> tuple[str, str]:
    """Return x repeated along the axes that only the weights have, through the input quantizer; and its labels."""
    ours, weight, _ = labels
    extra = "".join(label for label in weight if label not in ours)
    shape = h.builder.shape(x)
    index = h.builder.indices(x).reshape([*shape, *(1,) * len(extra)])
    index = np.broadcast_to(index, [*shape, *(sizes[label] for label in extra)])
    return h.entered(h.builder.rewire([x], index, "repeat")), ours + extra


def _summed(h: HgqContext, y: str, presum: str, out: str) -> str:
    """Return the tables' results summed over the axes that vanish, in the order of `out`."""
    y = h.through("toq", y)
    gone = [axis for axis, label in enumerate(presum) if label not in out]
    kept = [label for label in presum if label in out]
    y = h.builder.reduced(y, gone, ReduceKind.SUM, keep=False) if gone else y
    return h.builder.transpose(y, [kept.index(label) for label in out])


def _weight_sizes(h: HgqContext, weight: str) -> dict[str, int]:
    """Return the sizes of the axes of the weights, from the first layer of the small networks."""
    module = h.inner(InnerLayer("module", r"sequential(_\d+)?"))
    inside = module.children(InnerLayer("layers", r"(?!)")) or [module]
    layers = inside[0].children(InnerLayer("einsum_dense", r"einsum_dense(_\d+)?", many=True))
    if not layers:
        raise LayerProblem("the weights hold no small networks")
    return dict(zip(weight, layers[0].shape("kernel"), strict=False))


def table_product(h: HgqContext, x: str, labels: Labels, bias: str) -> str:
    """Return QEinsumDenseT without activation: `labels` of x, the weights and the result, `bias` those of the bias."""
    normalized = bool(h.config.get("batch_norm", False))
    x, presum = _presum(h, x, labels, _weight_sizes(h, labels[1]))
    y = _stack(h, x, labels, presum, bias=bool(bias) and not normalized)
    if normalized:
        axes = str(h.config.get("normalize_axes") or bias or "".join(a for a in labels[1] if a in labels[2]))
        y = _normalized(h, y, presum, labels, axes)
    return h.left(_summed(h, y, presum, labels[2]))


def _normalized(h: HgqContext, y: str, presum: str, labels: Labels, axes: str) -> str:
    """Return y normalized along axes, divided by the square root of the number of terms that are summed."""
    scaled, centred = bool(h.config.get("bn_scale", True)), bool(h.config.get("bn_center", True))
    names = [*(["bn_gamma"] if scaled else []), *(["bn_beta"] if centred else [])]
    own = h.own([*names, "moving_mean", "moving_variance", COST])
    scale, offset = _affine(own, "bn_", float(h.config.get("bn_epsilon", 1e-3)))
    sizes = h.builder.shape(y)
    shape = [size if label in axes else 1 for label, size in zip(presum, sizes, strict=True)]
    terms = math.prod(size for label, size in zip(presum, sizes, strict=True) if label not in labels[2])
    y = h.builder.scaled(y, scale.reshape(shape), offset.reshape(shape))
    return h.builder.scaled(y, 1 / float32(math.sqrt(terms)))


def _affine(own: Mapping[str, Float32], prefix: str, epsilon: float) -> tuple[Float32, Float32]:
    gamma = own.get(f"{prefix}gamma", np.float32(1))
    scale = np.asarray(gamma / np.sqrt(own["moving_variance"] + np.float32(epsilon)), dtype=np.float32)
    return scale, np.asarray(own.get(f"{prefix}beta", np.float32(0)) - own["moving_mean"] * scale, dtype=np.float32)


def _einsum_dense(h: HgqContext) -> str:
    equation = str(h.config.get("equation")).replace(" ", "")
    if "." in equation:
        raise LayerProblem(f"equation {equation!r}: name every axis instead of the ellipsis")
    parts = re.fullmatch(r"([a-zA-Z]+),([a-zA-Z]+)->([a-zA-Z]+)", equation)
    if parts is None or parts[1][0] != parts[3][0] or parts[1][0] in parts[2]:
        raise LayerProblem(f"equation {equation!r} is not of the form ab,bc->ac with the events first")
    y = table_product(
        replace(h, config={**h.config, "enable_oq": False}),
        h.c.x,
        (parts[1][1:], parts[2], parts[3][1:]),
        str(h.config.get("bias_axes") or ""),
    )
    return h.left(apply_activation(h.c, y, h.config.get("activation")))


def _dense_of(h: HgqContext, x: str) -> str:
    free = "".join(chr(97 + axis) for axis in range(len(h.builder.shape(x)) - 1))
    labels = (f"{free}X", "XY", f"{free}Y")
    terms = h.builder.shape(x)[-1]
    y, presum = _presum(h, x, labels, _weight_sizes(h, "XY"))
    y = _stack(h, y, labels, presum, bias=bool(h.config.get("use_bias", True)))
    if h.config.get("batch_norm", False):
        scaled, centred = bool(h.config.get("bn_scale", True)), bool(h.config.get("bn_center", True))
        names = [*(["gamma"] if scaled else []), *(["beta"] if centred else [])]
        inner = h.inner(InnerLayer("bn_module", r"batch_normalization(_\d+)?"))
        own = inner.own([*names, "moving_mean", "moving_variance"])
        y = h.builder.scaled(y, *_affine(own, "", float(h.config.get("bn_epsilon", 1e-3))))
        y = h.builder.scaled(y, 1 / float32(math.sqrt(terms)))
    return h.left(apply_activation(h.c, _summed(h, y, presum, labels[2]), h.config.get("activation")))


def _dense(h: HgqContext) -> str:
    return _dense_of(h, h.c.x)


def _convolution(rank: int) -> Callable[[HgqContext], str]:
    """Patches, then the dense layer of tables."""

    def layer(h: HgqContext) -> str:
        if h.config.get("data_format") == "channels_first" or len(h.c.shape) != rank + 1:
            raise LayerProblem(f"reads shape {h.c.shape}; {rank} spatial axes and channels last are needed")
        kernel, strides, dilations = (h.c.sizes(key, rank) for key in ("kernel_size", "strides", "dilation_rate"))
        padding = h.config.get("padding", "valid")
        if padding not in ("valid", "same"):
            raise LayerProblem(f"padding is {padding!r} in the configuration; valid and same are allowed")
        pads = same_pads(h.c.shape[:-1], kernel, strides, dilations) if padding == "same" else [(0, 0)] * rank
        before, after = tuple(a for a, _ in pads), tuple(b for _, b in pads)
        window = Window(x=h.c.x, kernel=kernel, strides=strides, dilations=dilations, before=before, after=after)
        return _dense_of(h, h.builder.add(window, "window"))

    return layer


TABLES: Mapping[str, Callable[[HgqContext], str]] = {
    "QConvT1D": _convolution(1),
    "QConvT2D": _convolution(2),
    "QDenseT": _dense,
    "QEinsumDenseT": _einsum_dense,
}
"""Layers by class name."""
