"""`metronn verify --against` and `--hls4ml-config` from the command line."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from float32_network import damaged
from onnx_network import write_float, write_qdq

from command_line import metronn
from metronn.emit.manifest import manifest_text
from metronn.ir.text import from_text, to_text
from metronn.plan.kernels.kernels import Kernels
from metronn.plan.serialize import design_from_json, design_to_json


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a QDQ network, its events and its build."""
    folder = tmp_path_factory.mktemp("against")
    write_qdq(folder / "qdq.onnx")
    np.savez(folder / "events.npz", x=np.random.default_rng(9).normal(size=(50, 4)))
    options = ("--calibrate", folder / "events.npz", "--system", "one-vcu118", "--no-verify")
    status, _, err = metronn("compile", folder / "qdq.onnx", *options, "-o", folder / "build")
    assert status == 0, err
    return folder


def test_a_build_equals_its_framework(folder: Path) -> None:
    status, out, err = metronn("verify", folder / "build", "--against", "framework", "--events", 300)
    assert status == 0, err
    assert "300 events" in out
    assert "0 really" in out
    manifest = json.loads((folder / "build" / "manifest.json").read_text())
    assert manifest["model"]["file"] == "qdq.onnx"
    found = manifest["against"]["framework"]
    assert (found["status"], found["events"], found["real_differences"]) == ("pass", 300, 0)
    assert found["bits"] == sum(tensor["bits"] for tensor in found["tensors"]) > 0


def test_a_damaged_build_is_told_with_its_layer(folder: Path, tmp_path: Path) -> None:
    build = tmp_path / "build"
    build.mkdir()
    for path in (folder / "build").rglob("*"):
        if path.is_file() and path.suffix in (".txt", ".json", ".npz", ".html", ".toml"):
            (build / path.relative_to(folder / "build")).parent.mkdir(parents=True, exist_ok=True)
            (build / path.relative_to(folder / "build")).write_bytes(path.read_bytes())
    graph = from_text((build / "graph.txt").read_text())
    design = design_from_json((build / "plan.json").read_text(), graph)
    layer = next(node.source for node in graph.nodes if type(node.op).__name__ == "Linear")
    wrong = damaged(graph, layer)
    (build / "graph.txt").write_text(to_text(wrong))
    (build / "plan.json").write_text(design_to_json(replace(design, kernels=Kernels(wrong, design.timing))))
    manifest = json.loads((build / "manifest.json").read_text())
    kept = (name for name in manifest["files"] if (build / name).is_file())
    manifest["files"] = {name: hashlib.sha256((build / name).read_bytes()).hexdigest() for name in kept}
    (build / "manifest.json").write_text(manifest_text(manifest))
    status, _, err = metronn("verify", build, "--against", "framework", "--events", 300, "--model", folder / "qdq.onnx")
    assert status == 1
    assert "differs from onnx" in err
    assert f"first: layer {layer} " in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--rung", 2, "--against", "framework"), "--rung and --against: one of both"),
        (("--events", 10), "--events: has a meaning only with --against"),
        (("--against", "framework", "--model", "nothing.onnx"), "the model file was not found"),
    ],
)
def test_wrong_requests(folder: Path, options: tuple[object, ...], message: str) -> None:
    status, _, err = metronn("verify", folder / "build", *options)
    assert (status, message in err) == (2, True), err


def test_another_model_is_refused(folder: Path, tmp_path: Path) -> None:
    other = write_qdq(tmp_path / "qdq.onnx", seed=99)
    status, _, err = metronn("verify", folder / "build", "--against", "framework", "--model", other)
    assert (status, "is not the model that" in err) == (2, True), err


def test_a_missing_interpreter_ends_with_status_3(folder: Path) -> None:
    options = ("--against", "framework", "--framework-python", folder / "nothing")
    status, _, err = metronn("verify", folder / "build", *options)
    assert (status, "cannot be started" in err) == (3, True), err


def test_an_hls4ml_configuration_gives_the_types(folder: Path, tmp_path: Path) -> None:
    model = write_float(tmp_path / "float.onnx")
    config = tmp_path / "types.yml"
    config.write_text("Model:\n  Precision: 'ap_fixed<12,5>'\n  ReuseFactor: 4\n")
    options = ("--calibrate", folder / "events.npz", "--hls4ml-config", config, "-o", tmp_path / "graph.txt")
    status, out, err = metronn("quantize", model, *options)
    assert status == 0, err
    assert "ReuseFactor 4: read, not applied" in err
    assert "approximate" not in out
    graph = from_text((tmp_path / "graph.txt").read_text())
    assert graph.inputs[0].type.range.width_bits == 12
    assert graph.type_of(graph.outputs[0].value).range.max_frac == 7
    (tmp_path / "metronn.toml").write_text('[model]\nfile = "float.onnx"\nhls4ml_config = "types.yml"\n')
    named = metronn("quantize", tmp_path, "--calibrate", folder / "events.npz", "-o", tmp_path / "named.txt")
    assert named[0] == 0, named[2]
    assert (tmp_path / "named.txt").read_text() == (tmp_path / "graph.txt").read_text()


def test_an_hls4ml_configuration_is_judged_by_the_network_as_it_was(folder: Path, tmp_path: Path) -> None:
    """Its types are part of what is lost; compared with itself the network would be equal."""
    model = write_float(tmp_path / "float.onnx")
    for bits, expected in ((6, 1), (16, 0)):
        config = tmp_path / f"types{bits}.yml"
        config.write_text(f"Model:\n  Precision: 'ap_fixed<{bits},4>'\n  ReuseFactor: 1\n")
        report = tmp_path / "report.json"
        options = ("--calibrate", folder / "events.npz", "--hls4ml-config", config, "-o", tmp_path / "graph.txt")
        status, _, err = metronn("quantize", model, *options, "--report", report)
        assert status == 0, err
        (output,) = json.loads(report.read_text())["outputs"]
        assert output["sqnr_db"] is not None
        assert (output["sqnr_db"] < 30) is bool(expected)
        assert ("too little of its signal is left" in err) is bool(expected)
        assert output["decides"] is False
