"""QKeras files written by hand, in both layouts of weights: for tests that run without QKeras."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from metronn.frontends import load_model
from metronn.model.graph import RealGraph

Arrays = Mapping[str, npt.NDArray[np.float64]]


def layer(kind: str, name: str, **config: Any) -> dict[str, Any]:
    """Return the entry of a layer, as Keras 2 writes it."""
    return {"class_name": kind, "config": {"name": name, "trainable": True, **config}}


def sequential(shape: Sequence[int], layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the architecture of layers in a row."""
    first = {"class_name": "InputLayer", "config": {"name": "x", "batch_input_shape": [None, *shape]}}
    return {
        "class_name": "Sequential",
        "config": {"name": "net", "layers": [first, *layers]},
        "keras_version": "2.15.0",
    }


def named_weights(layers: Sequence[Mapping[str, Any]], weights: Mapping[str, Arrays]) -> bytes:
    """Return the weights as HDF5 in the layout of Keras 2."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file.attrs["layer_names"] = [entry["config"]["name"].encode() for entry in layers]
        for entry in layers:
            name = entry["config"]["name"]
            group = file.create_group(name)
            arrays = weights.get(name, {})
            group.attrs["weight_names"] = [f"{name}/{array}:0".encode() for array in arrays]
            for array, values in arrays.items():
                group[f"{name}/{array}:0"] = np.asarray(values, dtype=np.float32)
    return content.getvalue()


def from_json(
    folder: Path, shape: Sequence[int], layers: Sequence[Mapping[str, Any]], weights: Mapping[str, Arrays]
) -> RealGraph:
    """Write JSON with weights beside it and read both."""
    (folder / "net.json").write_text(json.dumps(sequential(shape, layers)))
    (folder / "net_weights.h5").write_bytes(named_weights(layers, weights))
    return load_model(folder / "net.json")


def loaded(
    folder: Path, shape: Sequence[int], layers: Sequence[Mapping[str, Any]], weights: Mapping[str, Arrays]
) -> RealGraph:
    """Read the same from one archive, which is faster: plain HDF5 is tried in a process of its own first."""
    with zipfile.ZipFile(folder / "net.keras", "w") as archive:
        archive.writestr("config.json", json.dumps(sequential(shape, layers)))
        archive.writestr("metadata.json", json.dumps({"keras_version": "2.15.0"}))
        archive.writestr("model.weights.h5", named_weights(layers, weights))
    return load_model(folder / "net.keras")


def from_archive(
    folder: Path, shape: Sequence[int], layers: Sequence[Mapping[str, Any]], weights: Mapping[str, Arrays]
) -> RealGraph:
    """Write a `.keras` archive and read it; `weights` maps the path of each `vars` group to its arrays."""
    entries = [
        {**entry, "module": "qkeras.qlayers", "registered_name": f"qkeras>{entry['class_name']}"} for entry in layers
    ]
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        for path, arrays in weights.items():
            group = file.create_group(f"layers/{path}/vars")
            for array, values in arrays.items():
                group[array] = np.asarray(values, dtype=np.float32)
    with zipfile.ZipFile(folder / "net.keras", "w") as archive:
        archive.writestr("config.json", json.dumps(sequential(shape, entries)))
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.15.1"}))
        archive.writestr("model.weights.h5", content.getvalue())
    return load_model(folder / "net.keras")
