"""The arguments of `metronn finetune` and `metronn prune`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from metronn.train.task import LARGEST_BATCH, Loss

Model = Annotated[
    Path | None,
    typer.Argument(
        metavar="MODEL",
        help="A network of Keras (.keras, .h5), float or of HGQ2; or a metronn.toml or folder that names one.",
        show_default=False,
    ),
]
Data = Annotated[
    str, typer.Option("--data", metavar="FILE", help="Events with labels: .npz, .npy, .h5 or .root (file.root:tree).")
]
ValidationData = Annotated[
    str | None, typer.Option("--validation", metavar="FILE", help="Events to judge with; else a share of the data.")
]
ValidationShare = Annotated[
    float, typer.Option("--validation-share", metavar="F", min=0.01, max=0.9, help="Share of the data to judge with.")
]
Reference = Annotated[
    Path | None,
    typer.Option("--reference", metavar="MODEL", help="Network whose metric must hold; else MODEL as it is."),
]
LossName = Annotated[Loss, typer.Option("--loss", help="What training makes small; auto: by file and labels.")]
Metric = Annotated[
    str | None, typer.Option("--metric", metavar="NAME", help="auto, accuracy, auc, none or file.py:function.")
]
Tolerance = Annotated[
    float | None,
    typer.Option("--tolerance", metavar="F", min=0.0, help="Relative loss of the metric that is accepted."),
]
Batch = Annotated[int, typer.Option("--batch", metavar="N", min=1, max=LARGEST_BATCH, help="Events per step.")]
Rate = Annotated[float, typer.Option("--rate", metavar="F", min=1e-9, max=10.0, help="Learning rate.")]
Seed = Annotated[int, typer.Option("--seed", metavar="N", min=0, max=2**32 - 1, help="Start of all random numbers.")]
Checkpoints = Annotated[
    Path | None, typer.Option("--checkpoints", metavar="DIR", help="Folder of checkpoints; else beside the output.")
]
CheckpointEvery = Annotated[int, typer.Option("--checkpoint-every", metavar="N", min=1, help="Epochs between two.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")]
