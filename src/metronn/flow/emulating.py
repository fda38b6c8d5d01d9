"""What a build answers to events: their codes, the emulators, values and codes of the answers by name."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from metronn.emulate.native import NativeEmulator
from metronn.emulate.numpy import emulate
from metronn.events.codes import decode_outputs, encode_inputs, input_steps
from metronn.events.data import EventSource, load_events
from metronn.ir.arrays import Array
from metronn.ir.graph import Graph
from metronn.ir.ops import Input, Op, Overflow
from metronn.log import Log
from metronn.quantize.judge import element_name

NAMED = 3
"""Elements of an input named at most in a warning, those with most values beyond their range."""


def answers(graph: Graph, codes: Mapping[str, Array], *, numpy: bool = False) -> dict[str, Array]:
    """Return the output codes of input codes, by the firmware's names; `numpy` needs no compiler."""
    return emulate(graph, codes) if numpy else NativeEmulator.build(graph).run(codes)


def named_answers(graph: Graph, found: Mapping[str, Array], count: int) -> dict[str, Array]:
    """Return values and codes of the answers of `count` events, as a file holds them.

    NAME is the model's own name of an output; where the firmware has another, the arrays are there under both. Codes
    are called NAME__int (NAME__int_ beside an output that is called NAME__int).
    """
    values = decode_outputs(graph, found)
    names = {o.name: o.name for o in graph.outputs} | {o.shown: o.name for o in graph.outputs}
    arrays: dict[str, Array] = {}
    for shown, name in names.items():
        arrays[shown] = np.broadcast_to(values[name], (count, *values[name].shape[1:]))
        arrays[_code_name(shown, names)] = np.broadcast_to(found[name], (count, *found[name].shape[1:]))
    return arrays


def _code_name(shown: str, names: Collection[str]) -> str:
    """Return the name of an output's codes, which is no output's: `y__int_` beside an output called y__int."""
    name = f"{shown}__int"
    while name in names:
        name += "_"
    return name


def input_codes(graph: Graph, source: EventSource, log: Log) -> tuple[dict[str, Array], int]:
    """Read events and return the codes of all inputs and the number of events; saturation is a warning."""
    shapes = {node.name: node.type.shape for node in graph.inputs}
    events = load_events(source, shapes, model_names=graph.input_names)
    codes = encode_inputs(graph, events.inputs)
    for node in graph.inputs:
        line = beyond_words(graph.input_names[node.name], node.op, events.inputs[node.name])
        if line:
            log.warn(line)
    return codes, events.count


def beyond_words(name: str, op: Op, values: Array) -> str:
    """Return which elements of an input have values beyond their range, how many and how far, or nothing."""
    if not isinstance(op, Input):
        return ""
    rounded = input_steps(values, op)
    low, high = (array(op.shape).astype(np.float64) for array in (op.range.lo_array, op.range.hi_array))
    beyond = (rounded < low) | (rounded > high)
    if not beyond.any():
        return ""
    steps = np.ldexp(1.0 if op.step is None else op.step.array, -op.range.frac_array(op.shape))
    counts = beyond.sum(axis=0)
    worst = [index for index in np.argsort(-counts, axis=None, kind="stable").tolist() if counts.flat[index]]
    elements = []
    for place in (np.unravel_index(index, op.shape) for index in worst[:NAMED]):
        found = values[(slice(None), *place)][beyond[(slice(None), *place)]]
        elements.append(
            f"{element_name(tuple(int(k) for k in place))} holds {float((low * steps)[place]):g} to "
            f"{float((high * steps)[place]):g} ({len(found):,} values, {found.min():g} to {found.max():g})"
        )
    more = f"; {len(worst) - NAMED} elements more" if len(worst) > NAMED else ""
    return (
        f"input {name}: {int(beyond.sum()):,} of {values.size:,} values are beyond their range and "
        f"{'wrapped around' if op.overflow is Overflow.WRAP else 'were saturated'}: {'; '.join(elements)}{more}"
    )
