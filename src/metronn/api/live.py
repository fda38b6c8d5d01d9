"""Networks that live in memory, written to a file as their framework writes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from metronn.errors import ModelError
from metronn.events.data import EventSource
from metronn.frontends.torch import export_module, save_program
from metronn.ir.arrays import Array

STEM = "network"
EXAMPLES = 2
"""Events with which PyTorch's exporter sees a module at work: of one alone it would take the batch for fixed."""


def network_file(network: object, folder: Path, events: EventSource | None, label: str) -> Path:
    """Write a network into a folder and return its file; a path is returned as it is.

    Keras 3, HGQ2 and QKeras (`.keras`), Keras of TensorFlow (`.h5`), ONNX and QONNX (`.onnx`), PyTorch (`.pt2`, whose
    exporter needs `events` as arrays, in the order in which `forward` takes them). Raises ModelError for anything else,
    or where the framework cannot write it, ToolError without PyTorch's exporter.
    """
    if isinstance(network, str | Path):
        return Path(network)
    kinds = {f"{kind.__module__}.{kind.__qualname__}": kind for kind in type(network).__mro__}
    packages = {name.partition(".")[0] for name in kinds}
    if "torch.nn.modules.module.Module" in kinds:
        return _torch(network, folder / f"{STEM}.pt2", events, label)
    if "onnx" in packages and hasattr(network, "SerializeToString"):
        path = folder / f"{STEM}.onnx"
        path.write_bytes(network.SerializeToString())
        return path
    if any(name.startswith("keras.src.") for name in kinds):
        return _saved(network, folder / f"{STEM}.keras")
    if packages & {"keras", "tf_keras", "tensorflow"} and hasattr(network, "save"):
        return _saved(network, folder / f"{STEM}.h5")
    found = f"{type(network).__module__}.{type(network).__qualname__}"
    raise ModelError(
        f"network: found a {found}; allowed are a path, a Keras, QKeras or HGQ2 model, a torch.nn.Module and an "
        "onnx.ModelProto.\n  Save it as a file that metronn reads (docs/frontends.md), and give its path."
    )


def _saved(network: Any, path: Path) -> Path:  # noqa: ANN401 - a Keras model
    try:
        network.save(path)
    except (OSError, ValueError, TypeError, NotImplementedError, AttributeError) as error:
        reason = " ".join(str(error).strip().partition("\n\n")[0].split())  # an example follows
        raise ModelError(f"network: Keras cannot save it: {reason}") from None
    return path


def _torch(network: object, path: Path, events: EventSource | None, label: str) -> Path:
    if events is None or isinstance(events, str | Path):
        raise ModelError(
            "network: PyTorch exports a module with an example of its inputs: give calibrate= as arrays, or save the "
            "module with torch.export.save and give the path"
        )
    arrays = [array for name, array in events.items() if name != label] if isinstance(events, Mapping) else [events]
    save_program(export_module(network, [_example(array) for array in arrays], name=type(network).__name__), path)
    return path


def _example(array: Array) -> Array:
    return np.asarray(array[:EXAMPLES], dtype=np.float32)
