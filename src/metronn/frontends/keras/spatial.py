"""Keras layers with spatial axes: convolutions, pooling, padding, cropping, upsampling.

Inside, everything is channels last; with channels first, axes are moved before and after. A layer that TimeDistributed
repeats works on all positions of the leading axes at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from metronn.frontends.common.builder import LayerProblem
from metronn.frontends.common.spatial import (
    PoolKind,
    convolution,
    crop,
    global_pool,
    pad,
    pool,
    same_pads,
    transposed_convolution,
    upsample_nearest,
)
from metronn.frontends.keras.activations import apply_activation
from metronn.frontends.keras.context import Config, LayerContext

Layer = Callable[[LayerContext], str]


def _channels_first(c: LayerContext) -> bool:
    return c.config.get("data_format") == "channels_first"


def _enter(c: LayerContext, rank: int) -> str:
    """Return the input with channels last; raises LayerProblem when it has not `rank` spatial axes."""
    own = c.shape[c.lead :]
    if len(own) != rank + 1:
        raise LayerProblem(f"reads shape {own}, {rank} spatial axes and channels are needed")
    if not _channels_first(c):
        return c.x
    lead = range(c.lead)
    return c.builder.transpose(c.x, [*lead, *range(c.lead + 1, c.lead + rank + 1), c.lead])


def _leave(c: LayerContext, y: str, rank: int) -> str:
    """Move the channels back to where the layer has them."""
    if not _channels_first(c):
        return y
    last = c.lead + rank
    return c.builder.transpose(y, [*range(c.lead), last, *range(c.lead, last)])


def _pads(c: LayerContext, x: str, sizes: Mapping[str, tuple[int, ...]]) -> list[tuple[int, int]]:
    """Return the pads that `padding` of the configuration asks for; raises LayerProblem."""
    kernel, strides, dilations = sizes["kernel"], sizes["strides"], sizes["dilations"]
    match c.config.get("padding", "valid"):
        case "valid":
            return [(0, 0)] * len(kernel)
        case "same":
            spatial = c.builder.shape(x)[-len(kernel) - 1 : -1]
            return same_pads(spatial, kernel, strides, dilations)
        case "causal" if len(kernel) == 1:
            return [(dilations[0] * (kernel[0] - 1), 0)]
        case other:
            raise LayerProblem(f"padding is {other!r} in the configuration; valid, same and causal (1D) are allowed")


def _geometry(c: LayerContext, rank: int) -> dict[str, tuple[int, ...]]:
    return {
        "kernel": c.sizes("kernel_size", rank),
        "strides": c.sizes("strides", rank),
        "dilations": c.sizes("dilation_rate", rank),
    }


def _bias(c: LayerContext, filters: int) -> dict[str, tuple[int, ...]]:
    return {"bias": (filters,)} if c.config.get("use_bias", True) else {}


def _finish(c: LayerContext, y: str, rank: int) -> str:
    """Apply the activation in the layer's own order of axes."""
    return apply_activation(c, _leave(c, y, rank), c.config.get("activation"))


