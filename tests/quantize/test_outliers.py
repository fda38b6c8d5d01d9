"""Outliers and constants of calibration: found, named, and left out of formats."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import dense, linear, normal

from metronn.events.data import Events
from metronn.model.graph import RealGraphBuilder, RealInput
from metronn.model.reference import run_reference
from metronn.passes.pipeline import quantize_model
from metronn.quantize.measure import run_fixed
from metronn.quantize.options import InputOptions, QuantizeOptions
from metronn.quantize.outliers import find_outliers, outlying
from random_tests import examples


@examples(15)
@given(
    st.integers(100, 2000),
    st.integers(0, 99),
    st.sampled_from([1e3, -1e6, 1e30]),
    st.lists(st.integers(0, 4), min_size=1, max_size=5, unique=True),
)
def test_one_fill_value_spoils_no_other_event(count: int, event: int, value: float, elements: list[int]) -> None:
    model, x = dense([5, 8, 3]), normal(count, 5)
    x[event, elements] = value
    quantized = quantize_model(model, Events(inputs={"x": x}), QuantizeOptions(bits=10))
    others = np.delete(x, event, axis=0)
    expected, fixed = run_reference(model, {"x": others})["y"], run_fixed(quantized.graph, {"x": others})["y"]
    assert np.median(np.abs(expected - fixed)) < 0.02 * expected.std()
    first = quantized.report.all_warnings()[0]
    assert f"{value:g} in event {event} " in first
    assert first.startswith(f"input x, element{'s' if len(elements) > 1 else ''} {min(elements)}")
    assert not quantized.report.lost(), "an event that saturates by decision judges nothing"


def test_a_format_that_holds_an_outlier_can_be_asked_for() -> None:
    x = normal(500, 4)
    x[3] = 1e4
    options = QuantizeOptions(bits=8, inputs={"x": InputOptions(bits=32, frac=16)})
    graph = quantize_model(dense([4, 3]), Events(inputs={"x": x}), options).graph
    np.testing.assert_array_equal(graph.by_name["x"].type.range.lo, -(2**31))


@pytest.mark.parametrize(
    "sample",
    [
        lambda rng: rng.normal(size=(3000, 4)),
        lambda rng: rng.exponential(size=(3000, 4)),
        lambda rng: np.exp(rng.normal(size=(3000, 4)) * 1.5),
        lambda rng: rng.poisson(0.01, size=(3000, 4)).astype(float),
        lambda rng: np.where(rng.uniform(size=(3000, 4)) < 0.05, -999.0, rng.normal(size=(3000, 4))),
        lambda rng: np.zeros((3000, 4)),
    ],
)
def test_tails_rare_counts_and_frequent_fill_values_are_data(sample: object) -> None:
    assert find_outliers({"x": sample(np.random.default_rng(1))}) == ()  # type: ignore[operator]


def test_few_events_have_no_outliers() -> None:
    x = normal(20, 3)
    x[0] = 1e9
    assert find_outliers({"x": x}) == ()


def test_outliers_of_images_are_looked_for_by_channel() -> None:
    x = np.abs(np.random.default_rng(0).normal(size=(400, 6, 6, 2)))
    x[7, 2, 3, 1] = 1e5
    (found,) = find_outliers({"image": x})
    assert (found.element, found.events, found.value) == (2 * 12 + 3 * 2 + 1, (7,), 1e5)
    assert np.flatnonzero(outlying((found,), 400)).tolist() == [7]


def test_many_outlying_events_are_counted() -> None:
    x = normal(3000, 3)
    for event in range(6):
        x[event, 0] = 1e6 + event
        x[event + 10, 1] = 1e6
    lines = quantize_model(dense([3, 4, 2]), Events(inputs={"x": x})).report.warnings
    assert lines[0].startswith("input x, element 0: 1e+06 in event 5 (and in 5 more) lies far beyond all other events")
    assert lines[1].startswith("input x, element 1: 1e+06 in event 10 (and in 5 more)")


def test_constant_inputs_and_dead_layers_are_named() -> None:
    builder = RealGraphBuilder()
    y = builder.add(RealInput(shape=(4,)), "x")
    dead = builder.add(linear(y, np.zeros((4, 3)), np.zeros(3)), "dead")
    builder.output("y", builder.add(linear(dead, normal(3, 2), np.ones(2)), "last"))
    x = normal(200, 4)
    x[:, 2] = 7.5
    lines = quantize_model(builder.build(), Events(inputs={"x": x})).report.warnings
    assert any(
        line.startswith("input x: element 2 (7.5) of 4 never change in the calibration events: other values may")
        for line in lines
    )
    assert "layer dead: 0 in every calibration event (a dead layer, or events that do not reach it)" in lines
