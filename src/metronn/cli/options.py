"""The arguments that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from metronn.plan.options import Fold, InputForm, Objective, OutputForm

Target = Annotated[
    Path | None,
    typer.Argument(
        metavar="[MODEL | metronn.toml | FOLDER]",
        help="A network (.onnx, .keras, .h5, .json), a metronn.toml, or a folder with one; by default ./metronn.toml.",
        show_default=False,
    ),
]
BuildFolder = Annotated[Path, typer.Argument(metavar="BUILD", help="A folder that `metronn compile` made.")]
Calibrate = Annotated[
    str | None,
    typer.Option("--calibrate", metavar="FILE", help="Calibration events: .npz, .npy, .h5 or .root (file.root:tree)."),
]
Label = Annotated[str | None, typer.Option("--label", metavar="NAME", help="Array that holds the labels.")]
SystemName = Annotated[
    str | None, typer.Option("--system", metavar="NAME", help="A known system (see `metronn boards`) or a TOML file.")
]
Ii = Annotated[int | None, typer.Option("--ii", metavar="N", help="Clock cycles between events.")]
ClockMhz = Annotated[float | None, typer.Option("--clock-mhz", metavar="F", help="Clock frequency.")]
FoldOption = Annotated[Fold | None, typer.Option("--fold", help="How products are folded over the cycles of an event.")]
ObjectiveOption = Annotated[
    Objective | None, typer.Option("--objective", help="Least latency, or fewest resources within the latency limit.")
]
Fpgas = Annotated[int | None, typer.Option("--fpgas", metavar="N", help="FPGAs to use, in chain order.")]
Inputs = Annotated[
    InputForm | None, typer.Option("--inputs", help="Images pixel by pixel, everything in one cycle, or as suits each.")
]
Outputs = Annotated[OutputForm | None, typer.Option("--outputs", help="Results in one cycle, or in beats.")]
MaxLatency = Annotated[
    float | None, typer.Option("--max-latency-ns", metavar="F", help="The promised latency must not exceed this.")
]
Bits = Annotated[
    int | None,
    typer.Option("--bits", metavar="N", help="Bits of weights and activations alike, kept as they are."),
]
WeightBits = Annotated[int | None, typer.Option("--weight-bits", metavar="N", help="Bits of weights.")]
ActivationBits = Annotated[int | None, typer.Option("--activation-bits", metavar="N", help="Bits of activations.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else, on stdout.")]
Hls4mlConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--hls4ml-config", metavar="FILE", help="Types of all layers: a configuration of hls4ml, YAML or JSON."
    ),
]
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
Widths = Annotated[
    Path | None,
    typer.Option("--widths", metavar="FILE", help="Widths of layers, as `metronn quantize --search` writes them."),
]
MetricName = Annotated[
    str | None, typer.Option("--metric", metavar="NAME", help="accuracy, auc, none or file.py:function.")
]
Tolerance = Annotated[
    float | None, typer.Option("--tolerance", metavar="F", help="Accepted loss of the metric, relative.")
]
Jobs = Annotated[int | None, typer.Option("--jobs", "-j", metavar="N", help="Worker processes; by default all cores.")]
Dask = Annotated[
    str | None, typer.Option("--dask", metavar="ADDRESS", help="Work on the Dask cluster of this scheduler instead.")
]
Restart = Annotated[bool, typer.Option("--restart", help="Throw the journal of an earlier run away.")]
