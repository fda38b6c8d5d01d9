"""The generated networks of ptq.py: kinds of float networks whose values differ in scale, spread or density.

Each is a recipe: events, and layers with weights after He; `GENERATED` lists them. The same seed gives the same network
and events. Calibration and fresh events are drawn from one distribution, apart from the outliers that only calibration
has (`outlier_one`, `outlier_few`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import numpy.typing as npt

from ptq_writer import Writer, answers

Array = npt.NDArray[Any]
Events = dict[str, Array]
Draw = Callable[[np.random.Generator, int], Events]
Layers = Callable[[Writer], str]
CALIBRATION, FRESH, SAMPLE = 2000, 2000, 4000
"""Events given to the quantizer, events that judge it, and those whose moments batch normalizations have."""
CLASSES, REGRESSION = "accuracy", "ptq_metric.py:closeness"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Events by input name, the float network's answers in order of its outputs, and labels or a target."""

    inputs: Mapping[str, Array]
    answers: list[Array]
    extra: Mapping[str, Array] = field(default_factory=dict)

    def first(self, count: int) -> Sample:
        """Return the first events."""
        inputs, extra = ({name: x[:count] for name, x in arrays.items()} for arrays in (self.inputs, self.extra))
        return Sample(inputs=inputs, answers=[x[:count] for x in self.answers], extra=extra)


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A trained float network with events: `metric` as in quantize.metric, "none" where there is none.

    `base` is the folder of a metric of its own. `peer` is what hls4ml reads: a Keras or ONNX file, or the recipe of a
    Keras twin; None where there is no such form.
    """

    path: Path
    calibration: Sample
    fresh: Sample
    metric: str = "none"
    base: Path = Path(__file__).resolve().parent
    peer: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A name, a kind, and the function that makes the network in a folder from a seed."""

    name: str
    kind: str
    make: Callable[[Path, int], Network]


def generated(
    name: str,
    draw: Draw,
    layers: Layers,
    *,
    metric: str = "none",
    trained: Draw | None = None,
    before: Draw | None = None,
    events: int = FRESH,
) -> Entry:
    """Return the entry of a recipe; `trained` and `before` draw what it was trained and calibrated on, if others."""

    def make(folder: Path, seed: int) -> Network:
        streams = np.random.SeedSequence([seed, crc32(name.encode())]).spawn(4)
        sample, weights, calibration, fresh = (np.random.Generator(np.random.PCG64(stream)) for stream in streams)
        writer = Writer(weights, (trained or draw)(sample, min(SAMPLE, 2 * events)))
        path, peer = writer.save(folder / f"{name}.onnx", layers(writer))
        return Network(
            path=path,
            calibration=judged(path, (before or draw)(calibration, min(CALIBRATION, events)), metric),
            fresh=judged(path, draw(fresh, events), metric),
            metric=metric,
            peer=peer,
        )

    return Entry(name=name, kind="generated", make=make)


def judged(path: Path, inputs: Events, metric: str) -> Sample:
    """Return events with the float network's answers, which are also their labels or target."""
    found = answers(str(path), inputs)
    extra = {CLASSES: {"label": found[0].argmax(-1)}, REGRESSION: {"target": found[0]}}.get(metric, {})
    return Sample(inputs=inputs, answers=found, extra=extra)


# Events.


def normal(size: int | tuple[int, ...], scale: object = 1.0, mean: object = 0.0, name: str = "x") -> Draw:
    """Draw normal events of a shape, each feature with its scale and mean."""
    shape = (size,) if isinstance(size, int) else size
    return lambda rng, n: {name: np.float32(rng.normal(size=(n, *shape)) * np.asarray(scale) + np.asarray(mean))}


def raw_features(rng: np.random.Generator, n: int) -> Events:
    """Draw what a trigger knows of a jet: pt, eta, phi, mass, a share, a count, another share, HT."""
    columns = [
        *(np.exp(3 + 0.8 * rng.normal(size=n)), rng.normal(size=n), rng.uniform(-np.pi, np.pi, n)),
        *(np.exp(1 + rng.normal(size=n)), rng.uniform(0, 1, n), rng.poisson(20, n), rng.uniform(0, 1, n)),
        np.exp(6 + 0.5 * rng.normal(size=n)),
    ]
    return {"x": np.float32(np.stack(columns, 1))}


