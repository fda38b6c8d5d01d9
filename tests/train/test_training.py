"""Training end to end on small networks: same seed, same bytes; resumed equals uninterrupted; zeros stay zero."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from metronn.events.data import load_events
from metronn.frontends import load_model
from metronn.passes.pipeline import quantize_model
from metronn.quantize.measure import run_fixed
from metronn.quantize.options import QuantizeOptions
from metronn.train.engine import Engine

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning:keras")]
pytest.importorskip("jax")

Command = Callable[..., object]
SYSTEM = ("--system", "one-serenity")
FAST = ("--batch", "128", "--seed", "7")


def keras_answers(path: Path, data: Path) -> np.ndarray:
    """What Keras answers."""
    import hgq.layers  # noqa: F401
    import keras

    model = keras.models.load_model(path, compile=False)
    return np.asarray(model.predict(np.load(data)["x"], verbose=0, batch_size=1024))


def kernels_of(path: Path) -> dict[str, np.ndarray]:
    """The weight matrices by layer."""
    import hgq.layers  # noqa: F401
    import keras

    from metronn.train.networks import kernels

    return {k.layer: k.value for k in kernels(keras.models.load_model(path, compile=False))}


def interrupted(monkeypatch: pytest.MonkeyPatch, epoch: int) -> None:
    """Let the next training end as Ctrl-C would, in this epoch."""
    original = Engine.fit

    def fit(self: Engine, number: int, rate: float) -> float:
        if number == epoch:
            raise KeyboardInterrupt
        return original(self, number, rate)

    monkeypatch.setattr(Engine, "fit", fit)


def test_resumed_finetuning_equals_uninterrupted(
    command: Command, network: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("finetune", network, "--data", data, *SYSTEM, "--ii", 1, *FAST, "--epochs", 2, "--tolerance", 0.2)
    arguments += ("--checkpoint-every", 1, "--rate", 0.005)
    whole = command(*arguments, "-o", tmp_path / "whole.keras", "--json")
    assert whole.status == 0, whole.err
    report = json.loads(whole.out)
    assert [r["epoch"] for r in report["epochs"]] == [0, 1, 2]
    assert report["best"]["lut_equivalents"] < report["epochs"][0]["lut_equivalents"]
    assert report["best"]["loss_of_metric"] <= 0.2
    with monkeypatch.context() as patch:
        interrupted(patch, 1)
        assert command(*arguments, "-o", tmp_path / "parts.keras").status == 130
    assert not (tmp_path / "parts.keras").exists()
    refused = command(*arguments, "-o", tmp_path / "parts.keras")
    assert refused.status == 2 and "--resume" in refused.err
    other = command(*arguments, "-o", tmp_path / "parts.keras", "--resume", "--weight-bits", 6)
    assert other.status == 2 and "weight_bits was 8 when the checkpoint was made, now it is 6" in other.err
    resumed = command(*arguments, "-o", tmp_path / "parts.keras", "--resume", "--json")
    assert resumed.status == 0, resumed.err
    again = json.loads(resumed.out)
    assert again["epochs"] == report["epochs"]
    assert (tmp_path / "parts.keras").read_bytes() == (tmp_path / "whole.keras").read_bytes()
    assert len(list((tmp_path / "whole.checkpoints").glob("epoch-*.keras"))) == len(report["pareto"])

    read_back(tmp_path / "whole.keras", data)


def read_back(path: Path, data: Path) -> None:
    """The integers of a written network answer as Keras does."""
    model = load_model(path)
    assert model.quantized
    events = load_events(data, {node.name: node.shape for node in model.inputs})
    graph = quantize_model(model, events, QuantizeOptions(metric="none")).graph
    (fixed,) = run_fixed(graph, events.inputs).values()
    answers = keras_answers(path, data)
    assert np.abs(fixed - answers).max() < 0.01
    assert (fixed.argmax(axis=1) == answers.argmax(axis=1)).mean() > 0.99


def test_zeros_of_pruning_stay_zero(
    command: Command, network: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("prune", network, "--data", data, *FAST, "--sparsity", 0.6, "--epochs", 3, "--checkpoint-every", 1)
    pruned, parts, tuned = tmp_path / "pruned.keras", tmp_path / "parts.keras", tmp_path / "tuned.keras"
    done = command(*arguments, "-o", pruned, "--json")
    assert done.status == 0, done.err
    report = json.loads(done.out)
    assert 0.6 <= report["best"]["sparsity"] < 0.65
    zeros = {layer: kernel == 0 for layer, kernel in kernels_of(pruned).items()}
    assert {row["layer"]: row["nonzero_after"] for row in report["layers"]} == {
        layer: int((~zero).sum()) for layer, zero in zeros.items()
    }
    with monkeypatch.context() as patch:
        interrupted(patch, 2)
        assert command(*arguments, "-o", parts).status == 130
    assert command(*arguments, "-o", parts, "--resume").status == 0
    assert parts.read_bytes() == pruned.read_bytes()
    tuning = ("finetune", pruned, "--data", data, *FAST, "--epochs", 1, "--tolerance", 0.9, "--reference", network)
    assert command(*tuning, "-o", tuned).status == 0
    for layer, kernel in kernels_of(tuned).items():
        assert (kernel[zeros[layer]] == 0).all()
        assert (kernel != 0).any()
    more = command(
        "prune", tuned, "--data", data, *FAST, "--sparsity", 0.8, "--epochs", 1, "-o", tmp_path / "more.keras"
    )
    assert more.status == 0, more.err
    after = kernels_of(tmp_path / "more.keras")
    assert sum(int((k == 0).sum()) for k in after.values()) >= 0.8 * sum(k.size for k in after.values())
    assert load_model(tmp_path / "more.keras").quantized


def test_pruning_for_the_fold_takes_whole_multipliers(
    command: Command, data: Path, network: Path, tmp_path: Path
) -> None:
    arguments = ("prune", network, "--data", data, *FAST, *SYSTEM, "--ii", 4, "--epochs", 0, "--sparsity", 0.5)
    done = command(*arguments, "--structure", "fold", "-o", tmp_path / "fold.keras", "--json")
    assert done.status == 0, done.err
    report = json.loads(done.out)
    assert report["best"]["lut_equivalents"] < report["lut_equivalents_before"]
    assert report["best"]["sparsity"] >= 0.5


def test_without_training_the_tolerance_decides(command: Command, network: Path, data: Path, tmp_path: Path) -> None:
    arguments = ("prune", network, "--data", data, *FAST, "--epochs", 0, "--tolerance", 0.05)
    done = {
        method: command(*arguments, "--method", method, "-o", tmp_path / f"{method}.keras", "--json")
        for method in ("magnitude", "sensitivity")
    }
    for answer in done.values():
        assert answer.status == 0, answer.err
        best = json.loads(answer.out)["best"]
        assert best["sparsity"] > 0.1 and best["loss_of_metric"] <= 0.05


def test_a_convolution_starts_where_the_float_network_ended(tmp_path: Path) -> None:
    from training_events import write_data

    from metronn.train.backend import load_backend, seed_everything
    from metronn.train.convert import to_quantized
    from metronn.train.networks import read_network
    from metronn.train.options import FinetuneOptions, Widths

    backend = load_backend("test")
    seed_everything(backend, 5)
    layers, keras = backend.keras.layers, backend.keras
    x = keras.Input((6, 6, 2), name="image")
    y = layers.Conv2D(4, 3, name="conv", use_bias=False)(x)
    y = layers.BatchNormalization(name="bn")(y)
    y = layers.Activation("relu", name="act")(y)
    a = layers.Conv2D(4, 1, padding="same", activation="tanh", name="side")(y)
    y = layers.Add(name="sum")([y, a])
    y = layers.AveragePooling2D(2, name="pool")(y)
    y = layers.BatchNormalization(name="alone")(y)
    y = layers.Flatten(name="flat")(y)
    y = layers.Dropout(0.5, name="drop")(y)
    y = layers.Dense(3, activation="softmax", name="classes")(y)
    model = keras.Model(x, y)
    rng = np.random.Generator(np.random.PCG64(2))
    for norm in ("bn", "alone"):
        size = int(model.get_layer(norm).moving_mean.shape[0])
        model.get_layer(norm).set_weights([rng.uniform(0.5, 1.5, size) for _ in range(4)])
    model.save(tmp_path / "conv.keras")
    data = write_data(tmp_path / "images.npz", (6, 6, 2), 300)
    network = read_network(backend, tmp_path / "conv.keras", "test")
    images = np.load(data)["x"]
    options = FinetuneOptions(weight_bits=14, activation_bits=16, widths=Widths.CHANNEL)
    quantized = to_quantized(backend, network.model, {"image": images.astype(np.float64)}, options, "conv.keras")
    import hgq.utils

    hgq.utils.trace_minmax(quantized, images, batch_size=300)
    got = quantized.predict(images, verbose=0, batch_size=300)
    assert np.abs(got - model.predict(images, verbose=0, batch_size=300)).max() < 0.01
    names = {layer.name: type(layer).__name__ for layer in quantized.layers}
    assert names["conv"] == "QConv2D" and names["sum"] == "QAdd" and names["pool"] == "QAveragePooling2D"
    assert names["side_tanh"] == "QUnaryFunctionLUT" and names["alone"] == "QBatchNormalization"
    assert "bn" not in names and "drop" not in names
