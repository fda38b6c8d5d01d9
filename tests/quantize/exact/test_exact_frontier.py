"""What the integer graph holds exactly reaches up to the numbers that an approximate softmax reads."""

from __future__ import annotations

import numpy as np

from metronn.events.codes import encode_inputs
from metronn.events.data import Events
from metronn.frontends.common.builder import LayerBuilder
from metronn.model.reference import run_reference
from metronn.passes.pipeline import prepare, quantize_model
from metronn.quantize.exact.values import exact_values


def test_sums_in_front_of_a_softmax_are_compared() -> None:
    random = np.random.default_rng(3)
    net = LayerBuilder()
    x = net.input("x", (6,))
    net.layer = "q"
    y = net.quantize(x, 0.25, -16, 15)
    net.layer = "matrix"
    y = net.linear(y, random.integers(-7, 8, (6, 3)) / 8.0)
    net.layer = "bias"
    y = net.tensors["logits"] = net.plus(y, net.constant(np.array([0.5, -1.25, 3.0])))
    net.layer = "softmax"
    model = net.finish([("y", net.softmax(y, 0))], "drawn")
    inputs = {"x": random.normal(0, 2, (200, 6))}
    quantized = quantize_model(model, Events(inputs=inputs))
    (logits,) = [value for value in quantized.frontier if value.tensors == ("logits",)]
    found = exact_values(quantized.graph, [logits], encode_inputs(quantized.graph, inputs))[logits.value]
    values = {}
    run_reference(prepare(model), inputs, lambda node, array: values.update({node.name: array.copy()}))
    assert found.shape == (200, 3)
    assert np.array_equal(logits.decoded(found, quantized.graph.type_of(logits.value)), values[logits.real])
