"""`--dump-ir`: a file for each stage that changed the graph, in order; each parses back to what the stage made."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from command_line import Run
from metronn.ir.text import from_text, to_text
from metronn.model.graph import RealLinear
from metronn.model.text import real_from_text, real_to_text
from metronn.passes.pipeline import optimize, prepare
from small_network import write_events


@pytest.fixture
def normalized(tmp_path: Path) -> Path:
    """Write a matrix, a scale of each result, and a ReLU."""
    rng = np.random.default_rng(1)
    arrays = {"w": rng.integers(-16, 17, (6, 3)) / 16, "b": rng.integers(-8, 9, 3) / 16, "scale": [0.5, 2, 1]}
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["x", "w", "b"], ["h"], name="hidden"),
            helper.make_node("Mul", ["h", "scale"], ["n"], name="norm"),
            helper.make_node("Relu", ["n"], ["scores"], name="relu"),
        ],
        "normalized",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["events", 6])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["events", 3])],
        [numpy_helper.from_array(np.asarray(values, dtype=np.float32), name) for name, values in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.save(model, str(tmp_path / "normalized.onnx"))
    return tmp_path / "normalized.onnx"


def test_every_stage_of_a_compilation_is_written(metronn: Run, normalized: Path, tmp_path: Path) -> None:
    events = write_events(tmp_path / "events.npz")
    folder, build = tmp_path / "stages", tmp_path / "build"
    command = ("compile", normalized, "--calibrate", events, "--system", "one-serenity", "--no-verify")
    assert metronn(*command, "-o", build, "--dump-ir", folder).status == 0
    names = sorted(path.name for path in folder.iterdir())
    assert names == [
        "000_read.txt",
        "001_fold_into_producer.txt",
        "002_drop_dead.txt",
        "003_quantized.txt",
        *names[4:],
    ]
    texts = {name: (folder / name).read_text() for name in names}
    read = real_from_text(texts["000_read.txt"])
    assert [node.source for node in read.nodes if isinstance(node.op, RealLinear)] == ["hidden"]
    for name in names[:3]:
        assert real_to_text(real_from_text(texts[name])) == texts[name]
    assert real_to_text(prepare(read)) == texts["002_drop_dead.txt"]
    for name in names[3:]:
        assert to_text(from_text(texts[name])) == texts[name]
    assert texts[names[-1]] == (build / "graph.txt").read_text()
    assert to_text(optimize(from_text(texts["003_quantized.txt"]))) == texts[names[-1]]
    other = tmp_path / "other"
    assert metronn(*command, "-o", other).status == 0
    for path in build.rglob("*"):
        if path.is_file() and path.name not in ("manifest.json", "report.html"):
            assert path.read_bytes() == (other / path.relative_to(build)).read_bytes()


def test_every_stage_of_a_quantization_is_written(metronn: Run, normalized: Path, tmp_path: Path) -> None:
    events = write_events(tmp_path / "events.npz")
    folder, graph = tmp_path / "new" / "stages", tmp_path / "graph.txt"
    assert metronn("quantize", normalized, "--calibrate", events, "-o", graph, "--dump-ir", folder).status == 0
    names = sorted(path.name for path in folder.iterdir())
    assert names[:4] == ["000_read.txt", "001_fold_into_producer.txt", "002_drop_dead.txt", "003_quantized.txt"]
    assert (folder / names[-1]).read_text() == graph.read_text()


def test_folders_that_do_not_do(metronn: Run, normalized: Path, tmp_path: Path) -> None:
    events = write_events(tmp_path / "events.npz")
    build = tmp_path / "build"
    full, file, loop = tmp_path / "full", tmp_path / "file", tmp_path / "loop"
    full.mkdir()
    (full / "mine").write_text("mine")
    file.write_text("")
    os.symlink("loop", loop)
    command = ("compile", normalized, "--calibrate", events, "--system", "one-serenity", "-o", build, "--no-verify")
    for folder, message in (
        (full, "the folder is not empty; name another folder, or empty this one"),
        (file, "is not a folder; name a new folder"),
        (file / "in", f"cannot be written: {file} is not a folder; name a new folder"),
        (Path("/"), "the folder is not empty; name another folder, or empty this one"),
        (tmp_path / ("x" * 300), "cannot be read: File name too long"),
        (loop, "cannot be read: "),
        (build / "stages", f"lies in the build's folder {build}; name a folder outside of it"),
        (build, f"lies in the build's folder {build}; name a folder outside of it"),
    ):
        ran = metronn(*command, "--dump-ir", folder)
        assert (ran.status, f"--dump-ir {folder}: {message}" in ran.err) == (2, True), ran.err
        assert not build.exists()
    assert [path.name for path in full.iterdir()] == ["mine"]
    ran = metronn("quantize", normalized, "--calibrate", events, "--search", "--dump-ir", tmp_path / "new")
    assert ran.status == 2 and "--dump-ir and --search: one of both" in ran.err
    assert not (tmp_path / "new").exists()


def test_what_was_reached_before_an_error_is_there(metronn: Run, tmp_path: Path, normalized: Path) -> None:
    events = write_events(tmp_path / "events.npz")
    ran = metronn(
        "quantize", normalized, "--calibrate", events, "-o", tmp_path / "no" / "graph.txt", "--dump-ir", tmp_path / "s"
    )
    assert ran.status == 2
    assert (tmp_path / "s" / "003_quantized.txt").is_file()
