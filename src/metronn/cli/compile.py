"""`metronn compile`: from a trained network to a verified build."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from metronn.cli import options
from metronn.cli.builds import REPORT, RUNGS, judge, merged, run_rungs, write_results
from metronn.cli.config import Overrides, find_request
from metronn.cli.console import Log, handled, say, say_json
from metronn.cli.dump import dumped_stages
from metronn.cli.folders import check_target, replacing, write_files
from metronn.cli.stages import compile_files, import_model
from metronn.emit.manifest import with_digest
from metronn.errors import ModelError
from metronn.report.text import summary_text
from metronn.verify.reference import RUNG as REFERENCE_RUNG


@handled
def compile_network(
    target: options.Target = None,
    calibrate: options.Calibrate = None,
    system: options.SystemName = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="DIR", help="Folder to make.")] = None,
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Run rungs 2 to 5 too; rung 1 always is.")
    ] = True,
    strict: options.Strict = False,
    force: options.Force = False,
    json: options.Json = False,
    ii: options.Ii = None,
    clock_mhz: options.ClockMhz = None,
    objective: options.ObjectiveOption = None,
    fold: options.FoldOption = None,
    fpgas: options.Fpgas = None,
    inputs: options.Inputs = None,
    outputs: options.Outputs = None,
    max_latency_ns: options.MaxLatency = None,
    bits: options.Bits = None,
    weight_bits: options.WeightBits = None,
    activation_bits: options.ActivationBits = None,
    widths: options.Widths = None,
    label: options.Label = None,
    hls4ml_config: options.Hls4mlConfigFile = None,
    verify_data: Annotated[
        str | None, typer.Option("--verify-data", metavar="FILE", help="Real events to verify with.")
    ] = None,
    events: Annotated[
        int | None, typer.Option("--events", metavar="N", help="Real events at rungs 1 to 3, at most.")
    ] = None,
    rtl_events: Annotated[
        int | None, typer.Option("--rtl-events", metavar="N", help="Real events at rungs 4 and 5, at most.")
    ] = None,
    picture: options.Pictures = None,
    dump_ir: options.DumpIr = None,
) -> None:
    """Compile a network: import, quantize, plan, emit, verify, report.

    Without MODEL the options are those of ./metronn.toml. The folder appears complete or not at all.
    """
    log = Log()
    if strict and not verify:
        raise ModelError("--strict and --no-verify: one of both; --strict wants every rung run")
    request = find_request(
        target,
        Overrides(
            hls4ml_config=hls4ml_config,
            calibrate=calibrate,
            label=label,
            system=system,
            output=output,
            ii=ii,
            clock_mhz=clock_mhz,
            objective=objective,
            fold=fold,
            fpgas=fpgas,
            inputs=inputs,
            outputs=outputs,
            max_latency_ns=max_latency_ns,
            bits=bits,
            weight_bits=weight_bits,
            activation_bits=activation_bits,
            widths=widths,
            verify_data=verify_data,
            events=events,
            rtl_events=rtl_events,
            pictures=tuple(picture or ()),
        ),
    )
    if request.source is not None:
        log(f"options: {request.source}")
    folder = request.directory
    if not request.model.is_file():
        import_model(request.model, log)  # says what is wrong with it, before anything is said about the folder
    check_target(folder.absolute(), force=force)
    watch = dumped_stages(dump_ir, folder)
    with replacing(folder, force=force) as partial:
        compiled = compile_files(request, log, watch)
        write_files(partial, compiled.files)
        manifest = compiled.manifest
        # Whether the network is still the one that was trained is never left open.
        verdicts = run_rungs(partial, None if verify else [REFERENCE_RUNG], log)
        manifest = {**manifest, "verdicts": merged(manifest["verdicts"], verdicts)}
        summary = write_results(partial, manifest, compiled.pictures)
    log(f"written: {folder}")
    if json:
        say_json(with_digest(manifest))
    else:
        say(summary_text(summary, folder / REPORT))
    judge(folder, manifest["verdicts"], RUNGS if strict else request.require)
