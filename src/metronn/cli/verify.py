"""`metronn verify`: run the rungs of the verification on a build, or compare it with the framework or with hls4ml."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from metronn.cli import options
from metronn.cli.console import Log, handled, say, say_json
from metronn.errors import MismatchError, ModelError, ToolError
from metronn.flow.builds import (
    REPORT,
    RUNGS,
    judge,
    read_manifest,
    run_rungs,
    verdicts_of,
    with_verdicts,
    write_results,
)
from metronn.flow.integrity import check_build
from metronn.report.picture import read_build_pictures
from metronn.report.tables import table_text
from metronn.report.text import verdicts_text
from metronn.verify.against import AgainstResult
from metronn.verify.against_build import Against, compare_build, find_model
from metronn.verify.framework import MissingFramework
from metronn.verify.run import read_build
from metronn.verify.verdict import LEFT_OUT, Status

COLUMNS = ("tensor", "layer", "bits", "values", "bits compared", "differing", "noise", "consequences", "real")


@handled
def verify_folder(
    build: options.BuildFolder,
    rung: Annotated[
        list[int] | None, typer.Option("--rung", metavar="N", help="Only this rung (1 to 6); repeatable.")
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Rung 6 synthesises every kernel, however long that takes.")
    ] = False,
    against: Annotated[
        Against | None,
        typer.Option("--against", help="Compare with the network's framework, or with hls4ml's C simulation, instead."),
    ] = None,
    model: Annotated[
        Path | None, typer.Option("--model", metavar="FILE", help="The model file, where it is not beside the build.")
    ] = None,
    framework_python: Annotated[
        Path | None,
        typer.Option("--framework-python", metavar="FILE", help="Python interpreter that has the framework."),
    ] = None,
    events: Annotated[
        int | None, typer.Option("--events", metavar="N", min=1, help="Events to compare with --against.")
    ] = None,
    strict: options.Strict = False,
    json: options.Json = False,
) -> None:
    """Verify a build: every rung equal, bit for bit and cycle for cycle. Manifest and report are brought up to date.

    First its files are compared with the hashes in its manifest: where one was changed, is missing or was added, that
    is status 1, and no rung is run.

    A rung whose tool is missing is reported as not run; when it was asked for by --rung, that ends with status 3,
    and with status 1 where --strict or the build's metronn.toml ([verify] require) demand it.
    With --against, every tensor that the build holds exactly is compared with the same one in the framework.
    """
    log = Log()
    manifest = read_manifest(build)
    check_build(build, manifest)
    if against is not None:
        if rung:
            raise ModelError("--rung and --against: one of both; the rungs do not need the framework")
        if full:
            raise ModelError("--full and --against: one of both; --full is about rung 6")
        compare(build, manifest, against, model=model, python=framework_python, events=events, log=log, json=json)
        return
    given = {"--model": model, "--framework-python": framework_python, "--events": events}
    if alone := [name for name, value in given.items() if value is not None]:
        raise ModelError(f"{', '.join(alone)}: has a meaning only with --against framework or --against hls4ml")
    wrong = [number for number in rung or () if number not in RUNGS]
    if wrong:
        raise ModelError(f"--rung: found {', '.join(map(str, wrong))}, allowed are {', '.join(map(str, RUNGS))}")
    if full and rung and 6 not in rung:
        raise ModelError("--full: is about rung 6, which --rung leaves out")
    verdicts = run_rungs(build, rung, log, full=full)
    manifest = with_verdicts(manifest, verdicts)
    summary = write_results(build, manifest, read_build_pictures(build))
    if json:
        say_json({"verdicts": manifest["verdicts"]})
    else:
        say(verdicts_text(summary))
        say(f"report: {build / REPORT}")
    others = [v for v in verdicts_of(manifest) if rung and v.rung not in rung and v.status is Status.FAIL]
    if others:
        names = ", ".join(dict.fromkeys(f"rung {v.rung} ({v.name})" for v in others))
        log.warn(f"{build}: not asked for, but failed when last run: {names}")
    judge(build, verdicts, RUNGS if strict else manifest.get("required_rungs", ()))
    missing = [v for v in verdicts if v.status is Status.NOT_RUN and LEFT_OUT not in v.measured]
    if rung and missing:
        raise ToolError("\n".join(f"rung {verdict.rung}: not run: {verdict.first}" for verdict in missing))


def compare(
    folder: Path,
    manifest: dict[str, Any],
    against: Against,
    *,
    model: Path | None,
    python: Path | None,
    events: int | None,
    log: Log,
    json: bool,
) -> None:
    """Compare a build with its framework or with hls4ml; what was found goes into the manifest under `against`.

    Raises MismatchError on a real difference, ToolError when the comparison could not be run.
    """
    file = find_model(folder, manifest, model)
    log(f"comparing with {against.value}: {file.name}")
    kept = dict(manifest.get("against") or {})
    try:
        result = compare_build(read_build(folder), against, file, python=python, events=events)
    except MissingFramework as error:
        kept[against.value] = {"status": Status.NOT_RUN.value, "first": error.message}
        write_results(folder, {**manifest, "against": kept}, read_build_pictures(folder))
        raise
    status = Status.FAIL if result.real else Status.PASS
    kept[against.value] = {"status": status.value} | result.to_json()
    write_results(folder, {**manifest, "against": kept}, read_build_pictures(folder))
    if json:
        say_json(kept[against.value])
    else:
        say(comparison_text(result))
    if result.real:
        raise MismatchError(f"{folder}: differs from {result.framework}\n  first: {result.first}")


def comparison_text(result: AgainstResult) -> str:
    """Return the comparison as a table of tensors and a summary."""
    rows = [
        (
            tensor.tensor,
            tensor.layer,
            str(tensor.width),
            f"{tensor.values:,}",
            f"{tensor.bits:,}",
            f"{tensor.differing_bits:,}",
            f"{tensor.noise:,}",
            f"{tensor.consequences:,}",
            f"{tensor.real:,}",
        )
        for tensor in result.tensors
    ]
    lines = [table_text(COLUMNS, rows, right=tuple(range(2, len(COLUMNS))))]
    lines.append(
        f"{result.framework}: {result.events:,} events, {result.bits:,} bits compared, "
        f"{result.differing_bits:,} differ; values that differ: {result.noise:,} by float32 rounding noise "
        f"({result.quantizer_noise:,} of them at a quantizer), "
        f"{result.consequences:,} as consequences, "
        f"{result.real:,} really"
    )
    if result.inside:
        lines.append(f"compared through the tensors behind them: {', '.join(result.inside)}")
    if result.approximate:
        lines.append(f"on no grid, not compared: {', '.join(result.approximate)}")
    return "\n".join(lines)
