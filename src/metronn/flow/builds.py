"""The folder of a build: what it holds, the rungs run on it, what they found and whether that will do."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping, Sequence
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
from metronn.verify.verdict import Status

RUNGS = {
    1: "trained network",
    2: "compiled emulator",
    3: "HLS C++",
    4: "RTL of each FPGA",
    5: "RTL of the system",
}
"""The rungs a compilation runs, by number."""
NOT_ASKED = "not asked for"
REPORT = "report.html"


def not_run(rungs: Sequence[int], reason: str) -> list[dict[str, object]]:
    """Return verdicts of rungs that were not run, and why."""
    return [
        {
            "rung": rung,
            "name": RUNGS[rung],
            "status": Status.NOT_RUN.value,
            "events": 0,
            "bits": 0,
            "mismatches": 0,
            "first": reason,
        }
        for rung in rungs
    ]


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


def run_rungs(folder: Path, rungs: Sequence[int] | None, log: Log) -> list[dict[str, object]]:
    """Run the rungs asked for (None: all) on a build and return their verdicts in order."""
    wanted = tuple(RUNGS) if rungs is None else tuple(sorted(set(rungs)))
    verdicts: list[dict[str, object]] = []
    with log.stage("verifying"):
        if REFERENCE_RUNG in wanted:
            log("rung 1: trained network against the integer graph")
            verdicts.append(reference_result(folder / "vectors", read_graph(folder / "graph.txt")).as_dict())
        others = [rung for rung in wanted if rung != REFERENCE_RUNG]
        if others:
            verdicts += [verdict.as_dict() for verdict in verify_build(folder, rungs=others, log=log)]
    return [_without_folder(verdict, folder) for verdict in verdicts]


def _without_folder(verdict: Mapping[str, object], folder: Path) -> dict[str, object]:
    """Return a verdict whose words do not say where the build lies."""
    words = str(verdict.get("first", ""))
    for place in (folder.resolve(), folder.absolute(), folder):
        words = words.replace(f"{place}{os.sep}", "")
    return {**verdict, "first": words} if "first" in verdict else dict(verdict)


def merged(old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return verdicts in order of their rungs, the new ones instead of old ones of the same rung."""
    fresh = {verdict["rung"] for verdict in new}
    kept = [dict(verdict) for verdict in old if verdict["rung"] not in fresh]
    return sorted([*kept, *(dict(verdict) for verdict in new)], key=lambda verdict: int(verdict["rung"]))


def write_results(folder: Path, manifest: Mapping[str, Any], pictures: Sequence[Picture], changed: str = "") -> Summary:
    """Write manifest.json and report.html of a build whose other files are there; returns what both say.

    `changed` names files that are not as they were compiled, which the report then says.
    """
    summary = summarize(read_design(folder), manifest, changed)
    write_file(folder / REPORT, report_html(summary, pictures).encode())
    write_file(folder / MANIFEST, manifest_text(manifest).encode())
    return summary


def judge(folder: Path, verdicts: Sequence[Mapping[str, Any]], required: Collection[int]) -> None:
    """Raise MismatchError where a rung failed, or one of the required rungs was not run; it says what is missing."""
    problems = []
    if any(verdict["status"] == Status.FAIL.value for verdict in verdicts):
        problems.append(f"{folder}: the verification failed, see the verdicts above and {folder / REPORT}")
    missing = [v for v in verdicts if v["rung"] in required and v["status"] == Status.NOT_RUN.value]
    if missing:
        rungs = list(dict.fromkeys(str(verdict["rung"]) for verdict in missing))
        kind = f"rungs {', '.join(rungs)} are" if len(rungs) > 1 else f"rung {rungs[0]} is"
        problems.append(f"{folder}: {kind} required and not run")
        reasons = dict.fromkeys(f"  rung {v['rung']}: {v.get('first') or 'no reason is known'}" for v in missing)
        problems += reasons
    if problems:
        raise MismatchError("\n".join(problems))
