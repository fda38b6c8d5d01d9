"""Quantized ONNX operators one by one: grids of weights, codes, zero points, constants, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_quant_execution import QONNX as CUSTOM
from onnx_quant_execution import Execution

from metronn.errors import ModelError
from metronn.frontends.onnx.grids import ROUNDINGS
from metronn.frontends.onnx.layers import KEEP_CODES, KEEP_STEPS, LAYERS, READ_CODES
from metronn.frontends.onnx.quantized.qonnx import QONNX
from metronn.frontends.onnx.read import load_onnx
from metronn.ir.ops import Add, Multiply, Rounding
from metronn.model.graph import FloatArray, RealGraph, RealLinear, RealQuantize
from metronn.model.reference import run_reference

Array = np.ndarray[Any, Any]
F32 = np.float32
RNG = np.random.default_rng(0)
W = RNG.normal(0, 0.5, (3, 4)).astype(F32)
X = RNG.normal(0, 2, (50, 3)).astype(F32)


def model_of(
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, object],
    shape: Sequence[int] = (3,),
    kind: int = TensorProto.FLOAT,
    outputs: Mapping[str, int] | None = None,
    opset: int = 21,
) -> onnx.ModelProto:
    found = {"y": TensorProto.FLOAT} if outputs is None else outputs
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, ["n", *shape])],
        [helper.make_tensor_value_info(name, element, None) for name, element in found.items()],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def read(model: onnx.ModelProto) -> RealGraph:
    return load_onnx(Path("q.onnx"), model.SerializeToString())


def refused(model: onnx.ModelProto) -> str:
    with pytest.raises(ModelError) as raised:
        read(model)
    return raised.value.message


def quant(x: str, y: str, names: str = "s z b", domain: str = "qonnx.custom_op.general", **attributes: Any) -> Any:
    given = {"signed": 1, "narrow": 0, "rounding_mode": "ROUND"} | attributes
    return helper.make_node("Quant", [x, *names.split()], [y], name=f"quant_{y}", domain=domain, **given)


def parameters(scale: object = 0.25, zero: object = 0.0, bits: object = 4.0) -> dict[str, object]:
    return {"s": F32(scale), "z": F32(zero), "b": F32(bits)}


def only(graph: RealGraph, kind: type) -> Any:
    found = [node.op for node in graph.nodes if isinstance(node.op, kind)]
    assert len(found) == 1
    return found[0]


def agrees(model: onnx.ModelProto, x: Array) -> RealGraph:
    """Every tensor the network names, and every output, is that of the framework, bit by bit."""
    if any(node.op_type in CUSTOM for node in model.graph.node):
        pytest.importorskip("qonnx")
    graph = read(model)
    values: dict[str, Array] = {}
    outputs = run_reference(graph, {"x": x.astype(np.float64)}, lambda node, array: values.update({node.name: array}))
    expected = Execution(model).tensors({"x": x})
    for tensor, value in graph.tensors:
        np.testing.assert_array_equal(np.broadcast_to(values[value], expected[tensor].shape), expected[tensor], tensor)
    for name, found in outputs.items():
        np.testing.assert_array_equal(found, expected[name].astype(np.float64), name)
    return graph


# QONNX.


@pytest.mark.parametrize("zero", [0.0, 2.0, 3.0, -1.0, 0.5])
@pytest.mark.parametrize("mode", sorted(set(ROUNDINGS) - {"ROUND_TO_ZERO"}))
@pytest.mark.parametrize(
    ("signed", "narrow", "bits"), [(1, 0, 4), (1, 1, 3), (0, 0, 4), (0, 1, 2), (1, 0, 1), (0, 0, 1)]
)
def test_every_rounding_mode_and_zero_point(mode: str, zero: float, signed: int, narrow: int, bits: int) -> None:
    x = np.arange(-90, 90, dtype=F32).reshape(-1, 3) / 16
    node = quant("x", "y", rounding_mode=mode, signed=signed, narrow=narrow)
    agrees(model_of([node], parameters(0.5, zero, bits)), x)


def test_zero_points_become_bounds_where_rounding_allows() -> None:
    even = only(read(model_of([quant("x", "y")], parameters(zero=2.0))), RealQuantize)
    assert (even.lo.array, even.hi.array) == (-10, 5)
    odd = read(model_of([quant("x", "y")], parameters(zero=3.0)))
    assert (only(odd, RealQuantize).lo.array, sum(isinstance(node.op, Add) for node in odd.nodes)) == (-8, 2)
    down = only(read(model_of([quant("x", "y", rounding_mode="FLOOR")], parameters(zero=3.0))), RealQuantize)
    assert (down.lo.array, down.rounding) == (-11, Rounding.TRN)


def test_bits_that_are_not_whole_clamp_before_rounding() -> None:
    agrees(model_of([quant("x", "y")], parameters(bits=3.5)), X)


@pytest.mark.parametrize("shape", [(3,), (1, 3), (1, 1)])
def test_scales_for_each_channel(shape: tuple[int, ...]) -> None:
    scale = np.exp2(-np.arange(np.prod(shape))).astype(F32).reshape(shape)
    graph = agrees(model_of([quant("x", "y")], {**parameters(), "s": scale}), X)
    assert only(graph, RealQuantize).scale.array.size == scale.size


@pytest.mark.parametrize("domain", ["qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general", "", "mine"])
def test_the_domain_is_not_looked_at(domain: str) -> None:
    assert only(read(model_of([quant("x", "y", domain=domain)], parameters())), RealQuantize).scale.array == 0.25


def test_bipolar() -> None:
    x = np.array([[-1.0, -0.0, 0.0], [1e-30, -1e-30, 2.0]], F32)
    agrees(model_of([helper.make_node("BipolarQuant", ["x", "s"], ["y"], domain="onnx.brevitas")], {"s": F32(0.3)}), x)


@pytest.mark.parametrize("mode", ["FLOOR", "CEIL", "ROUND", "HALF_UP"])
@pytest.mark.parametrize("version", [1, 2])
def test_trunc(version: int, mode: str) -> None:
    constants = {**parameters(0.25, 4.0, 8.0), "so": F32(2.0), "bo": F32(5.0)}
    names = ["a", "s", "z", "b", *(["so"] if version == 2 else []), "bo"]
    cut = helper.make_node("Trunc", names, ["y"], domain="qonnx.custom_op.general", rounding_mode=mode)
    agrees(model_of([quant("x", "a"), cut], constants), 8 * X)


@pytest.mark.parametrize("kind", ["Quant", "BipolarQuant", "Trunc"])
def test_constants_are_quantized_at_once(kind: str) -> None:
    """The code is that of float32 arithmetic, the value exactly code * scale."""
    pytest.importorskip("qonnx")
    constants: dict[str, object] = {**parameters(0.07), "w": W, "c4": F32(6.0), "c2": F32(3.0)}
    names = {"Quant": ["s", "z", "b"], "BipolarQuant": ["s"], "Trunc": ["s", "z", "c4", "c2"]}[kind]
    attributes = {"Quant": {"signed": 1, "narrow": 0}, "Trunc": {"rounding_mode": "FLOOR"}}.get(kind, {})
    node = helper.make_node(kind, ["w", *names], ["q"], domain="qonnx.custom_op.general", **attributes)
    model = model_of([node, helper.make_node("MatMul", ["x", "q"], ["y"])], constants)
    linear = only(read(model), RealLinear)
    found = Execution(model).tensors({"x": X})["q"].astype(np.float64)
    step = float(F32(0.07))
    np.testing.assert_array_equal(linear.weight.array, np.rint(found / step) * step)
    np.testing.assert_array_equal(linear.step.array, np.full(4, step))


# Steps of weights.


@pytest.mark.parametrize("way", ["matmul", "transpose", "reshape", "gemm", "gemm_transposed", "slices", "stack"])
def test_steps_follow_the_weights_to_the_product(way: str) -> None:
    scale = np.array([0.1, 0.2, 0.3, 0.7], F32)
    turned = way in ("transpose", "gemm_transposed")
    constants: dict[str, object] = {"z": F32(0), "b": F32(4), "s": scale, "w": W}
    if turned:
        constants |= {"s": scale.reshape(4, 1), "w": W.T.copy()}
    made = {
        "matmul": [],
        "transpose": [helper.make_node("Transpose", ["q"], ["r"], perm=[1, 0])],
        "reshape": [
            helper.make_node("Reshape", ["q", "flat"], ["f"]),
            helper.make_node("Reshape", ["f", "shape"], ["r"]),
        ],
        "slices": [
            helper.make_node("Split", ["q"], ["l", "m"], axis=1, num_outputs=2),
            helper.make_node("Concat", ["l", "m"], ["r"], axis=1),
        ],
        "stack": [
            helper.make_node("Unsqueeze", ["q", "axes"], ["u"]),
            helper.make_node("Squeeze", ["u", "axes"], ["r"]),
        ],
    }.get(way, [])
    constants |= {"flat": np.array([12]), "shape": np.array([3, 4]), "axes": np.array([0])}
    factor = made[-1].output[0] if made else "q"
    if way.startswith("gemm"):
        product = helper.make_node("Gemm", ["x", factor], ["y"], transB=int(turned), alpha=2.0)
    else:
        product = helper.make_node("MatMul", ["x", factor], ["y"])
    linear = only(read(model_of([quant("w", "q"), *made, product], constants)), RealLinear)
    steps = scale.astype(np.float64) * (2 if way.startswith("gemm") else 1)
    np.testing.assert_array_equal(linear.step.array, steps)
    codes = linear.weight.array / steps
    np.testing.assert_array_equal(codes, np.rint(codes))


@pytest.mark.parametrize("group", [1, 2])
def test_steps_of_convolutions(group: int) -> None:
    scale = np.array([0.1, 0.2, 0.3, 0.7], F32).reshape(4, 1, 1)
    constants = {"z": F32(0), "b": F32(4), "s": scale, "w": RNG.normal(0, 0.5, (4, 4 // group, 2)).astype(F32)}
    nodes = [quant("w", "q"), helper.make_node("Conv", ["x", "q"], ["y"], group=group)]
    linear = only(read(model_of(nodes, constants, (4, 5))), RealLinear)
    np.testing.assert_array_equal(linear.step.array, scale.ravel().astype(np.float64))


def test_powers_of_two_need_no_step_beside_another_quantizer() -> None:
    nodes = [quant("w", "q"), helper.make_node("MatMul", ["x", "q"], ["y"])]
    alone = read(model_of(nodes, {**parameters(), "w": W}))
    assert alone.quantized
    assert only(alone, RealLinear).step == FloatArray.of(np.full(4, 0.25))
    nodes = [quant("x", "xq"), quant("w", "q"), helper.make_node("MatMul", ["xq", "q"], ["y"])]
    assert only(read(model_of(nodes, {**parameters(), "w": W})), RealLinear).step is None


def test_weights_whose_columns_have_no_common_step_are_exact_as_they_stand() -> None:
    nodes = [quant("w", "q"), helper.make_node("MatMul", ["x", "q"], ["y"])]
    constants = {**parameters(), "s": np.array([[0.1], [0.2], [0.33]], F32), "w": W}
    assert only(read(model_of(nodes, constants)), RealLinear).step is None


# The ONNX standard.


def dequantized(x: str, y: str, names: str = "s z", **attributes: Any) -> Any:
    return helper.make_node("DequantizeLinear", [x, *names.split()], [y], **attributes)


def quantized(x: str, y: str, names: str = "s z", **attributes: Any) -> Any:
    return helper.make_node("QuantizeLinear", [x, *names.split()], [y], **attributes)


def test_qdq_is_one_quantizer() -> None:
    nodes = [quantized("x", "q"), dequantized("q", "y")]
    graph = agrees(model_of(nodes, {"s": F32(0.5), "z": np.int8(3)}), X)
    op = only(graph, RealQuantize)
    assert (op.lo.array, op.hi.array, len(graph.nodes)) == (-131, 124, 2)


def test_codes_are_made_for_who_reads_them() -> None:
    nodes = [
        quantized("x", "q"),
        dequantized("q", "y"),
        helper.make_node("Cast", ["q"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Relu", ["f"], ["r"]),
    ]
    outputs = {"y": TensorProto.FLOAT, "q": TensorProto.UINT8, "r": TensorProto.FLOAT}
    graph = agrees(model_of(nodes, {"s": F32(0.5), "z": np.uint8(7)}, outputs=outputs), X)
    assert dict(graph.tensors).keys() >= {"q", "y", "r"}


def test_codes_of_a_grid_that_is_no_power_of_two_are_whole() -> None:
    model = model_of([quantized("x", "q")], {"s": F32(0.1), "z": np.int8(-5)}, outputs={"q": TensorProto.INT8})
    agrees(model, X)


@pytest.mark.parametrize("kind", [TensorProto.UINT8, TensorProto.INT8, TensorProto.INT16])
def test_inputs_of_integers_keep_to_their_type(kind: int) -> None:
    model = model_of([dequantized("x", "y")], {"s": F32(0.5), "z": np.zeros((), helper.tensor_dtype_to_np_dtype(kind))})
    model.graph.input[0].type.tensor_type.elem_type = kind
    graph = read(model)
    info = np.iinfo(helper.tensor_dtype_to_np_dtype(kind))
    op = only(graph, RealQuantize)
    assert (op.scale.array, op.lo.array, op.hi.array) == (1, info.min, info.max)


def test_integers_of_a_network_that_is_not_quantized_stay_numbers() -> None:
    nodes = [helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT), helper.make_node("Relu", ["f"], ["y"])]
    assert not read(model_of(nodes, {}, kind=TensorProto.UINT8)).quantized


def test_another_scale_behind_the_codes() -> None:
    nodes = [quantized("x", "q"), dequantized("q", "y", "s2 z2")]
    agrees(model_of(nodes, {"s": F32(0.1), "z": np.int8(3), "s2": F32(2), "z2": np.int8(1)}), X)


def test_blocks_of_scales() -> None:
    nodes = [quantized("x", "q", block_size=2), dequantized("q", "y", block_size=2)]
    constants = {"s": np.array([[0.5, 0.25]], F32), "z": np.array([[1, 2]], np.int8)}
    agrees(model_of(nodes, constants, (4,)), RNG.normal(0, 2, (1, 4)).astype(F32))


def test_moves_keep_codes_and_their_grid() -> None:
    nodes = [
        quantized("x", "q"),
        helper.make_node("Transpose", ["q"], ["t"], perm=[0, 2, 1]),
        helper.make_node("MaxPool", ["t"], ["m"], kernel_shape=[2]),
        helper.make_node("Concat", ["m", "m"], ["c"], axis=1),
        dequantized("c", "y"),
    ]
    graph = read(model_of(nodes, {"s": F32(0.1), "z": np.uint8(3)}, (4, 3)))
    assert not any(isinstance(node.op, Multiply | Add) for node in graph.nodes)
    assert only(graph, RealQuantize).scale.array == float(F32(0.1))


def test_every_operator_on_codes_is_known() -> None:
    assert set(QONNX) <= set(LAYERS) and READ_CODES <= set(LAYERS)
    assert KEEP_CODES <= set(LAYERS) and KEEP_STEPS <= set(LAYERS)
    assert not KEEP_CODES & READ_CODES


# What is refused.


@pytest.mark.parametrize(
    ("nodes", "constants", "text"),
    [
        ([quant("x", "y")], parameters(scale=-0.5), "quant_y (Quant): scale -0.5; it must be positive"),
        ([quant("x", "y")], parameters(bits=0.5), "bit width 0.5; 1 and more is allowed"),
        ([quant("x", "y", rounding_mode="STOCHASTIC")], parameters(), "rounding mode STOCHASTIC; ROUND, HALF_EVEN"),
        ([quant("x", "y")], {**parameters(), "b": np.array([1, 2, 3], F32)}, "signed channels of 1 bit"),
        ([quant("x", "y", "x z b")], parameters(), "input 1 must be constant, here it is computed"),
        ([quantized("x", "y")], {"s": F32(-1), "z": np.int8(0)}, "scale -1; it must be positive"),
        ([quantized("x", "q"), dequantized("q", "y")], {"s": np.ones(5, F32), "z": np.zeros(5, np.int8)}, "5 scales"),
        (
            [helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]), dequantized("q", "y")],
            {},
            "quantize the activations statically",
        ),
    ],
)
def test_what_has_no_fixed_grid_is_refused(nodes: list[Any], constants: dict[str, object], text: str) -> None:
    assert text in refused(model_of(nodes, constants))


def test_floats_of_8_bits_are_refused() -> None:
    model = model_of([quantized("x", "y", "s", output_dtype=TensorProto.FLOAT8E4M3FN)], {"s": F32(1)})
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT8E4M3FN
    assert "quantizes to FLOAT8E4M3FN; UINT2, INT2, UINT4" in refused(model)


def test_scales_along_the_batch_are_refused() -> None:
    constants = {"s": np.array([[0.5], [0.25]], F32), "z": F32(0), "b": F32(4)}
    assert "one entry per event of a batch" in refused(model_of([quant("x", "y")], constants))
