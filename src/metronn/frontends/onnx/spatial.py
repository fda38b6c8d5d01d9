"""ONNX convolutions and pooling: channels first outside, channels last inside."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from metronn.frontends.common.builder import LayerProblem
from metronn.frontends.common.spatial import PoolKind, convolution, global_pool, pool, same_pads, transposed_convolution
from metronn.frontends.onnx.context import Layer, NodeContext
from metronn.frontends.onnx.grids import column_steps
from metronn.frontends.onnx.math import absolute, power
from metronn.model.graph import Floats

Pads = list[tuple[int, int]]


def _channels_last(c: NodeContext, position: int = 0) -> tuple[str, int]:
    """Return the operand with its channels moved last, and the number of its spatial axes."""
    x = c.value(position)
    count = len(c.builder.shape(x))
    spatial = count - 2 + c.lead
    if spatial < 1:
        raise LayerProblem(f"reads shape {c.builder.shape(x)}; channels and at least one spatial axis are needed")
    first = 1 - c.lead
    return c.builder.transpose(x, [*range(first), *range(first + 1, count), first]), spatial


def _channels_first(c: NodeContext, y: str) -> str:
    count, first = len(c.builder.shape(y)), 1 - c.lead
    return c.builder.transpose(y, [*range(first), count - 1, *range(first, count - 1)])


def _steps(c: NodeContext, name: str, rank: int) -> list[int]:
    steps = [int(n) for n in c.attribute(name, (1,) * rank)]
    if len(steps) != rank:
        raise LayerProblem(f"{name} {tuple(steps)} for {rank} spatial axes")
    return steps


def _given_pads(c: NodeContext, rank: int) -> Pads:
    pads = [int(n) for n in c.attribute("pads", (0,) * (2 * rank))]
    if len(pads) != 2 * rank:
        raise LayerProblem(f"pads {tuple(pads)} for {rank} spatial axes; 2 for each are needed")
    return list(zip(pads[:rank], pads[rank:], strict=True))


def _pads(
    c: NodeContext, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> Pads:
    match c.attribute("auto_pad", "NOTSET"):
        case "NOTSET":
            return _given_pads(c, len(kernel))
        case "VALID":
            return [(0, 0)] * len(kernel)
        case "SAME_UPPER":
            return same_pads(sizes, kernel, strides, dilations)
        case "SAME_LOWER":
            return [(after, before) for before, after in same_pads(sizes, kernel, strides, dilations)]
        case other:
            raise LayerProblem(f"auto_pad {other}; NOTSET, VALID, SAME_UPPER and SAME_LOWER are allowed")


def _weights(c: NodeContext, rank: int) -> tuple[Floats, Floats | None]:
    weights = c.floats(1)
    if weights.ndim != rank + 2:
        raise LayerProblem(f"weights {c.constant(1).name} of shape {weights.shape} for {rank} spatial axes")
    stated = c.attribute("kernel_shape")
    if stated is not None and tuple(stated) != weights.shape[2:]:
        raise LayerProblem(f"kernel_shape {tuple(stated)}, the weights {c.constant(1).name} have {weights.shape[2:]}")
    return weights, None if c.operand(2) is None else c.floats(2)


def _filter_steps(c: NodeContext, order: Sequence[int]) -> Floats | None:
    """Return the steps of the columns of a kernel with its axes in this order, the results last."""
    values, steps = c.floats(1).transpose(order), c.steps(1)
    if steps is None:
        return None
    return column_steps(values.reshape(-1, values.shape[-1]), steps.transpose(order).reshape(-1, values.shape[-1]))


def convolution_node(c: NodeContext) -> str:
    """Return the convolution of the first operand with the second, plus the third where given."""
    x, rank = _channels_last(c)
    weights, bias = _weights(c, rank)
    kernel, sizes = weights.shape[2:], c.builder.shape(x)[-rank - 1 : -1]
    strides, dilations = _steps(c, "strides", rank), _steps(c, "dilations", rank)
    order = [*range(2, rank + 2), 1, 0]
    y = convolution(
        c.builder,
        x,
        weights.transpose(order),
        bias,
        strides=strides,
        dilations=dilations,
        pads=_pads(c, sizes, kernel, strides, dilations),
        groups=int(c.attribute("group", 1)),
        step=_filter_steps(c, order),
    )
    return _channels_first(c, y)


def _transposed_pads(
    c: NodeContext, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> Pads:
    """Return what is cropped from the full result; negative pads add positions behind it."""
    rank, mode = len(kernel), c.attribute("auto_pad", "NOTSET")
    extra, wanted = c.attribute("output_padding", (0,) * rank), c.attribute("output_shape")
    full = [s * (n - 1) + d * (k - 1) + 1 for n, k, s, d in zip(sizes, kernel, strides, dilations, strict=True)]
    if wanted is None and mode in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [n * s for n, s in zip(sizes, strides, strict=True)]
    if wanted is None:
        pads = [(0, 0)] * rank if mode == "VALID" else _given_pads(c, rank)
        return [(before, after - int(e)) for (before, after), e in zip(pads, extra, strict=True)]
    pads = []
    for size, e, out in zip(full, extra, list(wanted)[-rank:], strict=True):
        total = size + int(e) - int(out)
        half = total // 2
        before = half if mode == "SAME_UPPER" else total - half
        pads.append((before, total - before - int(e)))
    return pads


def _conv_transpose(c: NodeContext) -> str:
    x, rank = _channels_last(c)
    weights, bias = _weights(c, rank)
    sizes = c.builder.shape(x)[-rank - 1 : -1]
    strides, dilations = _steps(c, "strides", rank), _steps(c, "dilations", rank)
    order, groups = [*range(2, rank + 2), 0, 1], int(c.attribute("group", 1))
    y = transposed_convolution(
        c.builder,
        x,
        weights.transpose(order),
        bias,
        strides=strides,
        dilations=dilations,
        pads=_transposed_pads(c, sizes, weights.shape[2:], strides, dilations),
        groups=groups,
        step=_filter_steps(c, order) if groups == 1 else None,
    )
    return _channels_first(c, y)


def _kernel(c: NodeContext, rank: int) -> list[int]:
    kernel = c.attribute("kernel_shape")
    if kernel is None or len(kernel) != rank:
        raise LayerProblem(f"kernel_shape {kernel} for {rank} spatial axes")
    return [int(n) for n in kernel]


def _pool(c: NodeContext, x: str, kind: PoolKind, rank: int, *, count_padding: bool) -> str:
    kernel, strides, dilations = _kernel(c, rank), _steps(c, "strides", rank), _steps(c, "dilations", rank)
    sizes = c.builder.shape(x)[-rank - 1 : -1]
    pads = _pads(c, sizes, kernel, strides, dilations)
    behind = [0] * rank
    if c.attribute("ceil_mode", 0):
        for axis, (n, k, s, d) in enumerate(zip(sizes, kernel, strides, dilations, strict=True)):
            before, after = pads[axis]
            reach = d * (k - 1) + 1
            windows = math.ceil((n + before + after - reach) / s) + 1
            if (windows - 1) * s >= n + before:
                windows -= 1
            behind[axis] = max(0, (windows - 1) * s + reach - n - before - after)
            pads[axis] = (before, after + behind[axis])
    return pool(
        c.builder,
        x,
        kind,
        kernel=kernel,
        strides=strides,
        dilations=dilations,
        pads=pads,
        count_padding=count_padding,
        uncounted_after=behind,
    )


def _max_pool(c: NodeContext) -> str:
    if len(c.node.output) > 1 and c.node.output[1]:
        raise LayerProblem("gives the places of the maxima, which depend on the data; only the maxima are allowed")
    x, rank = _channels_last(c)
    return _channels_first(c, _pool(c, x, PoolKind.MAX, rank, count_padding=False))


def average_pool_node(c: NodeContext) -> str:
    """Return the averages of windows of the first operand."""
    x, rank = _channels_last(c)
    counted = bool(c.attribute("count_include_pad", 0))
    return _channels_first(c, _pool(c, x, PoolKind.AVERAGE, rank, count_padding=counted))


def _norm_exponent(c: NodeContext) -> float:
    return float(c.attribute("p", 2))


def _raised(c: NodeContext, x: str, p: float) -> str:
    """Return |x| to the power p."""
    return c.builder.times(x, x) if p == 2 else power(c.builder, absolute(c.builder, x), p)


def _lp_pool(c: NodeContext) -> str:
    x, rank = _channels_last(c)
    p, builder = _norm_exponent(c), c.builder
    kernel, strides, dilations = _kernel(c, rank), _steps(c, "strides", rank), _steps(c, "dilations", rank)
    if c.attribute("ceil_mode", 0):
        raise LayerProblem("ceil_mode 1; 0 is allowed")
    sizes = builder.shape(x)[-rank - 1 : -1]
    means = pool(
        builder,
        _raised(c, x, p),
        PoolKind.AVERAGE,
        kernel=kernel,
        strides=strides,
        dilations=dilations,
        pads=_pads(c, sizes, kernel, strides, dilations),
        count_padding=True,
    )
    return _channels_first(c, power(builder, builder.scaled(means, float(math.prod(kernel))), 1 / p))


def _global_pool(kind: PoolKind) -> Layer:
    def layer(c: NodeContext) -> str:
        x, rank = _channels_last(c)
        return _channels_first(c, global_pool(c.builder, x, kind, rank=rank, keep=True))

    return layer


def _global_lp_pool(c: NodeContext) -> str:
    x, rank = _channels_last(c)
    p, builder = _norm_exponent(c), c.builder
    count = math.prod(builder.shape(x)[-rank - 1 : -1])
    means = global_pool(builder, _raised(c, x, p), PoolKind.AVERAGE, rank=rank, keep=True)
    return _channels_first(c, power(builder, builder.scaled(means, float(count)), 1 / p))


SPATIAL: Mapping[str, Layer] = {
    "AveragePool": average_pool_node,
    "Conv": convolution_node,
    "ConvTranspose": _conv_transpose,
    "GlobalAveragePool": _global_pool(PoolKind.AVERAGE),
    "GlobalLpPool": _global_lp_pool,
    "GlobalMaxPool": _global_pool(PoolKind.MAX),
    "LpPool": _lp_pool,
    "MaxPool": _max_pool,
}
"""The operators of this file."""
