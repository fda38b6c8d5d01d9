"""Quantizers of QKeras: each against a direct statement of its definition, in fractions; parsing; what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from metronn.frontends.common.builder import LayerBuilder, LayerProblem
from metronn.frontends.keras.qkeras.activations import FUNCTIONS, quantized_value
from metronn.frontends.keras.qkeras.quantizers import SIGNATURES, parse_quantizer, refusal
from metronn.frontends.keras.qkeras.weights import quantized_constant
from metronn.model.reference import run_reference

HALF = Fraction(1, 2)
GRID = [Fraction(k, 64) for k in range(-320, 321)]
Exact = Callable[[Fraction], Fraction]


def clip(x: Fraction, low: Fraction | int, high: Fraction | int) -> Fraction:
    return max(Fraction(low), min(Fraction(high), x))


def fixed(
    bits: int, integer: int, *, symmetric: int = 0, negative: bool = True, alpha: Fraction = Fraction(1)
) -> Exact:
    """quantized_bits; Python rounds fractions half to even."""
    free = bits - negative
    step = Fraction(2) ** (integer - free)
    low = -(2**free) + symmetric if negative else 0
    return lambda x: alpha * step * clip(Fraction(round(x / step)), low, 2**free - 1)


def linear(bits: int, integer: int, *, symmetric: int = 1, alpha: Fraction = Fraction(1)) -> Exact:
    step = alpha * Fraction(2) ** (integer - bits + 1)
    return lambda x: step * Fraction(round(clip(x / step, -(2 ** (bits - 1)) + symmetric, 2 ** (bits - 1) - 1)))


def relu(bits: int, integer: int, slope: Fraction = Fraction(0)) -> Exact:
    free = bits - (slope != 0)
    step = Fraction(2) ** (integer - free)

    def y(x: Fraction) -> Fraction:
        positive = step * clip(Fraction(round(x / step)), 0, 2**free - 1)
        below = slope and max(step * round(x * slope / step), -slope * 2**integer)
        return positive + min(below, Fraction(0))

    return y


def hard_sigmoid(x: Fraction) -> Fraction:
    return clip(HALF * x + HALF, 0, 1)


def tanh(bits: int, *, symmetric: bool = False) -> Exact:
    count = 2 ** (bits - 1)
    return lambda x: clip(
        Fraction(round((2 * hard_sigmoid(x) - 1) * count), count),
        -1 + Fraction(symmetric, count),
        1 - Fraction(1, count),
    )


def sigmoid(bits: int, *, symmetric: bool = False) -> Exact:
    count = 2**bits
    return lambda x: clip(
        Fraction(round(hard_sigmoid(x) * count), count), Fraction(symmetric, count), 1 - Fraction(1, count)
    )


def sign(x: Fraction) -> int:
    return (x > 0) - (x < 0)


def relu_of_sigmoid(bits: int, integer: int) -> Exact:
    count, whole = 2**bits, 2**integer
    return lambda x: (
        whole * clip(2 * Fraction(round(hard_sigmoid(x / whole) * count), count) - 1, 0, 1 - Fraction(1, count))
    )


def power(exponent_of: Callable[[float], int], lowest: int, highest: int) -> Exact:
    """Powers of two of |x|, the lowest below Keras' epsilon; -0 and 0 count as positive."""

    def y(x: Fraction) -> Fraction:
        exponent = lowest if abs(x) < 1e-7 else max(lowest, min(highest, exponent_of(math.log2(abs(x)))))
        return Fraction(2) ** exponent * (1 if x >= 0 else -1)

    return y


def mixed(y: Exact, factor: Fraction) -> Exact:
    return lambda x: x + factor * (y(x) - x)


def hswish(bits: int, integer: int) -> Exact:
    return lambda x: fixed(bits, integer)(x * clip(x + 3, 0, 6) / 6)


