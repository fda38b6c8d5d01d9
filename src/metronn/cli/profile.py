"""`metronn profile`: how weights and activations fill the formats chosen for them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from metronn.cli import options
from metronn.cli.console import Log, handled, say, say_json
from metronn.cli.emulate import EventsFile
from metronn.cli.trace import ModelFile
from metronn.diagnose.measured import COLUMNS
from metronn.diagnose.profile import profile_network
from metronn.errors import ModelError
from metronn.flow.diagnosing import diagnosed
from metronn.flow.folders import check_files, check_output, write_file
from metronn.report.tables import table_text

SUFFIXES = (".svg", ".png")


@handled
def profile_events(
    build: options.BuildFolder,
    events: EventsFile,
    model: ModelFile = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="The picture to write: .svg or .png.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Show how weights and activations fill the formats of a build, as a table and as box plots.

    Sizes are those of the trained network, absolute values that are not 0; formats are in its units, with scaling
    between layers undone. `beyond` is the share of values that the format does not reach, `rounds to 0` that of values
    nearer to 0 than half a step.
    """
    log = Log()
    if output is not None:
        check_files(output=output)
        check_output(output, events)
        if output.suffix not in SUFFIXES:
            raise ModelError(f"{output}: the suffix is {output.suffix or 'missing'}, allowed are {', '.join(SUFFIXES)}")
    subject, inputs = diagnosed(build, events, log, model)
    with log.stage("profiling"):
        profile = profile_network(subject, inputs)
    if output is not None:
        write_file(output, profile.svg() if output.suffix == ".svg" else profile.png())
    if json:
        say_json(profile.to_json() | ({} if output is None else {"output": str(output)}))
        return
    say(table_text(COLUMNS, list(profile.rows()), right=(*range(3, 11), *range(12, len(COLUMNS)))))
    if output is not None:
        say(f"{output}: {len(profile.tensors)} tensors, {profile.events:,} events")
