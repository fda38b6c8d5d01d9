"""Keras files in and out: read for training, listed when something cannot be trained, written byte for byte alike."""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from metronn.errors import ModelError
from metronn.ir.arrays import Array
from metronn.train.backend import Backend, KerasObject
from metronn.train.graph_walk import one

SUFFIXES = (".keras", ".h5", ".hdf5")
EPOCH = (1980, 1, 1, 0, 0, 0)
"""Date of every file inside a written .keras file."""


@dataclass(frozen=True, slots=True)
class Network:
    """A Keras network that can be trained: a functional model, its inputs by name, and what its file was compiled with.

    `loss` is the loss of the file's compilation (a name or a configuration), None where it was saved without.
    """

    model: KerasObject
    inputs: Mapping[str, tuple[int, ...]]
    loss: Any
    quantized: bool


def check_file(path: Path, verb: str) -> None:
    """Raise ModelError unless the path is a Keras file."""
    if path.suffix.lower() not in SUFFIXES:
        raise ModelError(
            f"{path}: {verb} takes networks of Keras ({', '.join(SUFFIXES)}); this is a {path.suffix or 'file'}"
        )
    if not path.is_file():
        raise ModelError(f"{path}: no such file")


def read_network(backend: Backend, path: Path, verb: str) -> Network:
    """Read a Keras file for training. Raises ModelError where it cannot be read or trained."""
    check_file(path, verb)
    keras = backend.keras
    try:
        model = keras.models.load_model(path, compile=False)
    except (ValueError, TypeError, KeyError, AttributeError, OSError, ImportError, IndexError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(
            f"{path}: Keras {keras.__version__} cannot read this file: {reason}\n"
            "  Load and save it again with the Keras it was trained with, or with Keras 3."
        ) from None
    if isinstance(model, keras.Sequential) and model.built:
        model = keras.Model(one(model.inputs), one(model.outputs), name=model.name)
    if not isinstance(model, keras.Model) or not getattr(model, "_nodes_by_depth", None):
        raise ModelError(f"{path}: {verb} needs a functional or sequential network with known input shapes")
    problems = [
        f"{path}: input {x.name}: shape {tuple(x.shape[1:])}; only the batch axis may vary"
        for x in model.inputs
        if None in x.shape[1:]
    ]
    if len(model.outputs) != 1:
        problems.append(f"{path}: {len(model.outputs)} outputs, {verb} needs one")
    if problems:
        raise ModelError("\n".join(problems))
    inputs = {x.name: tuple(int(n) for n in x.shape[1:]) for x in model.inputs}
    quantized = any(type(layer).__module__.startswith("hgq") for layer in model._flatten_layers())
    return Network(model, inputs, compiled_loss(path), quantized)


def compiled_loss(path: Path) -> Any:  # noqa: ANN401 - whatever the file holds
    """Return the loss a Keras file was compiled with, None where there is none."""
    try:
        if path.suffix.lower() == ".keras":
            with zipfile.ZipFile(path) as archive:
                compiled = json.loads(archive.read("config.json")).get("compile_config") or {}
        else:
            with h5py.File(path, "r") as file:
                compiled = json.loads(file.attrs.get("training_config", "{}"))
    except (OSError, ValueError, KeyError, RecursionError, zipfile.BadZipFile):
        return None
    return compiled.get("loss") if isinstance(compiled, dict) else None


def save_network(model: KerasObject, path: Path) -> None:
    """Write a .keras file, at once or not at all. The same network gives the same bytes: no dates, no optimizer.

    Raises ModelError where the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".metronn-", dir=path.parent) as folder:
            raw, clean = Path(folder) / "raw.keras", Path(folder) / "clean.keras"
            optimizer = getattr(model, "optimizer", None)
            model.optimizer = None  # else its state is written too
            try:
                model.save(raw)
            finally:
                model.optimizer = optimizer
            with zipfile.ZipFile(raw) as old, zipfile.ZipFile(clean, "w", zipfile.ZIP_DEFLATED) as new:
                for name in sorted(old.namelist()):
                    content = old.read(name)
                    if name == "metadata.json":
                        content = _undated(content)
                    if name == "config.json":
                        content = _plain_config(content)
                    new.writestr(zipfile.ZipInfo(name, date_time=EPOCH), content, zipfile.ZIP_DEFLATED)
            os.replace(clean, path)
    except OSError as error:
        raise ModelError(f"{path}: cannot be written: {error.strerror}") from None


def _plain_config(content: bytes) -> bytes:
    """Name Adam as the optimizer, as whoever reads the file has no other, and count shared objects from 1.

    Keras tells them by their addresses in memory.
    """
    config = json.loads(content)
    if isinstance(config.get("compile_config"), dict):
        config["compile_config"]["optimizer"] = "adam"
    _count_shared(config, {})
    return json.dumps(config).encode()


def _count_shared(value: Any, numbers: dict[int, int]) -> None:  # noqa: ANN401 - any JSON
    match value:
        case dict():
            if isinstance(found := value.get("shared_object_id"), int):
                value["shared_object_id"] = numbers.setdefault(found, len(numbers) + 1)
            for inner in value.values():
                _count_shared(inner, numbers)
        case list():
            for inner in value:
                _count_shared(inner, numbers)


def _undated(content: bytes) -> bytes:
    metadata = json.loads(content)
    metadata.pop("date_saved", None)
    return json.dumps(metadata).encode()


@dataclass(frozen=True, slots=True)
class WeightMatrix:
    """A matrix of weights of a layer: the layer's name, and the Keras variable."""

    layer: str
    variable: KerasObject

    @property
    def value(self) -> Array:
        """The weights as NumPy numbers."""
        return np.asarray(self.variable)


def kernels(model: KerasObject) -> tuple[WeightMatrix, ...]:
    """Return the weight matrices that can be pruned: kernels of dense layers and convolutions, inner ones too."""
    found: dict[int, WeightMatrix] = {}
    for layer in _layers(model):
        variable = getattr(layer, "_kernel", None)
        variable = getattr(layer, "kernel", None) if variable is None else variable
        if variable is None or not hasattr(variable, "assign") or len(variable.shape) < 2 or not variable.trainable:
            continue
        found.setdefault(id(variable), WeightMatrix(layer.name, variable))
    return tuple(found.values())


def _layers(model: KerasObject) -> Iterator[KerasObject]:
    yield from model._flatten_layers(include_self=False)
