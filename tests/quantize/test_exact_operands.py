"""Operands of matrices behind float constants: exact by default, rounded where the options say so."""

from __future__ import annotations

import numpy as np
import pytest
from exact_networks import normalized

from metronn.errors import ModelError
from metronn.ir.ops import Linear
from metronn.model.rational import run_rational
from metronn.passes.pipeline import prepare, quantize_model
from metronn.quantize.codes import decode, encode_inputs
from metronn.quantize.data import Events
from metronn.quantize.exact_values import exact_values
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
    with pytest.raises(ModelError, match="operand_bits: found 80"):
        parse_options({"operand_bits": 80})
