"""`metronn trace` and `metronn profile` from the command line, on builds that are right and on others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from traced_networks import write_float

from command_line import metronn
from metronn.diagnose.kept import TRACED
from metronn.emit.manifest import manifest_text


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a float network, its events and its build."""
    folder = tmp_path_factory.mktemp("diagnose")
    write_float(folder / "float.onnx")
    np.savez(folder / "events.npz", x=np.random.default_rng(9).normal(size=(300, 4)))
    options = ("--calibrate", folder / "events.npz", "--system", "one-vcu118", "--no-verify")
    status, _, err = metronn("compile", folder / "float.onnx", *options, "-o", folder / "build")
    assert status == 0, err
    return folder


@pytest.fixture
def changed(folder: Path, tmp_path: Path) -> Path:
    """Return a copy of the folder that a test may change."""
    shutil.copytree(folder, tmp_path / "copy")
    return tmp_path / "copy"


def loaded(path: Path) -> dict[str, Any]:
    """Return the arrays of a file, which is closed."""
    with np.load(path) as file:
        return dict(file)


def test_trace(folder: Path, tmp_path: Path) -> None:
    status, out, err = metronn("trace", folder / "build", folder / "events.npz", "-o", tmp_path / "trace.npz")
    assert status == 0, err
    lines = out.splitlines()
    assert [line.split()[0] for line in lines[2:6]] == ["x", "h", "r", "y"]
    assert "300 events: none is below 20 dB" in out
    arrays = loaded(tmp_path / "trace.npz")
    assert set(arrays) == {f"{name}{end}" for name in "xhry" for end in ("", "__float")}
    assert arrays["r"].shape == (300, 8)
    answers = tmp_path / "out.npz"
    assert metronn("emulate", folder / "build", folder / "events.npz", "--numpy", "-o", answers)[0] == 0
    assert np.array_equal(loaded(answers)["y"], arrays["y"])


def test_trace_in_json(folder: Path) -> None:
    status, out, _ = metronn("trace", folder / "build", folder / "events.npz", "--json", "--min-db", "200")
    assert status == 0
    data = json.loads(out)
    assert (data["events"], data["first_below"], data["bound_db"]) == (300, "x", 200.0)
    assert [tensor["name"] for tensor in data["tensors"]] == ["x", "h", "r", "y"]


def test_profile(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for name in ("profile.svg", "profile.png"):
        status, out, err = metronn("profile", folder / "build", folder / "events.npz", "-o", tmp_path / name)
        assert status == 0, err
        assert "6 tensors, 300 events" in out
        assert (tmp_path / name).stat().st_size > 1000
    status, out, _ = metronn("profile", folder / "build", folder / "events.npz", "--json")
    assert [tensor["kind"] for tensor in json.loads(out)["tensors"]].count("weights") == 2


@pytest.mark.parametrize("verb", ["trace", "profile"])
def test_the_model_file_is_needed(verb: str, changed: Path) -> None:
    (changed / "float.onnx").unlink()
    status, _, err = metronn(verb, changed / "build", changed / "events.npz")
    assert status == 2
    assert "the model file was not found" in err and "--model FILE" in err
    (changed / "float.onnx").write_bytes(b"another")
    status, _, err = metronn(verb, changed / "build", changed / "events.npz")
    assert status == 2
    assert "is not the model" in err


@pytest.mark.parametrize("verb", ["trace", "profile"])
@pytest.mark.parametrize("file", ["graph.txt", TRACED])
def test_a_changed_build_is_refused(verb: str, file: str, changed: Path) -> None:
    path = changed / "build" / file
    path.write_text(path.read_text() + "\n")
    status, _, err = metronn(verb, changed / "build", changed / "events.npz")
    assert status == 1
    assert f"{file}: is not as it was compiled" in err


def test_a_build_without_the_file_is_told_to_compile_again(changed: Path) -> None:
    build = changed / "build"
    (build / TRACED).unlink()
    status, _, err = metronn("trace", build, changed / "events.npz")
    assert status == 1
    assert "is not as it was compiled" in err
    manifest = json.loads((build / "manifest.json").read_text())
    del manifest["files"][TRACED]
    (build / "manifest.json").write_text(manifest_text(manifest))
    status, _, err = metronn("trace", build, changed / "events.npz")
    assert status == 2
    assert f"{TRACED} is missing" in err and "compile again" in err


def test_types_of_hls4ml(folder: Path, tmp_path: Path) -> None:
    """The floats are those of the network without the types; a changed configuration is refused."""
    first = {"weight": "fixed<7,3>", "bias": "fixed<7,3>", "accum": "fixed<40,16>", "result": "fixed<20,10>"}
    types = {"Model": {"Precision": "fixed<16,8>", "ReuseFactor": 1}, "LayerName": {"fc": {"Precision": first}}}
    (tmp_path / "types.json").write_text(json.dumps(types))
    options = ("--calibrate", folder / "events.npz", "--system", "one-vcu118", "--no-verify")
    more = ("--hls4ml-config", tmp_path / "types.json", "-o", tmp_path / "build")
    assert metronn("compile", folder / "float.onnx", *options, *more)[0] in (0, 1)  # such types may lose the signal
    request = (tmp_path / "build", folder / "events.npz", "--model", folder / "float.onnx")
    status, out, err = metronn("trace", *request, "--json", "-o", tmp_path / "typed.npz")
    assert status == 0, err
    data = json.loads(out)
    assert {"h", "r", "y"} <= {tensor["name"] for tensor in data["tensors"]}
    assert not any(tensor["equal"] for tensor in data["tensors"] if tensor["name"] != "x")
    assert metronn("trace", folder / "build", folder / "events.npz", "-o", tmp_path / "plain.npz")[0] == 0
    plain, typed = (loaded(tmp_path / name) for name in ("plain.npz", "typed.npz"))
    assert np.array_equal(plain["h__float"], typed["h__float"])
    status, out, err = metronn("profile", *request, "--json")
    assert status == 0, err
    weights = [tensor for tensor in json.loads(out)["tensors"] if tensor["kind"] == "weights"]
    assert [entry["name"] for entry in weights] == ["fc"]  # the products of the other layer are rounded one by one
    assert weights[0]["min"] < 2**-5 < weights[0]["steps"][0] == 2**-4
    assert weights[0]["rounds_to_zero"] > 0 < weights[0]["beyond"]
    config = tmp_path / "build" / "vectors" / "hls4ml_config.json"
    config.write_text(config.read_text() + "\n")
    status, _, err = metronn("trace", *request)
    assert (status, "hls4ml_config.json: is not as it was compiled" in err) == (1, True)


def test_requests_that_make_no_sense(folder: Path, tmp_path: Path) -> None:
    status, _, err = metronn("trace", folder / "build", folder / "events.npz", "-o", tmp_path / "trace.txt")
    assert (status, "the suffix is .txt, allowed is .npz" in err) == (2, True)
    status, _, err = metronn("profile", folder / "build", folder / "events.npz", "-o", tmp_path / "p.pdf")
    assert (status, "the suffix is .pdf, allowed are .svg, .png" in err) == (2, True)
    np.savez(tmp_path / "wrong.npz", x=np.zeros((3, 5)))
    status, _, err = metronn("trace", folder / "build", tmp_path / "wrong.npz")
    assert (status, "shape per event is (5,), allowed is (4,)" in err) == (2, True)
    events = tmp_path / "events.npz"
    shutil.copy(folder / "events.npz", events)
    status, _, err = metronn("trace", folder / "build", events, "-o", events)
    assert (status, "is the file of the events" in err) == (2, True)
