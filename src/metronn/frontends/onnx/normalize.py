"""ONNX operators that look along axes: reductions, softmax and its kin, normalizations."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from metronn.frontends.common.builder import LayerBuilder, LayerProblem
from metronn.frontends.onnx.context import Constant, Layer, NodeContext
from metronn.frontends.onnx.math import absolute, power
from metronn.ir.ops import ReduceKind
from metronn.model.graph import Floats, FunctionKind

LEAST_NORM = 1e-12
"""Norms below this count as this, so that a vector of zeros stays one (PyTorch's choice)."""

Reduction = Callable[[LayerBuilder, str, Sequence[int], bool], str]
"""(builder, value, axes, keep axes) -> value."""


def _sum(builder: LayerBuilder, x: str, axes: Sequence[int], keep: bool) -> str:
    return builder.reduced(x, axes, ReduceKind.SUM, keep=keep)


def _square(builder: LayerBuilder, x: str) -> str:
    return builder.times(x, x)


def _log_sum_exp(builder: LayerBuilder, x: str, axes: Sequence[int], keep: bool) -> str:
    highest = builder.reduced(x, axes, ReduceKind.MAX, keep=True)
    total = _sum(builder, builder.function(builder.minus(x, highest), FunctionKind.EXP), axes, True)
    y = builder.plus(builder.function(total, FunctionKind.LOG), highest)
    return y if keep else builder.reshape(y, [n for a, n in enumerate(builder.shape(y)) if a not in axes])


def _product(builder: LayerBuilder, x: str, axes: Sequence[int], keep: bool) -> str:
    shape = builder.shape(x)
    kept = [a for a in range(len(shape)) if a not in axes]
    index = builder.indices(x).transpose([*axes, *kept]).reshape(-1, *(shape[a] for a in kept))
    parts = [builder.rewire([x], part, "part") for part in index]
    while len(parts) > 1:
        pairs = [builder.times(a, b) for a, b in zip(parts[::2], parts[1::2], strict=False)]
        parts = pairs + parts[2 * len(pairs) :]
    return builder.reshape(parts[0], [1 if a in axes else n for a, n in enumerate(shape)]) if keep else parts[0]


def _reduce(reduction: Reduction, input_since: int = 18) -> Layer:
    def layer(c: NodeContext) -> str:
        axes = c.event_axes(1, input_since=input_since)
        x = c.value(0)
        if any(c.builder.shape(x)[axis] == 0 for axis in axes):
            raise LayerProblem("reduces an axis without elements")
        return reduction(c.builder, x, sorted(set(axes)), bool(c.attribute("keepdims", 1)))

    return layer


def _by_kind(kind: ReduceKind) -> Reduction:
    return lambda builder, x, axes, keep: builder.reduced(x, axes, kind, keep=keep)


def _root(builder: LayerBuilder, x: str) -> str:
    return builder.function(x, FunctionKind.SQRT)


def _softmax_axis(c: NodeContext) -> tuple[str, int, tuple[int, ...]]:
    """Return the operand, flattened behind the axis before opset 13, the event axis, and the shape to restore."""
    x, builder, rank = c.value(0), c.builder, c.rank(0)
    axis = int(c.attribute("axis", -1 if c.opset >= 13 else 1))
    shape = builder.shape(x)
    if c.opset < 13 and not c.lead and axis == 0:
        return builder.reshape(x, [math.prod(shape)]), 0, shape
    event_axis = c.event_axis(axis, rank)
    if c.opset >= 13 or event_axis == len(shape) - 1:
        return x, event_axis, shape
    flat = builder.reshape(x, [math.prod(shape[:event_axis]), math.prod(shape[event_axis:])])
    return flat, 1, shape


def _softmax(c: NodeContext) -> str:
    x, axis, shape = _softmax_axis(c)
    return c.builder.reshape(c.builder.softmax(x, axis), shape)


def _log_softmax(c: NodeContext) -> str:
    x, axis, shape = _softmax_axis(c)
    builder = c.builder
    centred = builder.minus(x, builder.reduced(x, [axis], ReduceKind.MAX, keep=True))
    total = _sum(builder, builder.function(centred, FunctionKind.EXP), [axis], True)
    return builder.reshape(builder.minus(centred, builder.function(total, FunctionKind.LOG)), shape)


def _one_hot(builder: LayerBuilder, x: str, axis: int, kind: ReduceKind, *, last: bool = False) -> str:
    """Return 1 at the first (or last) largest (or smallest) element along an axis, 0 elsewhere; the axis moves last."""
    shape = builder.shape(x)
    order = [a for a in range(len(shape)) if a != axis] + [axis]
    x = builder.transpose(x, order)
    best = builder.reduced(x, [len(shape) - 1], kind, keep=True)
    apart = absolute(builder, builder.function(builder.minus(x, best), FunctionKind.SIGN))
    equal = builder.scaled(apart, -1.0, 1.0)
    before = np.triu(np.ones((shape[axis], shape[axis])), 1)
    earlier = builder.linear(equal, before.T if last else before)
    return builder.relu(builder.minus(equal, earlier))


def _hardmax(c: NodeContext) -> str:
    x, axis, shape = _softmax_axis(c)
    rank = len(c.builder.shape(x))
    hot = _one_hot(c.builder, x, axis, ReduceKind.MAX)
    order = list(range(rank - 1))
    order.insert(axis, rank - 1)
    return c.builder.reshape(c.builder.transpose(hot, order), shape)


def _arg(kind: ReduceKind) -> Layer:
    def layer(c: NodeContext) -> str:
        axis = c.event_axis(int(c.attribute("axis", 0)), c.rank(0))
        shape = c.shape(0)
        hot = _one_hot(c.builder, c.value(0), axis, kind, last=bool(c.attribute("select_last_index", 0)))
        place = c.builder.linear(hot, np.arange(shape[axis], dtype=np.float64).reshape(-1, 1))
        keep = bool(c.attribute("keepdims", 1))
        return c.builder.reshape(place, [1 if a == axis else n for a, n in enumerate(shape) if keep or a != axis])

    return layer


def _batch_normalization(c: NodeContext) -> str:
    if c.attribute("training_mode", 0) or (c.opset < 7 and not c.attribute("is_test", 0)):
        raise LayerProblem("is in training mode; export the model for inference")
    x, epsilon = c.value(0), float(c.attribute("epsilon", 1e-5))
    gamma, beta, mean, variance = (c.floats(k) for k in (1, 2, 3, 4))
    builder = c.builder
    if c.opset < 9 and not c.attribute("spatial", 1):
        shape = builder.shape(x)
        flat = builder.reshape(x, [math.prod(shape)])
        stats = (gamma.ravel(), beta.ravel(), mean.ravel(), variance.ravel())
        return builder.reshape(builder.normalized(flat, 0, stats, epsilon), shape)
    axis = 1 - c.lead if c.rank(0) > 1 else 0
    if c.quantized:
        return _normalized_float32(c, x, axis, epsilon)
    return builder.normalized(x, axis, (gamma, beta, mean, variance), epsilon)


def _normalized_float32(c: NodeContext, x: str, axis: int, epsilon: float) -> str:
    """Return batch normalization as x * scale + shift with the float32 numbers of onnxruntime, in its own order."""
    gamma, beta, mean, variance = (c.floats(k).astype(np.float32) for k in (1, 2, 3, 4))
    with np.errstate(all="ignore"):
        inverse = np.float32(1) / np.sqrt(variance + np.float32(epsilon))
    scale = inverse * gamma
    shift = beta - mean * scale
    if scale.shape != (c.builder.shape(x)[axis],):
        raise LayerProblem(f"{scale.size} channels in the weights, {c.builder.shape(x)[axis]} in the input")
    trailing = (1,) * (len(c.builder.shape(x)) - 1 - axis)
    return c.builder.scaled(x, scale.reshape(-1, *trailing), shift.reshape(-1, *trailing))


def standardized(builder: LayerBuilder, x: str, axes: Sequence[int], epsilon: float) -> tuple[str, str, str]:
    """Return (x - mean) / sqrt(variance + epsilon) along axes, the mean, and 1 / sqrt(variance + epsilon)."""
    mean = builder.mean(x, axes, keep=True)
    centred = builder.minus(x, mean)
    variance = builder.mean(_square(builder, centred), axes, keep=True)
    inverse = builder.function(builder.scaled(variance, 1.0, epsilon), FunctionKind.RSQRT)
    return builder.times(centred, inverse), mean, inverse


def _trailing_axes(c: NodeContext) -> list[int]:
    axis = c.event_axis(int(c.attribute("axis", -1)), c.rank(0))
    return list(range(axis, len(c.shape(0))))


def _weighted(c: NodeContext, x: str, scale: int, shift: int) -> str:
    """Multiply by one operand and add another, where given."""
    rank = c.rank(0)
    if c.operand(scale) is not None:
        x = c.builder.times(x, c.event(scale, rank))
    return x if c.operand(shift) is None else c.builder.plus(x, c.event(shift, rank))


def _layer_normalization(c: NodeContext) -> tuple[str, ...]:
    epsilon = float(c.attribute("epsilon", 1e-5))
    y, mean, inverse = standardized(c.builder, c.value(0), _trailing_axes(c), epsilon)
    return (_weighted(c, y, 1, 2), mean, inverse)[: len(c.node.output)]


def _rms_normalization(c: NodeContext) -> str:
    x, builder = c.value(0), c.builder
    mean = builder.mean(_square(builder, x), _trailing_axes(c), keep=True)
    shifted = builder.scaled(mean, 1.0, float(c.attribute("epsilon", 1e-5)))
    return _weighted(c, builder.times(x, builder.function(shifted, FunctionKind.RSQRT)), 1, 2)


def _per_channel(c: NodeContext, position: int) -> Floats:
    """Return one constant per channel (axis 1), to broadcast with the event."""
    return c.floats(position).reshape(-1, *(1,) * (c.rank(0) - 2))


def _group_normalization(c: NodeContext) -> str:
    builder, x = c.builder, c.value(0)
    shape, axis, groups = builder.shape(x), 1 - c.lead, int(c.attribute("num_groups", 1))
    if shape[axis] % groups:
        raise LayerProblem(f"{shape[axis]} channels cannot be {groups} groups")
    parted = builder.reshape(x, [*shape[:axis], groups, shape[axis] // groups, *shape[axis + 1 :]])
    axes = range(axis + 1, len(shape) + 1)
    y = builder.reshape(standardized(builder, parted, axes, float(c.attribute("epsilon", 1e-5)))[0], shape)
    scale, shift = _per_channel(c, 1), _per_channel(c, 2)
    if c.opset < 21:
        scale, shift = (np.repeat(values, shape[axis] // groups, axis=0) for values in (scale, shift))
    return builder.scaled(y, scale, shift)


def _instance_normalization(c: NodeContext) -> str:
    axes = range(2 - c.lead, len(c.shape(0)))
    y = standardized(c.builder, c.value(0), axes, float(c.attribute("epsilon", 1e-5)))[0]
    return c.builder.scaled(y, _per_channel(c, 1), _per_channel(c, 2))


def _mean_variance_normalization(c: NodeContext) -> str:
    axes = [c.event_axis(int(axis), c.rank(0)) for axis in c.attribute("axes", (0, 2, 3))]
    return standardized(c.builder, c.value(0), axes, 1e-18)[0]


def _lp_normalization(c: NodeContext) -> str:
    builder, x = c.builder, c.value(0)
    axes = [c.event_axis(int(c.attribute("axis", -1)), c.rank(0))]
    if int(c.attribute("p", 2)) == 1:
        total = builder.clipped(_sum(builder, absolute(builder, x), axes, True), LEAST_NORM, None)
        return builder.times(x, builder.function(total, FunctionKind.RECIPROCAL))
    total = builder.clipped(_sum(builder, _square(builder, x), axes, True), LEAST_NORM**2, None)
    return builder.times(x, builder.function(total, FunctionKind.RSQRT))


def _local_response(c: NodeContext) -> str:
    builder, x, size = c.builder, c.value(0), int(c.attribute("size"))
    shape, axis = builder.shape(x), 1 - c.lead
    channel = np.arange(shape[axis])
    near = channel[:, np.newaxis] - channel[np.newaxis]
    band = ((near >= -((size - 1) // 2)) & (near <= size - 1 - (size - 1) // 2)).astype(np.float64)
    order = [a for a in range(len(shape)) if a != axis] + [axis]
    back = [order.index(a) for a in range(len(shape))]
    moved = builder.transpose(_square(builder, x), order)
    scale = float(c.attribute("alpha", 1e-4)) / size
    total = builder.linear(moved, band * scale, np.full(shape[axis], float(c.attribute("bias", 1.0))))
    damping = power(builder, builder.transpose(total, back), -float(c.attribute("beta", 0.75)))
    return builder.times(x, damping)


NORMALIZE: Mapping[str, Callable[[NodeContext], str | Constant | tuple[str, ...]]] = {
    "ArgMax": _arg(ReduceKind.MAX),
    "ArgMin": _arg(ReduceKind.MIN),
    "BatchNormalization": _batch_normalization,
    "GroupNormalization": _group_normalization,
    "Hardmax": _hardmax,
    "InstanceNormalization": _instance_normalization,
    "LRN": _local_response,
    "LayerNormalization": _layer_normalization,
    "LogSoftmax": _log_softmax,
    "LpNormalization": _lp_normalization,
    "MeanVarianceNormalization": _mean_variance_normalization,
    "RMSNormalization": _rms_normalization,
    "ReduceL1": _reduce(lambda low, x, axes, keep: _sum(low, absolute(low, x), axes, keep)),
    "ReduceL2": _reduce(lambda low, x, axes, keep: _root(low, _sum(low, _square(low, x), axes, keep))),
    "ReduceLogSum": _reduce(lambda low, x, axes, keep: low.function(_sum(low, x, axes, keep), FunctionKind.LOG)),
    "ReduceLogSumExp": _reduce(_log_sum_exp),
    "ReduceMax": _reduce(_by_kind(ReduceKind.MAX)),
    "ReduceMean": _reduce(lambda low, x, axes, keep: low.mean(x, axes, keep=keep)),
    "ReduceMin": _reduce(_by_kind(ReduceKind.MIN)),
    "ReduceProd": _reduce(_product),
    "ReduceSum": _reduce(_sum, 13),
    "ReduceSumSquare": _reduce(lambda low, x, axes, keep: _sum(low, _square(low, x), axes, keep)),
    "Softmax": _softmax,
}
"""The operators of this file."""