def _convolution(rank: int) -> Layer:
    def layer(c: LayerContext) -> str:
        x, sizes = _enter(c, rank), _geometry(c, rank)
        channels, filters, groups = c.builder.shape(x)[-1], int(c.number("filters")), int(c.number("groups", 1))
        if groups < 1 or channels % groups or filters % groups:
            raise LayerProblem(f"{channels} channels and {filters} filters cannot be {groups} groups")
        shape = (*sizes["kernel"], channels // groups, filters)
        kernel, *bias = c.weights({"kernel": shape, **_bias(c, filters)})
        y = convolution(
            c.builder,
            x,
            kernel,
            bias[0] if bias else None,
            strides=sizes["strides"],
            dilations=sizes["dilations"],
            pads=_pads(c, x, sizes),
            groups=groups,
        )
        return _finish(c, y, rank)

    return layer


def _depthwise(rank: int) -> Layer:
    def layer(c: LayerContext) -> str:
        x, sizes = _enter(c, rank), _geometry(c, rank)
        channels, multiplier = c.builder.shape(x)[-1], int(c.number("depth_multiplier", 1))
        name = "kernel" if c.major_version >= 3 else "depthwise_kernel"
        shapes = {name: (*sizes["kernel"], channels, multiplier), **_bias(c, channels * multiplier)}
        kernel, *bias = c.weights(shapes)
        y = convolution(
            c.builder,
            x,
            kernel.reshape(*sizes["kernel"], 1, channels * multiplier),
            bias[0] if bias else None,
            strides=sizes["strides"],
            dilations=sizes["dilations"],
            pads=_pads(c, x, sizes),
            groups=channels,
        )
        return _finish(c, y, rank)

    return layer


def _separable(rank: int) -> Layer:
    def layer(c: LayerContext) -> str:
        x, sizes = _enter(c, rank), _geometry(c, rank)
        channels, filters = c.builder.shape(x)[-1], int(c.number("filters"))
        multiplier = int(c.number("depth_multiplier", 1))
        middle = channels * multiplier
        depthwise, pointwise, *bias = c.weights(
            {
                "depthwise_kernel": (*sizes["kernel"], channels, multiplier),
                "pointwise_kernel": (*(1,) * rank, middle, filters),
                **_bias(c, filters),
            }
        )
        y = convolution(
            c.builder,
            x,
            depthwise.reshape(*sizes["kernel"], 1, middle),
            None,
            strides=sizes["strides"],
            dilations=sizes["dilations"],
            pads=_pads(c, x, sizes),
            groups=channels,
        )
        y = c.builder.linear(y, pointwise.reshape(middle, filters), bias[0] if bias else None)
        return _finish(c, y, rank)

    return layer


def _transposed(rank: int) -> Layer:
    def layer(c: LayerContext) -> str:
        x, sizes = _enter(c, rank), _geometry(c, rank)
        channels, filters = c.builder.shape(x)[-1], int(c.number("filters"))
        kernel, *bias = c.weights({"kernel": (*sizes["kernel"], filters, channels), **_bias(c, filters)})
        extra: list[int | None] = [None] * rank
        if c.config.get("output_padding") is not None:
            given = c.integers("output_padding")
            extra = [*(given * rank if len(given) == 1 else given)]
        padding = c.config.get("padding", "valid")
        if padding not in ("valid", "same") or len(extra) != rank:
            raise LayerProblem(f"padding {padding!r} with output_padding {extra}; valid or same, one per axis")
        pads = [
            _transposed_pads(d * (k - 1) + 1, s, p, same=padding == "same")
            for k, s, d, p in zip(*sizes.values(), extra, strict=True)
        ]
        y = transposed_convolution(
            c.builder,
            x,
            np.swapaxes(kernel, -1, -2),
            bias[0] if bias else None,
            strides=sizes["strides"],
            dilations=sizes["dilations"],
            pads=pads,
        )
        return _finish(c, y, rank)

    return layer


def _transposed_pads(reach: int, stride: int, extra: int | None, *, same: bool) -> tuple[int, int]:
    """Return what is cropped from the full result of a transposed convolution whose dilated kernel has `reach`.

    Without output_padding "valid" has (n - 1) * stride + max(reach, stride) results and "same" n * stride; with it
    they have (n - 1) * stride + reach + extra and (n - 1) * stride + reach % 2 + extra.
    """
    if not same:
        return 0, -(max(reach, stride) - reach if extra is None else extra)
    total = stride + reach - 2 if extra is None else reach + reach % 2 - 2 + extra
    left = min(total // 2 + total % 2, reach - 1)
    return reach - 1 - left, reach - 1 - (total - left)


def pooling(rank: int, kind: PoolKind, numerator: float = 1.0) -> Layer:
    """Make a layer that pools windows; an average is multiplied by `numerator`."""

    def layer(c: LayerContext) -> str:
        x, kernel = _enter(c, rank), c.sizes("pool_size", rank, 2)
        strides = kernel if c.config.get("strides") is None else c.sizes("strides", rank)
        ones = (1,) * rank
        pads = _pads(c, x, {"kernel": kernel, "strides": strides, "dilations": ones})
        moves = {"kernel": kernel, "strides": strides, "dilations": ones}
        y = pool(c.builder, x, kind, **moves, pads=pads, count_padding=False, numerator=numerator)
        return _leave(c, y, rank)

    return layer


def global_pooling(rank: int, kind: PoolKind, numerator: float = 1.0) -> Layer:
    """Make a layer that pools all positions; an average is multiplied by `numerator`."""

    def layer(c: LayerContext) -> str:
        keep = bool(c.config.get("keepdims", False))
        y = global_pool(c.builder, _enter(c, rank), kind, rank=rank, keep=keep, numerator=numerator)
        return _leave(c, y, rank) if keep else y

    return layer


def _margins(c: LayerContext, key: str, rank: int) -> list[tuple[int, int]]:
    """Return (before, after) for each spatial axis, from one number, one per axis, or pairs; raises LayerProblem."""
    value = c.config.get(key, 1)
    listed = list(value) if isinstance(value, list | tuple) else [value] * rank
    if rank == 1 and len(listed) == 2:
        listed = [listed]
    pairs = [tuple(entry) if isinstance(entry, list | tuple) else (entry, entry) for entry in listed]
    if len(pairs) != rank or any(len(p) != 2 or not all(isinstance(n, int) and n >= 0 for n in p) for p in pairs):
        raise LayerProblem(f"{key} is {value!r} in the configuration, {rank} pairs are needed")
    return [(before, after) for before, after in pairs]


def _padding(rank: int) -> Layer:
    def layer(c: LayerContext) -> str:
        return _leave(c, pad(c.builder, _enter(c, rank), _margins(c, "padding", rank)), rank)

    return layer


def _cropping(rank: int) -> Layer:
    def layer(c: LayerContext) -> str:
        return _leave(c, crop(c.builder, _enter(c, rank), _margins(c, "cropping", rank)), rank)

    return layer


def _upsampling(rank: int) -> Layer:
    def layer(c: LayerContext) -> str:
        return _leave(c, upsample_nearest(c.builder, _enter(c, rank), c.sizes("size", rank, 2)), rank)

    return layer


def unsupported_interpolation(class_name: str, config: Config) -> str | None:
    """Return what an upsampling layer does beyond repeating positions, or None."""
    interpolation = config.get("interpolation", "nearest")
    if class_name.startswith("UpSampling") and interpolation != "nearest":
        return f"{class_name} with interpolation {interpolation} (only nearest moves values without mixing them)"
    return None


SPATIAL_LAYERS: Mapping[str, Layer] = {
    f"{name}{rank}D{ending}": make(rank)
    for rank in (1, 2)
    for name, ending, make in (
        ("AveragePooling", "", lambda rank: pooling(rank, PoolKind.AVERAGE)),
        ("Conv", "", _convolution),
        ("Conv", "Transpose", _transposed),
        ("Cropping", "", _cropping),
        ("DepthwiseConv", "", _depthwise),
        ("GlobalAveragePooling", "", lambda rank: global_pooling(rank, PoolKind.AVERAGE)),
        ("GlobalMaxPooling", "", lambda rank: global_pooling(rank, PoolKind.MAX)),
        ("MaxPooling", "", lambda rank: pooling(rank, PoolKind.MAX)),
        ("SeparableConv", "", _separable),
        ("UpSampling", "", _upsampling),
        ("ZeroPadding", "", _padding),
    )
}
"""Layers by class name."""
