"""Random quantized ONNX networks for Hypothesis: QONNX graphs, QDQ graphs, graphs of operators on integers.

With `exact`, scales are powers of two, zero points multiples of 1/4 and inputs multiples of 1/64, and sums stay below
2**24 steps, so that float32 computes every tensor without rounding; half of the inputs then lie between two codes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx
from hypothesis import strategies as st
from onnx import helper, numpy_helper

Array = npt.NDArray[Any]
ROUNDING_MODES = ("ROUND", "HALF_EVEN", "FLOOR", "CEIL", "UP", "DOWN", "HALF_UP", "HALF_DOWN")
DOMAINS = ("qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general", "")
INTEGER_TYPES = {
    "int4": (ml_dtypes.int4, -8, 7),
    "uint4": (ml_dtypes.uint4, 0, 15),
    "int8": (np.int8, -128, 127),
    "uint8": (np.uint8, 0, 255),
    "int16": (np.int16, -32768, 32767),
}
EVENTS = 64


@dataclass(slots=True)
class Network:
    """A graph being drawn; `x` is the newest tensor and `shape` its shape without batch."""

    draw: Callable[[st.SearchStrategy[Any]], Any]
    exact: bool
    rng: np.random.Generator
    shape: tuple[int, ...]
    x: str = "x"
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    outputs: dict[str, int] = field(default_factory=dict)
    domain: str = DOMAINS[0]

    def pick(self, *choices: Any) -> Any:
        """Draw one of some choices."""
        return self.draw(st.sampled_from(choices))

    def number(self, low: int, high: int) -> int:
        """Draw a whole number."""
        return int(self.draw(st.integers(low, high)))

    def constant(self, values: object) -> str:
        """Add an initializer."""
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(values)
        return name

    def node(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node with one result and return its name."""
        name = f"t{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(kind, inputs, [name], name=f"n{len(self.nodes)}", domain=domain, **attributes)
        )
        return name

    def scale(self, *shape: int, around: float = 0.25) -> Array:
        """Return random scales."""
        if self.exact:
            exponent = int(np.log2(around))
            return np.exp2(self.rng.integers(exponent - 1, exponent + 2, shape)).astype(np.float32)
        return (around * self.rng.uniform(0.4, 1.7, shape)).astype(np.float32)

    def weights(self, *shape: int) -> Array:
        """Return random floats before their quantization."""
        values = self.rng.normal(0, 0.5, shape)
        return (np.round(values * 64) / 64 if self.exact else values).astype(np.float32)

    def model(self, opset: int, elements: int = onnx.TensorProto.FLOAT) -> onnx.ModelProto:
        """Return the finished model."""
        outputs = {**self.outputs, self.x: onnx.TensorProto.FLOAT}
        graph = helper.make_graph(
            self.nodes,
            "random",
            [helper.make_tensor_value_info("x", elements, ["n", *self.first])],
            [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items()],
            [numpy_helper.from_array(array, name) for name, array in self.constants.items()],
        )
        imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=imports, ir_version=10)

    first: tuple[int, ...] = ()


def _network(draw: Callable[[st.SearchStrategy[Any]], Any], *, exact: bool) -> Network:
    rank = draw(st.sampled_from((1, 2, 3)))
    shape = tuple(draw(st.integers(2, 5)) for _ in range(rank))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    network = Network(draw=draw, exact=exact, rng=rng, shape=shape)
    network.first = shape
    return network


def inputs(network: Network) -> Array:
    """Return float inputs for the network."""
    values = network.rng.normal(0, 2, (EVENTS, *network.first))
    return (np.round(values * 64) / 64 if network.exact else values).astype(np.float32)


# QONNX.


