"""Keras models, saved by Keras in every format it has, against Keras itself. Skipped where Keras is not installed."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metronn.frontends import load_model
from metronn.ir.ops import Extremum
from metronn.model.graph import RealGraph
from metronn.model.reference import run_reference
from random_tests import seeds

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras", reason="keras is not installed")
pytest.importorskip(os.environ["KERAS_BACKEND"], reason="the backend of keras is not installed")
L = keras.layers

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]

Close = Callable[[object, object], None]
FORMATS = ("model.keras", "model.h5")


def randomized(model: Any, seed: int = 3) -> Any:
    """Give every weight of a model a random value; variances stay positive."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        values = rng.normal(size=variable.shape)
        variable.assign(np.abs(values) + 0.1 if "variance" in variable.path else values)
    return model


def check(model: Any, folder: Path, close: Close, formats: Sequence[str] = FORMATS) -> list[RealGraph]:
    """Save, load and compare on random events; returns the graphs read, one per format."""
    rng = np.random.default_rng(11)
    events = [rng.normal(size=(6, *tensor.shape[1:])).astype(np.float32) for tensor in model.inputs]
    expected = keras.tree.flatten(model(events if len(events) > 1 else events[0], training=False))
    graphs = []
    for name in formats:
        model.save(folder / name)
        graph = load_model(folder / name)
        feeds = {node.name: x.astype(np.float64) for node, x in zip(graph.inputs, events, strict=True)}
        found = run_reference(graph, feeds)
        assert len(found) == len(expected)
        for value, reference in zip(found.values(), expected, strict=True):
            close(value, np.asarray(reference))
        graphs.append(graph)
    return graphs


LAYERS: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "dense": (lambda: L.Dense(3), (4,)),
    "dense without bias": (lambda: L.Dense(3, use_bias=False), (4,)),
    "dense on the last of three axes": (lambda: L.Dense(3, activation="relu"), (2, 4)),
    **{
        f"dense with {name}": (lambda name=name: L.Dense(3, activation=name), (4,))
        for name in (
            "linear", "relu", "relu6", "leaky_relu", "sigmoid", "tanh", "softmax", "hard_sigmoid", "silu",
            "hard_silu", "hard_tanh", "exponential",
        )
    },
    "dense with an activation layer": (lambda: L.Dense(3, activation=L.LeakyReLU(0.125)), (4,)),
    "dense with a ReLU layer": (lambda: L.Dense(3, activation=L.ReLU(max_value=1.0)), (4,)),
    "activation": (lambda: L.Activation("tanh"), (2, 3)),
    "activation layer object": (lambda: L.Activation(L.Softmax()), (4,)),
    "relu": (lambda: L.ReLU(), (4,)),
    "relu with everything": (lambda: L.ReLU(max_value=0.75, negative_slope=0.25), (4,)),
    "leaky relu": (lambda: L.LeakyReLU(), (4,)),
    "steep leaky relu": (lambda: L.LeakyReLU(negative_slope=2.0), (4,)),
    "prelu": (lambda: L.PReLU(), (2, 3)),
    "prelu with shared axes": (lambda: L.PReLU(shared_axes=[1]), (2, 3)),
    "softmax": (lambda: L.Softmax(), (4,)),
    "softmax on an axis": (lambda: L.Softmax(axis=1), (3, 4)),
    "batch norm": (lambda: L.BatchNormalization(), (4,)),
    "batch norm without scale": (lambda: L.BatchNormalization(scale=False, epsilon=0.1), (4,)),
    "batch norm without center": (lambda: L.BatchNormalization(center=False), (4,)),
    "batch norm bare on an axis": (lambda: L.BatchNormalization(axis=1, scale=False, center=False), (3, 2)),
    "flatten": (lambda: L.Flatten(), (3, 2)),
    "flatten with channels first": (lambda: L.Flatten(data_format="channels_first"), (3, 2, 2)),
    "reshape": (lambda: L.Reshape((-1, 2)), (3, 4)),
    "permute": (lambda: L.Permute((2, 1)), (3, 4)),
    "repeat": (lambda: L.RepeatVector(3), (4,)),
    "rescaling": (lambda: L.Rescaling(0.5, offset=-1.0), (4,)),
    "rescaling by lists": (lambda: L.Rescaling([0.5, 1.0, 2.0], offset=[1.0, 0.0, -1.0]), (3,)),
    **{
        name: (lambda name=name: getattr(L, name)(0.3), (4,))
        for name in ("Dropout", "GaussianNoise", "GaussianDropout", "AlphaDropout")
    },
    "identity": (lambda: L.Identity(), (4,)),
    "activity regularization": (lambda: L.ActivityRegularization(l1=0.1), (4,)),
    "spatial dropout": (lambda: L.SpatialDropout1D(0.3), (3, 4)),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_layer_agrees_with_keras(name: str, tmp_path: Path, assert_close: Close) -> None:
    make, shape = LAYERS[name]
    check(randomized(keras.Sequential([L.Input(shape), make()])), tmp_path, assert_close)


