"""From a request to the folder of a verified build, which appears complete or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metronn.flow.builds import run_rungs, with_verdicts, write_results
from metronn.flow.folders import check_target, replacing, write_files
from metronn.flow.request import Request
from metronn.flow.stages import compile_files, import_model
from metronn.log import Log
from metronn.passes.pipeline import Watch
from metronn.report.summary import Summary
from metronn.verify.reference import RUNG as REFERENCE_RUNG


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A build that was written: where, its manifest without digest, and what reports show."""

    folder: Path
    manifest: Mapping[str, Any]
    summary: Summary


def compile_build(request: Request, log: Log, watch: Watch, *, verify: bool, force: bool) -> Written:
    """Run every stage and write the build; rung 1 is always run, the others where `verify` is set.

    The verdicts are not judged (`metronn.flow.builds.judge`). Raises what the stages raise; then nothing is written.
    """
    if request.source is not None:
        log(f"options: {request.source}")
    folder = request.directory
    if not request.model.is_file():
        import_model(request.model, log)  # says what is wrong with it, before anything is said about the folder
    check_target(folder.absolute(), force=force)
    with replacing(folder, force=force) as partial:
        compiled = compile_files(request, log, watch)
        write_files(partial, compiled.files)
        # Whether the network is still the one that was trained is never left open.
        verdicts = run_rungs(partial, None if verify else [REFERENCE_RUNG], log)
        manifest = with_verdicts(compiled.manifest, verdicts)
        summary = write_results(partial, manifest, compiled.pictures)
    log(f"written: {folder}")
    return Written(folder=folder, manifest=manifest, summary=summary)
