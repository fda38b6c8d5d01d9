"""Runs QKeras, in the interpreter that has it: quantizers on arrays, and random networks saved with all their outputs.

    python qkeras_worker.py quantizers IN.npz OUT.npz
    python qkeras_worker.py networks FOLDER SEED COUNT

Works with qkeras-v3 (Keras 3) and with the original qkeras (Keras 2). Prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import random
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import numpy as np
import qkeras
import tensorflow as tf
from qkeras import quantizers

try:
    import keras

    V3 = keras.__version__.startswith("3")
except ImportError:
    V3 = False
if not V3:
    keras = tf.keras
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)

EVENTS = 64


def run_quantizers(source: Path, target: Path) -> dict[str, Any]:
    """Apply quantizer k to array x<k>; writes y<k>, or what QKeras raised."""
    data = np.load(source)
    found: dict[str, Any] = {}
    errors = {}
    for k, (name, arguments) in enumerate(json.loads(str(data["spec"]))):
        try:
            quantizer = getattr(quantizers, name)(**arguments)
            found[f"y{k}"] = np.asarray(quantizer(tf.constant(data[f"x{k}"], tf.float32)), dtype=np.float32)
        except Exception as error:  # noqa: BLE001 - whatever QKeras raises is an answer, which the test compares
            errors[str(k)] = f"{type(error).__name__}: {error}"[:200]
    np.savez(target, **found)
    return {"errors": errors}


class Draw:
    """Random layers and quantizers, from one seed."""

    def __init__(self, seed: int) -> None:
        """Start from a seed."""
        self.r = random.Random(seed)

    def bits(self, alphas: list[Any]) -> tuple[str, dict[str, Any]]:
        """Draw quantized_bits, or quantized_linear where there is one."""
        r = self.r
        name = "quantized_linear" if V3 and r.random() < 0.3 else "quantized_bits"
        alpha = r.choice(alphas)
        bits = r.randint(2, 8)
        integer = r.randint(0, 2)
        return name, {
            "bits": bits,
            "integer": integer,
            "symmetric": r.randint(0, 1),
            "keep_negative": r.random() < 0.9,
            "alpha": alpha,
        }

    def weights(self) -> tuple[str, dict[str, Any]] | None:
        """Draw a quantizer of a kernel."""
        r = self.r
        kind = r.random()
        if kind < 0.6:
            return self.bits([None, 1, 1.0, 0.75, 2.0, "auto", "auto_po2"])
        if kind < 0.75:
            return r.choice(["ternary", "stochastic_ternary"]), {"alpha": r.choice([None, 1, 0.5, "auto", "auto_po2"])}
        if kind < 0.88:
            return r.choice(["binary", "stochastic_binary"]), {"alpha": r.choice([None, 1, 0.3, "auto", "auto_po2"])}
        if kind < 0.97:
            return "quantized_po2", {"bits": r.randint(2, 4), "max_value": r.choice([None, 1, 2])}
        return None

    def bias(self) -> tuple[str, dict[str, Any]] | None:
        """Draw a quantizer of a bias."""
        r = self.r
        return r.choice(
            [self.bits([1, None]), self.bits([1, 0.5]), ("quantized_po2", {"bits": 4, "max_value": 1}), None]
        )

    def activation(self) -> tuple[str, dict[str, Any]]:
        """Draw a quantizer of values."""
        r = self.r
        kind = r.random()
        if kind < 0.35:
            slope = r.choice([0.0, 0.0, 0.25, 0.5])
            upper = r.choice([None, None, 1.5])
            return "quantized_relu", {
                "bits": r.randint(2, 8),
                "integer": r.randint(0, 3),
                "use_sigmoid": int(r.random() < 0.2),
                "negative_slope": slope,
                "relu_upper_bound": upper,
            }
        if kind < 0.6:
            return self.bits([None, 1, 0.5, 0.75])
        if kind < 0.7:
            real = r.random() < 0.5
            return "quantized_tanh", {"bits": r.randint(2, 8), "symmetric": r.random() < 0.5, "use_real_tanh": real}
        if kind < 0.8:
            real = r.random() < 0.5
            return "quantized_sigmoid", {
                "bits": r.randint(2, 8),
                "symmetric": r.random() < 0.5,
                "use_real_sigmoid": real,
            }
        if kind < 0.85:
            return r.choice(["ternary", "stochastic_ternary"]), {"alpha": r.choice([None, 1.0, 0.5])}
        if kind < 0.9:
            return r.choice(["binary", "stochastic_binary"]), {"alpha": r.choice([None, 1.0, 2.0])}
        if kind < 0.95:
            name = r.choice(["quantized_po2", "quantized_relu_po2"])
            return name, {"bits": r.randint(2, 4), "max_value": r.choice([None, 1, 4])}
        return "quantized_hswish", {"bits": r.randint(3, 8), "integer": r.randint(0, 2)}

    def given(self, drawn: tuple[str, dict[str, Any]] | None) -> Any:
        """Return the drawn quantizer as a string or as an object."""
        if drawn is None:
            return None
        name, arguments = drawn
        if self.r.random() < 0.4:
            return f"{name}({','.join(f'{k}={v!r}' for k, v in arguments.items() if v is not None)})"
        return getattr(quantizers, name)(**arguments)

    def product(self, kind: str, **arguments: Any) -> Any:
        """Make a layer with weights."""
        r = self.r
        roles = {
            "QSeparableConv1D": ("depthwise", "pointwise"),
            "QSeparableConv2D": ("depthwise", "pointwise"),
            "QDepthwiseConv2D": ("depthwise",),
            "QDepthwiseConv2DBatchnorm": ("depthwise",),
        }.get(kind, ("kernel",))
        for role in roles:
            arguments[f"{role}_quantizer"] = self.given(self.weights())
        arguments["bias_quantizer"] = self.given(self.bias())
        arguments["use_bias"] = r.random() < 0.8
        if kind.endswith("Batchnorm"):
            arguments["folding_mode"] = r.choice(["ema_stats_folding", "batch_stats_folding"])
        if r.random() < 0.4:
            arguments["activation"] = r.choice([self.given(self.activation()), "relu", "linear"])
        return getattr(qkeras, kind)(**arguments)

    def between(self) -> Any:
        """Make a layer that can stand anywhere. QBatchNormalization of qkeras-v3 1.2.1 fails when called."""
        kind = self.r.random()
        if kind < 0.75:
            return qkeras.QActivation(self.given(self.activation()))
        if kind < 0.9 or V3:
            return keras.layers.BatchNormalization()
        if kind < 0.95:
            return qkeras.QBatchNormalization()
        none = dict.fromkeys(("gamma_quantizer", "beta_quantizer", "variance_quantizer"))
        return qkeras.QBatchNormalization(**none, mean_quantizer=self.given(self.bits([1])))

    def network(self) -> tuple[list[int], list[Any]]:
        """Draw the shape of an event and the layers, of those that work in this version of QKeras."""
        r = self.r
        kind = r.choice(["dense", "image", "image", "sequence"])
        if kind == "dense":
            names = ["QDense", "QDense", "QDenseBatchnorm"] if V3 else ["QDense"]
            layers = []
            for _ in range(r.randint(1, 3)):
                layers += [self.product(r.choice(names), units=r.randint(2, 6)), self.between()]
            return [r.randint(2, 8)], layers
        if kind == "sequence":
            first = self.product(
                "QConv1D",
                filters=4,
                kernel_size=3,
                padding=r.choice(["valid", "same"] if V3 else ["valid", "same", "causal"]),
            )
            names = ["QConv1D"] if V3 else ["QConv1D", "QSeparableConv1D"]
            second = self.product(r.choice(names), filters=3, kernel_size=2, strides=r.randint(1, 2))
            pool = r.choice(
                [keras.layers.GlobalAveragePooling1D, keras.layers.Flatten, keras.layers.GlobalMaxPooling1D]
            )
            return [8, 3], [first, self.between(), second, self.between(), pool(), self.product("QDense", units=3)]
        names = ["QConv2D", "QConv2DBatchnorm", "QDepthwiseConv2D", "QDepthwiseConv2DBatchnorm", "QSeparableConv2D"]
        layers = []
        for _ in range(r.randint(1, 2)):
            name = r.choice(names)
            own = {} if "Depthwise" in name else {"filters": r.randint(2, 4)}
            own["padding"] = r.choice(["valid", "same"])
            layers += [self.product(name, kernel_size=(2, 3), **own), self.between()]
        average = self.given(r.choice([("quantized_bits", {"bits": 6, "integer": 0, "alpha": 1}), None]))
        after = self.given(r.choice([self.activation(), None]))
        if r.random() < 0.5:
            padding = r.choice(["valid", "same"])
            pool = qkeras.QAveragePooling2D(pool_size=2, padding=padding, average_quantizer=average, activation=after)
            layers += [pool, keras.layers.Flatten()]
        else:
            layers += [qkeras.QGlobalAveragePooling2D(average_quantizer=average, activation=after)]
        return [7, 7, r.randint(1, 3)], [*layers, self.product("QDense", units=3)]


def randomize(model: Any, seed: int) -> None:
    """Give every array random values of its kind."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        name = getattr(variable, "path", variable.name).split("/")[-1].split(":")[0]
        shape = tuple(variable.shape)
        if name == "iteration":
            continue
        low, high = {"gamma": (0.5, 2.0), "moving_variance": (0.2, 2.0)}.get(name, (-1.2, 1.2))
        variable.assign(rng.uniform(low, high, shape).astype(np.float32))


