"""`metronn pareto`: metric against LUT-equivalents against latency, over widths, IIs, folds and networks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from metronn.cli import options
from metronn.cli.console import Log, handled, plain_json, say, say_json
from metronn.cli.lists import numbers, parts
from metronn.cli.taking import taking
from metronn.errors import InfeasibleError, ModelError
from metronn.flow.folders import result_folder, write_file
from metronn.flow.options import Given
from metronn.flow.planning import chosen_system
from metronn.flow.request import Request, find_request, with_widths
from metronn.flow.stages import calibration_events, import_model
from metronn.plan.options import Fold
from metronn.report.pareto import COLUMNS, RIGHT, csv_text, records, rows
from metronn.report.pareto_plot import pareto_png
from metronn.report.tables import table_text
from metronn.search.network import SearchRun, Subject
from metronn.search.pareto import ParetoPoint
from metronn.search.sweep import Candidate, Sweep, candidates, points

UNIFORM = "4,5,6,8,10"


@handled
@taking(
    "data.calibrate", "data.label", "quantize.metric", "plan.system", "plan.clock_mhz", "plan.fpgas", "plan.inputs",
    "plan.outputs",
)  # fmt: skip
def pareto_front(
    given: Given,
    targets: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[MODEL | metronn.toml | FOLDER]...", help="Networks to compare.", show_default=False),
    ] = None,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for points, picture and journals.")
    ] = Path("pareto"),
    bits: Annotated[str, typer.Option("--bits", metavar="N,N", help="Uniform widths; none: an empty list.")] = UNIFORM,
    search: Annotated[
        str, typer.Option("--search", metavar="F,F", help="Also search widths with each of these tolerances.")
    ] = "",
    widths: Annotated[
        list[Path] | None, typer.Option("--widths", metavar="FILE", help="Also these widths; repeatable.")
    ] = None,
    ii: Annotated[str, typer.Option("--ii", metavar="N,N", help="IIs to plan at; by default the system's.")] = "",
    fold: Annotated[str, typer.Option("--fold", metavar="full,latency", help="Folds to plan with.")] = "",
    plot: Annotated[bool, typer.Option("--plot/--no-plot", help="Draw the picture.")] = True,
    jobs: options.Jobs = None,
    dask: options.Dask = None,
    restart: options.Restart = False,
    json: options.Json = False,
) -> None:
    """Compare networks, widths, IIs and folds: metric against LUT-equivalents against latency, each point planned.

    Writes points.csv, points.json and pareto.png; the terminal shows the front. What was stopped goes on where it was.
    """
    log = Log()
    requests = _requests(targets, given)
    uniform, tolerances = numbers("--bits", bits, 2, 32), _tolerances(search)
    iis, folds = numbers("--ii", ii, 1, 65_536), _folds(fold)
    if plot:
        pareto_png((), "")  # without matplotlib, say so before the work
    result_folder(output, "points.csv", "points.json", *(["pareto.png"] if plot else []))
    several: list[Candidate] = []
    for name, request in requests.items():
        files = {path.stem: with_widths(request.quantize, path) for path in widths or ()}
        sweep = Sweep(uniform=uniform, tolerances=tolerances, widths=files, iis=iis, folds=folds)
        run = SearchRun(journal=output / request.model.stem, restart=restart, jobs=jobs, dask=dask)
        several += candidates(_subject(name, request, log), sweep, run, log)
    run = SearchRun(journal=output / "points.journal", restart=restart, jobs=jobs, dask=dask)
    found = points(several, run, log)
    if not any(point.planned for point in found):
        raise InfeasibleError("no point has a plan:\n" + "\n".join(f"  {_place(p)}: {p.problem}" for p in found))
    write_file(output / "points.csv", csv_text(found).encode())
    write_file(output / "points.json", plain_json({"points": records(found)}).encode())
    if plot:
        names = dict.fromkeys(
            "accuracy" if r.quantize.metric == "auto" else r.quantize.metric for r in requests.values()
        )
        write_file(output / "pareto.png", pareto_png(found, ", ".join(names)))
    log(f"written: {output}: points.csv, points.json{', pareto.png' if plot else ''}")
    for point in found:
        if not point.planned:
            log(f"no plan: {_place(point)}: {point.problem}")
    if json:
        say_json({"points": records(found)})
        return
    say(table_text(COLUMNS, rows(found), right=RIGHT))
    say(f"{sum(p.front for p in found)} of {len(found)} points are on the front")


def _place(point: ParetoPoint) -> str:
    return f"{point.network}, {point.widths}, II {point.ii_cycles}, fold {point.fold}"


def _requests(targets: Sequence[Path] | None, given: Given) -> dict[str, Request]:
    """Read every request; by name, the path where names are the same."""
    found: dict[str, Request] = {}
    problems: list[str] = []
    named: list[Path | None] = [*targets] if targets else [None]
    for target in named:
        try:
            request = find_request(target, given)
            name = request.name if request.name not in found else str(request.model)
            if name in found:
                problems.append(f"{target}: is named twice")
            found[name] = request
        except ModelError as error:
            problems.extend(error.message.splitlines())
    if problems:
        raise ModelError("\n".join(problems))
    return found


def _subject(name: str, request: Request, log: Log) -> Subject:
    """Read one network and its events."""
    model = import_model(request.model, log)
    return Subject(
        name=name,
        model=model,
        events=calibration_events(request, model, log),
        quantize=request.quantize,
        base=request.base,
        system=chosen_system(request),
        plan=request.plan,
    )


def _tolerances(text: str) -> tuple[float, ...]:
    found = []
    for part in parts(text):
        try:
            value = float(part)
        except ValueError:
            value = -1.0
        if not 0 <= value < 1:
            raise ModelError(f"--search: found {part!r}, allowed are tolerances from 0 to 1, with commas")
        found.append(value)
    return tuple(dict.fromkeys(found))


def _folds(text: str) -> tuple[Fold, ...]:
    allowed = [fold.value for fold in Fold]
    for part in parts(text):
        if part not in allowed:
            raise ModelError(f"--fold: found {part!r}, allowed are {', '.join(allowed)}, with commas")
    return tuple(dict.fromkeys(Fold(part) for part in parts(text)))
