"""`metronn report`: the summary of a build in the terminal, and its report.html written anew."""

from __future__ import annotations

from metronn.cli import options
from metronn.cli.console import handled, say, say_json
from metronn.cli.folders import write_file
from metronn.cli.stages import REPORT, read_manifest, write_results
from metronn.report.picture import read_build_pictures, read_pictures
from metronn.report.text import summary_text


@handled
def write_report(build: options.BuildFolder, picture: options.Pictures = None, json: options.Json = False) -> None:
    """Show what a build promises and what its verification found; pictures given are added to report.html."""
    manifest = read_manifest(build)
    added = read_pictures(tuple(picture or ()))
    if added:
        (build / "report").mkdir(exist_ok=True)
    for item in added:
        write_file(build / "report" / item.file, item.content)
    summary = write_results(build, manifest, read_build_pictures(build))
    if json:
        say_json(manifest)
    else:
        say(summary_text(summary, build / REPORT))
