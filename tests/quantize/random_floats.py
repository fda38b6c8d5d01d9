"""Random float networks, events for them, and what a build of one says beside what it does to fresh events."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from metronn.emulate.numpy import emulate
from metronn.errors import ModelError
from metronn.events.codes import decode_outputs, encode_inputs
from metronn.events.data import Events
from metronn.flow.stages import judging_events
from metronn.ir.arrays import IntArray
from metronn.ir.ops import Add, Extremum, Multiply, Reduce, ReduceKind, Rewire, Window
from metronn.model.graph import (
    FloatArray,
    Floats,
    FunctionKind,
    RealConstant,
    RealFunction,
    RealGraph,
    RealGraphBuilder,
    RealInput,
    RealLinear,
    RealSoftmax,
)
from metronn.model.reference import run_reference
from metronn.passes.pipeline import prepare, quantize_model
from metronn.quantize.exact.values import present
from metronn.quantize.options import QuantizeOptions
from metronn.verify.reference import reference_files, reference_result
from metronn.verify.verdict import Status

KINDS = ("dense", "relu", "sigmoid", "tanh", "gelu", "conv", "norm", "unit", "skip", "gate", "mask", "softmax")
EVENTS = ("plain", "outlier", "fill", "constant", "few", "heavy")
FRESH, CALIBRATION, FEW = 500, 400, 60
MASKED = -1e9
LOST_DB = 17.0
"""Half the signal's noise again as the 20 dB that a build promises: fresh events are not those that judged it."""
PASS, FAIL, REFUSED = "pass", "fail", "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A network and its events: features of scale 10**low to 10**high, layers in order, and a matrix at the end.

    `events`: plain normal ones, an outlier of a million deviations in the first calibration event, a fill value for one
    in twenty values, constant features, few calibration events, or log-normal ones. `bits` None are the defaults.
    """

    seed: int
    layers: tuple[str, ...]
    features: int
    low: int
    high: int
    events: str
    bits: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The verdict of rung 1, and SQNR on fresh events: of all answers and of the median event."""

    verdict: str
    total_db: float = math.inf
    median_db: float = math.inf
    reason: str = ""

    @property
    def silent(self) -> bool:
        """Whether the build passes though the signal is lost."""
        return self.verdict == PASS and min(self.total_db, self.median_db) < LOST_DB


