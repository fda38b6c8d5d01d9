"""Run hls4ml's C simulation of a trained network. A script of its own, with the protocol of `framework_worker.py`.

The first line in has besides `model` also `config`: `Model`, `LayerType` and `LayerName` of an hls4ml configuration, or
null for what hls4ml makes of a quantized network by itself; and `folder`, where its project is written. Tensors are the
results of hls4ml's layers; where a Keras layer became several, the last one also bears the Keras layer's name.
"""

from __future__ import annotations

import copy
import importlib
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

ACTIVATIONS = ("linear", "relu", "softmax", "sigmoid", "tanh", "elu", "selu", "softplus", "softsign", "leaky_relu")


def converted(framework: Any, request: dict[str, Any]) -> Any:  # noqa: ANN401 - a ModelGraph
    """Return hls4ml's network; `framework` is the module of the other worker."""
    path, folder = Path(request["model"]), str(Path(request["folder"]) / "project")
    hls4ml = importlib.import_module("hls4ml")
    config = copy.deepcopy(request["config"])
    options = {"output_dir": folder, "project_name": "network", "backend": "Vitis", "io_type": "io_parallel"}
    if path.suffix.lower() == ".onnx":
        model = onnx_network(path)
        if config is None:
            config = hls4ml.utils.config_from_onnx_model(model, granularity="name", backend="Vitis")
        return hls4ml.converters.convert_from_onnx_model(model, hls_config=config, **options)
    model = keras_network(framework, path)
    if config is None:
        config = hls4ml.utils.config_from_keras_model(model, granularity="name", backend="Vitis")
    return hls4ml.converters.convert_from_keras_model(model, hls_config=config, **options)


def keras_network(framework: Any, path: Path) -> Any:  # noqa: ANN401 - modules and models
    """Load a Keras network as the framework's worker does."""
    text = framework.keras_text(path)
    if framework.is_qkeras(text):
        return framework.load_qkeras(path)[0]
    framework.choose_backend()
    if "hgq" in text:
        importlib.import_module("hgq")
    return framework.load_plain(importlib.import_module("keras"), path)


def onnx_network(path: Path) -> Any:  # noqa: ANN401 - a ModelWrapper
    """Prepare an ONNX network as hls4ml's documentation asks for."""
    wrapper = importlib.import_module("qonnx.core.modelwrapper").ModelWrapper(str(path))
    model = importlib.import_module("qonnx.util.cleanup").cleanup_model(wrapper)
    channels = importlib.import_module("qonnx.transformation.channels_last")
    matrices = importlib.import_module("qonnx.transformation.gemm_to_matmul")
    model = model.transform(channels.ConvertToChannelsLastAndClean())
    return importlib.import_module("qonnx.util.cleanup").cleanup_model(model.transform(matrices.GemmToMatMul()))


def main() -> None:
    """Answer requests until standard input ends. What hls4ml prints goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def answer(record: dict[str, Any]) -> None:
        answers.write(json.dumps(record) + "\n")

    request = json.loads(sys.stdin.readline())
    if shutil.which("g++") is None:
        answer({"missing": "g++ is not on PATH"})
        return
    framework = importlib.import_module("framework_worker")
    try:
        network = converted(framework, request)
    except ImportError as error:
        answer({"missing": str(error)})
        return
    results = {variable.name for variable in network.get_output_variables()}
    layers = {}
    for layer in network.get_layers():
        if layer.class_name != "Input" and layer.get_attr("function_cpp", None):
            layer.set_attr("trace", True)
            layers[layer.name] = layer
    names = {name: name for name in layers}
    for name in layers:
        for activation in ACTIVATIONS:
            if request["config"] is None and f"{name}_{activation}" in layers:
                names[name] = f"{name}_{activation}"
    shapes = {name: [int(n) for n in layers[of].get_output_variable().shape] for name, of in names.items()}
    last = [layer.name for layer in layers.values() if layer.get_output_variable().name in results]
    answer({"framework": framework.versions("hls4ml"), "tensors": shapes, "outputs": last})
    compiled = False
    for line in sys.stdin:
        wanted = json.loads(line)
        with np.load(wanted["inputs"]) as data:
            arrays = [np.ascontiguousarray(data[str(at)], dtype=np.float64) for at in range(len(data.files))]
        given = arrays if len(arrays) > 1 else arrays[0]
        _, traced = network.trace(given)
        if not compiled:
            network.compile = lambda: None  # the library made for the first events serves all
            compiled = True
        found: dict[str, Any] = {str(at): traced[names[name]] for at, name in enumerate(wanted["tensors"])}
        np.savez(wanted["outputs"], **found)
        answer({"events": len(arrays[0])})


if __name__ == "__main__":
    main()