@pytest.mark.parametrize("name", ["Add", "Subtract", "Multiply", "Maximum", "Minimum", "Average", "Concatenate"])
def test_merging_layer_agrees_with_keras(name: str, tmp_path: Path, assert_close: Close) -> None:
    a, b = keras.Input((2, 3), name="a"), keras.Input((2, 3), name="b")
    xs = [a, b] if name == "Subtract" else [a, b, a]
    check(keras.Model([a, b], getattr(L, name)()(xs)), tmp_path, assert_close)


def test_concatenate_on_an_axis(tmp_path: Path, assert_close: Close) -> None:
    a, b = keras.Input((2, 3)), keras.Input((4, 3))
    check(keras.Model([a, b], L.Concatenate(axis=1)([a, b])), tmp_path, assert_close)


def test_merging_layers_broadcast(tmp_path: Path, assert_close: Close) -> None:
    a, b = keras.Input((2, 3)), keras.Input((1, 3))
    check(keras.Model([a, b], L.Multiply()([a, b])), tmp_path, assert_close)


def test_shared_layers_and_several_inputs_and_outputs(tmp_path: Path, assert_close: Close) -> None:
    a, b = keras.Input((4,), name="left"), keras.Input((4,), name="right")
    shared = L.Dense(3, activation="relu", name="shared")
    p, q = shared(a), shared(b)
    total = L.Add(name="total")([p, q])
    model = randomized(keras.Model([a, b], [L.Softmax(name="classes")(total), p, q, total]))
    for graph in check(model, tmp_path, assert_close):
        assert [node.name for node in graph.inputs] == ["left", "right"]
        assert [name for name, _ in graph.outputs] == ["classes", "shared", "shared_2", "total"]
        assert {node.source for node in graph.nodes} == {"left", "right", "shared", "total", "classes"}


def test_outputs_named_by_a_dict(tmp_path: Path, assert_close: Close) -> None:
    a = keras.Input((4,))
    model = randomized(keras.Model(a, {"charge": L.Dense(2)(a), "pt": L.Dense(1)(a)}))
    for graph in check(model, tmp_path, assert_close):
        assert [name for name, _ in graph.outputs] == ["charge", "pt"]


def test_nested_models(tmp_path: Path, assert_close: Close) -> None:
    core = L.Dense(3, activation="tanh", name="core")
    deep = keras.Sequential([L.Input((3,)), core, L.BatchNormalization()], name="deep")
    p, q = keras.Input((4,)), keras.Input((4,))
    both = L.Concatenate()([L.Dense(2, name="d")(p), q])
    inner = keras.Model([p, q], [deep(L.Dense(3, name="core")(both)), both], name="inner")
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    first, second = inner([a, b]), inner([b, a])
    block = keras.Sequential([L.Input((3,)), L.Dense(3, name="core")], name="block")
    model = randomized(keras.Model([a, b], [block(first[0]), first[1], second[0], L.Dense(2, name="core")(second[1])]))
    for graph in check(model, tmp_path, assert_close):
        sources = {node.source for node in graph.nodes}
        assert {"inner/deep/core", "inner/core", "block/core", "core"} <= sources


