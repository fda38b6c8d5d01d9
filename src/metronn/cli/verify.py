"""`metronn verify`: run the rungs of the verification on a build."""

from __future__ import annotations

from typing import Annotated

import typer

from metronn.cli import options
from metronn.cli.console import Log, handled, say, say_json
from metronn.cli.stages import REPORT, RUNGS, failed, merged, read_manifest, run_rungs, write_results
from metronn.errors import MismatchError, ModelError, ToolError
from metronn.report.picture import read_build_pictures
from metronn.report.text import verdicts_text
from metronn.verify.verdict import Status


@handled
def verify_folder(
    build: options.BuildFolder,
    rung: Annotated[
        list[int] | None, typer.Option("--rung", metavar="N", help="Only this rung (1 to 5); repeatable.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Verify a build: every rung equal, bit for bit and cycle for cycle. Manifest and report are brought up to date.

    A rung whose tool is missing is reported as not run; when it was asked for by --rung, that ends with status 3.
    """
    log = Log()
    manifest = read_manifest(build)
    wrong = [number for number in rung or () if number not in RUNGS]
    if wrong:
        raise ModelError(f"--rung: found {', '.join(map(str, wrong))}, allowed are {', '.join(map(str, RUNGS))}")
    verdicts = run_rungs(build, rung, log)
    manifest["verdicts"] = merged(manifest["verdicts"], verdicts)
    summary = write_results(build, manifest, read_build_pictures(build))
    if json:
        say_json({"verdicts": manifest["verdicts"]})
    else:
        say(verdicts_text(summary))
        say(f"report: {build / REPORT}")
    if failed(verdicts):
        raise MismatchError(f"{build}: the verification failed, see the verdicts above and {build / REPORT}")
    missing = [verdict for verdict in verdicts if verdict["status"] == Status.NOT_RUN.value]
    if rung and missing:
        raise ToolError("\n".join(f"rung {verdict['rung']}: not run: {verdict['first']}" for verdict in missing))
