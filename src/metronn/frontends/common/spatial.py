"""Convolution, pooling, padding and resizing, shared by the frontends.

Everything is channels last: x has shape (*lead, *spatial, C), and the number of spatial axes follows from the kernel
or the pads given. Kernels have Keras' order (*kernel, channels in / groups, channels out). A convolution is
`Window` and `RealLinear`; depthwise and grouped ones have a block matrix, zero outside the groups. Pads are one
(before, after) for each spatial axis; where a negative one is allowed, the text says so.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence

import numpy as np

from metronn.frontends.common.builder import Ints, LayerBuilder, LayerProblem
from metronn.ir.ops import Padding, ReduceKind, Window
from metronn.ir.windows import window_index
from metronn.model.graph import Floats

Pads = Sequence[tuple[int, int]]


class PoolKind(enum.Enum):
    """What pooling keeps of a window."""

    MAX = "max"
    AVERAGE = "average"


def convolution(
    builder: LayerBuilder,
    x: str,
    kernel: Floats,
    bias: Floats | None,
    *,
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Pads,
    groups: int = 1,
    step: Floats | None = None,
) -> str:
    """Return the convolution (cross-correlation) of x plus bias; negative pads crop. `step` as in `RealLinear`.

    Raises LayerProblem when channels, groups or sizes do not fit.
    """
    rank = kernel.ndim - 2
    matrix = _grouped(kernel, groups, _channels(builder, x, rank)).reshape(-1, kernel.shape[-1])
    plain = math.prod(kernel.shape[:rank]) == 1 and set(strides) == {1} and not any(map(any, pads))
    windows = x if plain else _windows(builder, x, kernel.shape[:rank], strides, dilations, pads, Padding.ZERO)
    return builder.linear(windows, matrix, bias, step)


def transposed_convolution(
    builder: LayerBuilder,
    x: str,
    kernel: Floats,
    bias: Floats | None,
    *,
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Pads,
    groups: int = 1,
    step: Floats | None = None,
) -> str:
    """Return y[i * stride + t * dilation] = sum over i, t of x[i] kernel[t], plus bias; `step` as in `RealLinear`.

    `kernel` has shape (*kernel, channels in, channels out / groups). The full result has (n - 1) * stride +
    dilation * (kernel - 1) + 1 positions; `pads` are cropped from it, negative ones add positions that hold the bias.
    """
    rank = kernel.ndim - 2
    channels_in, per_group = kernel.shape[rank:]
    if channels_in % groups:
        raise LayerProblem(f"{channels_in} channels cannot be {groups} groups")
    flipped = np.flip(kernel, axis=tuple(range(rank)))
    parts = np.split(flipped, groups, axis=rank)
    order = np.concatenate(parts, axis=rank + 1)
    if order.shape[rank] != channels_in // groups or order.shape[-1] != per_group * groups:
        raise AssertionError(f"kernel {kernel.shape} in {groups} groups became {order.shape}")
    spread = _spread(builder, x, rank, strides)
    reach = [d * (k - 1) for d, k in zip(dilations, kernel.shape[:rank], strict=True)]
    around = [(r - before, r - after) for r, (before, after) in zip(reach, pads, strict=True)]
    ones = (1,) * rank
    moves = {"strides": ones, "dilations": dilations}
    return convolution(builder, spread, order, bias, **moves, pads=around, groups=groups, step=step)


def pool(
    builder: LayerBuilder,
    x: str,
    kind: PoolKind,
    *,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Pads,
    count_padding: bool,
    uncounted_after: Sequence[int] | None = None,
    numerator: float = 1.0,
) -> str:
    """Return the maximum or the average of each window, an average times `numerator`.

    Padding never wins a maximum. An average divides by all positions of the window when `count_padding`, else by those
    inside x. Of the padding behind an axis, the last `uncounted_after` positions are left out in any case.
    """
    kernel, rank = tuple(kernel), len(kernel)
    shape = builder.shape(x)
    channels = _channels(builder, x, rank)
    lowest = kind is PoolKind.MAX
    windows = _windows(builder, x, kernel, strides, dilations, pads, Padding.LOWEST if lowest else Padding.ZERO)
    apart = builder.reshape(windows, [*builder.shape(windows)[:-1], math.prod(kernel), channels])
    axis = len(builder.shape(apart)) - 2
    reduced = builder.reduced(apart, [axis], ReduceKind.MAX if lowest else ReduceKind.SUM, keep=False)
    if lowest:
        return reduced
    inside = np.ones(shape[-rank - 1 : -1])
    uncounted = [0] * rank if uncounted_after is None else uncounted_after
    padding = [(max(0, before), max(0, after - skip)) for (before, after), skip in zip(pads, uncounted, strict=True)]
    inside = np.pad(inside, padding, constant_values=float(count_padding))
    inside = np.pad(
        inside, [(0, max(0, after) - behind) for (_, after), (_, behind) in zip(pads, padding, strict=True)]
    )
    places = _window("", kernel, strides, dilations, [(0, 0)] * rank, Padding.ZERO)
    counts = inside.ravel()[window_index(places, (*inside.shape, 1))].sum(axis=-1)
    scale = numerator / np.maximum(counts, 1)
    return builder.scaled(reduced, float(scale.flat[0]) if (scale == scale.flat[0]).all() else scale[..., np.newaxis])


def global_pool(builder: LayerBuilder, x: str, kind: PoolKind, *, rank: int, keep: bool, numerator: float = 1.0) -> str:
    """Return the maximum or the average over all `rank` spatial axes, which vanish or stay with size 1.

    An average is multiplied by `numerator`.
    """
    _channels(builder, x, rank)
    shape = builder.shape(x)
    axes = range(len(shape) - 1 - rank, len(shape) - 1)
    if kind is PoolKind.MAX:
        return builder.reduced(x, axes, ReduceKind.MAX, keep=keep)
    total = builder.reduced(x, axes, ReduceKind.SUM, keep=keep)
    return builder.scaled(total, numerator / math.prod(shape[axis] for axis in axes))


def pad(builder: LayerBuilder, x: str, pads: Pads, value: float = 0.0) -> str:
    """Return x with positions of `value` before and behind each spatial axis; negative pads crop."""
    x = crop(builder, x, [(max(0, -before), max(0, -after)) for before, after in pads])
    added = [(max(0, before), max(0, after)) for before, after in pads]
    size = math.prod(builder.shape(x))
    index = np.pad(builder.indices(x), _all_axes(builder, x, added), constant_values=-1 if value == 0 else size)
    if value == 0 or not any(map(any, added)):
        return builder.rewire([x], index, "pad")
    return builder.rewire([x, builder.constant(np.full(1, value), "padding")], index, "pad")


def crop(builder: LayerBuilder, x: str, pads: Pads) -> str:
    """Return x without the given number of positions before and behind each spatial axis; raises LayerProblem."""
    sizes = builder.shape(x)
    full = _all_axes(builder, x, pads)
    if any(n - before - after < 1 or before < 0 or after < 0 for n, (before, after) in zip(sizes, full, strict=True)):
        raise LayerProblem(f"cropping {tuple(pads)} leaves nothing of shape {sizes}")
    index = builder.indices(x)
    return builder.rewire([x], index[tuple(slice(b, n - a) for n, (b, a) in zip(sizes, full, strict=True))], "crop")


def upsample_nearest(builder: LayerBuilder, x: str, scales: Sequence[int]) -> str:
    """Return x with every position repeated `scales` times along the spatial axes."""
    _channels(builder, x, len(scales))
    index, first = builder.indices(x), len(builder.shape(x)) - 1 - len(scales)
    for axis, scale in enumerate(scales):
        index = np.repeat(index, scale, axis=first + axis)
    return builder.rewire([x], index, "upsample")


def same_pads(
    sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> list[tuple[int, int]]:
    """Return the pads of "same": ceil(n / stride) results, the odd position behind (Keras; ONNX's SAME_UPPER)."""
    pads = []
    for n, k, s, d in zip(sizes, kernel, strides, dilations, strict=True):
        total = max(0, (math.ceil(n / s) - 1) * s + d * (k - 1) + 1 - n)
        pads.append((total // 2, total - total // 2))
    return pads


def _channels(builder: LayerBuilder, x: str, rank: int) -> int:
    shape = builder.shape(x)
    if len(shape) < rank + 1:
        raise LayerProblem(f"reads shape {shape}, {rank} spatial axes and channels are needed")
    return shape[-1]


def _grouped(kernel: Floats, groups: int, channels: int) -> Floats:
    """Return the kernel (positions, channels, channels out) of a grouped one, zero between groups."""
    per_group, out = kernel.shape[-2:]
    if groups < 1 or per_group * groups != channels or out % groups:
        found = f"a kernel for {per_group} channels and {out} results in {groups} groups"
        raise LayerProblem(f"{found} does not fit an input with {channels} channels")
    flat = kernel.reshape(-1, per_group, out)
    full = np.zeros((flat.shape[0], channels, out))
    step = out // groups
    for group in range(groups):
        columns = slice(group * step, (group + 1) * step)
        full[:, group * per_group : (group + 1) * per_group, columns] = flat[:, :, columns]
    return full


def _window(
    x: str, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], pads: Pads, padding: Padding
) -> Window:
    return Window(
        x=x,
        kernel=tuple(kernel),
        strides=tuple(strides),
        dilations=tuple(dilations),
        before=tuple(before for before, _ in pads),
        after=tuple(after for _, after in pads),
        padding=padding,
    )


def _windows(
    builder: LayerBuilder,
    x: str,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Pads,
    padding: Padding,
) -> str:
    x = crop(builder, x, [(max(0, -before), max(0, -after)) for before, after in pads])
    added = [(max(0, before), max(0, after)) for before, after in pads]
    return builder.add(_window(x, kernel, strides, dilations, added, padding), "window")


def _spread(builder: LayerBuilder, x: str, rank: int, strides: Sequence[int]) -> str:
    """Put stride - 1 zeros between neighbours along the spatial axes."""
    _channels(builder, x, rank)
    index = builder.indices(x)
    shape = list(index.shape)
    first = len(shape) - 1 - rank
    for axis, stride in enumerate(strides):
        shape[first + axis] = (shape[first + axis] - 1) * stride + 1
    spread: Ints = np.full(shape, -1, dtype=np.int64)
    places = (*(slice(None) for _ in shape[:first]), *(slice(None, None, stride) for stride in strides), slice(None))
    spread[places] = index
    return builder.rewire([x], spread, "spread")


def _all_axes(builder: LayerBuilder, x: str, pads: Pads) -> list[tuple[int, int]]:
    """Return pads for every axis of x: none for the leading ones and the channels."""
    _channels(builder, x, len(pads))
    return [(0, 0)] * (len(builder.shape(x)) - 1 - len(pads)) + [*pads, (0, 0)]
