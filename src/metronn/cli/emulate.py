"""`metronn emulate`: what the firmware answers, event by event."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from metronn.cli import options
from metronn.cli.console import Log, handled, say, say_json
from metronn.emit.build import npz
from metronn.emulate.native import NativeEmulator
from metronn.emulate.numpy import emulate
from metronn.errors import ModelError
from metronn.events.codes import decode_outputs, encode_inputs, input_steps
from metronn.events.data import load_events
from metronn.flow.builds import read_manifest
from metronn.flow.folders import check_files, check_output, write_file
from metronn.flow.integrity import check_file
from metronn.flow.planning import read_graph
from metronn.ir.arrays import Array
from metronn.ir.graph import Graph
from metronn.ir.ops import Input, Op, Overflow
from metronn.quantize.judge import element_name

NumpyOption = Annotated[
    bool, typer.Option("--numpy", help="Use the NumPy emulator, which needs no compiler and gives the same bits.")
]
EventsFile = Annotated[str, typer.Argument(metavar="EVENTS", help="Events: .npz, .npy, .h5 or .root, by input name.")]
NAMED = 3
"""Elements of an input named at most in a warning, those with most values beyond their range."""


@handled
def emulate_events(
    build: options.BuildFolder,
    events: EventsFile,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The .npz to write.")],
    numpy: NumpyOption = False,
    json: options.Json = False,
) -> None:
    """Run events through the build's emulator, bit for bit as the firmware does.

    Inputs are floats in the model's units. They are rounded to the input's grid and saturate at its bounds, in the
    modes of the network's own quantizer where it has one (else half up). For each output the file gets its float
    value, and as NAME__int its integer code (NAME__int_ beside an output that is called NAME__int). NAME is the
    model's own; where the firmware has another, since that must be an identifier, the arrays are there under both.
    """
    log = Log()
    check_files(output=output)
    check_output(output, events)
    manifest = read_manifest(build)
    graph = read_graph(build / "graph.txt")
    check_file(build, manifest, "graph.txt")
    if output.suffix != ".npz":
        raise ModelError(f"{output}: the suffix is {output.suffix or 'missing'}, allowed is .npz")
    codes, count = input_codes(graph, events, log)
    found = emulate(graph, codes) if numpy else NativeEmulator.build(graph).run(codes)
    values = decode_outputs(graph, found)
    names = {o.name: o.name for o in graph.outputs} | {o.shown: o.name for o in graph.outputs}
    arrays: dict[str, Array] = {}
    for shown, name in names.items():
        arrays[shown] = np.broadcast_to(values[name], (count, *values[name].shape[1:]))
        arrays[_code_name(shown, names)] = np.broadcast_to(found[name], (count, *found[name].shape[1:]))
    write_file(output, npz(arrays))
    outputs = [o.shown for o in graph.outputs]
    if json:
        say_json({"output": str(output), "events": count, "outputs": outputs})
    else:
        say(f"{output}: {count:,} events, outputs {', '.join(outputs)}")


def _code_name(shown: str, names: Collection[str]) -> str:
    """Return the name of an output's codes, which is no output's: `y__int_` beside an output called y__int."""
    name = f"{shown}__int"
    while name in names:
        name += "_"
    return name


def input_codes(graph: Graph, path: str, log: Log) -> tuple[dict[str, Array], int]:
    """Read events and return the codes of all inputs and the number of events; saturation is told on stderr."""
    shapes = {node.name: node.type.shape for node in graph.inputs}
    events = load_events(path, shapes, model_names=graph.input_names)
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
