"""Checkpoints of a training run: everything that decides what comes next, in one file that replaces the last."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from metronn.errors import ModelError
from metronn.ir.arrays import Array
from metronn.train.backend import KerasObject

STATE = "state.npz"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The variables of a model and its optimizer, in their order, and JSON about the run."""

    model: Sequence[Array]
    optimizer: Sequence[Array]
    about: Mapping[str, Any]


def write_checkpoint(folder: Path, model: KerasObject, about: Mapping[str, Any]) -> None:
    """Write the state of a compiled model and its optimizer; the old one is replaced at once."""
    arrays = {f"model{k}": np.asarray(v.value) for k, v in enumerate(model.variables)}
    arrays |= {f"optimizer{k}": np.asarray(v.value) for k, v in enumerate(model.optimizer.variables)}
    text = json.dumps({"format": FORMAT, **about})
    try:
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f".{STATE}.partial"
        with partial.open("wb") as file:
            np.savez(file, about=np.frombuffer(text.encode(), dtype=np.uint8), **arrays)  # type: ignore[arg-type]
        os.replace(partial, folder / STATE)
    except OSError as error:
        raise ModelError(f"{folder}: the checkpoint cannot be written: {error.strerror}") from None


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read a state. Raises ModelError where there is none or it is damaged."""
    path = folder / STATE
    if not path.is_file():
        raise ModelError(f"{folder}: no checkpoint to resume from ({STATE} is missing); train without --resume")
    try:
        with np.load(path, allow_pickle=False) as file:
            about = json.loads(bytes(file["about"]).decode())
            counts = [sum(name.startswith(kind) for name in file.files) for kind in ("model", "optimizer")]
            parts = [
                [file[f"{kind}{k}"] for k in range(count)]
                for kind, count in zip(("model", "optimizer"), counts, strict=True)
            ]
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise ModelError(f"{path}: the checkpoint is damaged ({error}); train without --resume") from None
    if about.get("format") != FORMAT:
        raise ModelError(f"{path}: a checkpoint of another version; train without --resume")
    return Checkpoint(parts[0], parts[1], about)


def restore(checkpoint: Checkpoint, model: KerasObject, where: Path) -> None:
    """Put the variables back into an equal model. Raises ModelError where the checkpoint is of another network."""
    model.optimizer.build(model.trainable_variables)
    for variables, values in (
        (model.variables, checkpoint.model),
        (model.optimizer.variables, checkpoint.optimizer),
    ):
        shapes = [tuple(v.shape) for v in variables]
        if shapes != [v.shape for v in values]:
            raise ModelError(f"{where}: the checkpoint is of another network or optimizer; train without --resume")
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)


def same_run(old: Mapping[str, Any], new: Mapping[str, Any], where: Path) -> None:
    """Raise ModelError listing every option of a run that differs from the checkpoint's."""
    wrong = [
        f"{where}: {name} was {old.get(name)!r} when the checkpoint was made, now it is {new[name]!r}"
        for name in new
        if old.get(name) != new[name]
    ]
    if wrong:
        raise ModelError("\n".join(wrong) + "\n  Resume with the same options, or train without --resume.")