DEFINITIONS: dict[str, Exact] = {
    "quantized_bits(6,0)": fixed(6, 0),
    "quantized_bits(4,2,1)": fixed(4, 2, symmetric=1),
    "quantized_bits(5,1,keep_negative=False)": fixed(5, 1, negative=False),
    "quantized_bits(3,0,alpha=0.375)": fixed(3, 0, alpha=Fraction(3, 8)),
    "quantized_bits(3,1,qnoise_factor=0.25)": mixed(fixed(3, 1), Fraction(1, 4)),
    "quantized_bits(1)": lambda x: Fraction(1 if x >= 0 else -1),
    "quantized_bits(1,alpha=2.0)": lambda x: Fraction(2 if x >= 0 else -2),
    "quantized_bits(6,2,use_stochastic_rounding=True)": fixed(6, 2),
    "quantized_linear(4,1)": linear(4, 1),
    "quantized_linear(4,1,0)": linear(4, 1, symmetric=0),
    "quantized_linear(4,1,alpha=0.75)": linear(4, 1, alpha=Fraction(3, 4)),
    "quantized_linear(1,0)": lambda x: HALF if x >= 0 else -HALF,
    "quantized_relu(4,1)": relu(4, 1),
    "quantized_relu(8)": relu(8, 0),
    "quantized_relu": relu(8, 0),
    "quantized_relu(6,2,negative_slope=0.25)": relu(6, 2, Fraction(1, 4)),
    "quantized_relu(3,1,negative_slope=0.125)": relu(3, 1, Fraction(1, 8)),
    "quantized_relu(4,2,1)": relu_of_sigmoid(4, 2),
    "quantized_relu(6,2,relu_upper_bound=1.5)": relu(6, 2),
    "quantized_relu(6,2,relu_upper_bound=1.5,is_quantized_clip=False)": lambda x: min(relu(6, 2)(x), Fraction(3, 2)),
    "quantized_tanh(4)": tanh(4),
    "quantized_tanh(4,symmetric=True)": tanh(4, symmetric=True),
    "quantized_sigmoid(4)": sigmoid(4),
    "quantized_sigmoid(4,True)": sigmoid(4, symmetric=True),
    "quantized_po2(4)": power(round, -4, 3),
    "quantized_po2(3,2,log2_rounding='floor')": power(math.floor, -2, 1),
    "quantized_relu_po2(3)": lambda x: power(round, -4, 3)(max(x, Fraction(0))),
    "quantized_hswish(6,2)": hswish(6, 2),
    "ternary()": lambda x: Fraction(sign(x) if abs(x) >= Fraction(float(np.float32(0.33))) else 0),
    "ternary(alpha=2.0,threshold=0.5)": lambda x: Fraction(2 * sign(x) if abs(x) >= HALF else 0),
    "stochastic_ternary(threshold=0.0)": lambda x: Fraction(sign(x)),
    "binary()": lambda x: Fraction(1 if x >= 0 else -1),
    "binary(1)": lambda x: Fraction(x >= 0),
    "stochastic_binary(alpha=0.5)": lambda x: HALF if x >= 0 else -HALF,
}
FUNCTION_DEFINITIONS: dict[str, Exact] = {
    "binary_sigmoid": lambda x: Fraction(round(hard_sigmoid(x))),
    "binary_tanh": lambda x: Fraction(2 * round(hard_sigmoid(x)) - 1),
    "hard_sigmoid": hard_sigmoid,
    "hard_tanh": lambda x: 2 * hard_sigmoid(x) - 1,
    "smooth_sigmoid": lambda x: clip(Fraction(3, 16) * x + HALF, 0, 1),
    "smooth_tanh": lambda x: 2 * clip(Fraction(3, 16) * x + HALF, 0, 1) - 1,
}


def applied(add: Callable[[LayerBuilder, str], str]) -> list[Fraction]:
    builder = LayerBuilder()
    graph = builder.finish([("y", add(builder, builder.input("x", (len(GRID),))))], "test")
    y = run_reference(graph, {"x": np.asarray([[float(x) for x in GRID]])})["y"]
    return [Fraction(float(value)) for value in y[0]]


@pytest.mark.parametrize("text", DEFINITIONS)
def test_values_follow_the_definition(text: str) -> None:
    found = applied(lambda builder, x: quantized_value(builder, x, parse_quantizer(text)))
    assert found == [DEFINITIONS[text](x) for x in GRID]


