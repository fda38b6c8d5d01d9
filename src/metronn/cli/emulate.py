"""`metronn emulate`: what the firmware answers, event by event."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from metronn.cli import options
from metronn.cli.console import Log, handled, say, say_json
from metronn.cli.folders import write_file
from metronn.cli.stages import read_graph, read_manifest
from metronn.emit.build import npz
from metronn.emulate.native import NativeEmulator
from metronn.emulate.numpy import emulate
from metronn.errors import ModelError
from metronn.ir.arrays import Array
from metronn.ir.graph import Graph
from metronn.quantize.codes import decode_outputs, encode_inputs
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

    Inputs are floats in the model's units. They are rounded to the nearest step of the input's grid (half up) and
    saturate at its bounds. For each output the file gets its float value, and as NAME__int its integer code.
    """
    log = Log()
    read_manifest(build)
    graph = read_graph(build / "graph.txt")
    if output.suffix != ".npz":
        raise ModelError(f"{output}: the suffix is {output.suffix or 'missing'}, allowed is .npz")
    codes, count = input_codes(graph, events, log)
    found = emulate(graph, codes) if numpy else NativeEmulator.build(graph).run(codes)
    values = decode_outputs(graph, found)
    arrays: dict[str, Array] = {}
    for name, array in found.items():
        arrays[name] = np.broadcast_to(values[name], (count, *values[name].shape[1:]))
        arrays[f"{name}__int"] = np.broadcast_to(array, (count, *array.shape[1:]))
    write_file(output, npz(arrays))
    if json:
        say_json({"output": str(output), "events": count, "outputs": list(found)})
    else:
        say(f"{output}: {count:,} events, outputs {', '.join(found)}")


def input_codes(graph: Graph, path: str, log: Log) -> tuple[dict[str, Array], int]:
    """Read events and return the codes of all inputs and the number of events; saturation is told on stderr."""
    events = load_events(path, {node.name: node.type.shape for node in graph.inputs})
    codes = encode_inputs(graph, events.inputs)
    for name, count in saturated(graph, events.inputs).items():
        if count:
            kind = graph.type_of(name).range
            low, high = kind.value_bounds()
            log(
                f"warning: input {name}: {count:,} of {events.inputs[name].size:,} values are outside "
                f"{float(low):g} to {float(high):g} and were saturated"
            )
    return codes, events.count


def saturated(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, int]:
    """Count, for every input, the values that round to a code outside the range."""
    counts = {}
    for node in graph.inputs:
        kind = node.type
        frac = kind.range.frac_array(kind.shape)
        rounded = np.floor(np.ldexp(np.asarray(inputs[node.name], dtype=np.float64), frac) + 0.5)
        low = kind.range.lo_array(kind.shape).astype(np.float64)
        high = kind.range.hi_array(kind.shape).astype(np.float64)
        counts[node.name] = int(((rounded < low) | (rounded > high)).sum())
    return counts
