"""`metronn emulate`: what the firmware answers, event by event."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from metronn.cli import options
from metronn.cli.builds import read_manifest
from metronn.cli.console import Log, handled, say, say_json
from metronn.cli.folders import check_output, write_file
from metronn.cli.integrity import check_file
from metronn.cli.planning import read_graph
from metronn.emit.build import npz
from metronn.emulate.native import NativeEmulator
from metronn.emulate.numpy import emulate
from metronn.errors import ModelError
from metronn.ir.arrays import Array
from metronn.ir.graph import Graph
from metronn.ir.ops import Input, Overflow
from metronn.quantize.codes import decode_outputs, encode_inputs, input_steps
from metronn.quantize.data import load_events

NumpyOption = Annotated[
    bool, typer.Option("--numpy", help="Use the NumPy emulator, which needs no compiler and gives the same bits.")
]
EventsFile = Annotated[str, typer.Argument(metavar="EVENTS", help="Events: .npz, .npy, .h5 or .root, by input name.")]


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
    value, and as NAME__int its integer code. NAME is the model's own; where the firmware has another, since that must
    be an identifier, the arrays are there under both.
    """
    log = Log()
    check_output(output, events)
    manifest = read_manifest(build)
    graph = read_graph(build / "graph.txt")
    check_file(build, manifest, "graph.txt")
    if output.suffix != ".npz":
        raise ModelError(f"{output}: the suffix is {output.suffix or 'missing'}, allowed is .npz")
    codes, count = input_codes(graph, events, log)
    found = emulate(graph, codes) if numpy else NativeEmulator.build(graph).run(codes)
    values = decode_outputs(graph, found)
    arrays: dict[str, Array] = {}
    for name, shown in [(o.name, o.name) for o in graph.outputs] + [(o.name, o.shown) for o in graph.outputs]:
        arrays[shown] = np.broadcast_to(values[name], (count, *values[name].shape[1:]))
        arrays[f"{shown}__int"] = np.broadcast_to(found[name], (count, *found[name].shape[1:]))
    write_file(output, npz(arrays))
    outputs = [o.shown for o in graph.outputs]
    if json:
        say_json({"output": str(output), "events": count, "outputs": outputs})
    else:
        say(f"{output}: {count:,} events, outputs {', '.join(outputs)}")


def input_codes(graph: Graph, path: str, log: Log) -> tuple[dict[str, Array], int]:
    """Read events and return the codes of all inputs and the number of events; saturation is told on stderr."""
    shapes = {node.name: node.type.shape for node in graph.inputs}
    events = load_events(path, shapes, model_names=graph.input_names)
    codes = encode_inputs(graph, events.inputs)
    for name, count in saturated(graph, events.inputs).items():
        if count:
            kind = graph.type_of(name)
            op = graph.by_name[name].op
            wraps = isinstance(op, Input) and op.overflow is Overflow.WRAP
            steps = 1 if not isinstance(op, Input) or op.step is None else op.step.array
            low, high = (
                float((np.ldexp(bound.astype(np.float64), -kind.range.frac_array(kind.shape)) * steps).min())
                if lowest
                else float((np.ldexp(bound.astype(np.float64), -kind.range.frac_array(kind.shape)) * steps).max())
                for bound, lowest in ((kind.range.lo_array(kind.shape), True), (kind.range.hi_array(kind.shape), False))
            )
            shown = graph.input_names[name]
            log(
                f"warning: input {shown}: {count:,} of {events.inputs[name].size:,} values are outside "
                f"{low:g} to {high:g} and {'wrapped around' if wraps else 'were saturated'}"
            )
    return codes, events.count


def saturated(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, int]:
    """Count, for every input, the values that round to a code outside the range."""
    counts = {}
    for node in graph.inputs:
        if isinstance(node.op, Input):
            rounded = input_steps(inputs[node.name], node.op)
            low = node.op.range.lo_array(node.op.shape).astype(np.float64)
            high = node.op.range.hi_array(node.op.shape).astype(np.float64)
            counts[node.name] = int(((rounded < low) | (rounded > high)).sum())
    return counts