def test_sequential_without_input_layer(tmp_path: Path, assert_close: Close) -> None:
    model = keras.Sequential([L.Dense(3, activation="relu"), keras.Sequential([L.Dense(2)]), L.Dense(1)])
    model.build((None, 5))
    check(randomized(model), tmp_path, assert_close, formats=("model.keras",))


def test_json_with_weights_beside_it(tmp_path: Path, assert_close: Close) -> None:
    model = randomized(keras.Sequential([L.Input((4,)), L.Dense(3, activation="relu"), L.Dense(2)]))
    (tmp_path / "net.json").write_text(model.to_json())
    model.save_weights(tmp_path / "net.weights.h5")
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    graph = load_model(tmp_path / "net.json")
    assert_close(next(iter(run_reference(graph, {graph.inputs[0].name: x}).values())), np.asarray(model(x)))


def test_layers_are_found_by_name_whatever_their_number(tmp_path: Path, assert_close: Close) -> None:
    layers = [L.Dense(4, name=f"d{k}", activation="tanh") for k in range(12)]
    check(randomized(keras.Sequential([L.Input((4,)), *layers])), tmp_path, assert_close)


def test_leaky_relu_needs_no_more_than_a_product_and_a_maximum(tmp_path: Path, assert_close: Close) -> None:
    graph = check(keras.Sequential([L.Input((4,)), L.LeakyReLU(0.1, name="leaky")]), tmp_path, assert_close)[0]
    assert [node.name for node in graph.nodes[1:]] == ["leaky.slope", "leaky", "leaky.leaky_relu"]
    assert isinstance(graph.nodes[-1].op, Extremum)


def random_model(seed: int) -> Any:
    """Make a random functional model: dense layers, activations, normalization, skips, reshapes, two inputs."""
    keras.utils.clear_session(free_memory=False)
    rng = np.random.default_rng(seed)
    inputs = [keras.Input((int(rng.integers(1, 8)),)) for _ in range(rng.integers(1, 3))]
    values = list(inputs)
    for _ in range(rng.integers(2, 9)):
        x = values[int(rng.integers(len(values)))]
        same = [v for v in values if v.shape == x.shape]
        y = same[int(rng.integers(len(same)))]
        match int(rng.integers(8)):
            case 0 | 1:
                activation = str(rng.choice(["linear", "relu", "leaky_relu", "sigmoid", "tanh", "softmax", "relu6"]))
                x = L.Dense(int(rng.integers(1, 8)), activation=activation, use_bias=bool(rng.integers(2)))(x)
            case 2:
                x = L.BatchNormalization(scale=bool(rng.integers(2)), center=bool(rng.integers(2)))(x)
            case 3:
                x = getattr(L, str(rng.choice(["Add", "Subtract", "Maximum", "Minimum", "Average"])))()([x, y])
            case 4:
                flat = [v if len(v.shape) == 2 else L.Flatten()(v) for v in values[-3:]]
                x = L.Concatenate()(flat) if len(flat) > 1 else flat[0]
            case 5:
                x = L.LeakyReLU(float(rng.uniform(0, 1)))(x)
            case 6:
                x = L.Reshape((-1, 1))(x) if len(x.shape) == 2 else L.Permute((2, 1))(x)
            case _:
                nested = keras.Sequential([L.Input(x.shape[1:]), L.Dense(3, activation="relu"), L.Dropout(0.5)])
                x = nested(x)
        values.append(x)
    return randomized(keras.Model(inputs, [values[-1], *values[-2:-1]]), seed)


@pytest.mark.random
@pytest.mark.parametrize("seed", seeds(12))
def test_random_models_agree(seed: int, tmp_path: Path, assert_close: Close) -> None:
    check(random_model(seed), tmp_path, assert_close)
