"""Operators on quantized tensors that onnxruntime adds to the standard (domain com.microsoft).

Each is its float operator between DequantizeLinear and QuantizeLinear; where onnxruntime adds the zero point before it
rounds, that is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from metronn.frontends.common.builder import LayerBuilder, LayerProblem
from metronn.frontends.common.spatial import PoolKind, global_pool
from metronn.frontends.onnx.context import Codes, Constant, NodeContext
from metronn.frontends.onnx.math import pairwise
from metronn.frontends.onnx.products import gemm_node
from metronn.frontends.onnx.quantized.standard import COLUMNS, meaning, quantized
from metronn.frontends.onnx.spatial import average_pool_node
from metronn.model.graph import FunctionKind


def _binary(
    combine: Callable[[LayerBuilder, str, str], str], *, zero_first: bool = False
) -> Callable[[NodeContext], Codes]:
    def layer(c: NodeContext) -> Codes:
        factors = meaning(c, 0, 1, 2), meaning(c, 3, 4, 5)
        return quantized(c, str(pairwise(combine)(c.reading(*factors))), 6, 7, zero_first=zero_first)

    return layer


def _unary(function: Callable[[NodeContext, str], str]) -> Callable[[NodeContext], Codes]:
    def layer(c: NodeContext) -> Codes:
        return quantized(c, function(c, _computed(c, 0)), 3, 4)

    return layer


def _computed(c: NodeContext, position: int) -> str:
    """Return what a quantized tensor means; its scale and zero point are the next two operands."""
    value = meaning(c, position, position + 1, position + 2)
    if isinstance(value, Constant):
        raise LayerProblem(f"input {position} ({value.name}) must not be constant")
    return value


def _channels_first(c: NodeContext) -> None:
    if c.attribute("channels_last", 0):
        raise LayerProblem("channels_last 1; 0 is allowed")


def _global_average(c: NodeContext, x: str) -> str:
    _channels_first(c)
    count, first = len(c.builder.shape(x)), 1 - c.lead
    rank = count - 1 - first
    last = c.builder.transpose(x, [*range(first), *range(first + 1, count), first])
    y = global_pool(c.builder, last, PoolKind.AVERAGE, rank=rank, keep=True)
    return c.builder.transpose(y, [*range(first), count - 1, *range(first, count - 1)])


def _average(c: NodeContext, x: str) -> str:
    _channels_first(c)
    return average_pool_node(c.reading(x))


def _leaky(c: NodeContext, x: str) -> str:
    return c.builder.leaky_relu(x, float(c.attribute("alpha", 0.01)))


def _concat(c: NodeContext) -> Codes:
    parts = [_computed(c, position) for position in range(2, len(c.operands), 3)]
    axis = c.event_axis(int(c.attribute("axis")), c.rank(2))
    return quantized(c, c.builder.concatenate(parts, axis), 0, 1)


def _gemm(c: NodeContext) -> Codes | str:
    a = meaning(c, 0, 1, 2)
    b = meaning(c, 3, 4, 5, along=-2 if c.attribute("transB", 0) else COLUMNS)
    bias: Constant | None = None
    if c.operand(6) is not None:
        scale = float(c.attribute("alpha", 1.0)) * c.floats(1).ravel() * c.floats(4).ravel()
        bias = Constant(c.constant(6).name, c.floats(6) * scale)
    y = gemm_node(c.reading(a, b, bias))
    return y if c.operand(7) is None else quantized(c, y, 7, 8)


def _softmax(c: NodeContext, x: str) -> str:
    rank = c.lead + len(c.builder.shape(x))
    axis = c.event_axis(int(c.attribute("axis", -1)), rank)
    if int(c.attribute("opset", 13)) < 13 and axis != len(c.builder.shape(x)) - 1:
        raise LayerProblem(f"opset {c.attribute('opset')} with axis {c.attribute('axis')}, the last axis is allowed")
    return c.builder.softmax(x, axis)


RUNTIME: Mapping[str, Callable[[NodeContext], Codes | str]] = {
    "com.microsoft.QGemm": _gemm,
    "com.microsoft.QLinearAdd": _binary(LayerBuilder.plus, zero_first=True),
    "com.microsoft.QLinearAveragePool": _unary(_average),
    "com.microsoft.QLinearConcat": _concat,
    "com.microsoft.QLinearGlobalAveragePool": _unary(_global_average),
    "com.microsoft.QLinearLeakyRelu": _unary(_leaky),
    "com.microsoft.QLinearMul": _binary(LayerBuilder.times, zero_first=True),
    "com.microsoft.QLinearSigmoid": _unary(lambda c, x: c.builder.function(x, FunctionKind.SIGMOID)),
    "com.microsoft.QLinearSoftmax": _unary(_softmax),
}
"""The operators of this file."""
