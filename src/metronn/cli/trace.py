"""`metronn trace`: every tensor of the trained network beside the firmware's, on given events."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from metronn.cli import options
from metronn.cli.console import Log, handled, say, say_json
from metronn.cli.emulate import EventsFile
from metronn.diagnose.trace import COLUMNS, DEFAULT_BOUND_DB, trace_network
from metronn.emit.build import npz
from metronn.errors import ModelError
from metronn.flow.diagnosing import diagnosed
from metronn.flow.folders import check_files, check_output, write_file
from metronn.report.tables import table_text

ModelFile = Annotated[
    Path | None, typer.Option("--model", metavar="FILE", help="The model file, where it is not beside the build.")
]


@handled
def trace_events(
    build: options.BuildFolder,
    events: EventsFile,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="An .npz to write all values to.")
    ] = None,
    model: ModelFile = None,
    min_db: Annotated[
        float, typer.Option("--min-db", metavar="F", help="Name the first tensor of which less is left, in dB.")
    ] = DEFAULT_BOUND_DB,
    json: options.Json = False,
) -> None:
    """Compare a build with its trained network on events, tensor by tensor: where the signal is lost.

    The trained network is the model file as it was read, in float64; the firmware's values are in the same units, with
    scaling between layers undone. The file gets both for every tensor: NAME the firmware's, NAME__float the trained
    network's (NAME__float_ beside a tensor that is called NAME__float).
    """
    log = Log()
    if output is not None:
        check_files(output=output)
        check_output(output, events)
        if output.suffix != ".npz":
            raise ModelError(f"{output}: the suffix is {output.suffix or 'missing'}, allowed is .npz")
    subject, inputs = diagnosed(build, events, log, model)
    with log.stage("tracing"):
        trace = trace_network(subject, inputs, min_db)
    if output is not None:
        write_file(output, npz(trace.arrays()))
    if json:
        say_json(trace.to_json() | ({} if output is None else {"output": str(output)}))
        return
    say(table_text(COLUMNS, list(trace.rows()), right=range(4, 8)))
    if trace.untraced:
        say(f"not by themselves in the firmware: {', '.join(one.words() for one in trace.untraced)}")
    say(f"{trace.events:,} events: {trace.verdict()}")
    if output is not None:
        say(f"{output}: {len(trace.tensors)} tensors, NAME and NAME__float")