def _quant(n: Network, x: str, shape: Sequence[int], *, weight_axis: int | None = None) -> str:
    """Quantize a tensor of this full shape (batch axis as 1); weights per channel along an axis, or per tensor."""
    parameters: tuple[int, ...] = ()
    if weight_axis is not None and n.pick(True, False):
        parameters = tuple(size if axis == weight_axis else 1 for axis, size in enumerate(shape))
    elif weight_axis is None and n.pick(False, True):
        axis = n.number(1, len(shape) - 1)
        parameters = tuple(size if other == axis else 1 for other, size in enumerate(shape))[n.pick(0, 1) :]
    bits = n.number(2, 5) if weight_axis is not None else n.number(1, 8)
    signed, narrow = n.pick(1, 0), n.pick(0, 1)
    zero = n.pick(0.0, 0.0, 2.0, 3.0, -1.0, 0.5, 1.25) if n.exact else n.pick(0.0, 0.0, 1.0, 0.37, -2.6)
    names = (
        n.constant(n.scale(*parameters)),
        n.constant(np.float32(n.pick(0.0, 0.0, 1.0, 0.5) if weight_axis is not None else zero)),
        n.constant(np.float32(bits)),
    )
    kind = n.pick("Quant", "Quant", "IntQuant")
    attributes = {"signed": signed, "narrow": narrow if bits > 1 else 0, "rounding_mode": n.pick(*ROUNDING_MODES)}
    return n.node(kind, x, *names, domain=n.domain, **attributes)


def _activation(n: Network) -> None:
    """Quantize the newest tensor in one of the ways of QONNX."""
    full = (1, *n.shape)
    match n.pick("quant", "quant", "bipolar", "trunc", "relu"):
        case "bipolar":
            n.x = n.node("BipolarQuant", n.x, n.constant(n.scale()), domain=n.domain)
        case "trunc":
            _trunc(n)
        case "relu":
            n.x = _quant(n, n.node("Relu", n.x), full)
        case _:
            n.x = _quant(n, n.x, full)


def _trunc(n: Network) -> None:
    scale, bits = n.scale(), n.number(5, 8)
    zero = np.float32(n.pick(0.0, 2.0, 4.0))
    first = (n.constant(scale), n.constant(zero), n.constant(np.float32(bits)))
    plain = {"signed": 1, "narrow": 0, "rounding_mode": "ROUND"}
    quantized = n.node("Quant", n.x, *first, domain=n.domain, **plain)
    cut, mode = n.number(1, 3), n.pick("FLOOR", "ROUND", "CEIL", "DOWN", "HALF_UP")
    if n.pick(1, 2) == 1:
        rest = (n.constant(np.float32(bits - cut)),)
        n.x = n.node("Trunc", quantized, *first, *rest, domain=n.domain, rounding_mode=mode)
        return
    ratio = np.float32(2.0**cut if n.exact else 2.0**cut * n.pick(1.0, 1.01))
    rest = (n.constant(scale * ratio), n.constant(np.float32(bits - cut)))
    attributes = {"rounding_mode": mode, "signed": n.pick(1, 0), "narrow": n.pick(0, 1)}
    n.x = n.node("Trunc", quantized, *first, *rest, domain=n.domain, **attributes)


def _product(n: Network) -> None:
    """Multiply by quantized weights: MatMul on the last axis, Gemm for vectors, Conv for images."""
    if len(n.shape) > 1 and n.pick(True, False):
        channels, results = n.shape[0], n.number(1, 4)
        kernel = tuple(min(size, n.number(1, 3)) for size in n.shape[1:])
        depthwise = n.pick(False, True)
        full = (channels if depthwise else results, 1 if depthwise else channels, *kernel)
        w = _quant(n, n.constant(n.weights(*full)), full, weight_axis=0)
        pads = [n.number(0, 1) for _ in kernel] * 2
        n.x = n.node("Conv", n.x, w, pads=pads, group=channels if depthwise else 1)
        sizes = (s + 2 * p - k + 1 for s, p, k in zip(n.shape[1:], pads[: len(kernel)], kernel, strict=True))
        n.shape = (full[0], *sizes)
        return
    count, results = n.shape[-1], n.number(1, 4)
    if n.pick(True, False):
        w = _quant(n, n.constant(n.weights(results, count)), (results, count), weight_axis=0)
        w = n.node("Transpose", w, perm=[1, 0])
    else:
        w = _quant(n, n.constant(n.weights(count, results)), (count, results), weight_axis=1)
    n.x = n.node("MatMul", n.x, w)
    n.shape = (*n.shape[:-1], results)


