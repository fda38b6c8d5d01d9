"""Quantized operators of the ONNX standard: QuantizeLinear, DequantizeLinear and those on 8-bit integers.

A quantized tensor stays what it means, (codes - zero) * scale; its codes are made only for a reader that needs them.
Arithmetic is that of real numbers: where an engine multiplies 32-bit sums by a float32, the two can differ when a sum
lies within float32 precision of the middle between two codes. Rounding goes half to even before the zero point is
added, as the standard says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx
from onnx import TensorProto

from metronn.frontends.common.builder import LayerProblem
from metronn.frontends.onnx.context import Codes, Constant, NodeContext, Operand
from metronn.frontends.onnx.evaluate import Array, evaluate
from metronn.frontends.onnx.grids import made, rounded, whole_numbers
from metronn.frontends.onnx.products import matmul_node
from metronn.frontends.onnx.spatial import convolution_node
from metronn.model.graph import Floats

RANGES: Mapping[int, tuple[int, int]] = {
    TensorProto.UINT2: (0, 3),
    TensorProto.INT2: (-2, 1),
    TensorProto.UINT4: (0, 15),
    TensorProto.INT4: (-8, 7),
    TensorProto.UINT8: (0, 255),
    TensorProto.INT8: (-128, 127),
    TensorProto.UINT16: (0, 65535),
    TensorProto.INT16: (-32768, 32767),
}
"""Codes of the element types a tensor can be quantized to."""

ROWS, COLUMNS = -2, -1
"""Axes of the factors of a matrix product along which scales and zero points may vary."""


def element_type(values: Array) -> int:
    """Return the ONNX element type of an array."""
    return int(onnx.helper.np_dtype_to_tensor_dtype(values.dtype))


def _spread(c: NodeContext, values: Floats, shape: tuple[int, ...], along: int | None) -> Floats:
    """Return a scale or zero point so that it broadcasts with a tensor of this shape (batch included).

    A vector lies along this axis, by default that of attribute `axis`; with attribute `block_size`, each entry stands
    for as many elements.
    """
    if values.size == 1:
        return values.reshape(())
    rank, block = len(shape), int(c.attribute("block_size", 0))
    axis = int(c.attribute("axis", 1)) if along is None else along
    if not -rank <= axis < rank:
        raise LayerProblem(f"axis {axis} of a tensor with {rank} axes")
    axis %= rank
    if block and values.ndim == rank:
        values = np.repeat(values, block, axis)
        return values[(*(slice(None) for _ in range(axis)), slice(shape[axis]))]
    if values.ndim == 1:
        if values.size != shape[axis]:
            raise LayerProblem(f"{values.size} scales or zero points along axis {axis} of shape {shape}")
        return values.reshape(-1, *(1,) * (rank - axis - 1))
    return values


def _parameters(
    c: NodeContext, scale: int | None, zero: int, shape: tuple[int, ...], *, lead: int, along: int | None = None
) -> tuple[Floats, Floats]:
    """Return scale and zero point at these positions, which broadcast with events of this shape (batch included)."""
    factors = np.ones(()) if scale is None else c.floats(scale)
    zeros = np.zeros(()) if c.operand(zero) is None else c.constant(zero).values.astype(np.float64)
    names = ["scale" if scale is None else c.constant(scale).name, "zero point"]
    found = [_spread(c, values, shape, along) for values in (factors, zeros)]
    if lead:
        found = [c.without_batch(values, len(shape), name) for values, name in zip(found, names, strict=True)]
    return found[0], found[1]


def _shape(c: NodeContext, position: int) -> tuple[int, ...]:
    """Return the shape of an operand, batch included."""
    operand = c.given(position)
    if isinstance(operand, Constant):
        return operand.values.shape
    return (*(() if c.batch is None else (c.batch,)), *c.builder.shape(operand))


def meaning(c: NodeContext, x: int, scale: int | None, zero: int, *, along: int | None = None) -> Operand:
    """Return (x - zero) * scale of the operands at these positions; without a scale, x - zero."""
    operand, shape = c.given(x), _shape(c, x)
    if isinstance(operand, Constant):
        factors, zeros = _parameters(c, scale, zero, shape, lead=0, along=along)
        whole = operand.values.astype(np.float64) - zeros
        steps = np.array(np.broadcast_to(np.abs(factors), whole.shape))
        return Constant(operand.name, whole * factors, operand.from_batch, step=steps if (steps > 0).all() else None)
    factors, zeros = _parameters(c, scale, zero, shape, lead=c.lead, along=along)
    builder, codes = c.builder, c.codes[x] if x < len(c.codes) else None
    if codes is not None and np.array_equal(codes.zero, zeros):
        if np.array_equal(codes.scale, factors):
            return codes.value
        operand = whole_numbers(builder, codes)
    else:
        operand = made(builder, codes) if codes is not None else operand
        operand = builder.minus(operand, builder.constant(zeros, "zero_point")) if zeros.any() else operand
    return operand if (factors == 1).all() else builder.times(operand, builder.constant(factors, "scale"))


def quantized(
    c: NodeContext, x: str, scale: int, zero: int, default: int = TensorProto.UINT8, *, zero_first: bool = False
) -> Codes:
    """Return a value quantized to the scale and zero point at these positions.

    With `zero_first`, the zero point is added before rounding, which matters for odd ones: half goes to even codes.
    """
    shape = (*(() if c.batch is None else (c.batch,)), *c.builder.shape(x))
    factors, zeros = _parameters(c, scale, zero, shape, lead=c.lead)
    kind = default if c.operand(zero) is None else element_type(c.constant(zero).values)
    lo, hi = _codes_of(kind)
    if not (factors > 0).all():
        raise LayerProblem(f"scale {factors.min():g}; it must be positive")
    if zero_first:
        value = rounded(c.builder, x, factors, zeros, (np.full((), float(lo)), np.full((), float(hi))), "ROUND")
    else:
        value = c.builder.quantize(x, factors, (lo - zeros).astype(np.int64), (hi - zeros).astype(np.int64))
    return Codes(value=value, scale=factors, zero=zeros, lo=lo, hi=hi)


def _codes_of(kind: int) -> tuple[int, int]:
    if kind not in RANGES:
        allowed = ", ".join(TensorProto.DataType.Name(known) for known in RANGES)
        raise LayerProblem(f"quantizes to {TensorProto.DataType.Name(kind)}; {allowed} are allowed")
    return RANGES[kind]


def _quantize_linear(c: NodeContext) -> Codes | Constant:
    default = int(c.attribute("output_dtype", 0)) or TensorProto.UINT8
    operand = c.given(0)
    if isinstance(operand, Constant):
        feeds = {name: c.constant(k).values for k, name in enumerate(c.node.input) if name}
        plain = onnx.NodeProto()
        plain.CopyFrom(c.node)
        plain.domain = ""
        return Constant(operand.name, evaluate(plain, feeds, max(c.opset, 13))[0], operand.from_batch)
    x = made(c.builder, c.codes[0]) if c.codes and c.codes[0] is not None else operand
    return quantized(c, x, 1, 2, default)


def _dequantize_linear(c: NodeContext) -> Operand:
    return meaning(c, 0, 1, 2)


def _qlinear_matmul(c: NodeContext) -> Codes:
    factors = (meaning(c, 0, 1, 2, along=ROWS), meaning(c, 3, 4, 5, along=COLUMNS))
    return quantized(c, matmul_node(c.reading(*factors)), 6, 7)


def _matmul_integer(c: NodeContext) -> str:
    return matmul_node(c.reading(meaning(c, 0, None, 2, along=ROWS), meaning(c, 1, None, 3, along=COLUMNS)))


def _filters(c: NodeContext, weights: int, scale: int | None, zero: int) -> Constant:
    """Return the weights of a convolution; vectors have one entry for each filter."""
    operand = c.constant(weights)
    trailing = (1,) * (operand.values.ndim - 1)

    def along(values: Floats) -> Floats:
        return values.reshape(()) if values.size == 1 else values.reshape(-1, *trailing)

    factors = along(np.ones(()) if scale is None else c.floats(scale))
    zeros = along(np.zeros(()) if c.operand(zero) is None else c.constant(zero).values.astype(np.float64))
    whole = operand.values.astype(np.float64) - zeros
    steps = np.array(np.broadcast_to(np.abs(factors), whole.shape))
    return Constant(operand.name, whole * factors, step=steps if (steps > 0).all() else None)


def _qlinear_conv(c: NodeContext) -> Codes:
    x, weights = meaning(c, 0, 1, 2), _filters(c, 3, 4, 5)
    bias: Constant | None = None
    if c.operand(8) is not None:
        grid = c.floats(1).ravel() * c.floats(4).ravel()
        bias = Constant(c.constant(8).name, c.floats(8) * grid)
    return quantized(c, convolution_node(c.reading(x, weights, bias)), 6, 7)


def _conv_integer(c: NodeContext) -> str:
    return convolution_node(c.reading(meaning(c, 0, None, 2), _filters(c, 1, None, 3), None))


def _dynamic(c: NodeContext) -> str:
    raise LayerProblem(
        "takes the scale from the largest value of each tensor, which no fixed grid has; "
        "quantize the activations statically (with calibration data)"
    )


QUANTIZED: Mapping[str, Callable[[NodeContext], Operand | Codes]] = {
    "ConvInteger": _conv_integer,
    "DequantizeLinear": _dequantize_linear,
    "DynamicQuantizeLinear": _dynamic,
    "MatMulInteger": _matmul_integer,
    "QLinearConv": _qlinear_conv,
    "QLinearMatMul": _qlinear_matmul,
    "QuantizeLinear": _quantize_linear,
    "com.microsoft.DequantizeLinear": _dequantize_linear,
    "com.microsoft.QuantizeLinear": _quantize_linear,
}
"""The operators of this file."""
