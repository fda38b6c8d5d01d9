"""`metronn report`: the summary of a build in the terminal, and its report.html written anew."""

from __future__ import annotations

import hashlib

from metronn.cli import options
from metronn.cli.console import Log, handled, say, say_json
from metronn.emit.manifest import with_digest
from metronn.flow.builds import REPORT, read_manifest, write_results
from metronn.flow.folders import write_file
from metronn.flow.integrity import changes, check_file
from metronn.report.picture import read_build_pictures, read_pictures
from metronn.report.text import changed_words, summary_text


@handled
def write_report(build: options.BuildFolder, picture: options.Pictures = None, json: options.Json = False) -> None:
    """Show what a build promises and what its verification found; pictures given are added to report.html.

    Files that are not as they were compiled are a warning; graph.txt and plan.json, of which the summary is, an error.
    """
    manifest = read_manifest(build)
    for name in ("graph.txt", "plan.json"):
        check_file(build, manifest, name)
    found = changes(build, manifest)
    added = read_pictures(tuple(picture or ()))
    if added:
        (build / "report").mkdir(exist_ok=True)
    for item in added:
        write_file(build / "report" / item.file, item.content)
        manifest["files"][f"report/{item.file}"] = hashlib.sha256(item.content).hexdigest()
    manifest["files"] = dict(sorted(manifest["files"].items()))
    summary = write_results(build, manifest, read_build_pictures(build), found.text())
    if json:
        say_json(with_digest(manifest))
    else:
        say(summary_text(summary, build / REPORT))
    if found:
        Log().warn(f"{build}: {changed_words(summary)}")
    elif not json:
        say(f"files: all {len(manifest['files'])} as they were compiled")
