"""Read a plain `.keras` network and answer in NumPy, so that evaluation needs no Keras.

The file is a zip of `config.json` and `model.weights.h5`; only the layers of the muon network are understood.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Affine:
    """y = x @ kernel + bias with `kernel` [inputs, outputs] and `bias` [outputs], then ReLU if `relu`."""

    name: str
    kernel: np.ndarray
    bias: np.ndarray
    relu: bool


def _group(class_name: str) -> str:
    """Keras's name of a layer's weights: its class in snake case."""
    text = re.sub(r"\W+", "", class_name)
    text = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", text)
    return re.sub("([a-z])([A-Z])", r"\1_\2", text).lower()


def read_layers(path: Path) -> list[Affine]:
    """The dense layers in order, batch normalizations folded in, in float64.

    Raises `ValueError` for a layer other than InputLayer, Dense, BatchNormalization, ReLU or Activation "relu".
    """
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
        weights = h5py.File(io.BytesIO(archive.read("model.weights.h5")), "r")
    layers: list[Affine] = []
    seen: Counter[str] = Counter()
    scale: np.ndarray | None = None
    shift: np.ndarray | None = None
    for entry in config["config"]["layers"]:
        kind, settings = entry["class_name"], entry["config"]
        name = _group(kind)
        group = name if seen[name] == 0 else f"{name}_{seen[name]}"
        seen[name] += 1
        values = [
            weights[f"layers/{group}/vars/{i}"][()].astype(np.float64)
            for i in range(len(weights.get(f"layers/{group}/vars", ())))
        ]
        last = layers[-1] if layers else None
        match kind:
            case "InputLayer":
                continue
            case "Dense" if settings["activation"] in ("linear", "relu"):
                kernel = values[0]
                bias = values[1] if settings["use_bias"] else np.zeros(kernel.shape[1])
                if scale is not None and shift is not None:
                    bias, kernel = bias + shift @ kernel, scale[:, None] * kernel
                    scale = shift = None
                layers.append(
                    Affine(name=settings["name"], kernel=kernel, bias=bias, relu=settings["activation"] == "relu")
                )
            case "BatchNormalization":
                gamma, beta, mean, variance = values
                factor = gamma / np.sqrt(variance + settings["epsilon"])
                if last is None:
                    scale, shift = factor, beta - mean * factor
                else:
                    layers[-1] = Affine(
                        name=last.name, kernel=last.kernel * factor, bias=(last.bias - mean) * factor + beta, relu=False
                    )
            case "ReLU" | "Activation" if last is not None and settings.get("activation", "relu") == "relu":
                layers[-1] = Affine(name=last.name, kernel=last.kernel, bias=last.bias, relu=True)
            case _:
                raise ValueError(f"{path.name}: layer {settings['name']} is a {kind}, which this reader does not know")
    return layers


def answer(layers: list[Affine], hits: np.ndarray) -> np.ndarray:
    """Logits float64 [n, 43] for network inputs [n, 36] (`generate.network_input`)."""
    values = hits.astype(np.float64)
    for layer in layers:
        values = values @ layer.kernel + layer.bias
        if layer.relu:
            values = np.maximum(values, 0.0)
    return values
