"""What finetune and prune begin with: the network, the events in two parts, the task, the metric to hold."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py

from metronn.events.data import Events, load_events
from metronn.train.backend import Backend, load_backend, seed_everything
from metronn.train.convert import to_quantized
from metronn.train.engine import Engine
from metronn.train.networks import Network, check_file, kernels, read_network
from metronn.train.options import FinetuneOptions, TrainingOptions
from metronn.train.task import Task, make_task, split


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRequest:
    """Files and options that both verbs share.

    `data` holds the events; `validation` others to judge with, or None for a share of the first.
    `reference`: the network whose metric must hold and whose answers teach; None for the network itself. These, and
    `metric`, are those of `options` where they are, with paths that can be opened.
    """

    model: Path
    data: str
    validation: str | None
    label: str
    columns: Mapping[str, Sequence[str]]
    reference: Path | None
    metric: str
    base: Path
    options: TrainingOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A run about to begin; `reference` is the metric of the reference network on the validation events."""

    backend: Backend
    network: Network
    task: Task
    train: Events
    reference: float

    def engine(self, request: TrainingRequest) -> Engine:
        """Return the engine of the network as it is."""
        return Engine(
            backend=self.backend,
            model=self.network.model,
            task=self.task,
            batch=request.options.batch,
            seed=request.options.seed,
            quantized=self.network.quantized,
        )


def begin(request: TrainingRequest, verb: str, *, quantized: bool) -> Start:
    """Read network and data. Raises ModelError, or ToolError where Keras (or HGQ2) is missing."""
    check_file(request.model, verb)
    backend = load_backend(verb, quantized=quantized or needs_hgq(request.model))
    seed_everything(backend, request.options.seed)
    network = read_network(backend, request.model, verb)
    events = load_events(request.data, network.inputs, label=request.label, columns=request.columns)
    if request.validation is None:
        train, held_out = split(events, request.options.validation_share, request.options.seed)
    else:
        train = events
        held_out = load_events(request.validation, network.inputs, label=request.label, columns=request.columns)
    teacher = network if request.reference is None else read_network(backend, request.reference, verb)
    task = make_task(
        backend,
        teacher.model,
        train,
        held_out,
        loss=request.options.loss,
        compiled=network.loss,
        metric=request.metric,
        base=request.base,
        output=str(teacher.model.outputs[0]._keras_history.operation.name),
        batch=request.options.batch,
    )
    reference = task.measure(teacher.model, request.options.batch)
    return Start(backend=backend, network=network, task=task, train=train, reference=reference)


def needs_hgq(path: Path) -> bool:
    """Whether a file names layers of HGQ2, found without importing it."""
    try:
        return b"hgq" in _config(path)
    except (OSError, KeyError, ValueError):
        return False


def _config(path: Path) -> bytes:
    if path.suffix.lower() == ".keras":
        try:
            with zipfile.ZipFile(path) as archive:
                return archive.read("config.json")
        except zipfile.BadZipFile:
            return b""
    with h5py.File(path, "r") as file:
        text = file.attrs.get("model_config", "")
        return text if isinstance(text, bytes) else str(text).encode()


def quantize_network(start: Start, request: TrainingRequest, options: FinetuneOptions) -> Engine:
    """Return the compiled engine of the network with quantizers; zero weights stay zero where `keep_zeros`."""
    network, model = start.network, start.network.model
    zeros = {kernel.layer: kernel.value != 0 for kernel in kernels(model)}
    if not network.quantized:
        model = to_quantized(start.backend, model, start.train.inputs, options, str(request.model))
    engine = Engine(
        backend=start.backend,
        model=model,
        task=start.task,
        batch=request.options.batch,
        seed=request.options.seed,
        quantized=True,
        width_rate=options.width_rate,
    )
    engine.compile()
    if options.keep_zeros:
        engine.hold_zeros([(k, zeros[k.layer]) for k in kernels(model) if k.layer in zeros])
    return engine
