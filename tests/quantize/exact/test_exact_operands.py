"""Operands of matrices behind float constants: exact by default, rounded where the options say so."""

from __future__ import annotations

import numpy as np
import pytest
from exact_networks import Drawing, normalized

from metronn.emulate.numpy import emulate
from metronn.errors import ModelError
from metronn.events.codes import decode, encode_inputs
from metronn.events.data import Events
from metronn.ir.ops import Add, Linear, Lookup, Multiply, Overflow, Reduce, Rounding
from metronn.model.graph import FunctionKind, RealFunction, RealInput
from metronn.model.rational import run_rational
from metronn.model.reference import run_reference
from metronn.passes.pipeline import prepare, quantize_model
from metronn.quantize.exact.values import exact_values
from metronn.quantize.options import QuantizeOptions, parse_options
from metronn.quantize.records import Exactness

EVENTS = Events(inputs={"x": np.random.default_rng(0).normal(size=(200, 4, 3)) * [400, 1, 2]})


@pytest.mark.parametrize("relu", [False, True])
def test_batch_normalization_of_floats_is_exact(relu: bool) -> None:
    """Given the codes of the input, every integer behind is that of real arithmetic."""
    model = prepare(normalized(relu=relu))
    quantized = quantize_model(normalized(relu=relu), EVENTS, QuantizeOptions(metric="none"))
    graph = quantized.graph
    assert quantized.frontier[0].real == "out"
    codes = encode_inputs(graph, EVENTS.inputs)
    seen = {name: decode(values, graph.type_of(name)) for name, values in codes.items()}
    exact = run_rational(model, seen)["y"]
    out = quantized.frontier[0]
    found = out.decoded(exact_values(graph, [out], codes)[out.value], graph.type_of(out.value))
    assert np.array_equal(found, exact.floats())
    operand = next(node.op.x for node in graph.nodes if isinstance(node.op, Linear))
    assert 32 < graph.type_of(operand).range.width_bits <= 56


def test_operands_can_be_relaxed_and_say_so() -> None:
    """A width in the options rounds, with a note in the report."""
    options = parse_options({"operand_bits": 12, "metric": "none"})
    quantized = quantize_model(normalized(), EVENTS, options)
    assert not quantized.frontier
    told = [layer for layer in quantized.report.layers if layer.note and "no quantizer made" in layer.note]
    assert told and told[0].exactness is Exactness.APPROXIMATE and "s12." in str(told[0].note)
    operand = next(node.op.x for node in quantized.graph.nodes if isinstance(node.op, Linear))
    assert quantized.graph.type_of(operand).range.width_bits == 12
    with pytest.raises(ModelError, match="'operand_bits' must be a whole number from 2 to 56, found 80"):
        parse_options({"operand_bits": 80})


def test_functions_that_differ_between_channels_need_no_quantizer() -> None:
    """Each channel gets a table of its own, and the report says that they are approximate."""
    drawing = Drawing(rng=np.random.default_rng(2), dyadic=True)
    builder = drawing.builder
    x = drawing.quantize(builder.add(RealInput(shape=(4, 2)), "x"), 0.25)
    x = builder.add(Multiply(x=x, y=drawing.constant([0.3, 1.7])), "scaled")
    x = builder.add(RealFunction(x=x, kind=FunctionKind.TANH), "tanh")
    x = builder.add(Add(x=x, y=drawing.constant([0.125, -0.5])), "shifted")
    builder.output("y", x)
    model = builder.build()
    events = {"x": np.random.default_rng(0).normal(size=(100, 4, 2))}
    quantized = quantize_model(model, Events(inputs=events), QuantizeOptions(metric="none"))
    graph = quantized.graph
    assert sum(isinstance(node.op, Lookup) for node in graph.nodes) == 2
    codes = encode_inputs(graph, events)
    found = decode(emulate(graph, codes)["y"], graph.type_of(graph.outputs[0].value))
    assert np.abs(found - run_reference(model, events)["y"]).max() < 2.0**-8
    assert any("tanh without a quantizer" in str(layer.note) for layer in quantized.report.layers)


def test_sums_of_normalized_values_wait_for_their_quantizer() -> None:
    """Offsets are multiplied by the count: the sum is one of codes."""
    drawing = Drawing(rng=np.random.default_rng(3), dyadic=True, rounding=Rounding.RND_CONV, overflow=Overflow.SAT)
    builder = drawing.builder
    x = drawing.quantize(builder.add(RealInput(shape=(6, 2)), "x"), 0.25)
    x = builder.add(Multiply(x=x, y=drawing.constant(np.float32([0.3, 1.7]))), "scaled")
    x = builder.add(Add(x=x, y=drawing.constant(np.float32([0.1, -0.7]))), "shifted")
    x = builder.add(Reduce(x=x, axes=(0,)), "sum")
    x = builder.add(Multiply(x=x, y=drawing.constant(1 / 6)), "mean")
    builder.output("y", drawing.quantize(x, 0.25, "out"))
    events = {"x": np.random.default_rng(0).normal(size=(200, 6, 2)) * 2}
    quantized = quantize_model(builder.build(), Events(inputs=events), QuantizeOptions(metric="none"))
    graph = quantized.graph
    assert next(node for node in graph.nodes if isinstance(node.op, Reduce)).type.range.width_bits <= 9
    out = quantized.frontier[0]
    assert out.real == "out"
    found = out.decoded(exact_values(graph, [out], encode_inputs(graph, events))[out.value], graph.type_of(out.value))
    assert np.array_equal(found, run_rational(prepare(builder.build()), events)["y"].floats())
