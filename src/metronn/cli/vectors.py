"""`metronn vectors`: integer inputs and expected outputs of given events, for test stands and simulations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from metronn.cli import options
from metronn.cli.console import Log, handled, say, say_json
from metronn.cli.emulate import EventsFile, NumpyOption
from metronn.emit.build import npz
from metronn.errors import ModelError
from metronn.flow.builds import read_manifest
from metronn.flow.emulating import answers, input_codes
from metronn.flow.folders import check_files, check_output, write_file
from metronn.flow.integrity import check_file
from metronn.flow.planning import read_graph


@handled
def write_vectors(
    build: options.BuildFolder,
    events: EventsFile,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The .npz to write.")],
    numpy: NumpyOption = False,
    json: options.Json = False,
) -> None:
    """Write the integer codes of events and of the answers to them: arrays `in.NAME` and `out.NAME`."""
    log = Log()
    check_files(output=output)
    check_output(output, events)
    manifest = read_manifest(build)
    graph = read_graph(build / "graph.txt")
    check_file(build, manifest, "graph.txt")
    if output.suffix != ".npz":
        raise ModelError(f"{output}: the suffix is {output.suffix or 'missing'}, allowed is .npz")
    codes, count = input_codes(graph, events, log)
    found = answers(graph, codes, numpy=numpy)
    arrays = {f"in.{name}": array for name, array in codes.items()}
    arrays |= {f"out.{name}": array for name, array in found.items()}
    write_file(output, npz(arrays))
    if json:
        say_json({"output": str(output), "events": count, "arrays": list(arrays)})
    else:
        say(f"{output}: {count:,} events, arrays {', '.join(arrays)}")