def _between(n: Network) -> None:
    """What stays a real operation between a product and the next quantizer."""
    match n.pick("none", "bias", "norm", "mul", "pool", "residual", "flatten", "concat"):
        case "bias":
            n.x = n.node("Add", n.x, n.constant(n.weights(n.shape[-1])))
        case "norm" if not n.exact and len(n.shape) > 1:
            channels = n.shape[0]
            values = [n.rng.uniform(0.5, 1.5, channels).astype(np.float32) for _ in range(4)]
            n.x = n.node("BatchNormalization", n.x, *map(n.constant, values))
        case "mul":
            n.x = n.node("Mul", n.x, n.constant(n.scale(n.shape[-1], around=1.0)))
        case "pool" if len(n.shape) == 3 and min(n.shape[1:]) > 1:
            n.x = n.node(n.pick("MaxPool", "AveragePool"), n.x, kernel_shape=[2, 2])
            n.shape = (n.shape[0], *(size - 1 for size in n.shape[1:]))
        case "residual":
            branch = _quant(n, n.x, (1, *n.shape))
            n.x = n.node("Add", n.x, n.node("Relu", branch))
        case "flatten":
            n.x = n.node("Flatten", n.x, axis=1)
            n.shape = (int(np.prod(n.shape)),)
        case "concat":
            n.x = n.node("Concat", n.x, n.x, axis=len(n.shape))
            n.shape = (*n.shape[:-1], 2 * n.shape[-1])


@st.composite
def qonnx_networks(draw: Callable[[st.SearchStrategy[Any]], Any], *, exact: bool) -> tuple[onnx.ModelProto, Array]:
    """Return a QONNX model and its inputs."""
    n = _network(draw, exact=exact)
    n.domain = n.pick(*DOMAINS)
    n.x = _quant(n, n.x, (1, *n.shape))
    for _ in range(n.number(1, 3)):
        _product(n)
        _between(n)
        _activation(n)
    return n.model(13), inputs(n)


# QDQ and integer operators.


def _type(n: Network, *kinds: str) -> tuple[Any, int, int]:
    return INTEGER_TYPES[n.pick(*(kinds or INTEGER_TYPES))]


def _grid(n: Network, size: int | None, kind: tuple[Any, int, int], around: float) -> tuple[str, str]:
    """Return names of a scale and a zero point, one for each of `size` channels or one for all."""
    dtype, lo, hi = kind
    shape = () if size is None else (size,)
    span = min(6, hi)
    zeros = n.rng.integers(max(lo, -span), span + 1, shape) if n.pick(True, False) else np.zeros(shape)
    return n.constant(n.scale(*shape, around=around)), n.constant(np.asarray(zeros).astype(dtype))


def _quantize(n: Network, x: str, around: float = 0.25) -> tuple[str, tuple[str, str], int]:
    axis = n.number(1, len(n.shape))
    size = n.shape[axis - 1] if n.pick(False, True) else None
    grid = _grid(n, size, _type(n), around)
    return n.node("QuantizeLinear", x, *grid, axis=axis), grid, axis


def _qdq(n: Network, around: float = 0.25) -> None:
    codes, grid, axis = _quantize(n, n.x, around)
    if n.pick(False, True):
        n.outputs[codes] = helper.np_dtype_to_tensor_dtype(n.constants[grid[1]].dtype)
    n.x = n.node("DequantizeLinear", codes, *grid, axis=axis)


def _codes(n: Network, shape: tuple[int, ...], kind: tuple[Any, int, int]) -> Array:
    dtype, lo, hi = kind
    return n.rng.integers(max(lo, -64), min(hi, 63) + 1, shape).astype(dtype)