def make_network(folder: Path, seed: int) -> dict[str, Any]:
    """Build, save and run one network."""
    draw = Draw(seed)
    shape, layers = draw.network()
    inputs = keras.layers.Input(tuple(shape))
    values = [inputs]
    for layer in layers:
        values.append(layer(values[-1]))
    model = keras.Model(inputs, values[-1])
    randomize(model, seed)
    if V3:
        path = folder / f"n{seed}.{draw.r.choice(['keras', 'h5'])}"
        model.save(path)
    elif draw.r.random() < 0.5:
        path = folder / f"n{seed}.json"
        path.write_text(model.to_json())
        model.save_weights(folder / f"n{seed}_weights.h5")
    else:
        path = folder / f"n{seed}.h5"
        model.save(path)
    x = np.random.default_rng(seed + 1).integers(-64, 64, (EVENTS, *shape)).astype(np.float32) / 16
    found = keras.Model(inputs, values[1:])(x, training=False)
    found = found if isinstance(found, list) else [found]
    outputs = {layer.name: np.asarray(y) for layer, y in zip(layers, found, strict=True)}
    np.savez(folder / f"n{seed}.npz", x=x, **{f"y.{name}": y for name, y in outputs.items()})
    return {"seed": seed, "file": path.name, "layers": [[type(layer).__name__, layer.name] for layer in layers]}


def main(arguments: list[str]) -> None:
    """Do what the command line says."""
    if arguments[0] == "quantizers":
        result = run_quantizers(Path(arguments[1]), Path(arguments[2]))
    else:
        folder, seed, count = Path(arguments[1]), int(arguments[2]), int(arguments[3])
        made, errors = [], {}
        for k in range(seed, seed + count):
            try:
                made.append(make_network(folder, k))
            except Exception as error:  # noqa: BLE001 - told with its seed; the test accepts none
                errors[str(k)] = f"{type(error).__name__}: {error}"[-400:]
        result = {"networks": made, "errors": errors}
    result["qkeras"] = "v3" if V3 else "original"
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
