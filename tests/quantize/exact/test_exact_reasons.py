"""Why a value is not exact goes with the value: whoever reads it inherits the reasons, however it came to be read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shared_networks import CONSTANTS, STEP, STEPS, shared_networks
from test_exact import OPTIONS, differences

from metronn.events.codes import decode, encode_inputs
from metronn.events.data import Events
from metronn.frontends.common.builder import LayerBuilder
from metronn.ir.infer import overflowed
from metronn.ir.ops import Extremum, Overflow, Reduce, ReduceKind, Rounding
from metronn.model.functions import apply_function
from metronn.model.graph import Floats, FunctionKind, RealFunction, RealGraph
from metronn.model.rational import run_rational
from metronn.passes.pipeline import prepare, quantize_model
from metronn.quantize.exact.chains import Affine, Call, Chain, power_of_two
from metronn.quantize.exact.closing_ways import Target, chain_codes
from metronn.quantize.exact.inputs import absorbed
from metronn.quantize.exact.staircase import round_fraction
from metronn.quantize.exact.values import exact_values
from metronn.quantize.options import QuantizeOptions
from metronn.quantize.quantize import Quantized
from metronn.quantize.records import Exactness
from metronn.verify.exact_rung import compare_exactly, exact_files
from random_tests import examples

SIZE = 4


def residual(reach: int) -> RealGraph:
    """Return a network in which one block, whose two branches have unlike steps, is used twice.

    Both branches have the same codes, up to SIZE * 7 * `reach`, and their steps are 1 together: every sum is a whole
    number, and any error moves half of the codes of the quantizer behind, which cuts off. A concatenation reads each
    sum before its quantizer does.
    """
    codes = np.random.default_rng(5).integers(-1, 2, (SIZE, SIZE)) * reach
    net = LayerBuilder()
    x = net.input("x", (SIZE,))
    net.layer = "q"
    x = net.quantize(x, 1.0, -8, 7)
    outputs = []
    for use in ("first", "second"):
        net.layer = "block"
        branches = [net.linear(x, codes * step, np.zeros(SIZE), np.full(SIZE, step)) for step in (STEP, 1 - STEP)]
        total = net.tensors[f"{use}.sum"] = net.plus(*branches)
        net.layer = "joined"
        outputs.append((use, net.concatenate([total, x], 0)))
        net.layer = "cut"
        x = net.tensors[f"{use}.cut"] = net.quantize(total, 1.0, -8, 7, rounding=Rounding.TRN)
    return net.finish([("y", x), *outputs], "drawn")


@pytest.mark.parametrize(("reach", "exact"), [(1, True), (1 << 12, False)])
def test_a_block_used_twice_has_two_rounded_sums(reach: int, exact: bool, tmp_path: Path) -> None:
    """Neither sum counts as exact; the quantizers behind do where they follow from the branches themselves."""
    model = residual(reach)
    inputs = {"x": np.random.default_rng(2).integers(-8, 8, (200, SIZE)).astype(np.float64)}
    quantized = quantize_model(model, Events(inputs=inputs), OPTIONS)
    claimed = {tensor for value in quantized.frontier for tensor in value.tensors}
    assert not any(differences(prepare(model), quantized, inputs).values())
    assert claimed == ({"first.cut", "second.cut"} if exact else set())
    rounded = [layer for layer in quantized.report.layers if layer.exactness is Exactness.REQUANTIZED]
    assert [layer.layer for layer in rounded if layer.kind == "elementwise"] == ["block", "block"]
    for name, content in exact_files(prepare(model), quantized.graph, quantized.frontier, inputs).items():
        (tmp_path / name).write_bytes(content)
    compared = compare_exactly(tmp_path, quantized.graph, encode_inputs(quantized.graph, inputs))
    assert compared is not None
    assert (compared.events, compared.mismatches, compared.unjudged) == (200, 0, "")


def untrue(model: RealGraph, quantized: Quantized, inputs: Mapping[str, Floats]) -> dict[str, int]:
    """Count, for every value that is called exact, the integers that are not those of exact real arithmetic.

    A scale that is no float64 is rounded in the frontier: values in such steps may be off by as much. An input that no
    quantizer reads counts as what the graph makes of it.
    """
    graph, real = quantized.graph, {}
    codes = encode_inputs(graph, inputs)
    given = {
        node.name: inputs[node.name] if absorbed(model, node) else decode(codes[node.name], graph.type_of(node.name))
        for node in model.inputs
    }
    run_rational(model, given, lambda node, values: real.update({node.name: values}))
    found = exact_values(graph, quantized.frontier, codes)
    wrong = {}
    for exact in quantized.frontier:
        kind, expected = graph.type_of(exact.value), real[exact.real]
        scales = [Fraction(s) for s in np.broadcast_to(exact.scale.array, kind.shape).ravel().tolist()]
        numbers = expected.numbers.reshape(-1, kind.size)
        mine = np.broadcast_to(found[exact.value], expected.numbers.shape).reshape(-1, kind.size)
        wrong[exact.real] = 0
        for element, (scale, frac) in enumerate(zip(scales, kind.range.fracs(kind.size), strict=True)):
            tolerance = 0 if power_of_two(scale) is not None else Fraction(2) ** -52
            for code, number in zip(mine[:, element].tolist(), numbers[:, element].tolist(), strict=True):
                have, want = code * scale * Fraction(2) ** -frac, number * expected.unit
                wrong[exact.real] += abs(have - want) > tolerance * abs(want)
    return {name: count for name, count in wrong.items() if count}


def quantized_with(model: RealGraph, inputs: Mapping[str, Floats], operand_bits: int | None) -> Quantized:
    """Quantize a network and compare all that is called exact."""
    options = QuantizeOptions(metric="none", operand_bits=operand_bits)
    quantized = quantize_model(model, Events(inputs=dict(inputs)), options)
    assert untrue(prepare(model), quantized, inputs) == {}
    return quantized


def checked(model: RealGraph, operand_bits: int | None) -> Quantized:
    """Quantize and compare on whole numbers, halves and far outside."""
    random = np.random.default_rng(0)
    x = np.concatenate([random.integers(-17, 17, (24, 3)) / 2, random.normal(size=(4, 3)) * 100])
    return quantized_with(model, {"x": x}, operand_bits)


@given(model=shared_networks(), operand_bits=st.sampled_from((None, 12, 24)))
@examples(80)
def test_whatever_is_called_exact_is(model: RealGraph, operand_bits: int | None) -> None:
    checked(model, operand_bits)


@pytest.mark.slow
@given(model=shared_networks(), operand_bits=st.sampled_from((None, 12, 24)))
@examples(300)
def test_whatever_is_called_exact_is_in_many_networks(model: RealGraph, operand_bits: int | None) -> None:
    checked(model, operand_bits)


def constants_beside(net: LayerBuilder, x: str) -> str:
    """Add a constant of many bits, and then another value."""
    return net.plus(net.plus(x, net.constant(STEP)), net.quantize(x, 0.5, -4, 3))


def elements_apart(net: LayerBuilder, x: str) -> str:
    """Take the largest of elements of unlike scales."""
    scaled = net.times(x, net.constant(np.array([1.0, STEP, 0.1, 1.0])))
    return net.add(Reduce(x=scaled, axes=(0,), kind=ReduceKind.MAX), "largest")


def inputs_apart(net: LayerBuilder, x: str) -> str:
    """Sum elements of unlike scales in a matrix."""
    scaled = net.times(x, net.constant(np.array([1.0, STEP, 0.1, 1.0])))
    return net.linear(scaled, np.array([[3.0], [-5.0], [7.0], [1.0]]))


def wide_ties(net: LayerBuilder, x: str) -> str:
    """Quantize values of many bits whose scale and step have no small ratio, in a mode that depends on the sign."""
    return net.quantize(net.times(x, net.constant(0.3)), 0.1, -(1 << 23), (1 << 23) - 1, Rounding.TRN_ZERO)


def wide_function(net: LayerBuilder, x: str) -> str:
    """Quantize a function that falls and rises, of values of many bits."""
    function = net.add(RealFunction(x=net.times(x, net.constant(2.0**-12)), kind=FunctionKind.SILU), "silu")
    return net.quantize(function, 2.0**-8, -(1 << 23), (1 << 23) - 1)


def constants_among(net: LayerBuilder, x: str) -> str:
    """Put constants of many bits among the elements of a value."""
    return net.concatenate([x, net.constant(np.array([STEP]))], 0)


def wide_operand(net: LayerBuilder, x: str) -> str:
    """Put matrices one behind the other without a quantizer between."""
    for _ in range(2):
        x = net.linear(x, np.full((SIZE, SIZE), (1 << 17) - 1.0))
    return x


def float_weights(net: LayerBuilder, x: str) -> str:
    """Multiply by weights that are on no grid."""
    return net.linear(x, np.float32(np.random.default_rng(3).normal(size=(SIZE, 2))).astype(np.float64))


@pytest.mark.parametrize(
    ("behind", "bits", "operand_bits", "told"),
    [
        (constants_beside, 8, 12, "constants beside a value are rounded to 2**-8 of its scale"),
        (elements_apart, 8, None, "the ratios of the scales of elements are rounded to 2**-48"),
        (
            inputs_apart,
            8,
            12,
            "scales of the inputs are taken up by weights of 24 bits, each within 4.8e-07 of the largest",
        ),
        (wide_ties, 25, None, "a scale is rounded to 50 bits; what lies within 2**-24 of an edge between two codes"),
        (wide_function, 25, None, "the lowest 12 bits of the input of a table are left out"),
        (constants_among, 8, None, "constants are rounded to 24 bits"),
        (wide_operand, 16, 12, "its input, which no quantizer made, is rounded to s12.-22"),
        (float_weights, 8, None, "float weights, rounded to 8 bits"),
    ],
)
def test_every_rounding_is_a_reason(
    behind: Callable[[LayerBuilder, str], str], bits: int, operand_bits: int | None, told: str
) -> None:
    """The value, and what moves it, are not called exact; the record of the value says why."""
    net = LayerBuilder()
    x = net.input("x", (SIZE,))
    net.layer = "grid"
    half = 1 << (bits - 1)
    x = net.tensors["grid"] = net.quantize(x, 1.0, -half, half - 1)
    net.layer = "behind"
    y = net.tensors["behind"] = behind(net, x)
    net.layer = "moved"
    y = net.tensors["moved"] = net.times(y, net.constant(2.0))
    inputs = {"x": np.random.default_rng(1).integers(-half, half, (20, SIZE)).astype(np.float64)}
    quantized = quantized_with(net.finish([("y", y)], "drawn"), inputs, operand_bits)
    assert {tensor for value in quantized.frontier for tensor in value.tensors} == {"grid"}
    (layer,) = [layer for layer in quantized.report.layers if told in layer.note and layer.kind != "output"]
    kind = Exactness.APPROXIMATE if behind in (wide_operand, float_weights) else Exactness.REQUANTIZED
    assert (layer.layer, layer.exactness) == ("behind", kind)


def test_a_rounded_output_is_told_and_the_value_stays_exact() -> None:
    """What the frontier holds is the value before it is rounded."""
    net = LayerBuilder()
    x = net.input("x", (SIZE,))
    net.layer = "grid"
    x = net.quantize(x, 1.0, -128, 127)
    net.layer = "wide"
    x = net.linear(x, np.full((SIZE, 1), (1 << 19) - 1.0))
    x = net.tensors["wide"] = net.linear(x, np.array([[1.0, (1 << 17) - 1.0]]))
    inputs = {"x": np.random.default_rng(1).integers(-128, 128, (20, SIZE)).astype(np.float64)}
    quantized = quantized_with(net.finish([("y", x)], "drawn"), inputs, None)
    assert "wide" in {tensor for value in quantized.frontier for tensor in value.tensors}
    (told,) = [layer for layer in quantized.report.layers if layer.exactness is not Exactness.EXACT]
    assert (told.kind, told.exactness) == ("output", Exactness.REQUANTIZED)
    assert told.note == "an output of 46 bits is rounded to 2**30, 16 bits"


AFFINES = st.builds(
    Affine,
    st.sampled_from([Fraction(constant) for constant in CONSTANTS]),
    st.sampled_from([Fraction(constant) for constant in (0.0, *CONSTANTS)]),
)


@given(
    then=AFFINES,
    kind=st.sampled_from((FunctionKind.TANH, FunctionKind.SIGMOID)),
    step=st.sampled_from(STEPS),
    rounding=st.sampled_from(Rounding),
    overflow=st.sampled_from((Overflow.WRAP, Overflow.SAT, Overflow.SAT_ZERO)),
)
@examples(200)
def test_tables_of_functions_are_exact_on_edges(
    then: Affine, kind: FunctionKind, step: float, rounding: Rounding, overflow: Overflow
) -> None:
    """At 0 and where a function is flat, what follows it often lies on an edge, which float64 misses."""
    target = Target.of(step, -4, 3, rounding, overflow)
    codes = np.arange(-64, 65)
    values = apply_function(kind, codes / 2, ()).astype(np.float32).astype(np.float64).tolist()
    levels = [round_fraction(then.at(Fraction(value)) / Fraction(step), rounding) for value in values]
    expected = [overflowed(level, -4, 3, overflow) for level in levels]
    assert chain_codes(Chain(calls=(Call(kind, (), then),)), codes, 1, target).tolist() == expected


@pytest.mark.parametrize("first", [True, False])
def test_an_extremum_left_to_its_quantizer_has_the_reasons_of_both(first: bool) -> None:
    """Unlike scales in front of a quantizer that saturates; one of the two operands is not exact."""
    net = LayerBuilder()
    x = net.input("x", (SIZE,))
    x = net.tensors["grid"] = net.quantize(x, 1.0, -8, 7)
    net.layer = "both"
    pair = [net.times(x, net.constant(STEP)), net.softmax(x, 0)]
    larger = net.add(Extremum(x=pair[not first], y=pair[first]), "larger")
    net.layer = "cut"
    y = net.tensors["cut"] = net.quantize(larger, 0.25, -8, 7)
    inputs = {"x": np.random.default_rng(1).integers(-8, 8, (20, SIZE)).astype(np.float64)}
    quantized = quantized_with(net.finish([("y", y)], "drawn"), inputs, None)
    assert {tensor for value in quantized.frontier for tensor in value.tensors} == {"grid"}


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("scale", [0.5, STEP])
@pytest.mark.parametrize("kind", ["plus", "minus", "times", "larger", "joined"])
def test_a_result_has_the_reasons_of_both_operands(kind: str, scale: float, first: bool) -> None:
    """Of scales that are alike, or not; one of the operands is not exact."""
    net = LayerBuilder()
    x = net.input("x", (SIZE,))
    x = net.tensors["grid"] = net.quantize(x, 1.0, -8, 7)
    net.layer = "both"
    pair = [net.times(x, net.constant(scale)), net.softmax(x, 0)]
    one, other = pair[not first], pair[first]
    match kind:
        case "plus":
            y = net.plus(one, other)
        case "minus":
            y = net.minus(one, other)
        case "times":
            y = net.times(one, other)
        case "larger":
            y = net.add(Extremum(x=one, y=other), "larger")
        case _:
            y = net.concatenate([one, other], 0)
    net.tensors["both"] = y
    y = net.tensors["after"] = net.times(y, net.constant(2.0))
    net.layer = "cut"
    cut = net.tensors["cut"] = net.quantize(y, 0.25, -8, 7)
    inputs = {"x": np.random.default_rng(1).integers(-8, 8, (20, SIZE)).astype(np.float64)}
    quantized = quantized_with(net.finish([("y", cut), ("z", y)], "drawn"), inputs, None)
    assert {tensor for value in quantized.frontier for tensor in value.tensors} == {"grid"}
