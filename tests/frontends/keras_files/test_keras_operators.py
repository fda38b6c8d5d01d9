"""Python operators and `keras.ops` in functional models against Keras itself. Skipped where Keras is not installed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")  # compiling takes longer than running
keras = pytest.importorskip("keras", reason="keras is not installed")
pytest.importorskip(os.environ["KERAS_BACKEND"], reason="the backend of keras is not installed")

from keras_networks import Close, check, randomized  # noqa: E402

from metronn.errors import ModelError  # noqa: E402
from metronn.frontends import load_model  # noqa: E402

L, ops = keras.layers, keras.ops
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]
KERAS = ("model.keras",)

EXPRESSIONS: dict[str, list[Callable[[Any, Any], Any]]] = {
    "arithmetic": [
        lambda a, b: (a + b) * 2.0 - b / 3.0,
        lambda a, b: 1.0 - a,
        lambda a, b: -a,
        lambda a, b: a**2,
        lambda a, b: ops.power(ops.abs(a) + 0.5, 1.5),
        lambda a, b: a / (ops.abs(b) + 0.5),
        lambda a, b: ops.maximum(a, 0.25 * b),
        lambda a, b: ops.minimum(a, 0.5),
        lambda a, b: ops.clip(a, -0.5, 1),
        lambda a, b: ops.square(a) - ops.reciprocal(ops.exp(b)),
        lambda a, b: ops.cast(a, "float32") + ops.stop_gradient(b),
    ],
    "movement": [
        lambda a, b: a[:, 1:3],
        lambda a, b: a[..., 0],
        lambda a, b: a[:, ::-1, None, ::2],
        lambda a, b: a[:, 2],
        lambda a, b: ops.transpose(a, (0, 2, 1)),
        lambda a, b: ops.reshape(a, (-1, 6, 2)),
        lambda a, b: ops.concatenate([a, b, a], axis=1),
        lambda a, b: ops.stack([a, b], axis=2),
        lambda a, b: ops.split(a, 2, axis=1)[1],
        lambda a, b: ops.split(a, [1], axis=-1)[1],
        lambda a, b: ops.expand_dims(a, 1),
        lambda a, b: ops.squeeze(ops.expand_dims(a, 2), 2),
        lambda a, b: ops.flip(a, axis=1),
        lambda a, b: ops.roll(a, 1, axis=2),
        lambda a, b: ops.repeat(a, 2, axis=1),
        lambda a, b: ops.tile(a, (1, 2, 1)),
        lambda a, b: ops.moveaxis(a, 1, 2),
        lambda a, b: ops.swapaxes(a, 1, 2),
        lambda a, b: ops.pad(a, ((0, 0), (1, 0), (2, 1))),
    ],
    "reductions": [
        lambda a, b: ops.mean(a, axis=1, keepdims=True),
        lambda a, b: ops.sum(a, axis=(1, 2)),
        lambda a, b: ops.max(a, axis=-1),
        lambda a, b: ops.min(a, axis=2, keepdims=True),
        lambda a, b: ops.var(a, axis=1),
        lambda a, b: ops.softmax(a, axis=1),
        lambda a, b: ops.log_softmax(a, axis=-1),
    ],
    "products": [
        lambda a, b: ops.matmul(a, ops.transpose(b, (0, 2, 1))),
        lambda a, b: ops.einsum("bij,bij->bi", a, b),
        lambda a, b: ops.einsum("bij,bkj->bik", a, b),
        lambda a, b: ops.einsum("bij,bkl->bjk", a, b),
    ],
    "functions": [
        *(
            lambda a, b, name=name: getattr(ops, name)(a)
            for name in (
                "sin", "cos", "arctan", "sinh", "cosh", "arcsinh", "tanh", "exp", "expm1", "erf", "sign", "floor",
                "ceil", "round", "relu", "relu6", "sigmoid", "silu", "selu", "softplus", "softsign", "hard_sigmoid",
                "hard_silu", "hard_tanh", "log_sigmoid", "squareplus", "sparse_plus", "sparse_sigmoid", "tanh_shrink",
                "gelu", "celu", "elu", "leaky_relu", "glu", "hard_shrink", "soft_shrink",
            )
        ),
        *(
            lambda a, b, name=name: getattr(ops, name)(ops.abs(a) + 1.25)
            for name in ("sqrt", "rsqrt", "log", "log1p", "arccosh")
        ),
        *(
            lambda a, b, name=name: getattr(ops, name)(0.25 * a)
            for name in ("arcsin", "arccos", "arctanh", "tan")
        ),
        lambda a, b: ops.gelu(a, approximate=False),
        lambda a, b: ops.elu(a, alpha=0.5),
        lambda a, b: ops.celu(a, alpha=0.5),
        lambda a, b: ops.threshold(a, 0.5, -1.0),
        lambda a, b: keras.activations.relu(a, threshold=0.5, negative_slope=0.25, max_value=1.0),
    ],
}  # fmt: skip


@pytest.mark.parametrize("family", EXPRESSIONS)
def test_operations_agree_with_keras(family: str, tmp_path: Path, assert_close: Close) -> None:
    a, b = keras.Input((4, 3 if family != "functions" else 4)), keras.Input((4, 3 if family != "functions" else 4))
    outputs = [make(a, b) for make in EXPRESSIONS[family]]
    check(keras.Model([a, b], [*outputs, b]), tmp_path, assert_close, KERAS)


def test_operations_between_layers(tmp_path: Path, assert_close: Close) -> None:
    a = keras.Input((8, 8, 2))
    x = L.Conv2D(4, 3, padding="same")(a)
    x = ops.relu(x) + L.Conv2D(4, 1)(a)
    gate = L.Dense(4, activation="sigmoid")(ops.mean(x, axis=(1, 2), keepdims=True))
    model = randomized(keras.Model(a, L.Dense(2)(ops.max(x * gate, axis=(1, 2)))))
    check(model, tmp_path, assert_close)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda a: ops.mean(a, axis=0, keepdims=True), r"mean \(Mean\): axis 0 of 3 is the batch axis"),
        (lambda a: ops.sum(a), r"sum \(Sum\): works along all axes, the batch axis 0 among them"),
        (lambda a: ops.flip(a, axis=0), r"flip \(Flip\): moves the batch axis 0; events must stay independent"),
        (lambda a: ops.sort(a, axis=1), "1 unsupported layer:\n  sort: ops.Sort\n"),
        (lambda a: ops.cast(a, "int32"), r"cast \(Cast\): casts to int32, which rounds"),
    ],
)
def test_operations_that_cannot_be_read_say_why(make: Callable[[Any], Any], message: str, tmp_path: Path) -> None:
    keras.utils.clear_session(free_memory=False)
    a = keras.Input((4, 3))
    keras.Model(a, make(a)).save(tmp_path / "model.keras")
    with pytest.raises(ModelError, match=message):
        load_model(tmp_path / "model.keras")
