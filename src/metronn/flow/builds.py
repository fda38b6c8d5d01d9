"""The folder of a build: what it holds, the rungs run on it, what they found and whether that will do."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from metronn.emit.manifest import DIGEST, manifest_digest, manifest_text
from metronn.errors import MismatchError, ModelError
from metronn.flow.folders import MANIFEST, is_build, write_file
from metronn.flow.planning import read_graph
from metronn.log import Log
from metronn.plan.design import Design
from metronn.plan.serialize import PlanFormatError, design_from_json
from metronn.report.html import report_html
from metronn.report.picture import Picture
from metronn.report.summary import Summary, summarize
from metronn.verify.reference import RUNG as REFERENCE_RUNG
from metronn.verify.reference import reference_result
from metronn.verify.run import verify_build
from metronn.verify.verdict import LEFT_OUT, Status, Verdict

RUNGS = {
    1: "trained network",
    2: "compiled emulator",
    3: "HLS C++",
    4: "RTL of each FPGA",
    5: "RTL of the system",
    6: "static",
}
"""The rungs a compilation runs, by number."""
NOT_ASKED = "not asked for"
REPORT = "report.html"


def not_run(rungs: Sequence[int], reason: str) -> list[Verdict]:
    """Return verdicts of rungs that were not run, and why."""
    return [Verdict(rung=rung, name=RUNGS[rung], status=Status.NOT_RUN, first=reason) for rung in rungs]


def verdicts_of(manifest: Mapping[str, Any]) -> list[Verdict]:
    """Return the verdicts that a manifest holds."""
    return [Verdict.of(record) for record in manifest.get("verdicts", ())]


def with_verdicts(manifest: Mapping[str, Any], new: Iterable[Verdict]) -> dict[str, Any]:
    """Return a manifest with new verdicts instead of the old ones of their rungs, in order."""
    fresh = list(new)
    rungs = {verdict.rung for verdict in fresh}
    kept = [verdict for verdict in verdicts_of(manifest) if verdict.rung not in rungs]
    several = sorted([*kept, *fresh], key=lambda verdict: verdict.rung)
    return {**manifest, "verdicts": [verdict.as_dict() for verdict in several]}


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a build, without its digest. Raises ModelError when there is none, or it was changed."""
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such folder; metronn compile makes one")
    if not is_build(folder):
        raise ModelError(f"{folder}: is no build of metronn: {MANIFEST} is missing or damaged; compile it again")
    manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    if manifest.pop(DIGEST, None) != manifest_digest(manifest):
        raise ModelError(f"{folder / MANIFEST}: is not as metronn wrote it; put it back, or compile again with --force")
    return manifest


def read_design(folder: Path) -> Design:
    """Read graph and plan of a build. Raises ModelError when they are missing or damaged."""
    graph = read_graph(folder / "graph.txt")
    try:
        return design_from_json((folder / "plan.json").read_text(encoding="utf-8"), graph)
    except (OSError, UnicodeDecodeError, PlanFormatError) as error:
        raise ModelError(f"{folder / 'plan.json'}: cannot be read: {error}; compile it again") from None


def run_rungs(folder: Path, rungs: Sequence[int] | None, log: Log, *, full: bool = False) -> list[Verdict]:
    """Run the rungs asked for (None: all) on a build and return their verdicts in order.

    `full`: rung 6 synthesises every kernel.
    """
    wanted = tuple(RUNGS) if rungs is None else tuple(sorted(set(rungs)))
    verdicts: list[Verdict] = []
    with log.stage("verifying"):
        if REFERENCE_RUNG in wanted:
            log("rung 1: trained network against the integer graph")
            verdicts.append(reference_result(folder / "vectors", read_graph(folder / "graph.txt")).told())
        others = [rung for rung in wanted if rung != REFERENCE_RUNG]
        if others:
            verdicts += verify_build(folder, rungs=others, full=full, log=log)
    return [_without_folder(verdict, folder) for verdict in verdicts]


def _without_folder(verdict: Verdict, folder: Path) -> Verdict:
    """Return a verdict whose words do not say where the build lies."""
    words = verdict.first
    for place in (folder.resolve(), folder.absolute(), folder):
        words = words.replace(f"{place}{os.sep}", "")
    return replace(verdict, first=words)


def write_results(folder: Path, manifest: Mapping[str, Any], pictures: Sequence[Picture], changed: str = "") -> Summary:
    """Write manifest.json and report.html of a build whose other files are there; returns what both say.

    `changed` names files that are not as they were compiled, which the report then says.
    """
    summary = summarize(read_design(folder), manifest, changed)
    write_file(folder / REPORT, report_html(summary, pictures).encode())
    write_file(folder / MANIFEST, manifest_text(manifest).encode())
    return summary


def judge(folder: Path, verdicts: Sequence[Verdict], required: Collection[int]) -> None:
    """Raise MismatchError where a rung failed, or one of the required rungs was not run; it says what is missing."""
    problems = []
    if any(verdict.status is Status.FAIL for verdict in verdicts):
        problems.append(f"{folder}: the verification failed, see the verdicts above and {folder / REPORT}")
    not_run = [v for v in verdicts if v.status is Status.NOT_RUN and LEFT_OUT not in v.measured]
    missing = [verdict for verdict in not_run if verdict.rung in required]
    if missing:
        rungs = list(dict.fromkeys(str(verdict.rung) for verdict in missing))
        kind = f"rungs {', '.join(rungs)} are" if len(rungs) > 1 else f"rung {rungs[0]} is"
        problems.append(f"{folder}: {kind} required and not run")
        reasons = dict.fromkeys(f"  rung {v.rung}: {v.first or 'no reason is known'}" for v in missing)
        problems += reasons
    if problems:
        raise MismatchError("\n".join(problems))