def both(*draws: Draw) -> Draw:
    """Draw the inputs of several."""
    return lambda rng, n: {name: values for draw in draws for name, values in draw(rng, n).items()}


def changed(draw: Draw, change: Callable[[np.random.Generator, Array], None]) -> Draw:
    """Draw, then change input x in place."""

    def drawn(rng: np.random.Generator, n: int) -> Events:
        events = draw(rng, n)
        change(rng, events["x"])
        return events

    return drawn


def first_event(value: float, count: int = 1) -> Callable[[np.random.Generator, Array], None]:
    """Fill the first events with a value."""

    def change(_: np.random.Generator, x: Array) -> None:
        x[:count] = value

    return change


def filled(share: float, value: float) -> Callable[[np.random.Generator, Array], None]:
    """Give a share of all values a fill value."""

    def change(rng: np.random.Generator, x: Array) -> None:
        x[rng.random(x.shape) < share] = value

    return change


def constant_columns(values: Mapping[int, float]) -> Callable[[np.random.Generator, Array], None]:
    """Give some features one value in every event."""

    def change(_: np.random.Generator, x: Array) -> None:
        for column, value in values.items():
            x[:, column] = value

    return change


def lognormal(size: int, sigma: float) -> Draw:
    """Draw heavy tails: log-normal values."""
    return lambda rng, n: {"x": np.float32(np.exp(sigma * rng.normal(size=(n, size))))}


def spread(size: int, sigma: float, *, positive: bool = False) -> Draw:
    """Draw events whose own scale is log-normal."""

    def drawn(rng: np.random.Generator, n: int) -> Events:
        x = rng.normal(size=(n, size))
        x = np.maximum(x, 0) + 1e-3 if positive else x
        return {"x": np.float32(x * np.exp(sigma * rng.normal(size=(n, 1))))}

    return drawn


def particles(rng: np.random.Generator, n: int) -> Events:
    """Draw up to 8 particles of 4 features with `valid`, 1 where there is one: at least one."""
    count = rng.integers(1, 9, n)
    valid = np.float32(np.arange(8) < count[:, None])
    return {"x": np.float32(rng.normal(size=(n, 8, 4)) * valid[:, :, None]), "valid": valid}


# Layers.


def mlp(
    *sizes: int, first: str = "", last: str = "", act: str = "relu", bias: float = 0.1, shift: float = 0.0
) -> Layers:
    """Return dense layers; `first` is "", "batch_norm" or "standardized", `last` an activation behind them."""

    def layers(net: Writer, x: str = "x") -> str:
        x = net.batch_norm(x) if first == "batch_norm" else x
        for at, size in enumerate(sizes):
            end = at == len(sizes) - 1
            gain = 2.0 if act in ("relu", "gelu", "silu") and at else 1.0
            if at == 0 and first == "standardized":
                x = net.standardized(x, size)
            elif end:
                x = net.head(x, size)
            else:
                x = net.dense(x, size, gain=gain, bias=bias, shift=shift)
            x = x if end else net.activation(x, act)
        if last == "softmax":
            return net.softmax(x)
        return net.activation(x, last) if last else x

    return layers


def shifted_answer(scale: float, mean: float) -> Layers:
    """Return a regression whose answers have a scale and mean."""

    def layers(net: Writer) -> str:
        hidden = mlp(16, 16)(net)
        hidden = net.activation(hidden)
        values = net.values(hidden).astype(np.float64)
        weight = net.rng.normal(size=(16, 1))
        weight *= scale / (values @ weight).std()
        return net.matrix(hidden, weight, mean - (values @ weight).mean(0))

    return layers


def in_units(scale: float) -> Layers:
    """Return dense layers with ordinary weights whose values all are of a scale, biases and answers too."""

    def layers(net: Writer) -> str:
        x = net.activation(net.dense("x", 16, gain=1.0, bias=0.1 * scale))
        return net.dense(x, 4, gain=2.0, bias=0.1 * scale)

    return layers


