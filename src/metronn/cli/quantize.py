"""`metronn quantize`: from a trained network to an integer graph."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from metronn.cli import options
from metronn.cli.config import FILE_NAME, Overrides, Request, find_request
from metronn.cli.console import Log, handled, plain_json, say, say_json
from metronn.cli.dump import dumped_stages
from metronn.cli.folders import check_files, write_file
from metronn.cli.planning import chosen_system
from metronn.cli.search import (
    COLUMNS as SEARCH_COLUMNS,
)
from metronn.cli.search import (
    Searched,
    SearchSettings,
    check_searchable,
    record,
    rows,
    search_widths,
    summary,
    updated_configuration,
    widths_text,
)
from metronn.cli.stages import calibration_events, import_model, import_network, quantized_graph
from metronn.errors import MismatchError, ModelError
from metronn.ir.text import graph_hash, to_text
from metronn.quantize.quantize import Quantized
from metronn.quantize.report import COLUMNS
from metronn.report.tables import table_text
from metronn.report.text import OUTPUT_COLUMNS, output_rows
from metronn.search.run import Limits


@handled
def quantize_network(
    context: typer.Context,
    target: options.Target = None,
    calibrate: options.Calibrate = None,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="Graph to write.")] = Path("graph.txt"),
    report: Annotated[
        Path | None, typer.Option("--report", metavar="FILE", help="Also write the quantization report as JSON.")
    ] = None,
    bits: options.Bits = None,
    weight_bits: options.WeightBits = None,
    activation_bits: options.ActivationBits = None,
    widths: options.Widths = None,
    metric: options.MetricName = None,
    tolerance: options.Tolerance = None,
    label: options.Label = None,
    hls4ml_config: options.Hls4mlConfigFile = None,
    dump_ir: options.DumpIr = None,
    search: Annotated[
        bool, typer.Option("--search", help="Search the widths of least cost that hold the metric.")
    ] = False,
    per_channel: Annotated[
        bool, typer.Option("--per-channel", help="Search: then a width for each output channel of weights too.")
    ] = False,
    system: options.SystemName = None,
    ii: options.Ii = None,
    clock_mhz: options.ClockMhz = None,
    fold: options.FoldOption = None,
    inputs: options.Inputs = None,
    keep: Annotated[
        list[str] | None,
        typer.Option("--keep", metavar="LAYER", help="Search: leave layers of this name (or pattern); repeatable."),
    ] = None,
    narrowest: Annotated[int, typer.Option("--narrowest", metavar="N", help="Search: fewest bits.")] = 2,
    widest: Annotated[int, typer.Option("--widest", metavar="N", help="Search: most bits, where it begins.")] = 12,
    held_out_events: Annotated[
        int, typer.Option("--held-out-events", metavar="N", help="Search: events that judge, at most.")
    ] = 4096,
    max_evaluations: Annotated[
        int, typer.Option("--max-evaluations", metavar="N", help="Search: take what was found after so many.")
    ] = 2000,
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
        _refuse_search_options(context)
    elif dump_ir is not None:
        raise ModelError("--dump-ir and --search: one of both; dump a run with the widths found, --widths FILE")
    check_files(output=output, report=report, write_widths=found_widths, journal=journal)
    request = find_request(
        target,
        Overrides(
            hls4ml_config=hls4ml_config,
            calibrate=calibrate,
            bits=bits,
            weight_bits=weight_bits,
            activation_bits=activation_bits,
            widths=widths,
            ignore_widths=search,
            metric=metric,
            tolerance=tolerance,
            label=label,
            system=system,
            ii=ii,
            clock_mhz=clock_mhz,
            fold=fold,
            inputs=inputs,
        ),
    )
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
    settings = SearchSettings(
        limits=Limits(narrowest=narrowest, widest=widest, evaluations=max_evaluations, per_channel=per_channel),
        held_out_events=held_out_events,
        kept=tuple(keep or ()),
        journal=journal or output.with_suffix(".journal"),
        restart=restart,
        jobs=jobs,
        dask=dask,
    )
    settings.check()
    found_widths = found_widths or output.with_suffix(".widths.toml")
    configuration = _configuration(request) if update else None
    chosen = chosen_system(request)
    model = import_model(request.model, log, request.hls4ml_config)
    check_searchable(model, request.model)
    searched = search_widths(request, chosen, model, calibration_events(request, model, log), settings, log)
    write_file(found_widths, widths_text(searched).encode())
    log(f"written: {found_widths}")
    _write_graph(searched.quantized, output, log)
    if report is not None:
        data = searched.quantized.report.to_json() | {"search": record(searched)}
        write_file(report, plain_json(data).encode())
    if configuration is not None:
        name = Path(os.path.relpath(found_widths.absolute(), configuration.parent.absolute())).as_posix()
        write_file(configuration, updated_configuration(configuration, name).encode())
        log(f"updated: {configuration}: quantize.widths = {name}")
    for line in searched.quantized.report.all_warnings():
        log.warn(line)
    _tell_search(searched, output, found_widths, json=json)
    _check_signal(searched.quantized, output)


def _refuse_search_options(context: typer.Context) -> None:
    """Raise ModelError listing the options given that only a search knows."""
    only = {
        "per_channel", "system", "ii", "clock_mhz", "fold", "inputs", "keep", "narrowest", "widest", "held_out_events",
        "max_evaluations", "found_widths", "update", "journal", "restart", "jobs", "dask",
    }  # fmt: skip
    flags = {parameter.name: parameter.opts[0] for parameter in context.command.params if parameter.name}
    given = [flags[n] for n in flags if n in only and _from_command_line(context, n)]
    if given:
        verb = "is" if len(given) == 1 else "are"
        raise ModelError(f"{', '.join(given)} {verb} for searches: add --search")


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
        say_json(graph | searched.quantized.report.to_json() | {"search": record(searched)})
        return
    say(table_text(SEARCH_COLUMNS, rows(searched), right=range(1, len(SEARCH_COLUMNS))))
    say(summary(searched))
