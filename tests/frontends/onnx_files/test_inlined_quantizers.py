"""Quantizers that an ONNX file spells out in other operators become quantizers, exactly; other roundings stay."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from metronn.events.data import Events
from metronn.frontends.onnx.read import load_onnx
from metronn.model.graph import FunctionKind, RealFunction, RealGraph, RealLinear, RealQuantize
from metronn.model.reference import run_reference
from metronn.passes.pipeline import prepare, quantize_model
from metronn.quantize.options import QuantizeOptions
from random_tests import examples

F32 = np.float32
WEIGHTS = np.random.default_rng(5).normal(size=(6, 4)).astype(F32)
MODES = ("round", "half_up", "floor", "ceil", "trunc", "cast")
ROUND_CODE = {
    "round": round,
    "half_up": lambda v: math.floor(v + Fraction(1, 2)),
    "floor": math.floor,
    "ceil": math.ceil,
    "trunc": math.trunc,
    "cast": math.trunc,
}


class Drawing:
    """An ONNX graph being written."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}

    def constant(self, values: object, dtype: type = F32) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(values, dtype)
        return name

    def add(self, kind: str, *inputs: str, **attributes: object) -> str:
        name = f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def like(self, x: str, scale: object, way: str) -> str:
        """Return a scale: a constant, ones_like(x) * scale, expanded to x, cast."""
        s = self.constant(scale)
        match way:
            case "ones":
                value = helper.make_tensor("value", TensorProto.FLOAT, [1], [1.0])
                return self.add("Mul", self.add("ConstantOfShape", self.add("Shape", x), value=value), s)
            case "expand":
                return self.add("Expand", s, self.add("Shape", x))
            case "cast":
                return self.add("Identity", self.add("Cast", s, to=TensorProto.FLOAT))
            case _:
                return s

    def rounded(self, x: str, mode: str) -> str:
        match mode:
            case "round":
                return self.add("Round", x)
            case "half_up":
                return self.add("Floor", self.add("Add", x, self.constant(0.5)))
            case "floor":
                return self.add("Floor", x)
            case "ceil":
                return self.add("Ceil", x)
            case "trunc":
                return self.add("Mul", self.add("Sign", x), self.add("Floor", self.add("Abs", x)))
            case _:
                whole = self.add("Cast", x, to=TensorProto.INT32)
                return self.add("Cast", whole, to=TensorProto.FLOAT)

    def clipped(self, x: str, lo: float, hi: float, way: str) -> str:
        if way == "clip":
            return self.add("Clip", x, self.constant(lo), self.constant(hi))
        return self.add("Min", self.add("Max", x, self.constant(lo)), self.constant(hi))

    def quantizer(
        self, x: str, scale: object, bounds: tuple[int, int], *, mode: str, order: str, clip: str, like: str
    ) -> str:
        """Write scale * clip(round(x / scale)), with the clip in front of the scale, the rounding, or behind."""
        s = np.asarray(scale, F32)
        factor = self.like(x, scale, like)
        lo, hi = bounds
        if order == "scale_last" and s.ndim == 0:
            x = self.clipped(x, float(lo * s), float(hi * s), clip)
        y = self.add("Div", x, factor)
        if order == "round_last":
            y = self.clipped(y, lo, hi, clip)
        y = self.rounded(y, mode)
        if order == "clip_last" or (order == "scale_last" and s.ndim):
            y = self.clipped(y, lo, hi, clip)
        return self.add("Mul", y, factor)

    def read(self, *outputs: str, size: int = 6) -> RealGraph:
        graph = helper.make_graph(
            self.nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", size])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            [numpy_helper.from_array(values, name) for name, values in self.constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        return load_onnx(Path("test.onnx"), model.SerializeToString())


def quantizers(model: RealGraph) -> list[RealQuantize]:
    return [node.op for node in model.nodes if isinstance(node.op, RealQuantize)]


@given(
    scale=st.one_of(st.integers(-6, 0).map(lambda k: 2.0**k), st.floats(0.01, 0.5).map(lambda v: float(F32(v)))),
    bits=st.integers(2, 8),
    signed=st.booleans(),
    mode=st.sampled_from(MODES),
    order=st.sampled_from(("clip_last", "round_last", "scale_last")),
    clip=st.sampled_from(("clip", "minmax")),
    like=st.sampled_from(("constant", "ones", "expand", "cast")),
)
@examples(25)
def test_spelled_out_quantizers_are_quantizers(
    scale: float, bits: int, signed: bool, mode: str, order: str, clip: str, like: str
) -> None:
    bounds = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    if order == "scale_last" and math.frexp(scale)[0] != 0.5:
        order = "clip_last"  # the product of bound and scale, in float32, is another bound
    drawing = Drawing()
    y = drawing.quantizer("x", scale, bounds, mode=mode, order=order, clip=clip, like=like)
    model = drawing.read(drawing.add("MatMul", y, drawing.constant(np.round(WEIGHTS * 4) / 4)), y)
    assert model.quantized
    assert not any(isinstance(node.op, RealFunction) for node in model.nodes)
    ticks = np.concatenate([np.arange(-300, 300) / 2 * scale, np.random.default_rng(1).normal(size=600) * 3])
    x = ticks.astype(F32).astype(np.float64).reshape(-1, 6)
    found = run_reference(model, {"x": x})[y]
    codes = [min(max(ROUND_CODE[mode](Fraction(v) / Fraction(scale)), bounds[0]), bounds[1]) for v in x.ravel()]
    np.testing.assert_array_equal(np.rint(found.ravel() / scale), codes)
    quantized = quantize_model(model, Events(inputs={"x": x}), QuantizeOptions(metric="none"))
    layers = [layer for layer in quantized.report.layers if layer.kind != "output"]
    if mode != "ceil" and mode != "trunc" and mode != "cast":
        assert all(layer.exactness is not None and layer.exactness.value == "exact" for layer in layers)
        assert float(quantizers(model)[0].scale.array) == scale


@pytest.mark.parametrize("scale", [0.0625, 0.037, [[0.05, 0.0625, 0.1, 0.03]]])
@pytest.mark.parametrize("mode", ["round", "half_up", "floor"])
def test_weights_behind_spelled_out_quantizers_have_steps(scale: object, mode: str) -> None:
    drawing = Drawing()
    w = drawing.constant(WEIGHTS)
    q = drawing.quantizer(w, scale, (-8, 7), mode=mode, order="clip_last", clip="clip", like="ones")
    model = drawing.read(drawing.add("MatMul", "x", q))
    assert model.quantized
    op = next(node.op for node in model.nodes if isinstance(node.op, RealLinear))
    steps = np.broadcast_to(np.asarray(scale, F32).astype(np.float64).ravel(), 4)
    assert op.step is not None
    codes = op.weight.array / op.step.array
    np.testing.assert_array_equal(codes, np.rint(codes))
    np.testing.assert_array_equal(op.weight.array, np.rint(op.weight.array / steps) * steps)
    assert np.abs(op.weight.array - WEIGHTS)[np.abs(WEIGHTS) < 0.2].max() <= steps.max()


def test_a_network_of_spelled_out_quantizers_is_exact() -> None:
    drawing = Drawing()
    common = {"clip": "clip", "order": "clip_last", "mode": "round"}
    x = drawing.quantizer("x", 0.037, (-128, 127), like="ones", **common)
    w = drawing.quantizer(drawing.constant(WEIGHTS), [[0.05, 0.0625, 0.1, 0.03]], (-8, 7), like="expand", **common)
    y = drawing.add("Relu", drawing.add("MatMul", x, w))
    y = drawing.quantizer(y, 0.11, (0, 15), like="ones", **common)
    w = drawing.quantizer(drawing.constant(WEIGHTS.T), 0.07, (-8, 7), like="constant", **common)
    z = drawing.quantizer(drawing.add("MatMul", y, w), 0.25, (-128, 127), like="cast", **common)
    model = drawing.read(z)
    inputs = {"x": np.random.default_rng(2).normal(size=(300, 6)).astype(F32).astype(np.float64)}
    quantized = quantize_model(model, Events(inputs=inputs), QuantizeOptions(metric="none"))
    assert "all layers exact on" in quantized.report.summary()
    assert len(quantizers(prepare(model))) == 3


def test_a_zero_point_between_rounding_and_clip() -> None:
    drawing = Drawing()
    y = drawing.add("Round", drawing.add("Div", "x", drawing.constant(0.1)))
    y = drawing.clipped(drawing.add("Add", y, drawing.constant(3.0)), 0, 15, "clip")
    y = drawing.add("Mul", drawing.add("Sub", y, drawing.constant(3.0)), drawing.constant(0.1))
    model = drawing.read(drawing.add("MatMul", y, drawing.constant(np.round(WEIGHTS))), y)
    (op,) = quantizers(model)
    assert (int(op.lo.array), int(op.hi.array)) == (-3, 12)
    x = np.random.default_rng(3).normal(size=(100, 6)).astype(F32).astype(np.float64)
    codes = np.clip(np.round(x / float(F32(0.1))), -3, 12)
    np.testing.assert_allclose(run_reference(model, {"x": x})[y], codes * float(F32(0.1)), rtol=1e-12)


@pytest.mark.parametrize("ternary", [False, True])
def test_signs_are_quantizers_in_front_of_a_matrix(ternary: bool) -> None:
    drawing = Drawing()
    y = drawing.add("Sign", "x")
    if not ternary:
        y = drawing.add("Sign", drawing.add("Add", y, drawing.constant(0.5)))
    y = drawing.add("Mul", y, drawing.constant(0.3))
    model = drawing.read(drawing.add("MatMul", y, drawing.constant(np.round(WEIGHTS * 2))), y)
    assert model.quantized
    x = np.array([[-1.0, -1e-9, 0.0, 1e-9, 0.5, 3.0]])
    wanted = np.sign(x) if ternary else np.where(x >= 0, 1.0, -1.0)
    np.testing.assert_array_equal(run_reference(model, {"x": x})[y], wanted * float(F32(0.3)))


def test_roundings_that_are_no_quantizers_stay() -> None:
    """An unbounded Floor, a bounded one that no matrix reads, one in front of float weights."""
    alone = Drawing()
    model = alone.read(alone.add("MatMul", alone.add("Floor", "x"), alone.constant(np.round(WEIGHTS))))
    assert not model.quantized
    assert [node.op.kind for node in model.nodes if isinstance(node.op, RealFunction)] == [FunctionKind.FLOOR]
    unread = Drawing()
    y = unread.clipped(unread.add("Round", unread.add("MatMul", "x", unread.constant(WEIGHTS))), 0, 9, "clip")
    assert not unread.read(y).quantized
    floats = Drawing()
    y = floats.clipped(floats.add("Round", "x"), -8, 7, "minmax")
    assert not floats.read(floats.add("MatMul", y, floats.constant(WEIGHTS))).quantized