def two_inputs(net: Writer) -> str:
    joined = net.concat("x", "z")
    return net.head(net.activation(net.standardized(joined, 16)), 5)


def two_inputs_apart(net: Writer) -> str:
    left, right = (net.activation(net.standardized(x, 8)) for x in ("x", "z"))
    return net.head(net.activation(net.dense(net.concat(left, right), 16)), 5)


def two_inputs_normalized(net: Writer) -> str:
    return mlp_on(net, net.concat(net.batch_norm("x"), net.batch_norm("z")), 16, 5)


def mlp_on(net: Writer, x: str, *sizes: int) -> str:
    for at, size in enumerate(sizes):
        last = at == len(sizes) - 1
        x = net.head(x, size) if last else net.activation(net.dense(x, size, gain=2.0 if at else 1.0))
    return x


def residual(depth: int, *, normalized: bool) -> Layers:
    """Return a residual MLP: x + dense(relu(dense(x))), `depth` times."""

    def layers(net: Writer) -> str:
        x = net.dense("x", 16, gain=1.0)
        for _ in range(depth):
            inner = layer_norm(net, x) if normalized else x
            x = net.add(x, net.dense(net.activation(net.dense(inner, 16)), 16, gain=0.5))
        return net.head(x, 5)

    return layers


def branches(left: float, right: float) -> Layers:
    """Return a sum of two branches of different scale, and a network on it."""

    def layers(net: Writer) -> str:
        x = net.activation(net.dense("x", 16, gain=1.0))
        large = net.dense(x, 16, gain=2.0 * left**2, bias=0.1 * left)
        small = net.dense(net.activation(net.dense(x, 16)), 16, gain=2.0 * right**2, bias=0.1 * right)
        total = net.add(large, small)
        return net.head(total, 4)

    return layers


def convolutions(depth: int, channels: int) -> Layers:
    """Return convolutions with batch normalization and ReLU, the mean over all positions, and a dense layer."""

    def layers(net: Writer) -> str:
        x = "x"
        for _ in range(depth):
            x = net.activation(net.batch_norm(net.conv(x, channels)))
        return net.head(net.pool_all(x), 5)

    return layers


def layer_norm(net: Writer, x: str) -> str:
    size = net.values(x).shape[-1]
    scale, shift = net.constant(net.rng.uniform(0.7, 1.3, size)), net.constant(net.rng.normal(0, 0.1, size))
    return net.op("LayerNormalization", x, scale, shift, axis=-1, epsilon=1e-5)


def rms_norm(net: Writer, x: str) -> str:
    mean = net.op("ReduceMean", net.op("Mul", x, x), net.integers([-1]), keepdims=1)
    return net.op("Div", x, net.op("Sqrt", net.op("Add", mean, net.constant(1e-6))))


def unit_length(net: Writer, x: str) -> str:
    return net.op("LpNormalization", x, axis=-1, p=2)


def shares(net: Writer, x: str) -> str:
    return net.op("Div", x, net.op("ReduceSum", x, net.integers([-1]), keepdims=1))


def only(norm: Callable[[Writer, str], str]) -> Layers:
    """Return a normalization by itself."""
    return lambda net: norm(net, "x")


def within(norm: Callable[[Writer, str], str]) -> Layers:
    """Return a normalization between dense layers."""

    def layers(net: Writer) -> str:
        return mlp_on(net, norm(net, net.activation(net.dense("x", 16, gain=1.0))), 16, 5)

    return layers


def inverse_again(net: Writer) -> str:
    return net.op("Mul", net.op("Reciprocal", "x"), "x")


def constant_mask(value: float) -> Layers:
    """Return a softmax of which a constant mask leaves four of six."""

    def layers(net: Writer) -> str:
        x = net.dense("x", 6, gain=1.0)
        return net.op("Softmax", net.op("Add", x, net.constant([0, 0, 0, 0, value, value])), axis=-1)

    return layers


