"""The arguments that several verbs share and that are no keys of metronn.toml."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Target = Annotated[
    Path | None,
    typer.Argument(
        metavar="[MODEL | metronn.toml | FOLDER]",
        help="A network (.onnx, .keras, .h5, .json), a metronn.toml, or a folder with one; by default ./metronn.toml.",
        show_default=False,
    ),
]
TrainedTarget = Annotated[
    Path | None,
    typer.Argument(
        metavar="MODEL",
        help="A network of Keras (.keras, .h5), float or of HGQ2; or a metronn.toml or folder that names one.",
        show_default=False,
    ),
]
BuildFolder = Annotated[Path, typer.Argument(metavar="BUILD", help="A folder that `metronn compile` made.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else, on stdout.")]
DumpIr = Annotated[
    Path | None,
    typer.Option("--dump-ir", metavar="DIR", help="Also write every graph up to the plan, as text, into a new folder."),
]
Strict = Annotated[
    bool, typer.Option("--strict", help="A rung that was not run, for want of a tool, is a failure: status 1.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace an existing result.")]
Pictures = Annotated[
    list[Path] | None, typer.Option("--picture", metavar="FILE", help="A PNG, JPEG or SVG for the report; repeatable.")
]
Checkpoints = Annotated[
    Path | None, typer.Option("--checkpoints", metavar="DIR", help="Folder of checkpoints; else beside the output.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")]
Jobs = Annotated[int | None, typer.Option("--jobs", "-j", metavar="N", help="Worker processes; by default all cores.")]
Dask = Annotated[
    str | None, typer.Option("--dask", metavar="ADDRESS", help="Work on the Dask cluster of this scheduler instead.")
]
Restart = Annotated[bool, typer.Option("--restart", help="Throw the journal of an earlier run away.")]
