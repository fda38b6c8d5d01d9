"""What is asked wrongly ends with status 2 (3 where a tool is missing) and says what to change."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from training_events import write_data

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning:keras")

Command = Callable[..., object]


def test_files_that_are_no_networks_of_keras(command: Command, data: Path, tmp_path: Path) -> None:
    onnx = tmp_path / "net.onnx"
    onnx.write_bytes(b"")
    for verb in ("finetune", "prune"):
        wrong = command(verb, onnx, "--data", data)
        assert wrong.status == 2
        assert f"{verb} takes networks of Keras (.keras, .h5, .hdf5); this is a .onnx" in wrong.err
        missing = command(verb, tmp_path / "no.keras", "--data", data)
        assert missing.status == 2 and "no such file" in missing.err


def test_outputs_that_cannot_be(command: Command, data: Path, tmp_path: Path) -> None:
    model = tmp_path / "net.keras"
    model.write_bytes(b"x")
    same = command("finetune", model, "--data", data, "-o", model)
    assert same.status == 2 and "is the network to start from" in same.err
    other = command("prune", model, "--data", data, "-o", tmp_path / "net.h5")
    assert other.status == 2 and "networks are written as .keras" in other.err


def test_options_that_need_a_system(command: Command, data: Path, tmp_path: Path) -> None:
    model = tmp_path / "net.keras"
    model.write_bytes(b"x")
    folded = command("prune", model, "--data", data, "--structure", "fold", "--sparsity", 0.5)
    assert folded.status == 2 and "give --system NAME" in folded.err
    cycles = command("finetune", model, "--data", data, "--ii", 9)
    assert cycles.status == 2 and "give --system NAME too" in cycles.err


def test_a_missing_extra_is_named(
    command: Command, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "net.keras"
    model.write_bytes(b"x")
    original = importlib.import_module

    def without_keras(name: str, package: str | None = None) -> object:
        if name.split(".")[0] in ("keras", "hgq"):
            raise ImportError(f"No module named {name!r}")
        return original(name, package)

    monkeypatch.setattr(importlib, "import_module", without_keras)
    for verb in ("finetune", "prune"):
        missing = command(verb, model, "--data", data)
        assert missing.status == 3
        assert "pip install 'metronn[train]'" in missing.err


def test_qkeras_is_not_available(command: Command, data: Path, tmp_path: Path) -> None:
    answer = command("finetune", tmp_path / "net.keras", "--data", data, "--quantizer", "qkeras")
    assert answer.status == 3
    assert "not available" in answer.err and "--quantizer hgq" in answer.err


@pytest.mark.slow
def test_data_that_do_not_fit(command: Command, network: Path, data: Path, tmp_path: Path) -> None:
    unlabelled = write_data(tmp_path / "unlabelled.npz", labels=False)
    missing = command("finetune", network, "--data", unlabelled, "-o", tmp_path / "a.keras")
    assert missing.status == 2 and "--loss teacher" in missing.err
    arrays = dict(np.load(data))
    np.savez(tmp_path / "high.npz", x=arrays["x"], label=arrays["label"] + 5)
    high = command("finetune", network, "--data", tmp_path / "high.npz", "-o", tmp_path / "a.keras")
    assert high.status == 2 and "labels go from 5 to 7, the network has 3 classes (0 to 2)" in high.err
    np.savez(tmp_path / "wide.npz", x=np.zeros((10, 9)), label=np.zeros(10, dtype=int))
    wide = command("prune", network, "--data", tmp_path / "wide.npz", "-o", tmp_path / "a.keras")
    assert wide.status == 2 and "shape per event is (9,), allowed is (6,)" in wide.err
    damaged = tmp_path / "damaged.keras"
    damaged.write_bytes(b"not a zip")
    broken = command("finetune", damaged, "--data", data, "-o", tmp_path / "a.keras")
    assert broken.status == 2 and "cannot read this file" in broken.err
    nothing = command("finetune", network, "--data", data, "-o", tmp_path / "a.keras", "--resume")
    assert nothing.status == 2 and "no checkpoint to resume from" in nothing.err
    unknown = command(
        "prune", network, "--data", data, "-o", tmp_path / "a.keras", "--keep", "dense*", "--sparsity", 0.5
    )
    assert unknown.status == 2
    assert "--keep dense*: no layer with weights has such a name; there are hidden, second, classes" in unknown.err


@pytest.mark.slow
def test_layers_that_cannot_be_trained_are_all_listed(command: Command, data: Path, tmp_path: Path) -> None:
    keras = pytest.importorskip("keras")
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Reshape((3, 2), name="shaped"),
            layers.LSTM(4, name="memory"),
            layers.Dense(4, activation="softmax", name="inner"),
            layers.LayerNormalization(name="normed"),
            layers.Dense(3, name="last"),
        ]
    )
    model.save(tmp_path / "odd.keras")
    wrong = command("finetune", tmp_path / "odd.keras", "--data", data, "-o", tmp_path / "a.keras")
    assert wrong.status == 2
    assert "memory: LSTM cannot be trained quantized" in wrong.err
    assert "inner: activation softmax before the last layer cannot be trained quantized" in wrong.err
    assert "normed: LayerNormalization cannot be trained quantized" in wrong.err
    assert "Conv2D" in wrong.err


@pytest.mark.slow
def test_a_tolerance_that_cannot_be_kept(command: Command, network: Path, data: Path, tmp_path: Path) -> None:
    arguments = ("--data", data, "--batch", 256, "--epochs", 1)
    cheap = command("finetune", network, *arguments, "--target-cost", 1, "-o", tmp_path / "a.keras")
    assert cheap.status == 1
    assert "no network costs 1 or less" in cheap.err and "a.checkpoints" in cheap.err
    arguments = (*arguments[:-1], 0)
    sparse = command("prune", network, *arguments, "--sparsity", 0.95, "--tolerance", 0.0, "-o", tmp_path / "b.keras")
    assert sparse.status == 1
    assert "the tolerance is 0" in sparse.err
