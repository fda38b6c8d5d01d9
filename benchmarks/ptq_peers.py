"""Convert a float network with hls4ml and run its C simulation. Started by ptq.py.

    python ptq_peers.py MODEL EVENTS.npz ANSWERS.npz model|name FOLDER

MODEL is a Keras or ONNX file, or the recipe of a Keras network that ptq_writer.py wrote. With granularity `model` every
type is hls4ml's default ap_fixed<16,6>, with `name` every type is the one hls4ml infers (auto). EVENTS holds inputs by
name, in order; channels are moved last for a recipe. Prints one line of JSON: {"build_s": ...} or {"refused": why}.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src" / "metronn" / "verify" / "workers"))
PRECISION = "fixed<16,6>"
DATA_AXES = {1: "1D", 2: "2D"}
EPSILON = 1e-3
"""Of batch normalization, as ptq_writer.py has it."""


def keras_layer(layers: Any, step: dict[str, Any], arrays: list[Any]) -> Any:  # noqa: ANN401 - a Keras layer
    """Return the layer of a step that reads one value."""
    name, kind = step["name"], step["kind"]
    if kind == "dense":
        return layers.Dense(arrays[1].size, name=name)
    if kind == "batch_norm":
        return layers.BatchNormalization(epsilon=EPSILON, name=name)
    if kind == "activation":
        return layers.Activation(step["of"], name=name)
    axes = DATA_AXES[step["axes"]]
    if kind == "conv":
        size = arrays[0].shape[0]
        return getattr(layers, f"Conv{axes}")(arrays[1].size, size, padding="same", name=name)
    return getattr(layers, f"GlobalAveragePooling{axes}")(name=name)


def twin(path: Path) -> Any:  # noqa: ANN401 - a keras.Model
    """Build the Keras network of a recipe."""
    keras = importlib.import_module("keras")
    layers = keras.layers
    with np.load(path) as data:
        recipe, output = json.loads(str(data["recipe"])), str(data["output"])
        arrays = {key: data[key] for key in data.files if ":" in key}
    values, inputs = {}, []
    for step in recipe:
        name, kind = step["name"], step["kind"]
        if kind == "input":
            shape = step["shape"]
            values[name] = keras.Input((*shape[1:], shape[0]) if len(shape) > 1 else shape, name=name)
            inputs.append(values[name])
            continue
        xs = [values[x] for x in step["xs"]]
        given = [arrays[key] for key in arrays if key.partition(":")[0] == name]
        if kind in ("add", "concat"):
            values[name] = (layers.Add if kind == "add" else layers.Concatenate)(name=name)(xs)
            continue
        layer = keras_layer(layers, step, given)
        values[name] = layer(xs[0])
        if given:
            layer.set_weights(given)
    return keras.Model(inputs, values[output])


def converted(path: Path, granularity: str, folder: Path) -> Any:  # noqa: ANN401 - a ModelGraph
    """Return hls4ml's network."""
    worker = importlib.import_module("hls4ml_worker")
    hls4ml = importlib.import_module("hls4ml")
    kind = "onnx" if path.suffix == ".onnx" else "keras"
    if path.suffix == ".npz":
        model = twin(path)
    elif kind == "onnx":
        model = worker.onnx_network(path)
    else:
        model = worker.keras_network(importlib.import_module("framework_worker"), path)
    configure = getattr(hls4ml.utils, f"config_from_{kind}_model")
    config = configure(model, granularity=granularity, default_precision=PRECISION, backend="Vitis")
    convert = getattr(hls4ml.converters, f"convert_from_{kind}_model")
    where = {"output_dir": str(folder), "project_name": "network", "backend": "Vitis", "io_type": "io_parallel"}
    return convert(model, hls_config=config, **where)


def main() -> None:
    """Convert, compile, run, save the answers. What hls4ml prints goes to standard error."""
    if len(sys.argv) == 1:
        sys.stdout.write(f"{__doc__}\n")
        return
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    os.environ.setdefault("KERAS_BACKEND", "jax")
    path, events, found, granularity, folder = sys.argv[1:]
    start = time.perf_counter()
    try:
        network = converted(Path(path), granularity, Path(folder))
    except ImportError as error:
        answers.write(json.dumps({"refused": f"not installed: {error}"}) + "\n")
        return
    network.compile()
    build_s = time.perf_counter() - start
    moved = path.endswith(".npz")
    with np.load(events) as data:
        given = [np.moveaxis(data[k], 1, -1) if moved and data[k].ndim > 2 else data[k] for k in data.files]
    given = [np.ascontiguousarray(values, dtype=np.float32) for values in given]
    result = network.predict(given if len(given) > 1 else given[0])
    parts = result if isinstance(result, list | tuple) else [result]
    np.savez(found, **{str(at): np.asarray(part) for at, part in enumerate(parts)})
    answers.write(json.dumps({"build_s": build_s}) + "\n")


if __name__ == "__main__":
    main()
