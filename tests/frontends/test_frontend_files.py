"""Files that are missing, damaged or of the wrong kind: one ModelError each, whose text is tested. Needs no Keras."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from metronn.errors import ModelError
from metronn.frontends import load_model
from metronn.model.graph import RealGraph
from metronn.model.reference import run_reference

Entry = dict[str, Any]
Arrays = Mapping[str, np.ndarray]

KERNEL = np.arange(12, dtype=np.float32).reshape(4, 3)
BIAS = np.ones(3, np.float32)
DENSE = {"layers/dense/vars/0": KERNEL, "layers/dense/vars/1": BIAS}


def entry(class_name: str, name: str, **config: object) -> Entry:
    """Make the configuration of a layer as Keras 3 writes it."""
    return {
        "module": "keras.layers",
        "class_name": class_name,
        "config": {"name": name, **config},
        "registered_name": None,
    }


def sequential(*layers: Entry, shape: object = (None, 4)) -> Entry:
    """Make the configuration of a Sequential with an InputLayer."""
    first = entry("InputLayer", "features", batch_shape=shape)
    return {"module": "keras", "class_name": "Sequential", "config": {"name": "net", "layers": [first, *layers]}}


MODEL = sequential(entry("Dense", "fc1", units=3, activation="relu", use_bias=True))


def hdf5(arrays: Arrays, attributes: Mapping[str, Any] | None = None) -> bytes:
    """Make an HDF5 file in memory."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name, array in arrays.items():
            file[name] = array
        for name, value in (attributes or {}).items():
            file.attrs[name] = value
    return buffer.getvalue()


def archive(members: Mapping[str, bytes]) -> bytes:
    """Make a zip file in memory."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return buffer.getvalue()


def keras_archive(model: Entry = MODEL, arrays: Arrays | None = None) -> bytes:
    """Make a `.keras` file in memory."""
    held = hdf5({"layers/dense/vars/0": KERNEL, "layers/dense/vars/1": BIAS} if arrays is None else arrays)
    metadata = json.dumps({"keras_version": "3.15.1"}).encode()
    return archive({"metadata.json": metadata, "config.json": json.dumps(model).encode(), "model.weights.h5": held})


def legacy(arrays: Arrays, names: list[str], model: Entry | None = MODEL, version: str = "2.15.0") -> bytes:
    """Make a Keras 2 `.h5` file in memory with one layer, fc1."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        if model is not None:
            file.attrs["model_config"] = json.dumps(model)
        file.attrs["keras_version"] = version
        group = file.create_group("model_weights/fc1")
        group.attrs["weight_names"] = [name.encode() for name in names]
        for name, array in arrays.items():
            group[name] = array
    return buffer.getvalue()


