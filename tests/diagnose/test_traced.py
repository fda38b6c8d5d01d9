"""Which integers stand for which value of a network as it was read, and at which scale."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from traced_networks import OPTIONS, channels_first, events_of, normalized_twice, unlike_channels

from metronn.emulate.numpy import emulate
from metronn.events.codes import encode_inputs
from metronn.events.data import Events
from metronn.ir.arrays import Array
from metronn.ir.graph import Node
from metronn.model.graph import FloatArray, Floats, RealGraph
from metronn.model.text import real_to_text
from metronn.passes.pipeline import followed, prepare, quantize_model
from metronn.quantize.quantize import Quantized
from metronn.quantize.report import sqnr_db
from metronn.quantize.traced import TracedValue, first_present, orders, values_of


def traced_of(quantized: Quantized) -> dict[str, TracedValue]:
    return {entry.real: entry for entry in first_present(quantized.traced, quantized.graph)}


def decibels(model: RealGraph, quantized: Quantized, inputs: dict[str, Floats]) -> dict[str, float]:
    """Return the SQNR of every traced value, in the units of the network as it was read."""
    codes: dict[str, Array] = {}

    def keep(node: Node, found: Array) -> None:
        codes[node.name] = found

    emulate(quantized.graph, encode_inputs(quantized.graph, inputs), keep)
    traced = traced_of(quantized)
    floats = values_of(model, inputs, traced)
    found = {}
    for name, entry in traced.items():
        fixed = entry.decoded(codes[entry.value], quantized.graph.type_of(entry.value))
        assert fixed.shape == floats[name].shape
        found[name] = sqnr_db(floats[name], fixed) or 300.0
    return found


def test_scaled_channels_are_undone() -> None:
    model = unlike_channels()
    inputs = events_of(model)
    quantized = quantize_model(model, Events(inputs=inputs), OPTIONS)
    traced = traced_of(quantized)
    scale = traced["first.relu"].scale.array
    assert scale.shape == (12,)
    assert scale.max() > 8 * scale.min()
    assert np.array_equal(traced["first"].scale.array, scale)
    assert list(traced) == ["x", "first", "first.relu", "second"]
    assert min(decibels(model, quantized, inputs).values()) > 30
    plain = [replace(entry, scale=FloatArray.of(1.0)) for entry in quantized.traced]
    without = decibels(model, replace(quantized, traced=tuple(plain)), inputs)
    assert without["first"] < 10 > without["first.relu"]
    assert without["second"] > 30


def test_what_was_folded_is_not_traced_and_what_it_became_is() -> None:
    model = normalized_twice()
    inputs = events_of(model)
    quantized = quantize_model(model, Events(inputs=inputs), OPTIONS)
    traced = traced_of(quantized)
    assert list(traced) == ["x", "bn.add", "relu", "last"]
    assert traced["bn.add"].value == "dense"
    assert min(decibels(model, quantized, inputs).values()) > 30


def test_values_of_channels_first_networks_are_found_in_their_order() -> None:
    model = channels_first()
    inputs = events_of(model)
    quantized = quantize_model(model, Events(inputs=inputs), OPTIONS)
    traced = traced_of(quantized)
    assert {"x", "bias", "relu", "last"} <= set(traced)
    assert "conv.linear" not in traced  # without its bias it is nowhere
    assert traced["relu"].order == (2, 0, 1)
    assert min(decibels(model, quantized, inputs).values()) > 30


def test_a_value_with_another_meaning_is_not_taken() -> None:
    """Names alone would say that the matrix is there still: its floats do not agree."""
    model = normalized_twice()
    assert "dense" in followed(model)[1]["dense"]
    quantized = quantize_model(model, Events(inputs=events_of(model)), OPTIONS)
    assert "dense" not in traced_of(quantized)


@pytest.mark.parametrize("make", [unlike_channels, normalized_twice, channels_first])
def test_following_changes_nothing(make: object) -> None:
    """Tensors of the framework and dumped graphs are those of `prepare` without anything followed."""
    model = make()  # type: ignore[operator]
    model = replace(model, tensors=tuple((f"t:{node.name}", node.name) for node in model.nodes))
    seen: list[str] = []
    graph, names = followed(model, lambda _, found: seen.append(real_to_text(found)))  # type: ignore[arg-type]
    assert graph == prepare(model)
    assert seen and not any("\\u0000" in text or "\0" in text for text in seen)
    assert {value for _, value in graph.tensors} <= {value for values in names.values() for value in values}


def test_entries_can_be_written_down() -> None:
    quantized = quantize_model(channels_first(), Events(inputs=events_of(channels_first())), OPTIONS)
    assert quantized.traced
    for entry in quantized.traced:
        assert TracedValue.from_json(entry.to_json()) == entry


def test_orders_of_axes() -> None:
    assert list(orders((3, 3), (3, 3))) == [(0, 1), (1, 0)]
    assert list(orders((5, 6, 4), (4, 5, 6))) == [(2, 0, 1)]
    assert not list(orders((2, 3), (6,)))
    assert list(orders((2,) * 5, (2,) * 5)) == [(0, 1, 2, 3, 4)]
