"""Run a trained network in the framework that made it. A script of its own: it imports that framework and NumPy only.

Started as `python framework_worker.py`, in any interpreter that has the framework. It talks JSON, a line each way, on
standard input and output; arrays go through .npz files. First line in: {"model": file, "rows": events in a call}.
First line out: {"framework": name and versions, "tensors": {name: shape}} or {"missing": what is not installed}.
Then any number of {"inputs": file, "outputs": file, "tensors": [names]}, each answered by {"events": count}: the inputs
are float32 arrays `0`, `1`, ... of the network's inputs in order, the outputs float32 arrays by number in `tensors`.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import re
import sys
import zipfile
from collections.abc import Callable
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

Run = Callable[[list[Any], list[str]], list[Any]]
Opened = tuple[str, dict[str, list[int]], Run]
"""Name of the framework, shapes of the tensors it can show (without the batch axis), and the function that runs it."""

QUANTIZERS = {"Quant", "IntQuant", "BipolarQuant", "Trunc", "FloatQuant"}


def versions(*packages: str) -> str:
    """Return `package version` of those that are installed."""
    found = []
    for package in packages:
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


# Keras, QKeras, HGQ2.


def keras_text(path: Path) -> str:
    """Return the configuration inside a Keras file as text."""
    content = path.read_bytes()
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(path) as archive:
            return archive.read("config.json").decode()
    return content.decode("latin-1")


def open_keras(path: Path, rows: int) -> Opened:
    """Load `.keras`, `.h5` or JSON with weights; layers are told by their names."""
    text = keras_text(path)
    if "hgq" in text:
        choose_backend()
        import hgq  # noqa: F401, PLC0415 - registers its layers
        import keras  # noqa: PLC0415

        model, used = load_plain(keras, path), versions("hgq2", "keras", backend_package(keras))
    elif is_qkeras(text):
        model, keras, used = load_qkeras(path)
    else:
        choose_backend()
        import keras  # noqa: PLC0415

        model, used = load_plain(keras, path), versions("keras", backend_package(keras))
    outputs: dict[str, Any] = {}
    for layer in model.layers:
        try:
            value = layer.output
        except (AttributeError, ValueError):  # a layer used more than once has no one output
            continue
        if not isinstance(value, (list, tuple, dict)):
            outputs[layer.name] = value
    shapes = {name: [int(n) for n in value.shape[1:]] for name, value in outputs.items() if None not in value.shape[1:]}
    readers: dict[tuple[str, ...], Any] = {}

    def run(inputs: list[Any], tensors: list[str]) -> list[Any]:
        key = tuple(tensors)
        if key not in readers:
            readers[key] = keras.Model(model.inputs, [outputs[name] for name in tensors])
        found = readers[key].predict(inputs if len(inputs) > 1 else inputs[0], batch_size=rows, verbose=0)
        return [np.asarray(array) for array in (found if isinstance(found, (list, tuple)) else [found])]

    return used, shapes, run


def is_qkeras(text: str) -> bool:
    """Tell whether a configuration has layers of QKeras."""
    if "hgq" in text:
        return False
    layers = r'"(?:class_name|registered_name)":\s*"(?:qkeras>|Q(?:Dense|Conv|Depthwise|Separable|Act|Batch))'
    return re.search(layers, text) is not None


def choose_backend() -> None:
    """Choose the backend of Keras 3 unless the environment does: the first one installed."""
    if "KERAS_BACKEND" not in os.environ:
        for backend in ("jax", "tensorflow", "torch"):
            if find_spec(backend) is not None:
                os.environ["KERAS_BACKEND"] = backend
                return


def backend_package(keras: Any) -> str:  # noqa: ANN401 - the module, of either generation
    """Return the package that computes for Keras."""
    return str(keras.backend.backend()) if hasattr(keras.backend, "backend") else "tensorflow"


def load_plain(keras: Any, path: Path, custom: dict[str, Any] | None = None) -> Any:  # noqa: ANN401
    """Load a model with Keras alone."""
    if path.suffix == ".json":
        model = from_json(keras, path.read_text(), custom)
        model.load_weights(weights_beside(path))
        return model
    return keras.models.load_model(path, custom_objects=custom, compile=False)


def from_json(keras: Any, text: str, custom: dict[str, Any] | None) -> Any:  # noqa: ANN401 - modules and models
    """Build a network from its architecture: Keras 3 reads that of Keras 2 only on its way for old HDF5 files."""
    if "module" in json.loads(text) or getattr(keras, "__version__", "2").startswith("2"):
        return keras.models.model_from_json(text, custom_objects=custom)
    old = importlib.import_module("keras.src.legacy.saving.saving_utils")
    return old.model_from_config(json.loads(text), custom_objects=custom)


def weights_beside(path: Path) -> str:
    """Return the file of weights that belongs to an architecture in JSON."""
    for name in (f"{path.stem}_weights.h5", f"{path.stem}.weights.h5", f"{path.stem}.h5"):
        if (path.parent / name).is_file():
            return str(path.parent / name)
    raise SystemExit(f"{path}: no weights beside it ({path.stem}_weights.h5)")


def load_qkeras(path: Path) -> tuple[Any, Any, str]:
    """Load with QKeras: the Keras 3 port, or the original, which needs Keras 2."""
    package = find_spec("qkeras")
    if package is None or package.origin is None:
        raise ImportError("QKeras is not installed")
    port = "tensorflow.keras" not in (Path(package.origin).parent / "qlayers.py").read_text()
    if not port:
        os.environ["TF_USE_LEGACY_KERAS"] = "1"
    utilities = importlib.import_module("qkeras.utils")
    if port:
        import keras  # noqa: PLC0415
    else:
        keras = importlib.import_module("tensorflow").keras
    objects: dict[str, Any] = {}
    utilities._add_supported_quantized_objects(objects)  # no public way to them
    model = load_plain(keras, path, objects)
    packages = ("qkeras-v3", "keras") if port else ("qkeras", "tf-keras")
    return model, keras, versions(*packages, "tensorflow")


# ONNX, QONNX.


def open_onnx(path: Path, rows: int) -> Opened:
    """Load ONNX: with qonnx where its quantizers occur, else onnxruntime, else the reference evaluator of onnx."""
    import onnx  # noqa: PLC0415

    model = onnx.load(path)
    names = [name for node in model.graph.node for name in node.output if name]
    if any(node.op_type in QUANTIZERS for node in model.graph.node):
        return open_qonnx(model, rows, names)
    batch = batched(model, rows)
    batch.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in shown(batch))
    inputs = input_names(batch)
    if find_spec("onnxruntime") is not None:
        import onnxruntime  # noqa: PLC0415

        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(batch.SerializeToString(), options, providers=["CPUExecutionProvider"])
        wanted = {i.name: i.type for i in session.get_inputs()}

        def evaluate(feed: dict[str, Any], tensors: list[str]) -> list[Any]:
            cast = {name: array.astype(kinds.get(wanted[name], np.float32)) for name, array in feed.items()}
            return list(session.run(tensors, cast))

        used = versions("onnxruntime", "onnx")
    else:
        from onnx.reference import ReferenceEvaluator  # noqa: PLC0415

        evaluator = ReferenceEvaluator(batch)

        def evaluate(feed: dict[str, Any], tensors: list[str]) -> list[Any]:
            return list(evaluator.run(tensors, feed))

        used = f"{versions('onnx')} reference evaluator"
    kinds = {
        "tensor(double)": np.float64,
        "tensor(int64)": np.int64,
        "tensor(int8)": np.int8,
        "tensor(uint8)": np.uint8,
    }
    return used, *in_rows(evaluate, inputs, names, rows)


def shown(model: Any) -> set[str]:  # noqa: ANN401 - a ModelProto
    """Return the names of the outputs."""
    return {value.name for value in model.graph.output}


def input_names(model: Any) -> list[tuple[str, list[int]]]:  # noqa: ANN401 - a ModelProto
    """Return the inputs that are no weights: names, shapes behind the batch axis."""
    weights = {array.name for array in model.graph.initializer}
    return [
        (value.name, [d.dim_value for d in value.type.tensor_type.shape.dim][1:])
        for value in model.graph.input
        if value.name not in weights
    ]


def batched(model: Any, rows: int) -> Any:  # noqa: ANN401 - ModelProto to ModelProto
    """Return the model for `rows` events in a call, also where it was exported for one."""
    import onnx  # noqa: PLC0415

    model = onnx.ModelProto.FromString(model.SerializeToString())
    names = {name for name, _ in input_names(model)}
    for value in [*model.graph.input, *model.graph.output]:
        if (value.name in names or value in model.graph.output) and value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_value = rows
    del model.graph.value_info[:]
    shapes = {node.input[1] for node in model.graph.node if node.op_type == "Reshape"}
    for array in model.graph.initializer:
        if array.name in shapes:
            resized(array, rows)
    for node in model.graph.node:
        if node.op_type == "Constant" and node.output[0] in shapes:
            for attribute in node.attribute:
                if attribute.name == "value":
                    resized(attribute.t, rows)
    return model


def resized(array: Any, rows: int) -> None:  # noqa: ANN401 - a TensorProto, changed in place
    """Give the target shape of a Reshape the new number of events, where it says one."""
    from onnx import numpy_helper  # noqa: PLC0415

    shape = numpy_helper.to_array(array).copy()
    if shape.ndim == 1 and shape.size > 1 and shape[0] == 1:
        shape[0] = rows
        array.CopyFrom(numpy_helper.from_array(shape, array.name))


def open_qonnx(source: Any, rows: int, names: list[str]) -> Opened:  # noqa: ANN401 - a ModelProto
    """Run a ModelProto with qonnx, whose quantizers run in NumPy float32."""
    from qonnx.core.modelwrapper import ModelWrapper  # noqa: PLC0415
    from qonnx.core.onnx_exec import execute_onnx  # noqa: PLC0415
    from qonnx.transformation.infer_shapes import InferShapes  # noqa: PLC0415

    for node in source.graph.node:
        if node.op_type in QUANTIZERS:  # older exporters named the domain otherwise, or not at all
            node.domain = "qonnx.custom_op.general"
    if all(opset.domain != "qonnx.custom_op.general" for opset in source.opset_import):
        source.opset_import.add(domain="qonnx.custom_op.general", version=1)
    model = ModelWrapper(batched(source, rows)).transform(InferShapes())
    inputs = input_names(model.model)
    known = {value for node in model.graph.node for value in node.output}
    names = [name for name in names if name in known]

    def evaluate(feed: dict[str, Any], tensors: list[str]) -> list[Any]:
        context = execute_onnx(model, feed, return_full_exec_context=True)
        return [context[name] for name in tensors]

    return versions("qonnx", "onnxruntime"), *in_rows(evaluate, inputs, names, rows)


def in_rows(
    evaluate: Callable[[dict[str, Any], list[str]], list[Any]],
    inputs: list[tuple[str, list[int]]],
    names: list[str],
    rows: int,
) -> tuple[dict[str, list[int]], Run]:
    """Call for exactly `rows` events at a time; tensors without a batch axis of that size are left out."""

    def fed(arrays: list[Any]) -> dict[str, Any]:
        return {
            name: np.ascontiguousarray(array.reshape(len(array), *shape) if 0 not in shape else array)
            for (name, shape), array in zip(inputs, arrays, strict=True)
        }

    def run(arrays: list[Any], tensors: list[str]) -> list[Any]:
        parts = []
        for start in range(0, len(arrays[0]), rows):
            part = [array[start : start + rows] for array in arrays]
            count = len(part[0])
            filled = [np.concatenate([array, np.repeat(array[-1:], rows - count, axis=0)]) for array in part]
            parts.append([np.asarray(found)[:count] for found in evaluate(fed(filled), tensors)])
        return [np.concatenate(several) for several in zip(*parts, strict=True)]

    probe = evaluate(fed([np.zeros((rows, *(n or 1 for n in shape)), np.float32) for _, shape in inputs]), names)
    shapes = {
        name: [int(n) for n in found.shape[1:]]
        for name, found in zip(names, probe, strict=True)
        if isinstance(found, np.ndarray) and found.ndim and found.shape[0] == rows
    }
    return shapes, run


# PyTorch.


def open_torch(path: Path, rows: int) -> Opened:
    """Load an exported program; its outputs are `output_0`, `output_1`, ..."""
    import torch  # noqa: PLC0415

    module = torch.export.load(path).module()

    def call(arrays: list[Any]) -> list[Any]:
        with torch.no_grad():
            found = module(*(torch.from_numpy(array) for array in arrays))
        return [part.numpy() for part in (found if isinstance(found, (list, tuple)) else [found])]

    def run(arrays: list[Any], tensors: list[str]) -> list[Any]:
        parts = [call([array[at : at + rows] for array in arrays]) for at in range(0, len(arrays[0]), rows)]
        joined = [np.concatenate(several) for several in zip(*parts, strict=True)]
        return [joined[int(name.removeprefix("output_"))] for name in tensors]

    program = torch.export.load(path)
    values = next(node.args[0] for node in program.graph.nodes if node.op == "output")
    shapes = {f"output_{at}": [int(n) for n in value.meta["val"].shape[1:]] for at, value in enumerate(values)}
    return versions("torch"), shapes, run


def open_model(path: Path, rows: int) -> Opened:
    """Load any network this script knows."""
    openers = {".onnx": open_onnx, ".pt2": open_torch}
    return openers.get(path.suffix.lower(), open_keras)(path, rows)


def main() -> None:
    """Answer requests until standard input ends. What frameworks print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def answer(record: dict[str, Any]) -> None:
        answers.write(json.dumps(record) + "\n")

    first = json.loads(sys.stdin.readline())
    try:
        framework, shapes, run = open_model(Path(first["model"]), int(first["rows"]))
    except ImportError as error:
        answer({"missing": str(error)})
        return
    answer({"framework": framework, "tensors": shapes})
    for line in sys.stdin:
        request = json.loads(line)
        with np.load(request["inputs"]) as data:
            arrays = [data[str(at)] for at in range(len(data.files))]
        found = run(arrays, request["tensors"])
        arrays_out: dict[str, Any] = {str(at): np.asarray(array) for at, array in enumerate(found)}
        np.savez(request["outputs"], **arrays_out)
        answer({"events": len(arrays[0])})


if __name__ == "__main__":
    main()
