"""The trained networks of ptq.py: those of ../shared/models and of examples/ whose files are there."""

from __future__ import annotations

import importlib
import os
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ptq_networks import Array, Entry, Events, Network, Sample

ROOT = Path(__file__).resolve().parents[1]
MODELS = ROOT.parent / "shared" / "models"
EXAMPLES = ROOT / "examples"
SHARED = {
    "KERAS_1layer": "KERAS_1layer.keras",
    "KERAS_3layer": "KERAS_3layer.keras",
    "KERAS_3layer_batch_norm": "KERAS_3layer_batch_norm.keras",
    "KERAS_conv1d_small": "KERAS_conv1d_small.keras",
    "onnx_three_layer_keras": "model.onnx",
    "onnx_conv1d_small_keras": "model.onnx",
    "onnx_conv2d_small_mp_keras": "model.onnx",
    "jetTagger_Conv2D_Small": "jetTagger_Conv2D_Small.keras",
    "cms_emtf_displ_16": "model.onnx",
    "cms_hgcal_encoder": "model.onnx",
    "cms_tau_3layer_puppi": "model.onnx",
    "mnist8_onnx": "model.onnx",
    "str_ww_ref_model": "model.keras",
    "own_omtf_mlp": "own_omtf_mlp.keras",
    "own_gru_jets16": "own_gru_jets16.keras",
    "toptag_GRU": "model.keras",
}
"""Float networks with `data.npz`: x, y of the framework, and label where there are true ones."""
TRAINED = {
    "dijet": (2000, 4000),
    "sparticle_xsec": (2000, 4000),
    "dqm_autoencoder": (2000, 4000),
    "bjet_tagger": (2000, 4000),
    "jet_images": (200, 300),
    "strain_conv1d": (300, 600),
    "digits_cnn": (200, 397),
    "digits_inception": (200, 397),
    "digits_resnet": (200, 397),
    "omtf": (1000, 1000),
}
"""Examples whose network is in the tree: how many events calibrate and judge."""
MOST = 2000
"""Events of a shared network that calibrate, and that judge, at most."""


class MissingError(Exception):
    """A network cannot be had here; the text says why."""


def shared_entry(name: str) -> Entry:
    """Return the entry of a shared network: the first half of its events calibrates, the second one judges."""

    def make(_: Path, __: int) -> Network:
        path = MODELS / name / SHARED[name]
        if not path.is_file():
            raise MissingError("../shared/models is not there" if not MODELS.is_dir() else f"{path.name} is not there")
        with np.load(path.parent / "data.npz") as data:
            arrays = {key: data[key] for key in data.files}
        half = len(arrays["x"]) // 2
        parts = [slice(0, min(half, MOST)), slice(half, half + MOST)]
        samples = [
            Sample(
                inputs={"x": arrays["x"][part]},
                answers=[arrays["y"][part]],
                extra={"label": arrays["label"][part]} if "label" in arrays else {},
            )
            for part in parts
        ]
        metric = "accuracy" if "label" in arrays else "none"
        return Network(path=path, calibration=samples[0], fresh=samples[1], metric=metric, peer=path)

    return Entry(name=name, kind="shared", make=make)


def example_entry(name: str) -> Entry:
    """Return the entry of an example, with the metric of its metronn.toml."""

    def make(_: Path, seed: int) -> Network:
        folder = EXAMPLES / name
        options = tomllib.loads((folder / "metronn.toml").read_text(encoding="utf-8"))
        path = folder / options["model"]["file"]
        if not path.is_file():
            raise MissingError(f"{path.name} is not there")
        network = keras_network(path)
        samples = []
        for given in example_events(name, seed):
            inputs = {tensor.name: given[tensor.name] for tensor in network.inputs}
            extra = {key: values for key, values in given.items() if key not in inputs}
            samples.append(Sample(inputs=inputs, answers=keras_answers(network, inputs), extra=extra))
        metric = options["quantize"]["metric"]
        return Network(path=path, calibration=samples[0], fresh=samples[1], metric=metric, base=folder, peer=path)

    return Entry(name=name, kind="example", make=make)


def example_events(name: str, seed: int) -> tuple[Events, Events]:
    """Return events to calibrate and to judge with, as the example's generator makes them."""
    calibrate, fresh = TRAINED[name]
    if name == "omtf":
        with np.load(EXAMPLES / name / "events.npz") as data:
            arrays = {key: data[key] for key in data.files}
        both = {key: values[: calibrate + fresh] for key, values in arrays.items() if len(values) >= calibrate + fresh}
        return {key: values[:calibrate] for key, values in both.items()}, {
            key: values[calibrate:] for key, values in both.items()
        }
    if str(EXAMPLES) not in sys.path:
        sys.path.insert(0, str(EXAMPLES))
    samples = importlib.import_module("samples")
    try:
        generate = importlib.import_module(f"{name}.generate").generate
    except ImportError as error:
        raise MissingError(f"{error.name} is not installed") from None
    first, second = (samples.CALIBRATE, samples.TEST) if name.startswith("digits") else (2 * seed + 101, 2 * seed + 102)
    return generate(calibrate, seed=first), generate(fresh, seed=second)


def keras_network(path: Path) -> Any:  # noqa: ANN401 - a keras.Model
    """Load a Keras network."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    try:
        keras = importlib.import_module("keras")
    except ImportError as error:
        raise MissingError(f"keras cannot be used: {error}") from None
    return keras.models.load_model(path, compile=False)


def keras_answers(network: Any, inputs: Mapping[str, Array]) -> list[Array]:  # noqa: ANN401
    """Return every output of a Keras network, (events, *shape)."""
    given = [np.asarray(inputs[tensor.name], dtype=np.float32) for tensor in network.inputs]
    found = network.predict(given if len(given) > 1 else given[0], verbose=0)
    return [np.asarray(part) for part in (found if isinstance(found, list | tuple) else [found])]


FILES = (*map(shared_entry, SHARED), *map(example_entry, TRAINED))
"""Every trained network, whether its file is there or not."""