@st.composite
def qdq_networks(draw: Callable[[st.SearchStrategy[Any]], Any], *, exact: bool) -> tuple[onnx.ModelProto, Array]:
    """Return a model of float operators between DequantizeLinear and QuantizeLinear, and its inputs."""
    n = _network(draw, exact=exact)
    _qdq(n)
    for _ in range(n.number(1, 3)):
        _qdq_product(n)
        _between_qdq(n)
        _qdq(n, 0.5)
    return n.model(21), inputs(n)


def _qdq_product(n: Network) -> None:
    kind = _type(n, "int8", "uint8", "int4")
    image = len(n.shape) > 1 and n.pick(True, False)
    results = n.number(1, 4)
    kernel = tuple(min(size, 2) for size in n.shape[1:]) if image else ()
    shape = (results, n.shape[0], *kernel) if image else (n.shape[-1], results)
    axis = 0 if image else 1
    scale, zero = _grid(n, results if n.pick(True, False) else None, kind, 1 / 64)
    w = n.node("DequantizeLinear", n.constant(_codes(n, shape, kind)), scale, zero, axis=axis)
    bias_scale = n.constant((n.constants[scale] * np.float32(0.25)).astype(np.float32))
    bias = n.constant(n.rng.integers(-100, 100, results).astype(np.int32))
    b = n.node("DequantizeLinear", bias, bias_scale, axis=0)
    if image:
        n.x = n.node("Conv", n.x, w, b)
        n.shape = (results, *(size - k + 1 for size, k in zip(n.shape[1:], kernel, strict=True)))
    elif len(n.shape) == 1:
        n.x = n.node("Gemm", n.x, w, b)
        n.shape = (results,)
    else:
        n.x = n.node("Add", n.node("MatMul", n.x, w), b)
        n.shape = (*n.shape[:-1], results)


def _between_qdq(n: Network) -> None:
    match n.pick("none", "relu", "residual", "flatten", "concat", "transpose"):
        case "relu":
            n.x = n.node("Relu", n.x)
        case "residual":
            before = n.x
            _qdq(n)
            n.x = n.node("Add", before, n.x)
        case "flatten":
            codes, grid = _per_tensor(n)
            n.x = n.node("DequantizeLinear", n.node("Flatten", codes, axis=1), *grid)
            n.shape = (int(np.prod(n.shape)),)
        case "concat":
            codes, grid = _per_tensor(n)
            n.x = n.node("DequantizeLinear", n.node("Concat", codes, codes, axis=len(n.shape)), *grid)
            n.shape = (*n.shape[:-1], 2 * n.shape[-1])
        case "transpose" if len(n.shape) > 1:
            codes, grid = _per_tensor(n)
            perm = [0, *range(len(n.shape), 0, -1)]
            n.x = n.node("DequantizeLinear", n.node("Transpose", codes, perm=perm), *grid)
            n.shape = n.shape[::-1]


def _per_tensor(n: Network) -> tuple[str, tuple[str, str]]:
    grid = _grid(n, None, _type(n, "int8", "uint8"), 0.5)
    return n.node("QuantizeLinear", n.x, *grid), grid


@st.composite
def integer_networks(draw: Callable[[st.SearchStrategy[Any]], Any], *, exact: bool) -> tuple[onnx.ModelProto, Array]:
    """Return a model of operators on 8-bit integers, whose input may be codes, and its inputs."""
    n = _network(draw, exact=exact)
    kind = _type(n, "uint8")
    grid = _grid(n, None, kind, 0.25)
    direct = n.pick(True, False)
    codes = "x" if direct else n.node("QuantizeLinear", "x", *grid)
    for _ in range(n.number(1, 3)):
        codes, grid = _integer_layer(n, codes, grid, kind)
        n.outputs[codes] = helper.np_dtype_to_tensor_dtype(n.constants[grid[1]].dtype)
    n.x = n.node("DequantizeLinear", codes, *grid)
    if direct:
        values = n.rng.integers(0, 256, (EVENTS, *n.first)).astype(np.uint8)
        return n.model(13, onnx.TensorProto.UINT8), values
    return n.model(13), inputs(n)


