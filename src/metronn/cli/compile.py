"""`metronn compile`: from a trained network to a verified build."""

from __future__ import annotations

from typing import Annotated

import typer

from metronn.cli import options
from metronn.cli.console import Log, handled, say, say_json
from metronn.cli.taking import taking
from metronn.emit.manifest import with_digest
from metronn.errors import ModelError
from metronn.flow.builds import REPORT, RUNGS, judge, merged, run_rungs, write_results
from metronn.flow.dump import dumped_stages
from metronn.flow.folders import check_target, replacing, write_files
from metronn.flow.options import Given
from metronn.flow.request import find_request
from metronn.flow.stages import compile_files, import_model
from metronn.report.text import summary_text
from metronn.verify.reference import RUNG as REFERENCE_RUNG


@handled
@taking(
    "model.hls4ml_config", "data.calibrate", "data.label", "quantize.*", "plan.*", "verify.*", "build.*", "report.*"
)
def compile_network(
    given: Given,
    target: options.Target = None,
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Run rungs 2 to 5 too; rung 1 always is.")
    ] = True,
    strict: options.Strict = False,
    force: options.Force = False,
    json: options.Json = False,
    dump_ir: options.DumpIr = None,
) -> None:
    """Compile a network: import, quantize, plan, emit, verify, report.

    Without MODEL the options are those of ./metronn.toml. The folder appears complete or not at all.
    """
    log = Log()
    if strict and not verify:
        raise ModelError("--strict and --no-verify: one of both; --strict wants every rung run")
    request = find_request(target, given)
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