@pytest.mark.parametrize("text", [text for text in DEFINITIONS if "hswish" not in text])
def test_constants_follow_the_definition(text: str) -> None:
    """A constant and a value through the same quantizer are the same."""
    found, step = quantized_constant(parse_quantizer(text), np.asarray([float(x) for x in GRID]))
    assert [Fraction(float(value)) for value in found] == [DEFINITIONS[text](x) for x in GRID]
    if step is not None:
        codes = found / step
        assert np.array_equal(codes, np.rint(codes))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_follow_the_definition(name: str) -> None:
    assert applied(lambda builder, x: FUNCTIONS[name](builder, x)) == [FUNCTION_DEFINITIONS[name](x) for x in GRID]


def test_every_quantizer_is_defined_here() -> None:
    named = {text.split("(")[0] for text in DEFINITIONS}
    assert named | {"bernoulli", "quantized_ulaw"} == set(SIGNATURES)


def test_ulaw_bends_the_rounded_sigmoid() -> None:
    found = applied(lambda builder, x: quantized_value(builder, x, parse_quantizer("quantized_ulaw(5,0,1,15.0)")))
    for x, y in zip(GRID, found, strict=True):
        r = 2 * Fraction(round(hard_sigmoid(x) * 16), 16) - 1
        bent = sign(r) * math.log1p(15 * abs(r)) / math.log(16)
        # a logarithm, in float32 in one and in float64 in the other; the quantizer leaves the grid
        assert float(y) == pytest.approx(max(-15 / 16, min(15 / 16, bent)), abs=1e-6)


@pytest.mark.parametrize(
    ("real", "text"),
    [
        (math.tanh, "quantized_tanh(5,use_real_tanh=True)"),
        (lambda x: 1 / (1 + math.exp(-x)), "quantized_sigmoid(4,use_real_sigmoid=True)"),
    ],
)
def test_real_functions_are_rounded(real: Callable[[float], float], text: str) -> None:
    found = applied(lambda builder, x: quantized_value(builder, x, parse_quantizer(text)))
    assert found == [min(Fraction(round(real(float(x)) * 16), 16), Fraction(15, 16)) for x in GRID]


def test_automatic_scale_is_the_largest_weight_over_the_largest_code() -> None:
    x = np.asarray([[0.5, -0.75], [-0.25, 0.1], [0.3, 0.0]])
    found, step = quantized_constant(parse_quantizer("quantized_bits(4,0,alpha='auto')"), x)
    steps = [float(np.float32(np.float32(2 * top) / np.float32(14))) for top in (0.5, 0.75)]
    assert step is not None
    assert step.tolist() == [steps] * 3
    codes = [[math.floor(abs(v) / s + 0.5) * sign(Fraction(v)) for v, s in zip(row, steps, strict=True)] for row in x]
    assert (found / step).tolist() == codes


def test_automatic_power_of_two_needs_no_step() -> None:
    found, step = quantized_constant(
        parse_quantizer("quantized_bits(3,0,alpha='auto_po2')"), np.asarray([[0.9], [0.3], [-0.6]])
    )
    assert step is None
    assert found.tolist() == [[0.75], [0.25], [-0.5]]  # 3 codes of 0.25: by least squares 0.27, the nearest power 2**-2


def test_automatic_ternary_scale_fits_what_is_kept() -> None:
    found, step = quantized_constant(parse_quantizer("ternary(alpha='auto')"), np.asarray([[0.9], [0.05], [-0.7]]))
    assert step is not None
    assert np.allclose(step, 0.8, rtol=1e-6)  # the least squares of QKeras: float32, with an epsilon in the divisor
    assert (found / step).tolist() == [[1.0], [0.0], [-1.0]]


def test_zero_columns_stay_zero() -> None:
    for text in ("quantized_bits(4,0,alpha='auto')", "quantized_linear(4,alpha='auto')", "ternary(alpha='auto_po2')"):
        found, step = quantized_constant(parse_quantizer(text), np.asarray([[0.0, 0.5], [0.0, -0.25]]))
        assert (found[:, 0] == 0).all(), text
        assert step is None or (step > 0).all()


