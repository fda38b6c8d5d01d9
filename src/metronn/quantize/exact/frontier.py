"""Which values the integer graph of a quantized network holds exactly, in a form that can be compared."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from metronn.ir.ops import Rewire
from metronn.model.graph import RealGraph, RealInput, RealQuantize
from metronn.quantize.exact.forms import Form
from metronn.quantize.exact.operands import Operands
from metronn.quantize.exact.values import ExactValue
from metronn.quantize.records import Held
from metronn.quantize.widths import MAX_COMPARED_BITS


def frontier(operands: Operands, extrema: Collection[str], ahead: Collection[str]) -> tuple[ExactValue, ...]:
    """Return what is compared: quantizers, outputs and the framework's tensors, those nearest to the outputs first.

    `extrema` were left to quantizers and have no value of their own; `ahead` are no floats here (`ahead_of_inputs`).
    """
    graph, emission = operands.graph, operands.scales.emission
    tensors: dict[str, list[str]] = {}
    for tensor, value in graph.tensors:
        tensors.setdefault(value, []).append(tensor)
    named = {value for _, value in graph.outputs} | tensors.keys()
    found = []
    for node in reversed(graph.nodes):
        form = operands.forms.get(node.name)
        if form is None or not form.exact or node.name in extrema or node.name in ahead:
            continue
        scale = form.scale
        if scale is None or emission.type_of(form).range.width_bits > MAX_COMPARED_BITS:
            continue
        if node.name in named or isinstance(node.op, RealQuantize):
            found.append(
                ExactValue(
                    tensors=tuple(tensors.get(node.name, ())),
                    real=node.name,
                    value=form.value,
                    source=node.source,
                    scale=scale,
                )
            )
    return tuple(found)


def held(operands: Operands, shown: Mapping[str, Form], without: Collection[str]) -> tuple[Held, ...]:
    """Return the values with integers of their own, exact or not, with what these are multiplied by.

    `shown` are the forms that outputs show, which may be rounded ones of the values'; `without` have no value of their
    own or are no floats here. A value whose form has functions or sums that are still to be made has no integers.
    """
    found = []
    for node in operands.graph.nodes:
        if node.name in without or node.name in operands.constants:
            continue
        forms = (shown.get(node.name), operands.forms.get(node.name))
        for value, form in {form.value: form for form in forms if form is not None}.items():
            if form.scale is not None:
                found.append(Held(real=node.name, values=(value,), scale=form.scale, exact=form.exact))
    return tuple(found)


def ahead_of_inputs(graph: RealGraph, done: Collection[str], shared_inputs: Collection[str]) -> set[str]:
    """Return inputs, and movements of them, that are floats in the framework and codes of a quantizer here."""
    ahead = set(shared_inputs)
    for node in graph.nodes:
        if isinstance(node.op, Rewire) and all(x in ahead for x in node.op.xs):
            ahead.add(node.name)
    for node in reversed(graph.nodes):
        if isinstance(node.op, RealInput | Rewire):
            users = graph.uses[node.name]
            if users and all(user in done or user in ahead for user in users):
                ahead.add(node.name)
    return ahead
