"""Quantizers of a framework in a real network: their meaning, what they refuse, and what passes do around them."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metronn.frontends.common.builder import LayerBuilder
from metronn.ir.arrays import IntArray
from metronn.ir.ops import Overflow, Rounding
from metronn.model.graph import FloatArray, RealGraph, RealGraphBuilder, RealInput, RealQuantize
from metronn.model.reference import quantize_real, round_real, run_reference
from metronn.passes.pipeline import prepare

EIGHTHS = np.arange(-40, 41) / 8.0


def rounded(value: Fraction, rounding: Rounding) -> int:
    """Round as the manual of `ap_fixed` words it."""
    down = value.numerator // value.denominator
    part = value - down
    toward_zero = down if value >= 0 or part == 0 else down + 1
    away = down + 1 if value >= 0 else down
    half = Fraction(1, 2)
    nearest = down if part < half else down + 1
    match rounding:
        case Rounding.TRN:
            return down
        case Rounding.TRN_ZERO:
            return toward_zero
        case Rounding.RND:
            return nearest
        case Rounding.RND_MIN_INF:
            return down if part <= half else down + 1
        case Rounding.RND_ZERO:
            return nearest if part != half else toward_zero
        case Rounding.RND_INF:
            return nearest if part != half else away
        case Rounding.RND_CONV:
            return nearest if part != half else down + down % 2


@pytest.mark.parametrize("rounding", Rounding)
def test_round_real_follows_the_modes_of_ap_fixed(rounding: Rounding) -> None:
    expected = [rounded(Fraction(value), rounding) for value in EIGHTHS.tolist()]
    assert round_real(EIGHTHS, rounding).tolist() == expected


def quantizer(scale: object, lo: object, hi: object, rounding: Rounding, overflow: Overflow) -> RealQuantize:
    return RealQuantize(
        x="x",
        scale=FloatArray.of(scale),
        lo=IntArray.of(np.asarray(lo)),
        hi=IntArray.of(np.asarray(hi)),
        rounding=rounding,
        overflow=overflow,
    )


@pytest.mark.parametrize(
    ("overflow", "expected"),
    [
        (Overflow.WRAP, [3, -4, -3, 0, 3, -4]),
        (Overflow.SAT, [-4, -4, -3, 0, 3, 3]),
        (Overflow.SAT_ZERO, [0, -4, -3, 0, 3, 0]),
        (Overflow.SAT_SYM, [-3, -3, -3, 0, 3, 3]),
    ],
)
def test_overflow_modes(overflow: Overflow, expected: list[int]) -> None:
    op = quantizer(0.5, -4, 3, Rounding.TRN, overflow)
    assert (quantize_real(op, np.array([-5, -4, -3, 0, 3, 4]) / 2) * 2).tolist() == expected


def test_elements_of_no_bits_give_zero() -> None:
    op = quantizer([1.0, 1.0], [0, -2], [0, 1], Rounding.TRN, Overflow.WRAP)
    assert quantize_real(op, np.array([[5.0, 5.0], [-1.0, -1.0]])).tolist() == [[0.0, 1.0], [0.0, -1.0]]


@pytest.mark.parametrize(
    ("scale", "lo", "hi", "overflow", "message"),
    [
        (0.0, -1, 1, Overflow.SAT, "not positive"),
        (1.0, 2, 1, Overflow.SAT, "lo is above hi"),
        (1.0, -3, 3, Overflow.WRAP, "wraps"),
        (1.0, [-1, -1], 1, Overflow.SAT, "broadcast"),
    ],
)
def test_bad_quantizers_are_refused(scale: object, lo: object, hi: object, overflow: Overflow, message: str) -> None:
    builder = RealGraphBuilder()
    builder.add(RealInput(shape=(3,)), "x")
    with pytest.raises(ValueError, match=message):
        builder.add(quantizer(scale, lo, hi, Rounding.RND, overflow), "q")


def convolution_between_transposes(order: tuple[int, ...], bits: np.ndarray, scale: np.ndarray) -> RealGraph:
    """Build input -> transpose -> quantizer with constants per element -> transpose back -> matrix."""
    net = LayerBuilder()
    x = net.input("x", (2, 3, 4))
    net.layer = "q"
    shape = tuple((2, 3, 4)[axis] for axis in order)
    moved = net.transpose(x, order)
    hi = np.broadcast_to(2**bits - 1, shape)
    y = net.quantize(moved, np.broadcast_to(scale, shape), -hi - 1, hi, Rounding.RND, Overflow.SAT)
    back = net.transpose(y, np.argsort(order).tolist())
    net.layer = "dense"
    weight = np.random.default_rng(1).integers(-3, 4, (4, 2)).astype(float)
    net.tensors["q"] = back
    return net.finish([("y", net.linear(back, weight))], "drawn")


@given(st.permutations(range(3)), st.integers(0, 2**32))
def test_a_quantizer_lets_movement_pass(order: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    shape = tuple((2, 3, 4)[axis] for axis in order)
    model = convolution_between_transposes(
        tuple(order), random.integers(0, 5, shape), 2.0 ** random.integers(-3, 3, shape)
    )
    prepared = prepare(model)
    x = random.normal(0, 4, (20, 2, 3, 4))
    assert np.array_equal(run_reference(model, {"x": x})["y"], run_reference(prepared, {"x": x})["y"])
    assert [type(node.op).__name__ for node in prepared.nodes] == ["RealInput", "RealQuantize", "RealLinear"]


def test_tensors_follow_their_values() -> None:
    model = convolution_between_transposes((2, 0, 1), np.array(3), np.array(0.25))
    prepared = prepare(model)
    (name, value), *_ = prepared.tensors
    assert name == "q" and value in prepared.by_name


def test_nothing_is_folded_across_a_quantizer() -> None:
    net = LayerBuilder()
    x = net.input("x", (4,))
    net.layer = "dense"
    y = net.linear(x, np.eye(4))
    net.layer = "norm"
    y = net.scaled(y, np.array([0.5, 0.75, 1.5, 3.0]), np.array([1.0, 2.0, 3.0, 4.0]))
    net.layer = "q"
    y = net.quantize(y, 0.25, -8, 7)
    model = net.finish([("y", y)], "drawn")
    assert model.quantized
    kinds = [type(node.op).__name__ for node in prepare(model).nodes]
    assert kinds.count("Multiply") == 1 and kinds.count("Add") == 1


def test_a_tensor_whose_value_is_merged_away_is_forgotten() -> None:
    net = LayerBuilder()
    x = net.input("x", (4,))
    net.layer = "first"
    net.tensors["first"] = y = net.scaled(x, np.array([2.0, 3.0, 5.0, 7.0]))
    net.layer = "second"
    net.tensors["second"] = y = net.scaled(y, np.array([-1.0, 0.5, 2.0, 4.0]))
    model = net.finish([("y", y)], "drawn")
    prepared = prepare(model)
    values = {}
    run_reference(prepared, {"x": np.ones((1, 4))}, lambda node, array: values.update({node.name: array.copy()}))
    assert [name for name, _ in prepared.tensors] == ["second"]
    assert values[dict(prepared.tensors)["second"]].tolist() == [[-2.0, 1.5, 10.0, 28.0]]
