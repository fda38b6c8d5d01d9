"""Inputs that several quantizers, or quantizers and others, read: one format from which each follows exactly."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_exact import OPTIONS, differences

from metronn.events.codes import encode_input
from metronn.events.data import Events
from metronn.frontends.common.builder import LayerBuilder
from metronn.ir.infer import TypeRuleError, infer
from metronn.ir.ops import Input, Overflow, Rounding
from metronn.ir.text import from_text, to_text
from metronn.ir.types import Range
from metronn.model.graph import Floats, RealGraph
from metronn.passes.pipeline import prepare, quantize_model
from metronn.quantize.exact.events import drawn_events
from metronn.quantize.exact.inputs import absorbed
from metronn.quantize.options import InputOptions, QuantizeOptions
from metronn.quantize.quantize import Quantized
from random_tests import examples

SATURATING = (Overflow.SAT, Overflow.SAT_ZERO, Overflow.SAT_SYM)
PERIODIC = (Rounding.TRN, Rounding.RND, Rounding.RND_MIN_INF, Rounding.RND_CONV)
Quantizers = list[tuple[float, int, bool, Rounding, Overflow]]


def shared(quantizers: Quantizers, *, floats: bool = False) -> RealGraph:
    """Return a network of three inputs that these quantizers (scale, bits, sign, modes) read, and maybe a matrix."""
    network = LayerBuilder()
    x = network.input("x", (3,))
    outputs = []
    for number, (scale, bits, signed, rounding, overflow) in enumerate(quantizers):
        network.layer = f"q{number}"
        lo, hi = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
        moved = network.rewire([x], np.roll(np.arange(3), number))
        outputs.append((network.layer, network.quantize(moved, scale, lo, hi, rounding, overflow)))
    if floats:
        network.layer = "dense"
        outputs.append(("dense", network.linear(x, np.array([[0.5], [0.25], [-0.75]]))))
    return network.finish(outputs, "test")


def edges(quantizers: Quantizers) -> Floats:
    """Return values on, next to and between the edges of all quantizers, and beyond them."""
    found = [0.0, 1e6, -1e6, 1e-9, -1e-9]
    for scale, bits, _, _, _ in quantizers:
        ticks = np.unique(np.linspace(-(2**bits) - 2, 2**bits + 2, 13).round()) / 2 * scale
        found += [*ticks, *np.nextafter(ticks, np.inf), *np.nextafter(ticks, -np.inf)]
    values = np.array(found)
    return np.stack([values, np.roll(values, 7), np.roll(values, 13)], axis=1)


def checked(quantizers: Quantizers, *, floats: bool = False, options: QuantizeOptions = OPTIONS) -> Quantized:
    """Quantize and compare the results of every quantizer with exact real arithmetic of the raw values."""
    model = shared(quantizers, floats=floats)
    inputs = {"x": edges(quantizers)}
    quantized = quantize_model(model, Events(inputs=inputs), options)
    wrong = differences(prepare(model), quantized, inputs)
    named = {value.real for value in quantized.frontier}
    assert {f"q{number}" for number in range(len(quantizers))} <= {name.partition(".")[0] for name in named}
    assert not any(count for name, count in wrong.items() if name.startswith("q")), wrong
    return quantized


def formats(
    overflows: tuple[Overflow, ...], roundings: tuple[Rounding, ...] = tuple(Rounding)
) -> st.SearchStrategy[tuple[float, int, bool, Rounding, Overflow]]:
    return st.tuples(
        st.integers(-5, 2).map(lambda power: 2.0**power),
        st.integers(1, 6),
        st.booleans(),
        st.sampled_from(roundings),
        st.sampled_from(overflows),
    )


@given(st.lists(formats(SATURATING), min_size=2, max_size=3), st.booleans())
@examples(15)
def test_quantizers_of_different_formats_share_an_input_exactly(quantizers: Quantizers, floats: bool) -> None:
    quantizers = [q if q[2] or q[4] is not Overflow.SAT_SYM else (*q[:4], Overflow.SAT) for q in quantizers]
    report = checked(quantizers, floats=floats).report
    first = next(layer for layer in report.layers if layer.kind == "input")
    assert floats or (first.exactness is not None and first.exactness.value == "exact")


@given(st.lists(formats((Overflow.WRAP,), PERIODIC), min_size=2, max_size=3))
@examples(8)
def test_quantizers_that_wrap_share_an_input_exactly(quantizers: Quantizers) -> None:
    checked(quantizers)


def test_scales_that_are_no_powers_of_two_share_a_grid() -> None:
    quantizers = [
        (0.75, 5, True, Rounding.RND_CONV, Overflow.SAT),
        (1.25, 6, True, Rounding.RND_CONV, Overflow.SAT),
    ]
    quantized = checked(quantizers)
    op = quantized.graph.by_name["x"].op
    assert isinstance(op, Input)
    assert op.sticky
    assert op.range.width_bits <= 32
    assert from_text(to_text(quantized.graph)) == quantized.graph


def test_no_sticky_bit_where_cutting_off_is_enough() -> None:
    quantizers = [(0.25, 5, True, Rounding.TRN, Overflow.SAT), (0.5, 6, False, Rounding.RND, Overflow.SAT)]
    op = checked(quantizers).graph.by_name["x"].op
    assert isinstance(op, Input)
    assert (op.sticky, op.rounding, op.range.max_frac) == (False, Rounding.TRN, 2)


def test_scales_without_a_common_grid_are_told_with_both_formats() -> None:
    quantizers = [
        (float(np.float32(0.1)), 8, True, Rounding.RND_CONV, Overflow.SAT),
        (float(np.float32(0.3)), 8, True, Rounding.RND_CONV, Overflow.SAT),
    ]
    inputs = {"x": np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32).astype(np.float64)}
    quantized = quantize_model(shared(quantizers), Events(inputs=inputs), OPTIONS)
    told = next(layer for layer in quantized.report.layers if layer.kind == "input")
    assert told.exactness is not None
    assert told.exactness.value == "approximate"
    assert "-128..127 in steps of 0.1 (RND_CONV, SAT) and -128..127 in steps of 0.3 (RND_CONV, SAT)" in told.note
    assert "input" not in quantized.report.summary() or "all layers exact on" not in quantized.report.summary()


def test_a_float_reader_keeps_its_bits_and_the_option() -> None:
    quantizers = [(2.0**-3, 4, True, Rounding.RND_CONV, Overflow.SAT)]
    options = QuantizeOptions(metric="none", inputs={"x": InputOptions(bits=10, frac=2)})
    op = checked(quantizers, floats=True, options=options).graph.by_name["x"].op
    assert isinstance(op, Input)
    assert op.range.max_frac == 5  # edges at 1/16, and a sticky bit: finer than the 1/4 of the option
    assert op.range.value_bounds()[1] >= 127
    checked(quantizers, floats=True)


def test_events_are_drawn_for_a_shared_input() -> None:
    quantizers = [(0.25, 5, True, Rounding.RND_CONV, Overflow.SAT), (0.5, 8, True, Rounding.TRN, Overflow.SAT)]
    model = shared(quantizers)
    drawn = drawn_events(prepare(model), 100)
    assert drawn is not None
    assert np.abs(drawn.inputs["x"]).max() > 64
    assert (
        absorbed(prepare(shared(quantizers, floats=True)), prepare(shared(quantizers, floats=True)).inputs[0]) is None
    )


@given(st.floats(-40, 40), st.integers(-2, 4))
def test_the_sticky_bit_tells_what_lies_between(value: float, frac: int) -> None:
    op = Input(shape=(1,), range=Range.fixed(16, frac), rounding=Rounding.TRN, sticky=True)
    code = int(encode_input(np.array([[value]]), op)[0, 0])
    half = Fraction(value) * Fraction(2) ** (frac - 1)
    assert code == 2 * (half.numerator // half.denominator) + (half.denominator != 1)


def test_sticky_is_with_trn_only() -> None:
    with pytest.raises(TypeRuleError, match="sticky with rounding RND"):
        infer(Input(shape=(1,), range=Range.fixed(4, 0), sticky=True), [])
