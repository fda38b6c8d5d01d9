"""`metronn compare`: plans of one network on several systems and numbers of FPGAs beside each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from metronn.cli import options
from metronn.cli.console import Log, handled, plain_json, say, say_json
from metronn.cli.lists import numbers, parts
from metronn.cli.taking import taking
from metronn.errors import ModelError
from metronn.flow.comparing import Sweep, compared, graph_to_compare, places_of, request_to_compare
from metronn.flow.folders import result_folder, write_file
from metronn.flow.options import Given
from metronn.plan.hardware.system import MAX_FPGAS, MAX_II
from metronn.report.figures import empty_figure

FILES = ("compare.json", "compare.png")
WITHOUT_PICTURE = "leave it out with --no-plot"


@handled
@taking("data.calibrate", "data.label", "plan.*", but=("plan.system", "plan.fpgas", "plan.ii"))
def compare_plans(
    given: Given,
    target: Annotated[
        Path,
        typer.Argument(
            metavar="GRAPH | MODEL | metronn.toml | FOLDER",
            help="A graph.txt of `metronn quantize`; or a network, a metronn.toml or a folder with one, to quantize.",
        ),
    ],
    systems: Annotated[
        str | None,
        typer.Option(
            "--systems",
            metavar="NAME,NAME",
            help="Known systems (see `metronn boards`) or TOML files; by default the one of metronn.toml.",
            show_default=False,
        ),
    ] = None,
    fpgas: Annotated[
        str | None,
        typer.Option(
            "--fpgas", metavar="N,N", help="Numbers of FPGAs; by default as the planner chooses.", show_default=False
        ),
    ] = None,
    ii: Annotated[
        str | None,
        typer.Option("--ii", metavar="N,N", help="IIs to plan at; by default each system's.", show_default=False),
    ] = None,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for compare.json and compare.png.")
    ] = Path("compare"),
    plot: Annotated[bool, typer.Option("--plot/--no-plot", help="Draw the picture.")] = True,
    json: options.Json = False,
) -> None:
    """Plan a network on several systems, with several numbers of FPGAs, and show the plans beside each other.

    Nothing is emitted. What has no plan is a row that says what binds; the status is 1 where nothing has one.
    """
    log = Log()
    sweep = Sweep(
        systems=parts(_some("--systems", systems)),
        fpgas=numbers("--fpgas", _some("--fpgas", fpgas), 1, MAX_FPGAS),
        iis=numbers("--ii", _some("--ii", ii), 1, MAX_II),
    )
    if plot:
        empty_figure(1, 1, dpi=1, without=WITHOUT_PICTURE)  # without matplotlib, say so before the work
    request = request_to_compare(target, given)
    places = places_of(request, sweep)
    result_folder(output, *FILES[: 1 + plot])
    found = compared(request, graph_to_compare(target, request, log), places, log)
    # What is no text in a path is escaped as JSON has it.
    write_file(output / FILES[0], plain_json(found.to_json()).encode("utf-8", "backslashreplace"))
    if plot:
        write_file(output / FILES[1], found.png())
    log(f"written: {output}: {', '.join(FILES[: 1 + plot])}")
    if json:
        say_json(found.to_json())
        return
    say(str(found))


def _some(option: str, text: str | None) -> str:
    """Return the text of a list, empty where it was not given. Raises ModelError where what was given is empty."""
    if text is not None and not parts(text):
        raise ModelError(f"{option}: is empty; name at least one, or leave the option out")
    return text or ""