def computed_mask(value: float, *, chosen: bool) -> Layers:
    """Return particles weighted by a softmax over the valid ones: by adding (1 - valid) * value, or by Where."""

    def layers(net: Writer) -> str:
        score = net.op("Squeeze", net.dense("x", 1, gain=1.0), net.integers([2]))
        if chosen:
            present = net.op("Greater", "valid", net.constant(0.5))
            score = net.op("Where", present, score, net.constant(value))
        else:
            missing = net.op("Sub", net.constant(1.0), "valid")
            score = net.op("Add", score, net.op("Mul", missing, net.constant(value)))
        share = net.op("Unsqueeze", net.op("Softmax", score, axis=-1), net.integers([2]))
        features = net.activation(net.dense("x", 12, gain=1.0))
        pooled = net.op("ReduceSum", net.op("Mul", features, share), net.integers([1]), keepdims=0)
        return net.head(pooled, 4)

    return layers


def attention(net: Writer) -> str:
    query, key, value = (net.dense("x", 8, gain=1.0) for _ in range(3))
    score = net.op("MatMul", query, net.op("Transpose", key, perm=[0, 2, 1]))
    share = net.op("Softmax", net.op("Mul", score, net.constant(8**-0.5)), axis=-1)
    mixed = net.op("ReduceMean", net.op("MatMul", share, value), net.integers([1]), keepdims=0)
    return net.head(net.activation(net.dense(mixed, 16)), 5)


def zero_layer(net: Writer) -> str:
    x = net.activation(net.dense("x", 16, gain=1.0))
    dead = net.dense(x, 16, zero=True, bias=0.0)
    return net.head(net.add(x, net.activation(dead)), 4)


def dead_units(net: Writer) -> str:
    x = net.activation(net.dense("x", 24, gain=1.0, shift=-1.5))
    return net.head(net.activation(net.dense(x, 16)), 5)


def sharp_softmax(net: Writer) -> str:
    return net.softmax(net.dense(net.activation(net.dense("x", 32, gain=1.0)), 64, gain=32.0))


