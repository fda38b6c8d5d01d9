"""Names that are no identifiers, and index inputs, from the model file to what `metronn emulate` writes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from command_line import Run

TABLE = np.array([[0.5, -1.0], [0.25, 2.0], [-0.75, 0.0], [1.5, 1.0], [-2.0, 0.125]], np.float32)


def write_model(path: Path) -> Path:
    """Write y:0 = a:0 + table[sorte/n]; y_0 = a_0, which is what y:0 becomes as an identifier."""
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["t", "sorte/\N{LATIN SMALL LETTER N WITH TILDE}"], ["e"], name="e"),
            helper.make_node("Flatten", ["e"], ["f"], name="f"),
            helper.make_node("Add", ["a:0", "f"], ["y:0"], name="sum"),
            helper.make_node("Relu", ["a_0"], ["y_0"], name="relu"),
        ],
        "names",
        [
            helper.make_tensor_value_info("a:0", TensorProto.FLOAT, ["n", 2]),
            helper.make_tensor_value_info("a_0", TensorProto.FLOAT, ["n", 2]),
            helper.make_tensor_value_info("sorte/\N{LATIN SMALL LETTER N WITH TILDE}", TensorProto.INT64, ["n", 1]),
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("y:0", "y_0")],
        [numpy_helper.from_array(TABLE, "t")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    return path


def test_names_of_the_model_from_import_to_emulate(metronn: Run, tmp_path: Path) -> None:
    model, index = write_model(tmp_path / "m.onnx"), "sorte/\N{LATIN SMALL LETTER N WITH TILDE}"
    rng = np.random.default_rng(0)
    a, b = rng.integers(-64, 64, (2, 40, 2)) / 32
    k = rng.integers(0, 2, (40, 1))  # calibration sees two of five entries
    np.savez(tmp_path / "c.npz", **{"a:0": a, "a_0": b, index: k})
    listed = json.loads(metronn("import", model, "--json").out)
    assert [entry["model_name"] for entry in listed["inputs"]] == ["a:0", "a_0", index]
    build = tmp_path / "b"
    made = metronn(
        "compile", model, "--calibrate", tmp_path / "c.npz", "--system", "one-vcu118", "--no-verify", "-o", build,
        "--weight-bits", 16, "--activation-bits", 16,
    )  # fmt: skip
    assert made.status == 0, made.err
    manifest = json.loads((build / "manifest.json").read_text())
    assert [(entry["model_name"], entry["name"]) for entry in manifest["outputs"]] == [("y:0", "y_0"), ("y_0", "y_0_2")]
    k = rng.integers(0, 9, (40, 1))
    np.savez(tmp_path / "e.npz", **{"a:0": a, "a_0": b, index: k})
    ran = metronn("emulate", build, tmp_path / "e.npz", "-o", tmp_path / "o.npz", "--numpy")
    assert ran.status == 0, ran.err
    assert f"warning: input {index}" in ran.err and "saturated" in ran.err
    with np.load(tmp_path / "o.npz") as data:
        found = dict(data)
    assert np.abs(found["y:0"] - (a + TABLE[np.minimum(k[:, 0], 4)])).max() < 2.0**-10
    assert (found["y_0"] == np.maximum(b, 0)).all() and (found["y_0_2"] == found["y_0"]).all()