def onnx_model() -> bytes:
    """Make a small ONNX model in memory."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="fc1")],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [onnx.numpy_helper.from_array(KERNEL, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()


def load(folder: Path, name: str, content: bytes) -> RealGraph:
    """Write a file and load it."""
    (folder / name).write_bytes(content)
    return load_model(folder / name)


LEGACY_ARRAYS = {"fc1/kernel:0": KERNEL, "fc1/bias:0": BIAS}
GOOD = {
    "m.onnx": onnx_model(),
    "m.keras": keras_archive(),
    "m.h5": legacy(LEGACY_ARRAYS, list(LEGACY_ARRAYS)),
}


@pytest.mark.parametrize("name", GOOD)
def test_the_files_that_the_other_tests_damage_are_good(name: str, tmp_path: Path) -> None:
    graph = load(tmp_path, name, GOOD[name])
    x = np.eye(4)
    expected = x @ KERNEL + (0 if name == "m.onnx" else BIAS)
    assert np.array_equal(run_reference(graph, {graph.inputs[0].name: x})[graph.outputs[0][0]], expected)


def test_missing_folder_and_empty(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none.onnx: no such file"):
        load_model(tmp_path / "none.onnx")
    with pytest.raises(ModelError, match=r": is a folder, a model file is needed"):
        load_model(tmp_path)
    for name in GOOD:
        with pytest.raises(ModelError, match=r": the file is empty"):
            load(tmp_path, name, b"")


def test_unreadable_path() -> None:
    with pytest.raises(ModelError, match=r"cannot be read: (File name too long|Not a directory)"):
        load_model(Path("x" * 4000 + ".onnx"))


@pytest.mark.parametrize(("name", "found"), [("m.abc", "suffix .abc"), ("m", "no suffix"), ("m.KE", "suffix .KE")])
def test_unknown_suffix_says_what_is_read(name: str, found: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=rf"{found}; metronn reads .onnx, .keras, .h5 \(or .hdf5\) and .json"):
        load(tmp_path, name, b"something")


@pytest.mark.parametrize(
    ("name", "other", "message"),
    [
        ("a.onnx", "m.keras", "not an ONNX model: looks like a zip file"),
        ("a.onnx", "m.h5", "not an ONNX model: looks like an HDF5 file"),
        ("a.keras", "m.onnx", r"not a .keras archive \(a zip file inside\): its first bytes are of no known kind"),
        ("a.keras", "m.h5", r"not a .keras archive \(a zip file inside\): looks like an HDF5 file"),
        ("a.h5", "m.keras", r"not a Keras .h5 model \(an HDF5 file inside\): looks like a zip file"),
        ("a.json", "m.h5", "the file is not valid JSON"),
    ],
)
def test_wrong_format_under_a_suffix(name: str, other: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message):
        load(tmp_path, name, GOOD[other])


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("content", [b"\x00" * 100, b"not a model at all\n", b"{}", b"\xff" * 64])
def test_garbage(name: str, content: bytes, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"not an ONNX model|not a .keras archive|not a Keras .h5 model"):
        load(tmp_path, name, content)


@pytest.mark.parametrize("name", GOOD)
def test_truncated_at_any_length(name: str, tmp_path: Path) -> None:
    content = GOOD[name]
    for length in range(1, len(content), max(1, len(content) // 60)):
        with pytest.raises(ModelError):
            load(tmp_path, name, content[:length])


@pytest.mark.parametrize("name", ["m.onnx", "m.keras", pytest.param("m.h5", marks=pytest.mark.slow)])
def test_damaged_bytes_load_or_raise_a_model_error(name: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    for _ in range(25 if name == "m.h5" else 300):
        content = bytearray(GOOD[name])
        for position in rng.integers(len(content), size=rng.integers(1, 5)):
            content[position] = rng.integers(256)
        try:
            load(tmp_path, name, bytes(content))
        except ModelError as error:
            assert str(tmp_path) in error.message


def test_damaged_members_of_an_archive(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"not a .keras archive: config.json and model.weights.h5 missing inside"):
        load(tmp_path, "a.keras", archive({"readme": b"x"}))
    with pytest.raises(ModelError, match=r"config.json is not valid JSON"):
        load(tmp_path, "b.keras", archive({"config.json": b"{", "model.weights.h5": hdf5({})}))
    with pytest.raises(ModelError, match=r"config.json is not a JSON object"):
        load(tmp_path, "c.keras", archive({"config.json": b"[]", "model.weights.h5": hdf5({})}))
    with pytest.raises(ModelError, match=r"the HDF5 inside is damaged"):
        load(tmp_path, "d.keras", archive({"config.json": b"{}", "model.weights.h5": b"\x89HDF\r\n\x1a\nrest"}))
    with pytest.raises(ModelError, match=r"no Keras weights inside"):
        load(tmp_path, "e.keras", archive({"config.json": b"{}", "model.weights.h5": hdf5({})}))


def test_h5_without_architecture(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no model_config inside, so this file holds weights at most"):
        load(tmp_path, "w.h5", legacy(LEGACY_ARRAYS, list(LEGACY_ARRAYS), model=None))


def test_json_with_and_without_weights_beside_it(tmp_path: Path) -> None:
    text = json.dumps(MODEL).encode()
    with pytest.raises(ModelError, match=r"its weights are not beside it; looked for m_weights.h5, m.weights.h5, m.h5"):
        load(tmp_path, "m.json", text)
    with pytest.raises(ModelError, match=r"not a Keras architecture: no class_name and config in this JSON"):
        load(tmp_path, "other.json", b'{"layers": []}')
    (tmp_path / "m.weights.h5").write_bytes(hdf5(DENSE))
    assert load_model(tmp_path / "m.json").outputs == (("fc1", "fc1.relu"),)
    (tmp_path / "m_weights.h5").write_bytes(b"text")
    with pytest.raises(ModelError, match=r"m_weights.h5: not Keras weights \(an HDF5 file inside\)"):
        load_model(tmp_path / "m.json")


def test_weights_missing_in_either_layout(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"fc1 \(Dense\): the weights have no /layers/dense"):
        load(tmp_path, "a.keras", keras_archive(arrays={"layers/other/vars/0": KERNEL}))
    with pytest.raises(ModelError, match=r"asks for 2 arrays \(kernel, bias\), the weights hold 1 under /layers/dense"):
        load(tmp_path, "b.keras", keras_archive(arrays={"layers/dense/vars/0": KERNEL}))
    with pytest.raises(ModelError, match=r"asks for 2 arrays \(kernel, bias\), the weights hold fc1/kernel:0"):
        load(tmp_path, "c.h5", legacy({"fc1/kernel:0": KERNEL}, ["fc1/kernel:0"]))
    with pytest.raises(ModelError, match=r"fc1 \(Dense\): the weights cannot be read"):
        load(tmp_path, "d.h5", legacy({"fc1/kernel:0": KERNEL}, list(LEGACY_ARRAYS)))
    renamed = sequential(entry("Dense", "fc9", units=3))
    with pytest.raises(ModelError, match=r"fc9 \(Dense\): the weights have no group fc9"):
        load(tmp_path, "e.h5", legacy(LEGACY_ARRAYS, list(LEGACY_ARRAYS), model=renamed))


def test_all_layers_with_wrong_or_missing_weights_are_reported(tmp_path: Path) -> None:
    model = sequential(entry("Dense", "fc1", units=3), entry("Dense", "fc2", units=2))
    wrong = {"layers/dense/vars/0": KERNEL, "layers/dense/vars/1": np.ones(2)}
    with pytest.raises(ModelError) as raised:
        load(tmp_path, "a.keras", keras_archive(model, wrong))
    assert "2 problems" in raised.value.message
    assert "fc1 (Dense): bias has shape (2,) in the weights, the configuration gives (3,)" in raised.value.message
    assert "fc2 (Dense): the weights have no /layers/dense_1" in raised.value.message


@pytest.mark.parametrize("container", ["layers", "_layer_checkpoint_dependencies"])
def test_layers_without_kept_names_are_found_by_number(container: str, tmp_path: Path) -> None:
    model = sequential(*(entry("Dense", name, units=4, use_bias=False) for name in ("p", "q", "r")))
    kernels = [np.diag([scale, 1.0, 1.0, 1.0]) for scale in (2.0, 3.0, 5.0)]
    groups = ("dense", "dense_1", "dense_2")
    arrays = {f"{container}/{group}/vars/0": kernel for group, kernel in zip(groups, kernels, strict=True)}
    graph = load(tmp_path, "a.keras", keras_archive(model, arrays))
    taps = {}
    run_reference(graph, {"features": np.ones((1, 4))}, lambda node, values: taps.update({node.name: values[0, 0]}))
    assert (taps["p"], taps["q"], taps["r"]) == (2.0, 6.0, 30.0)


def test_operations_on_tensors_are_not_taken_for_layers(tmp_path: Path) -> None:
    operation = entry("Multiply", "times") | {"module": "keras.src.ops.numpy", "registered_name": "Multiply"}
    message = r"times \(Multiply\): the configuration is damaged: an operation outside a functional model"
    with pytest.raises(ModelError, match=message):
        load(tmp_path, "a.keras", keras_archive(sequential(operation)))


def test_shapes_of_configuration_and_weights_differ(tmp_path: Path) -> None:
    message = r"fc1 \(Dense\): kernel has shape \(4, 3\) in the weights, the configuration gives \(5, 3\)"
    model = sequential(entry("Dense", "fc1", units=3), shape=(None, 5))
    with pytest.raises(ModelError, match=message):
        load(tmp_path, "a.keras", keras_archive(model))


def test_not_finite_weights(tmp_path: Path) -> None:
    kernel, bias = KERNEL.copy(), BIAS.copy()
    kernel[1, :] = np.nan
    bias[0] = -np.inf
    with pytest.raises(ModelError) as raised:
        load(tmp_path, "a.keras", keras_archive(arrays={"layers/dense/vars/0": kernel, "layers/dense/vars/1": bias}))
    assert "2 problems" in raised.value.message
    assert "fc1: array kernel has 3 NaN or infinite values of 12; every weight must be finite" in raised.value.message
    assert "fc1: array bias has 1 NaN or infinite values of 3" in raised.value.message


def test_all_unsupported_layers_are_listed(tmp_path: Path) -> None:
    inner = sequential(entry("GRU", "memory", units=3))
    inner["config"]["name"] = "block"
    custom = entry("Mine", "special") | {"module": "mypackage.layers", "registered_name": "mypackage>Mine"}
    own_dense = entry("Dense", "almost", units=3) | {"module": "mypackage.layers", "registered_name": None}
    quantized = entry("Dense", "int8", units=3, dtype={"class_name": "QuantizedDTypePolicy", "config": {}})
    model = sequential(
        entry("Conv3D", "conv"),
        entry("Dense", "fine", units=3),
        entry("Dense", "max", units=3, activation="sparsemax"),
        entry("Activation", "act", activation={"class_name": "function", "config": "my_function"}),
        inner,
        custom,
        own_dense,
        quantized,
    )
    with pytest.raises(ModelError) as raised:
        load(tmp_path, "a.keras", keras_archive(model))
    lines = raised.value.message.splitlines()
    assert lines[0].endswith("a.keras: 7 unsupported layers:")
    assert lines[1:8] == [
        "  conv: Conv3D (supported is Conv2D)",
        "  max: Dense with activation sparsemax",
        "  act: Activation with activation my_function",
        "  block/memory: GRU (a recurrent network, which metronn does not read yet)",
        "  special: mypackage>Mine",
        "  almost: mypackage.layers.Dense",
        "  int8: Dense with dtype policy QuantizedDTypePolicy",
    ]
    assert lines[8].startswith("  Replace these layers")


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((None, None, 4), r"input features: axis 1 has no fixed size \(None\); only the batch axis 0 may vary"),
        ((None,), "input features: shape .* the batch axis and at least one more are needed"),
        (None, "input features: shape None in the configuration"),
    ],
)
def test_inputs_without_fixed_shape(shape: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message):
        load(tmp_path, "a.keras", keras_archive(sequential(entry("Dense", "fc1", units=3), shape=shape)))


def functional(layers: list[Entry], outputs: object, inputs: object = None) -> Entry:
    """Make the configuration of a Functional model; layers carry their `inbound_nodes`."""
    config = {"name": "net", "layers": layers, "output_layers": outputs}
    config["input_layers"] = [["features", 0, 0]] if inputs is None else inputs
    return {"module": "keras.src.models.functional", "class_name": "Functional", "config": config}


def node(entry_: Entry, *sources: str) -> Entry:
    """Add one call on these layers, as Keras 2 writes it."""
    return entry_ | {"name": entry_["config"]["name"], "inbound_nodes": [[[s, 0, 0, {}] for s in sources]]}


FEATURES = entry("InputLayer", "features", batch_shape=[None, 4]) | {"name": "features", "inbound_nodes": []}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (functional([FEATURES], []), "the model has no outputs; it must have at least one"),
        (functional([FEATURES], [["lost", 0, 0]]), "nothing makes the output lost"),
        (
            functional([FEATURES, node(entry("ReLU", "a"), "b"), node(entry("ReLU", "b"), "a")], [["a", 0, 0]]),
            "nothing makes the inputs of a, b",
        ),
        (functional([FEATURES], [["features", 0, 0]], [["gone", 0, 0]]), "input layer gone is not among the layers"),
        ({"class_name": "Sequential", "config": {"name": "net", "layers": []}}, r"net \(Sequential\) has no layers"),
        ({"class_name": "Sequential", "config": {"name": "n", "layers": [3]}}, "a layer without class_name"),
        ({"class_name": "Sequential", "config": 3}, "Sequential without config"),
        ({"class_name": "Tagger", "config": {}, "module": "mine", "registered_name": "mine>Tagger"}, "mine>Tagger"),
        (sequential(entry("Dense", "fc1", units="many")), r"fc1 \(Dense\): units is 'many' .*a number is needed"),
        (sequential(entry("Dense", "fc1")), r"fc1 \(Dense\): units is missing in the configuration"),
        (sequential(entry("Reshape", "r", target_shape=[3, 3])), r"shape \(4,\) cannot become \(3, 3\)"),
        (sequential(entry("Permute", "p", dims=[2, 1])), r"p \(Permute\): .* is not an order of the axes of shape"),
        (
            sequential(entry("ReLU", "r", threshold="high")),
            "threshold is 'high' in the configuration, a number is needed",
        ),
        (sequential(entry("Softmax", "s", axis=0)), "axis 0 is the batch axis"),
        (sequential(entry("Multiply", "m")), "reads one tensor, at least two are needed"),
        (sequential(entry("Subtract", "s")), "reads 1 tensors, two are needed"),
    ],
)
def test_damaged_or_impossible_configurations(model: Entry, message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message):
        load(tmp_path, "a.keras", keras_archive(model))


def test_hard_sigmoid_follows_the_version_of_keras(tmp_path: Path) -> None:
    model = sequential(entry("Activation", "h", activation="hard_sigmoid"))
    x = np.linspace(-4, 4, 20).reshape(5, 4)
    new = load(tmp_path, "new.keras", keras_archive(model))
    old = load(tmp_path, "old.h5", legacy({}, [], model=model))
    assert np.allclose(run_reference(new, {"features": x})["h"], np.clip(x / 6 + 0.5, 0, 1), rtol=1e-14)
    assert np.allclose(run_reference(old, {"features": x})["h"], np.clip(0.2 * x + 0.5, 0, 1), rtol=1e-14)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("m.json", b'{"learner": {"attributes": {}}}', "an XGBoost model of decision trees"),
        ("m.json", b'{"n_trees": 3, "trees": []}', "a model of decision trees"),
        ("m.ubj", b"{L\\x00\\x07learner{", "an XGBoost model of decision trees"),
        ("m.txt", b"tree\nversion=v4\n", "a LightGBM model of decision trees"),
        ("m.h5", b"\x89HDF\r\n\x1a\n...NIRGraph", "a NIR graph of a spiking network"),
        ("m.nir", b"\x89HDF\r\n\x1a\n", "a NIR graph of a spiking network"),
        ("m.pt", b"PK\x03\x04", "a PyTorch checkpoint or TorchScript; export the module with torch.export.save"),
        ("m.tflite", b"\x1c\x00\x00\x00TFL3", "a TensorFlow Lite model"),
        ("m.pkl", b"\x80\x04", "a pickle of Python objects"),
    ],
)
def test_files_of_other_kinds_are_told_by_name(name: str, content: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError) as raised:
        load_model(tmp_path / name)
    assert told in raised.value.message and "does not read yet" in raised.value.message
    assert "\n" not in raised.value.message


def test_an_embedding_is_a_table_of_whole_numbers(tmp_path: Path) -> None:
    model = sequential(entry("Embedding", "e", input_dim=4, output_dim=3), shape=(None, 2))
    graph = load(tmp_path, "m.keras", keras_archive(model, {"layers/embedding/vars/0": KERNEL}))
    events = np.array([[0, 3], [2, 1], [9, -1]])
    found = run_reference(graph, {graph.inputs[0].name: events.astype(np.float64)})["e"]
    assert (found == KERNEL[np.clip(events, 0, 3)]).all()
    masked = sequential(entry("Embedding", "e", input_dim=4, output_dim=3, mask_zero=True), shape=(None, 2))
    with pytest.raises(ModelError, match=r"e \(Embedding\): mask_zero true"):
        load(tmp_path, "n.keras", keras_archive(masked, {"layers/embedding/vars/0": KERNEL}))


def test_a_reshape_to_one_number_per_event(tmp_path: Path) -> None:
    model = sequential(entry("Reshape", "r", target_shape=[]), shape=(None, 1))
    graph = load(tmp_path, "m.keras", keras_archive(model))
    found = run_reference(graph, {graph.inputs[0].name: np.array([[1.0], [2.0]])})["r"]
    assert found.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    "module",
    ["tf_keras.src.engine.functional", "keras.src.engine.functional", "tensorflow.python.keras.engine.functional"],
)
def test_functional_models_of_any_keras(module: str, tmp_path: Path) -> None:
    layers = [
        {"class_name": "InputLayer", "module": "tf_keras.layers", "name": "x", "inbound_nodes": [],
         "config": {"name": "x", "batch_input_shape": [None, 4]}},
        entry("Dense", "fc1", units=3, activation="linear") | {"module": module.split(".")[0] + ".layers"},
    ]  # fmt: skip
    layers[1] |= {"name": "fc1", "inbound_nodes": [[["x", 0, 0, {}]]]}
    if module.startswith("tensorflow"):
        layers[1]["module"] = "tensorflow.keras.layers"
    config = {"name": "m", "layers": layers, "input_layers": [["x", 0, 0]], "output_layers": [["fc1", 0, 0]]}
    model = {"module": module, "class_name": "Functional", "config": config, "registered_name": "Functional"}
    assert load(tmp_path, "m.keras", keras_archive(model)).outputs == (("fc1", "fc1"),)
