"""Widths by measured error: what causes the noise gets bits, what is given keeps its own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import dense, linear, normal

from metronn.events.data import Events
from metronn.ir.ops import Multiply
from metronn.model.graph import FunctionKind, RealFunction, RealGraph, RealGraphBuilder, RealInput
from metronn.passes.pipeline import quantize_model
from metronn.quantize.calibrated.contributions import Site
from metronn.quantize.calibrated.widen import WIDEST, Widths, is_given, more_bits
from metronn.quantize.options import LayerOptions, QuantizeOptions, parse_options
from random_tests import examples

SITES = [Site(layer, kind) for layer in ("a", "b", "c") for kind in ("weight", "activation")]


def cancelling(depth: float = 300.0) -> RealGraph:
    """A matrix whose large results cancel in the next one: eight bits of them are not enough."""
    builder = RealGraphBuilder()
    y = builder.add(RealInput(shape=(4,)), "x")
    shared = np.ones((4, 1)) * depth
    y = builder.add(linear(y, np.concatenate([shared + normal(4, 1, 1), shared], axis=1), np.zeros(2)), "wide")
    y = builder.add(RealFunction(x=y, kind=FunctionKind.SOFTSIGN), "bend") if depth < 0 else y
    y = builder.add(linear(y, np.array([[1.0], [-1.0]]), np.zeros(1)), "difference")
    builder.output("y", builder.add(linear(y, normal(1, 3, 2), np.zeros(3)), "last"))
    return builder.build()


def products(count: int = 4) -> RealGraph:
    """Powers of one input by repeated products of values."""
    builder = RealGraphBuilder()
    x = builder.add(RealInput(shape=(3,)), "x")
    y = x
    for power in range(count):
        y = builder.add(Multiply(x=y, y=x), f"power{power}")
    builder.output("y", y)
    return builder.build()


def test_layers_are_widened_until_the_signal_is_kept_and_this_is_told() -> None:
    events = Events(inputs={"x": normal(800, 4)})
    narrow = quantize_model(cancelling(), events, QuantizeOptions(bits=8, rescale=False))
    assert len(narrow.report.lost()) == 1
    wide = quantize_model(cancelling(), events, QuantizeOptions(rescale=False))
    assert not wide.report.lost()
    (line,) = wide.report.warnings
    assert line.startswith("wider than asked for, since y ")
    assert 'layers."wide" = {activation_bits = 1' in line
    widened = {layer.layer: layer.bits for layer in wide.report.layers}
    assert widened["wide"] > widened["difference"] >= 8, "bits are where the large results are that cancel"
    assert line.endswith("write these under [quantize] to keep them, or bits = 8 to refuse them")


def test_the_advice_of_a_build_that_lost_its_signal_keeps_it() -> None:
    events = Events(inputs={"x": normal(800, 4)})
    given_bits = QuantizeOptions(weight_bits=6, activation_bits=6)
    report = quantize_model(cancelling(), events, given_bits).report
    (message,) = report.lost()
    start = "These widths keep it: [quantize] "
    assert start in message
    text = message.split(start)[1].rstrip(".")
    layers = {}
    for part in text.split(', layers."') if 'layers."' in text else []:
        name, _, rest = part.removeprefix('layers."').partition('" = {')
        pairs = rest.partition("}")[0].split(", ")
        layers[name] = {key: int(value) for key, value in (pair.split(" = ") for pair in pairs)}
    table = {"weight_bits": 6, "activation_bits": 6, "layers": layers}
    if "output_bits" in text:
        table["output_bits"] = int(text.rpartition("output_bits = ")[2])
    if "inputs.x" in text:
        table["inputs"] = {"x": {"bits": int(text.partition("inputs.x = {bits = ")[2].partition("}")[0])}}
    assert not quantize_model(cancelling(), events, parse_options(table)).report.lost()


def test_a_metric_that_is_good_enough_widens_nothing() -> None:
    x = normal(800, 4)
    events = Events(inputs={"x": x}, labels=np.zeros(800, dtype=np.int64))
    report = quantize_model(dense([4, 8, 3]), events, QuantizeOptions(metric="auto", tolerance=1.0)).report
    assert report.warnings == ()
    assert {layer.bits for layer in report.layers if layer.kind == "linear"} <= {8, 16}


def test_products_of_values_keep_their_signal() -> None:
    report = quantize_model(products(), Events(inputs={"x": normal(600, 3)})).report
    assert not report.lost()


@pytest.mark.parametrize(
    ("options", "site", "expected"),
    [
        (QuantizeOptions(), Site("a", "weight"), False),
        (QuantizeOptions(weight_bits=8), Site("a", "weight"), True),
        (QuantizeOptions(weight_bits=8), Site("a", "activation"), False),
        (QuantizeOptions(bits=8), Site("a", "activation"), True),
        (QuantizeOptions(layers={"a*": LayerOptions(activation_bits=8)}), Site("a", "activation"), True),
        (QuantizeOptions(layers={"a*": LayerOptions(activation_frac=3)}), Site("a", "activation"), True),
        (QuantizeOptions(layers={"b": LayerOptions(activation_bits=8)}), Site("a", "activation"), False),
        (QuantizeOptions(output_bits=16), Site("y", "output"), True),
        (QuantizeOptions(), Site("y", "output"), False),
        (parse_options({"inputs": {"x": {"bits": 8}}}), Site("x", "input"), True),
        (parse_options({"input": {"bits": 8}}), Site("x", "input"), True),
        (QuantizeOptions(), Site("x", "input"), False),
    ],
)
def test_what_is_given(options: QuantizeOptions, site: Site, expected: bool) -> None:
    assert is_given(options, site) is expected
    assert not is_given(options.model_copy(update={"bits": "auto"}).with_nothing_given(), Site("z", "weight"))


@examples(200)
@given(
    st.dictionaries(st.sampled_from(SITES), st.floats(1e-12, 1e3), min_size=1),
    st.floats(0.1, 60),
    st.sets(st.sampled_from(SITES)),
)
def test_bits_go_where_the_noise_is(noise: dict[Site, float], gain: float, fixed: set[Site]) -> None:
    present = dict.fromkeys(noise, 8)
    more = more_bits(noise, present, gain, frozenset(fixed))
    assert not fixed & more.keys()
    assert all(8 < bits <= WIDEST for bits in more.values())
    left = {site: own * 4.0 ** -(more.get(site, 8) - 8) for site, own in noise.items()}
    free = [site for site in noise if site not in fixed]
    if free and not fixed & noise.keys() and all(bits < WIDEST for bits in more.values()):
        assert sum(left.values()) <= sum(noise.values()) * 10 ** (-gain / 10) * (1 + 1e-9)
    for loud in free:
        for quiet in free:
            assert noise[loud] < noise[quiet] or more.get(loud, 8) >= more.get(quiet, 8)


def test_widths_win_over_patterns_and_keep_what_these_say() -> None:
    options = QuantizeOptions(layers={"fc*": LayerOptions(weight_bits=6), "fc[1]": LayerOptions(activation_bits=7)})
    sites = {Site("fc[1]", "weight"): 9, Site("fc2", "activation"): 12, Site("x", "input"): 20, Site("y", "output"): 18}
    applied = Widths(sites).applied(options)
    assert (applied.layer("fc[1]").weight_bits, applied.layer("fc2").activation_bits) == (9, 12)
    assert (applied.layer("fc2").weight_bits, applied.layer("fc1").activation_bits) == (6, 7)
    assert (applied.inputs["x"].bits, applied.output_bits) == (20, 18)
