"""`metronn quantize`: from a trained network to an integer graph."""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

import typer

from metronn.cli import options
from metronn.cli.console import Log, handled, plain_json, say, say_json
from metronn.cli.taking import taking
from metronn.errors import MismatchError, ModelError
from metronn.flow.dump import dumped_stages
from metronn.flow.folders import check_files, write_file
from metronn.flow.options import Given
from metronn.flow.planning import chosen_system
from metronn.flow.request import FILE_NAME, Request, find_request
from metronn.flow.stages import calibration_events, import_model, import_network, quantized_graph
from metronn.flow.update import updated_configuration
from metronn.ir.text import graph_hash, to_text
from metronn.quantize.quantize import Quantized
from metronn.quantize.report import COLUMNS
from metronn.report.search import COLUMNS as SEARCH_COLUMNS
from metronn.report.search import rows, summary
from metronn.report.tables import table_text
from metronn.report.text import OUTPUT_COLUMNS, output_rows
from metronn.search.network import Searched, SearchRun, Subject, search_widths, widths_text

SEARCHED = ("search.*", "plan.system", "plan.ii", "plan.clock_mhz", "plan.fold", "plan.inputs")
"""Keys that only a search knows."""


@handled
@taking("model.hls4ml_config", "data.calibrate", "data.label", "quantize.*", *SEARCHED)
def quantize_network(
    context: typer.Context,
    given: Given,
    target: options.Target = None,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="Graph to write.")] = Path("graph.txt"),
    report: Annotated[
        Path | None, typer.Option("--report", metavar="FILE", help="Also write the quantization report as JSON.")
    ] = None,
    dump_ir: options.DumpIr = None,
    search: Annotated[
        bool, typer.Option("--search", help="Search the widths of least cost that hold the metric.")
    ] = False,
    found_widths: Annotated[
        Path | None,
        typer.Option(
            "--write-widths", metavar="FILE", help="Search: widths to write; by default beside the graph, .widths.toml."
        ),
    ] = None,
    update: Annotated[bool, typer.Option("--update", help="Search: let metronn.toml name the widths found.")] = False,
    journal: Annotated[
        Path | None,
        typer.Option("--journal", metavar="FILE", help="Search: its journal; by default beside the graph, .journal."),
    ] = None,
    restart: options.Restart = False,
    jobs: options.Jobs = None,
    dask: options.Dask = None,
    json: options.Json = False,
) -> None:
    """Quantize a network with calibration events and write the integer graph as text.

    With --search, the widths of weights and results of every layer are those of least hardware cost, on the system and
    at the II given, that hold the metric within its tolerance. A search that was stopped goes on where it was.
    """
    log = Log()
    if not search:
        _refuse_search_options(context, given)
    elif dump_ir is not None:
        raise ModelError("--dump-ir and --search: one of both; dump a run with the widths found, --widths FILE")
    check_files(output=output, report=report, write_widths=found_widths, journal=journal)
    request = find_request(target, given, ignore_widths=search)
    if not search:
        watch = dumped_stages(dump_ir)
        network = import_network(request.model, log, request.hls4ml_config)
        events = calibration_events(request, network.model, log)
        quantized = quantized_graph(request, network, events, log, watch=watch)
        _write_graph(quantized, output, log)
        if report is not None:
            write_file(report, plain_json(quantized.report.to_json()).encode())
        _tell(quantized, output, json=json)
        _check_signal(quantized, output)
        return
    run = SearchRun(journal=journal or output.with_suffix(".journal"), restart=restart, jobs=jobs, dask=dask)
    request.options.search.check()
    found_widths = found_widths or output.with_suffix(".widths.toml")
    configuration = _configuration(request) if update else None
    chosen = chosen_system(request)
    model = import_model(request.model, log, request.hls4ml_config)
    subject = Subject(
        name=request.model.name,
        model=model,
        events=calibration_events(request, model, log),
        quantize=request.quantize,
        base=request.base,
        system=chosen,
        plan=request.plan,
    )
    searched = search_widths(subject, request.options.search, run, log)
    write_file(found_widths, widths_text(searched).encode())
    log(f"written: {found_widths}")
    _write_graph(searched.quantized, output, log)
    if report is not None:
        data = searched.quantized.report.to_json() | {"search": searched.to_json()}
        write_file(report, plain_json(data).encode())
    if configuration is not None:
        name = Path(os.path.relpath(found_widths.absolute(), configuration.parent.absolute())).as_posix()
        write_file(configuration, updated_configuration(configuration, name).encode())
        log(f"updated: {configuration}: quantize.widths = {name}")
    for line in searched.quantized.report.all_warnings():
        log.warn(line)
    _tell_search(searched, output, found_widths, json=json)
    _check_signal(searched.quantized, output)


def _refuse_search_options(context: typer.Context, given: Given) -> None:
    """Raise ModelError listing the options given that only a search knows."""
    only = {"found_widths", "update", "journal", "restart", "jobs", "dask"}
    flags = {parameter.name: parameter.opts[0] for parameter in context.command.params if parameter.name}
    wrong = [name for key, name in given.names.items() if any(fnmatchcase(key, pattern) for pattern in SEARCHED)]
    wrong += [flags[n] for n in flags if n in only and _from_command_line(context, n)]
    if wrong:
        verb = "is" if len(wrong) == 1 else "are"
        raise ModelError(f"{', '.join(wrong)} {verb} for searches: add --search")


def _from_command_line(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _configuration(request: Request) -> Path:
    if request.source is None:
        raise ModelError(f"--update: there is no {FILE_NAME} of this network to update; leave it out, or write one")
    return request.source


def _write_graph(quantized: Quantized, output: Path, log: Log) -> None:
    write_file(output, to_text(quantized.graph).encode())
    log(f"written: {output}")


def _check_signal(quantized: Quantized, output: Path) -> None:
    """Raise MismatchError when the signal of an output is lost and there is no metric to judge by."""
    if lost := quantized.report.lost():
        raise MismatchError("\n".join((*lost, f"{output}: was written, but is not the trained network")))


def _tell(quantized: Quantized, output: Path, *, json: bool) -> None:
    if json:
        say_json({"graph": str(output), "graph_hash": graph_hash(quantized.graph)} | quantized.report.to_json())
        return
    say(table_text(COLUMNS, list(quantized.report.rows()), right=(5, 6, 7)))
    say(table_text(OUTPUT_COLUMNS, output_rows(quantized.report.to_json()), right=(1, 2, 3)))
    say(quantized.report.summary())


def _tell_search(searched: Searched, output: Path, widths: Path, *, json: bool) -> None:
    if json:
        graph = {"graph": str(output), "graph_hash": graph_hash(searched.quantized.graph), "widths": str(widths)}
        say_json(graph | searched.quantized.report.to_json() | {"search": searched.to_json()})
        return
    say(table_text(SEARCH_COLUMNS, rows(searched), right=range(1, len(SEARCH_COLUMNS))))
    say(summary(searched))