def _integer_layer(
    n: Network, codes: str, grid: tuple[str, str], kind: tuple[Any, int, int]
) -> tuple[str, tuple[str, str]]:
    """Add one operator on codes; returns the new codes and their grid."""
    out = _grid(n, None, kind, 1.0)
    image = len(n.shape) > 1
    results = n.number(1, 4)
    match n.pick("conv", "matmul", "matmul_integer", "conv_integer", "add", "mul", "leaky", "gemm", "concat", "mean"):
        case "conv" if image:
            shape = (results, n.shape[0], *(min(size, 2) for size in n.shape[1:]))
            weight = _grid(n, n.pick(None, results), kind, 1 / 64)
            if n.pick(True, False):
                weight = (weight[0], n.constant(np.zeros(n.constants[weight[0]].shape, np.uint8)))
            elif n.constants[weight[1]].ndim:
                n.constants[weight[1]][:] = n.constants[weight[1]][0]
            bias = n.constant(n.rng.integers(-500, 500, results).astype(np.int32))
            w = n.constant(_codes(n, shape, kind))
            codes = n.node("QLinearConv", codes, *grid, w, *weight, *out, bias)
            n.shape = (results, *(size - k + 1 for size, k in zip(n.shape[1:], shape[2:], strict=True)))
        case "conv_integer" if image:
            shape = (results, n.shape[0], *(min(size, 2) for size in n.shape[1:]))
            pads = [1] * (2 * len(n.shape) - 2)
            w, zero = n.constant(_codes(n, shape, kind)), n.constant(np.uint8(n.number(0, 9)))
            sums = n.node("ConvInteger", codes, w, grid[1], zero, pads=pads)
            codes = _rescaled(n, sums, out)
            n.shape = (results, *(size - k + 3 for size, k in zip(n.shape[1:], shape[2:], strict=True)))
        case "matmul":
            weight = _grid(n, None, kind, 1 / 64)
            w = n.constant(_codes(n, (n.shape[-1], results), kind))
            codes = n.node("QLinearMatMul", codes, *grid, w, *weight, *out)
            n.shape = (*n.shape[:-1], results)
        case "matmul_integer":
            w, zero = n.constant(_codes(n, (n.shape[-1], results), kind)), n.constant(np.uint8(n.number(0, 9)))
            codes = _rescaled(n, n.node("MatMulInteger", codes, w, grid[1], zero), out)
            n.shape = (*n.shape[:-1], results)
        case "add" | "mul" as name:
            kind_name = "QLinearAdd" if name == "add" else "QLinearMul"
            codes = n.node(kind_name, codes, *grid, codes, *grid, *out, domain="com.microsoft")
        case "leaky":
            codes = n.node("QLinearLeakyRelu", codes, *grid, *out, domain="com.microsoft", alpha=0.25)
        case "gemm" if len(n.shape) == 1:
            weight = _grid(n, n.pick(None, results), kind, 1 / 64)
            n.constants[weight[1]] = np.zeros_like(n.constants[weight[1]])
            w = n.constant(_codes(n, (n.shape[-1], results), kind))
            bias = n.constant(n.rng.integers(-500, 500, results).astype(np.int32))
            codes = n.node("QGemm", codes, *grid, w, *weight, bias, *out, domain="com.microsoft")
            n.shape = (results,)
        case "mean" if len(n.shape) == 3 and (not n.exact or n.shape[1] * n.shape[2] in (1, 2, 4, 8, 16)):
            codes = n.node("QLinearGlobalAveragePool", codes, *grid, *out, domain="com.microsoft")
            n.shape = (n.shape[0], 1, 1)
        case _:
            parts = (codes, *grid, codes, *grid)
            codes = n.node("QLinearConcat", *out, *parts, domain="com.microsoft", axis=len(n.shape))
            n.shape = (*n.shape[:-1], 2 * n.shape[-1])
    return codes, out


def _rescaled(n: Network, sums: str, out: tuple[str, str]) -> str:
    """Turn 32-bit sums into codes by way of floats."""
    real = n.node("Mul", n.node("Cast", sums, to=onnx.TensorProto.FLOAT), n.constant(n.scale(around=1 / 64)))
    return n.node("QuantizeLinear", real, *out)