class Net:
    """Builds the network of a recipe; weights fit what the layers before make of the sample."""

    def __init__(self, rng: np.random.Generator, sample: Floats) -> None:
        self.rng = rng
        self.builder = RealGraphBuilder()
        self.x = self.builder.add(RealInput(shape=sample.shape[1:]), "x")
        self.sample = sample

    def values(self) -> Floats:
        graph = RealGraph(nodes=tuple(self.builder.nodes), outputs=(("y", self.x),))
        return run_reference(graph, {"x": self.sample})["y"]

    def constant(self, values: object) -> str:
        return self.builder.add(RealConstant(values=FloatArray.of(values)), "constant")

    def function(self, x: str, kind: FunctionKind) -> str:
        return self.builder.add(RealFunction(x=x, kind=kind), kind.value)

    def matrix(self, x: str, weight: Floats, bias: Floats, name: str = "dense") -> str:
        op = RealLinear(x=x, weight=FloatArray.of(weight), bias=FloatArray.of(bias))
        return self.builder.add(op, f"{name}{len(self.builder.nodes)}")

    def fitted(self, size: int, name: str = "dense") -> str:
        """A matrix that undoes the mean and scale of what it reads."""
        values = self.values()
        mean, deviation = values.mean(0), values.std(0)
        deviation = np.where(deviation > 0, np.maximum(deviation, 0.02 * np.median(deviation)), 1.0)
        weight = self.rng.normal(size=(len(mean), size)) / np.sqrt(len(mean)) / deviation[:, None]
        return self.matrix(self.x, weight, self.rng.normal(0, 0.1, size) - mean @ weight, name)

    def add(self, kind: str) -> None:
        size = self.builder.shapes[self.x][0]
        match kind:
            case "dense":
                self.x = self.fitted(int(self.rng.integers(3, 13)))
            case "relu":
                self.x = self.builder.add(Extremum(x=self.x, y=self.constant(0.0)), "relu")
            case "sigmoid" | "tanh" | "gelu":
                self.x = self.function(self.x, FunctionKind(kind))
            case "conv":
                self.convolution(size)
            case "norm" | "unit":
                self.normalization(size, centred=kind == "norm")
            case "skip":
                scale = 10.0 ** self.rng.integers(-2, 3)
                branch = self.builder.add(Multiply(x=self.fitted(size), y=self.constant(scale)), "branch")
                self.x = self.builder.add(Add(x=self.x, y=branch), "skip")
            case "gate":
                gate = self.function(self.fitted(size), FunctionKind.SIGMOID)
                self.x = self.builder.add(Multiply(x=self.x, y=gate), "gate")
            case "mask":
                mask = np.where(np.arange(size) < max(2, size // 2), 0.0, MASKED)
                masked = self.builder.add(Add(x=self.fitted(size), y=self.constant(mask)), "mask")
                self.x = self.builder.add(RealSoftmax(x=masked, axis=0), "softmax")
            case "softmax":
                self.x = self.builder.add(RealSoftmax(x=self.fitted(size), axis=0), "softmax")
            case _:
                raise AssertionError(kind)

    def convolution(self, size: int) -> None:
        image = Rewire(xs=(self.fitted(size),), index=IntArray.of(np.arange(size)), shape=(size, 1))
        windows = Window(
            x=self.builder.add(image, "image"), kernel=(3,), strides=(1,), dilations=(1,), before=(1,), after=(1,)
        )
        kernel = self.builder.add(windows, "windows")
        result = self.matrix(kernel, self.rng.normal(size=(3, 2)), self.rng.normal(0, 0.1, 2), "conv")
        flat = Rewire(xs=(result,), index=IntArray.of(np.arange(2 * size)), shape=(2 * size,))
        self.x = self.builder.add(flat, "flat")

    def normalization(self, size: int, *, centred: bool) -> None:
        """LayerNorm or RMSNorm, as the frontends write them."""
        share, epsilon = self.constant(1 / size), self.constant(1e-5 * float(np.square(self.values()).mean()) + 1e-30)

        def mean(x: str) -> str:
            total = self.builder.add(Reduce(x=x, axes=(0,), kind=ReduceKind.SUM), "sum")
            return self.builder.add(Multiply(x=total, y=share), "mean")

        x = self.x
        if centred:
            x = self.builder.add(Add(x=x, y=mean(x), subtract=True), "centred")
        square = mean(self.builder.add(Multiply(x=x, y=x), "square"))
        inverse = self.function(self.builder.add(Add(x=square, y=epsilon), "variance"), FunctionKind.RSQRT)
        self.x = self.builder.add(Multiply(x=x, y=inverse), "normalized")


def drawn(recipe: Recipe, rng: np.random.Generator, count: int, *, calibrates: bool = False) -> Floats:
    """Return events of a recipe."""
    scales = 10.0 ** np.linspace(recipe.low, recipe.high, recipe.features)
    x = rng.normal(size=(count, recipe.features))
    x = np.exp(1.5 * x) if recipe.events == "heavy" else x
    if recipe.events == "fill":
        x = np.where(rng.random(x.shape) < 0.05, -999.0, x)
    if recipe.events == "constant":
        x[:, ::2] = np.arange(recipe.features)[::2]
    if recipe.events == "outlier" and calibrates:
        x[0] = 1e6
    return x * scales


def network(recipe: Recipe) -> tuple[RealGraph, Floats, Floats]:
    """Return the network of a recipe, calibration events and fresh ones."""
    rng = np.random.default_rng(recipe.seed)
    net = Net(rng, drawn(recipe, rng, 500))
    for kind in recipe.layers:
        net.add(kind)
    net.x = net.fitted(3)
    net.builder.output("y", net.x)
    count = FEW if recipe.events == "few" else CALIBRATION
    return net.builder.build(), drawn(recipe, rng, count, calibrates=True), drawn(recipe, rng, FRESH)


def outcome(recipe: Recipe, folder: Path) -> Outcome:
    """Quantize, judge as rung 1 does, and measure on fresh events. What a traceback would be is raised."""
    model, calibration, fresh = network(recipe)
    widths = {} if recipe.bits is None else {"weight_bits": recipe.bits, "activation_bits": recipe.bits}
    options = QuantizeOptions.model_validate(widths)
    events = Events(inputs={"x": calibration})
    try:
        quantized = quantize_model(model, events, options)
        kept = present(quantized.frontier, quantized.graph)
        judging, _ = judging_events(quantized.report, events, None)
        files = reference_files(
            prepare(model), quantized.graph, events, judging, options, folder, quantized.report, kept
        )
        for name, content in files.items():
            (folder / name).write_bytes(content)
        verdict = reference_result(folder, quantized.graph).verdict
    except ModelError as error:
        return Outcome(verdict=REFUSED, reason=error.message)
    reference = run_reference(model, {"x": fresh})["y"]
    fixed = decode_outputs(quantized.graph, emulate(quantized.graph, encode_inputs(quantized.graph, {"x": fresh})))["y"]
    signal, noise = np.square(reference), np.square(reference - np.broadcast_to(fixed, reference.shape))
    with np.errstate(divide="ignore"):
        median = float(np.median(10 * np.log10(signal.sum(1) / np.maximum(noise.sum(1), 1e-300))))
        total = float(10 * np.log10(signal.sum() / max(noise.sum(), 1e-300)))
    passed = verdict.status is Status.PASS
    return Outcome(verdict=PASS if passed else FAIL, total_db=total, median_db=median, reason=verdict.first)