def test_kernels_without_alpha_find_their_scale() -> None:
    assert parse_quantizer("quantized_bits(4)").trainable().automatic == "auto_po2"
    assert parse_quantizer("quantized_bits(4)").trainable().flag("symmetric")
    assert parse_quantizer("quantized_bits(4,alpha=1)").trainable().automatic is None
    assert parse_quantizer("quantized_po2(4)").trainable() == parse_quantizer("quantized_po2(4)")


SERIALIZED: list[Any] = [
    "quantized_bits(6, 2, alpha=1.0)",
    " quantized_bits ( bits = 6 , integer=2,alpha=1.0)",
    {"class_name": "quantized_bits", "config": {"bits": 6, "integer": 2, "alpha": 1.0}},
    {"class_name": "qkeras>quantized_bits", "config": {"bits": 6, "integer": 2, "alpha": 1.0}},
    {
        "module": "qkeras.quantizers",
        "class_name": "quantized_bits",
        "config": {"bits": 6, "integer": {"class_name": "__numpy__", "config": {"value": 2}}, "alpha": 1.0},
        "registered_name": "qkeras>quantized_bits",
    },
]


@pytest.mark.parametrize("value", SERIALIZED)
def test_every_form_reads_the_same(value: Any) -> None:
    quantizer = parse_quantizer(value)
    assert quantizer.name == "quantized_bits"
    assert {k: v for k, v in quantizer.arguments.items() if v != SIGNATURES["quantized_bits"][k]} == {
        "bits": 6,
        "integer": 2,
        "alpha": 1.0,
    }


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("quantized_bytes(4)", "quantizer 'quantized_bytes.4.' is not known; known are bernoulli, binary"),
        ("quantized_bits(__import__('os'))", "not of the form name"),
        ("quantized_bits(4, bits=5)", "not of the form name"),
        ("quantized_bits(4).bits", "not of the form name"),
        ("quantized_bits(bit=4)", "argument bit is not known; known are bits, integer"),
        ("quantized_bits(0)", "bits is 0, at least 1 are needed"),
        ("quantized_bits(1,alpha='auto')", "bits is 1, at least 2 are needed"),
        ("quantized_bits('x')", "bits is 'x', a number is needed"),
        ("quantized_bits(2.5)", "bits is 2.5, a whole number"),
        ("quantized_bits(4,alpha='best')", "alpha is 'best'; auto, auto_po2, a number or nothing"),
        ("quantized_relu(4,negative_slope=0.3)", "negative_slope is 0.3, 0 or a power of two is needed"),
        ("quantized_po2(4,log2_rounding='up')", "log2_rounding is 'up'; rnd, floor are allowed"),
        ("quantized_hswish(4,relu_shift=0)", "relu_shift is 0, a positive number is needed"),
    ],
)
def test_wrong_quantizers_are_told(value: str, message: str) -> None:
    with pytest.raises(LayerProblem, match=message):
        parse_quantizer(value)


def test_what_has_no_fixed_value_is_refused_with_a_reason() -> None:
    assert refusal("bernoulli()", of_values=False) == "bernoulli (it draws random numbers, at inference too)"
    for text in ("quantized_bits(4,alpha='auto')", "ternary(alpha='auto')", "binary(alpha='auto_po2')"):
        reason = refusal(text, of_values=True)
        assert reason is not None
        assert "the scale would depend on the batch" in reason
        assert refusal(text, of_values=False) is None
    grouped = refusal("binary(alpha='auto',elements_per_scale=2)", of_values=False)
    assert grouped == "binary with elements_per_scale (QKeras does not keep it in files)"


def test_a_scale_kept_from_training_is_fixed() -> None:
    text = "quantized_bits(4,0,alpha='auto',post_training_scale=0.6)"
    assert refusal(text, of_values=True) is None
    found = applied(lambda builder, x: quantized_value(builder, x, parse_quantizer(text)))
    step = Fraction(float(np.float32(0.6))) / 8
    away = [sign(x) * min(math.floor(abs(x) / step + HALF), 7) for x in GRID]
    assert [round(float(y) / float(step)) for y in found] == away
    assert [float(y) for y in found] == pytest.approx([float(step * code) for code in away], abs=1e-12)  # products
