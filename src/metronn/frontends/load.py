"""Pick the frontend for a model file."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path

from metronn.errors import ModelError
from metronn.frontends.common.files import read_bytes
from metronn.frontends.common.foreign import foreign
from metronn.model.graph import RealGraph


@dataclass(frozen=True, slots=True)
class Reader:
    """Where the function of a format is: it takes the path and the file's content."""

    module: str
    function: str

    def __call__(self, path: Path, content: bytes) -> RealGraph:
        """Read a network. The module is imported now: a frontend and its library take up to 0.3 s."""
        read = getattr(importlib.import_module(self.module), self.function)
        graph: RealGraph = read(path, content)
        return graph


READERS = {
    ".onnx": Reader("metronn.frontends.onnx.read", "load_onnx"),
    ".keras": Reader("metronn.frontends.keras.read", "load_keras_archive"),
    ".h5": Reader("metronn.frontends.keras.read", "load_keras_hdf5"),
    ".hdf5": Reader("metronn.frontends.keras.read", "load_keras_hdf5"),
    ".json": Reader("metronn.frontends.keras.read", "load_keras_json"),
    ".pt2": Reader("metronn.frontends.torch", "load_torch_program"),
}
"""Readers by suffix."""


def load_model(path: Path) -> RealGraph:
    """Read a trained network: ONNX, Keras 3 `.keras`, Keras `.h5`, Keras JSON with its weights, PyTorch `.pt2`.

    Raises ModelError for anything that is not such a network, is damaged, holds NaN or infinite weights, or has
    layers that are not supported (all of them are listed); raises ToolError when a `.pt2` is read without PyTorch.
    """
    content = read_bytes(path)
    other = foreign(path, content)
    if other is not None:
        raise ModelError(f"{path}: {other}, which metronn does not read yet; docs/frontends.md lists what it reads")
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        found = f"suffix {path.suffix}" if path.suffix else "no suffix"
        raise ModelError(
            f"{path}: {found}; metronn reads .onnx, .keras, .h5 (or .hdf5) and .json (Keras architecture with "
            f"<stem>_weights.h5, <stem>.weights.h5 or <stem>.h5 beside it), and .pt2 (PyTorch)"
        )
    return reader(path, content)