SCALES = 10.0 ** np.linspace(-3, 6, 8)
OFF = np.float32(-np.inf)
GENERATED = (
    generated("raw_bn_classes", raw_features, mlp(16, 5, first="batch_norm"), metric=CLASSES),
    generated("raw_bn", raw_features, mlp(16, 5, first="batch_norm")),
    generated("raw_bn_decades", normal(8, SCALES, SCALES), mlp(24, 16, 4, first="batch_norm")),
    generated("raw_classes", raw_features, mlp(16, 5, first="standardized"), metric=CLASSES),
    generated("raw_decades", normal(8, SCALES), mlp(24, 16, 4, first="standardized")),
    generated("concat_1_1000", both(normal(6), normal(6, 1000.0, name="z")), two_inputs),
    generated("concat_apart", both(normal(6), normal(6, 1000.0, name="z")), two_inputs_apart, metric=CLASSES),
    generated("concat_bn", both(normal(6), normal(6, 1e5, 1e4, name="z")), two_inputs_normalized),
    generated("outlier_one", normal(6), mlp(16, 3), before=changed(normal(6), first_event(1e6))),
    generated("outlier_few", normal(12), mlp(16, 16, 4), before=changed(normal(12), first_event(1e4, 5))),
    generated("outlier_fill", changed(normal(10), filled(0.05, -999.0)), mlp(16, 5), trained=normal(10)),
    generated(
        "outlier_fill_classes",
        changed(normal(10), filled(0.05, -999.0)),
        mlp(16, 5),
        trained=normal(10),
        metric=CLASSES,
    ),
    generated("constant_inputs", changed(normal(8), constant_columns({0: 0.0, 3: 1.0, 5: 125.0})), mlp(16, 4)),
    generated("constant_large", changed(normal(8), constant_columns({0: 2e4})), mlp(16, 4, first="standardized")),
    generated("mask_1e9", normal(6), constant_mask(-1e9)),
    generated("mask_infinite", normal(6), constant_mask(float(OFF))),
    generated("mask_added", particles, computed_mask(-1e9, chosen=False)),
    generated("mask_chosen", particles, computed_mask(-1e9, chosen=True)),
    generated("mask_chosen_infinite", particles, computed_mask(float(OFF), chosen=True)),
    generated("layer_norm_spread", spread(16, 0.5, positive=True), only(layer_norm)),
    generated("layer_norm_wide", spread(64, 1.5), only(layer_norm)),
    generated("layer_norm_within", normal(10), within(layer_norm), metric=CLASSES),
    generated("rms_norm_spread", spread(32, 1.0), only(rms_norm)),
    generated("rms_norm_within", spread(10, 0.5), within(rms_norm)),
    generated("unit_length", normal(3), only(unit_length)),
    generated("unit_length_spread", spread(16, 1.0), only(unit_length)),
    generated("shares_spread", spread(12, 1.0, positive=True), only(shares)),
    generated("reciprocal_decades", lambda r, n: {"x": np.float32(10 ** r.uniform(-2, 2, (n, 6)))}, inverse_again),
    generated("softmax_long", normal(8), sharp_softmax),
    generated("softmax_classes", normal(8), mlp(24, 24, 5, last="softmax"), metric=CLASSES),
    generated("attention", normal((6, 5)), attention),
    generated("units_1e-15", normal(6, 1e-15), mlp(16, 4, first="standardized")),
    generated("units_1e-21", normal(6, 1e-21), mlp(16, 4, first="standardized")),
    generated("units_1e12", normal(6, 1e12, 1e12), mlp(16, 4, first="standardized"), metric=CLASSES),
    generated("units_throughout_1e-15", normal(6, 1e-15), in_units(1e-15)),
    generated("units_throughout_1e-12", normal(6, 1e-12), in_units(1e-12)),
    generated("units_throughout_1e12", normal(6, 1e12), in_units(1e12)),
    generated("units_answers_1e-12", normal(6), shifted_answer(1e-12, 0.0)),
    generated("residual_12", normal(10), residual(12, normalized=False)),
    generated("residual_12_classes", normal(10), residual(12, normalized=False), metric=CLASSES),
    generated("residual_6_norm", normal(10), residual(6, normalized=True)),
    generated("conv2d_bn", normal((3, 8, 8)), convolutions(6, 8), events=300),
    generated("conv2d_bn_pixels", normal((3, 8, 8), 40.0, 120.0), convolutions(3, 8), events=300),
    generated("conv1d_bn", normal((4, 32)), convolutions(4, 8), events=500, metric=CLASSES),
    generated("regression_125", normal(8), shifted_answer(1.0, 125.0), metric=REGRESSION),
    generated("regression_1e-4", normal(8), shifted_answer(1e-4, 0.0)),
    generated("sparse", normal(10), dead_units),
    generated("sparse_deep", normal(10), mlp(24, 24, 24, 4, shift=-0.5)),
    generated("sigmoid", normal(10), mlp(24, 24, 4, act="sigmoid", last="sigmoid")),
    generated("tanh", normal(10), mlp(24, 24, 4, act="tanh")),
    generated("gelu", normal(10), mlp(24, 24, 4, act="gelu")),
    generated("silu", normal(10), mlp(24, 24, 4, act="silu"), metric=CLASSES),
    generated("skip_100_1", normal(10), branches(100.0, 1.0)),
    generated("skip_1_100", normal(10), branches(0.01, 1.0)),
    generated("zero_layer", normal(8), zero_layer),
    generated("shifted_features", normal(8, 1.0, 1000.0), mlp(16, 4, first="standardized")),
    generated("shifted_bn", normal(8, 1.0, 1000.0), mlp(16, 16, 4, first="batch_norm"), metric=CLASSES),
    generated("lognormal", lognormal(8, 2.0), mlp(16, 4)),
    generated("lognormal_bn", lognormal(8, 2.0), mlp(16, 16, 4, first="batch_norm")),
    generated("lognormal_classes", lognormal(8, 2.0), mlp(16, 16, 4, first="standardized"), metric=CLASSES),
    generated("mlp", normal(16), mlp(32, 32, 5)),
    generated("mlp_classes", normal(16), mlp(32, 32, 5), metric=CLASSES),
)
