"""What `metronn finetune` and `metronn prune` share: their request, their folders, the words at the end."""

from __future__ import annotations

import shutil
from pathlib import Path

from metronn.cli.config import Overrides, find_request
from metronn.cli.config import Request as FileRequest
from metronn.cli.planning import chosen_system
from metronn.errors import ModelError
from metronn.plan.options import Fold
from metronn.train.cost import Target
from metronn.train.start import TrainingRequest
from metronn.train.state import STATE
from metronn.train.task import Loss


def read_requests(
    target: Path | None,
    *,
    data: str,
    validation: str | None,
    validation_share: float,
    label: str | None,
    reference: Path | None,
    loss: Loss,
    metric: str | None,
    seed: int,
    batch: int,
    system: str | None,
    ii: int | None,
    clock_mhz: float | None,
    fold: Fold | None,
) -> tuple[TrainingRequest, FileRequest, Target | None]:
    """Return the request of a training, that of the metronn.toml, and where the network is to run (None: not said)."""
    overrides = Overrides(calibrate=data, label=label, system=system, ii=ii, clock_mhz=clock_mhz, fold=fold)
    file = find_request(target, overrides)
    request = TrainingRequest(
        model=file.model,
        data=data,
        validation=validation,
        validation_share=validation_share,
        label=file.label,
        columns=file.columns,
        reference=reference,
        loss=loss,
        metric=file.quantize.metric if metric is None else metric,
        base=file.base if metric is None else Path(),
        seed=seed,
        batch=batch,
    )
    if file.system is None:
        if ii is not None or clock_mhz is not None or fold is not None:
            raise ModelError("--ii, --clock-mhz and --fold are about a system: give --system NAME too")
        return request, file, None
    place = Target(system=chosen_system(file), plan=file.plan, quantize=file.quantize, base=file.base)
    return request, file, place


def check_output(output: Path, model: Path) -> None:
    """Raise ModelError unless a network may be written there."""
    if output.suffix != ".keras":
        raise ModelError(f"{output}: networks are written as .keras; name a file with -o that ends so")
    if output.is_dir():
        raise ModelError(f"{output}: is a folder; name a file with -o")
    if output.exists() and model.exists() and output.resolve() == model.resolve():
        raise ModelError(f"{output}: is the network to start from; name another file with -o")


def checkpoint_folder(chosen: Path | None, output: Path, *, resume: bool, force: bool) -> Path:
    """Return the folder of checkpoints. Raises ModelError where it holds another run that nobody said may go."""
    folder = chosen or output.with_name(f"{output.stem}.checkpoints")
    if folder.exists() and not folder.is_dir():
        raise ModelError(f"{folder}: is not a folder; name another with --checkpoints")
    if (folder / STATE).exists() and not resume and not force:
        raise ModelError(f"{folder}: holds a run.\n  Go on with it (--resume), replace it (--force) or name another.")
    return folder


def copy_network(source: Path, output: Path) -> None:
    """Put a network of the checkpoints in the place of the output. Raises ModelError where that is impossible."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        partial = output.with_name(f".{output.name}.partial")
        shutil.copyfile(source, partial)
        partial.replace(output)
    except OSError as error:
        raise ModelError(f"{output}: cannot be written: {error.strerror}") from None
