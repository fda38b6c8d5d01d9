"""Runs Keras 2 on TensorFlow functions, in an interpreter that has TensorFlow and tf_keras.

    python tensorflow_worker.py FOLDER

Writes one model per group of expressions, as `.h5` and the first as `.keras` too, with events and what they
give. Prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import numpy as np
import tensorflow as tf

keras = tf.keras
K = keras.backend
WEIGHTS = np.random.default_rng(1).normal(size=(4, 2)).astype(np.float32)

EXPRESSIONS: dict[str, list[Callable[[Any, Any], Any]]] = {
    "arithmetic": [
        lambda a, b: a + b,
        lambda a, b: 2 + a,
        lambda a, b: a - b,
        lambda a, b: 1.0 - a,
        lambda a, b: a * b,
        lambda a, b: a / (tf.abs(b) + 0.5),
        lambda a, b: 1 / (abs(a) + 0.5),
        lambda a, b: -a,
        lambda a, b: a**2,
        lambda a, b: tf.pow(tf.abs(a), 1.5),
        lambda a, b: tf.maximum(a, b),
        lambda a, b: tf.minimum(a, 0.5),
        lambda a, b: tf.clip_by_value(a, -1, 1),
        lambda a, b: tf.add_n([a, b, a]),
        lambda a, b: tf.multiply(a, tf.subtract(a, b)),
        lambda a, b: tf.add(tf.divide(a, 4.0), b),
        lambda a, b: tf.math.squared_difference(a, b),
        lambda a, b: tf.stop_gradient(tf.identity(tf.cast(a, tf.float32))) + b,
    ],
    "functions": [
        *(
            lambda a, b, f=f: f(a)
            for f in (
                tf.nn.relu, tf.nn.softmax, tf.nn.relu6, tf.nn.elu, tf.nn.selu, tf.nn.silu, tf.nn.gelu, tf.nn.softplus,
                tf.nn.softsign, tf.nn.tanh, tf.nn.sigmoid, tf.nn.log_softmax, tf.nn.leaky_relu, tf.exp, tf.square,
                tf.sin, tf.cos, tf.floor, tf.round, tf.sign, tf.math.erf, tf.math.expm1, tf.atan, tf.sinh, tf.negative,
                K.hard_sigmoid, K.sigmoid, K.softmax,
            )
        ),
        lambda a, b: tf.nn.softmax(a, axis=1),
        lambda a, b: tf.nn.leaky_relu(a, 0.3),
        lambda a, b: tf.nn.gelu(a, approximate=True),
        lambda a, b: tf.sqrt(tf.math.rsqrt(tf.math.log(tf.math.log1p(tf.abs(a) + 2)))),
        lambda a, b: tf.math.reciprocal(tf.abs(a) + 0.5),
        lambda a, b: keras.activations.gelu(a),
        lambda a, b: keras.activations.swish(a),
    ],
    "reductions": [
        lambda a, b: tf.reduce_sum(a, axis=1),
        lambda a, b: tf.reduce_mean(a, axis=[1, 2], keepdims=True),
        lambda a, b: tf.reduce_max(a, -1),
        lambda a, b: tf.reduce_min(a, 1),
        lambda a, b: tf.math.reduce_variance(a, 1),
        lambda a, b: tf.math.reduce_std(a, 1),
        lambda a, b: tf.math.reduce_euclidean_norm(a, 1),
        lambda a, b: tf.norm(a, axis=-1, keepdims=True),
        lambda a, b: K.sum(a, axis=1),
        lambda a, b: K.max(a, axis=-1, keepdims=True),
    ],
    "movement": [
        lambda a, b: tf.concat([a, b], axis=1),
        lambda a, b: tf.stack([a, b], axis=1),
        lambda a, b: tf.unstack(a, axis=1)[2],
        lambda a, b: tf.split(a, 2, axis=2)[1],
        lambda a, b: tf.split(a, [1, -1], axis=1)[1],
        lambda a, b: tf.reshape(a, (-1, 12)),
        lambda a, b: tf.transpose(a, [0, 2, 1]),
        lambda a, b: tf.expand_dims(a, axis=-1),
        lambda a, b: tf.squeeze(tf.expand_dims(a, 1), axis=[1]),
        lambda a, b: tf.squeeze(a[:, :1], 1),
        lambda a, b: tf.tile(a, [1, 2, 1]),
        lambda a, b: tf.repeat(a, 2, axis=1),
        lambda a, b: tf.reverse(a, axis=[1]),
        lambda a, b: tf.roll(a, 1, axis=1),
        lambda a, b: tf.pad(a, [[0, 0], [1, 0], [0, 2]]),
        lambda a, b: tf.gather(a, [2, 0], axis=1),
        lambda a, b: tf.slice(a, [0, 1, 0], [-1, 2, 3]),
        lambda a, b: tf.strided_slice(a, [0, 1], [0, 3], [1, 1], begin_mask=1, end_mask=1),
        lambda a, b: K.permute_dimensions(K.concatenate([a, b]), (0, 2, 1)),
        lambda a, b: a[:, 0],
        lambda a, b: a[..., 1:],
        lambda a, b: a[:, ::-1, None, ::2],
        lambda a, b: a[:, -1],
        lambda a, b: tf.reduce_sum(a, axis=[1, 2]),
    ],
    "products": [
        lambda a, b: a @ tf.transpose(b, (0, 2, 1)),
        lambda a, b: tf.matmul(a, b, transpose_b=True),
        lambda a, b: tf.matmul(a, b, transpose_a=True),
        lambda a, b: tf.matmul(a, WEIGHTS),
        lambda a, b: tf.matmul(a, WEIGHTS.T.copy(), transpose_b=True),
        lambda a, b: tf.linalg.matvec(a, b[:, 0]),
        lambda a, b: tf.tensordot(a, WEIGHTS, 1),
        lambda a, b: K.batch_dot(a, b, axes=2),
        lambda a, b: tf.reduce_sum(a * b, axis=-1, keepdims=True),
    ],
}  # fmt: skip


def main(folder: Path) -> None:
    """Write every group."""
    events = np.random.default_rng(2).uniform(-2, 2, size=(2, 5, 3, 4)).astype(np.float32)
    for group, expressions in EXPRESSIONS.items():
        inputs = [keras.Input((3, 4), name="a"), keras.Input((3, 4), name="b")]
        model = keras.Model(inputs, [expression(*inputs) for expression in expressions])
        found = model(list(events), training=False)
        np.savez(folder / f"{group}.npz", a=events[0], b=events[1], **{f"y{k}": y for k, y in enumerate(found)})
        for suffix in ("h5", "keras") if group == "arithmetic" else ("h5",):
            model.save(folder / f"{group}.{suffix}")
    sys.stdout.write(json.dumps({group: len(listed) for group, listed in EXPRESSIONS.items()}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
