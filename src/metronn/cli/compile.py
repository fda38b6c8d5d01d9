"""`metronn compile`: from a trained network to a verified build."""

from __future__ import annotations

from typing import Annotated

import typer

from metronn.cli import options
from metronn.cli.console import Log, handled, say, say_json
from metronn.cli.taking import taking
from metronn.emit.manifest import with_digest
from metronn.errors import ModelError
from metronn.flow.builds import REPORT, RUNGS, judge
from metronn.flow.compile import compile_build
from metronn.flow.dump import dumped_stages
from metronn.flow.options import Given
from metronn.flow.request import find_request
from metronn.report.text import summary_text


@handled
@taking(
    "model.hls4ml_config", "data.calibrate", "data.label", "quantize.*", "plan.*", "verify.*", "build.*", "report.*"
)
def compile_network(
    given: Given,
    target: options.Target = None,
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Run rungs 2 to 6 too; rung 1 always is.")
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
    made = compile_build(request, log, dumped_stages(dump_ir, request.directory), verify=verify, force=force)
    if json:
        say_json(with_digest(made.manifest))
    else:
        say(summary_text(made.summary, made.folder / REPORT))
    judge(made.folder, made.summary.verdicts, RUNGS if strict else request.require)
