"""`metronn emulate`: what the firmware answers, event by event."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from metronn.cli import options
from metronn.cli.console import Log, handled, say, say_json
from metronn.emit.build import npz
from metronn.errors import ModelError
from metronn.flow.builds import read_manifest
from metronn.flow.emulating import answers, input_codes, named_answers
from metronn.flow.folders import check_files, check_output, write_file
from metronn.flow.integrity import check_file
from metronn.flow.planning import read_graph

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
    write_file(output, npz(named_answers(graph, answers(graph, codes, numpy=numpy), count)))
    outputs = [o.shown for o in graph.outputs]
    if json:
        say_json({"output": str(output), "events": count, "outputs": outputs})
    else:
        say(f"{output}: {count:,} events, outputs {', '.join(outputs)}")
