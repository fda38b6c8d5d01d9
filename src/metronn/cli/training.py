"""What `metronn finetune` and `metronn prune` share: their request, their folders, the words at the end."""

from __future__ import annotations

import shutil
from pathlib import Path

from metronn.cli.console import Log
from metronn.errors import ModelError
from metronn.flow.options import Given
from metronn.flow.planning import chosen_system
from metronn.flow.request import FILE_NAME, Request, find_request
from metronn.train.cost import Target
from metronn.train.options import TrainingOptions
from metronn.train.start import Start, TrainingRequest, begin
from metronn.train.state import STATE

SHARED = ("data.label", "plan.system", "plan.ii", "plan.clock_mhz", "plan.fold")
"""Keys that both verbs take besides their own table."""


def read_requests(target: Path | None, given: Given, table: str) -> tuple[TrainingRequest, Request, Target | None]:
    """Return the request of a training, that of the metronn.toml, and where the network is to run (None: not said).

    `table` is that of the verb, `finetune` or `prune`.
    """
    file = find_request(target, given)
    options: TrainingOptions = getattr(file.options, table)

    def place(key: str, value: str) -> str:
        return value if f"{table}.{key}" in given.values else str(file.base / value)

    data = None if options.data is None else place("data", options.data)
    if data is None and isinstance(file.calibrate, str):
        data = file.calibrate
    if data is None:
        raise ModelError(f"no events to train with.\n  Give --data FILE, or {table}.data in {FILE_NAME}.")
    request = TrainingRequest(
        model=file.model,
        data=data,
        validation=None if options.validation is None else place("validation", options.validation),
        label=file.label,
        columns=file.columns,
        reference=None if options.reference is None else Path(place("reference", options.reference)),
        metric=options.metric or file.quantize.metric,
        base=Path() if f"{table}.metric" in given.values else file.base,
        options=options,
    )
    if file.system is None:
        if about := [name for key, name in given.names.items() if key.startswith("plan.")]:
            verb = "is" if len(about) == 1 else "are"
            raise ModelError(f"{', '.join(about)} {verb} about a system: give --system NAME too")
        return request, file, None
    return request, file, Target(system=chosen_system(file), plan=file.plan, quantize=file.quantize, base=file.base)


def begun(verb: str, request: TrainingRequest, *, quantized: bool, log: Log) -> Start:
    """Read network and data, and say what the run begins with."""
    start = begin(request, verb, quantized=quantized)
    log(
        f"{verb}: {request.model.name}: {start.task.train.count:,} events to train with, "
        f"{start.task.held_out.count:,} to judge with; {start.task.loss_name}; "
        f"{start.task.metric_name} {start.reference:.4f} to hold"
    )
    return start


def about_run(verb: str, request: TrainingRequest, start: Start, place: Target | None) -> dict[str, object]:
    """Return what a run that goes on must have in common with its checkpoint, besides its options."""
    return {
        "verb": verb,
        "model": request.model.name,
        "loss": start.task.loss_name,
        "metric": start.task.metric_name,
        "events": start.task.train.count,
        "system": None if place is None else f"{place.system.name} at II {place.system.ii}",
    }


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
