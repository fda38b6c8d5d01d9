"""Random quantized networks over real numbers, and events that meet the edges of their quantizers."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from metronn.ir.arrays import IntArray
from metronn.ir.ops import Add, Extremum, ExtremumKind, Multiply, Overflow, Reduce, ReduceKind, Rewire, Rounding, Window
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
    RealQuantize,
)

ROUNDINGS = tuple(Rounding)
OVERFLOWS = tuple(Overflow)


@dataclass(slots=True)
class Drawing:
    """A network being drawn; `dyadic` keeps every scale a power of two."""

    rng: np.random.Generator
    dyadic: bool
    wide: bool = False
    builder: RealGraphBuilder = field(default_factory=RealGraphBuilder)
    rounding: Rounding | None = None
    overflow: Overflow | None = None

    def shape(self, x: str) -> tuple[int, ...]:
        """Shape of a value."""
        return self.builder.shapes[x]

    def constant(self, values: npt.ArrayLike) -> str:
        """Add a constant."""
        return self.builder.add(RealConstant(values=FloatArray.of(values)), "constant")

    def scale(self, shape: tuple[int, ...], around: float) -> Floats:
        """Draw scales of a quantizer."""
        if self.dyadic:
            return np.asarray(2.0 ** np.round(np.log2(around) + self.rng.integers(-1, 2, shape)))
        kind = self.rng.integers(3)
        if kind == 0:
            return np.asarray(2.0 ** np.round(np.log2(around) + self.rng.integers(-1, 2, shape)))
        if kind == 1:
            return np.asarray(np.float32(around * self.rng.uniform(0.5, 2, shape)).astype(np.float64))
        return np.asarray(around * 0.25 * self.rng.integers(2, 8, shape))

    def quantize(self, x: str, around: float, name: str = "quantize") -> str:
        """Add a quantizer of random modes, per tensor, channel or element."""
        shape = self.shape(x)
        grain: tuple[int, ...] = [(), shape[-1:], shape][self.rng.integers(3)]
        rounding = self.rounding or ROUNDINGS[self.rng.integers(len(ROUNDINGS))]
        overflow = self.overflow or OVERFLOWS[self.rng.integers(len(OVERFLOWS))]
        bits = self.rng.integers(1, 6, grain)
        signed = self.rng.integers(0, 2, grain).astype(bool)
        if overflow is Overflow.WRAP:
            bits = np.where(self.rng.uniform(size=grain) < 0.1, 0, bits)
            signed = signed & (bits > 0)
        lo = np.where(signed, -(2 ** np.maximum(bits, 1) // 2), 0)
        hi = np.where(signed, 2 ** np.maximum(bits, 1) // 2 - 1, 2**bits - 1)
        if overflow is Overflow.SAT and self.rng.integers(2):
            lo, hi = lo - self.rng.integers(0, 3, grain), hi + self.rng.integers(0, 3, grain)
        op = RealQuantize(
            x=x,
            scale=FloatArray.of(self.scale(grain, around)),
            lo=IntArray.of(lo),
            hi=IntArray.of(hi),
            rounding=rounding,
            overflow=overflow,
        )
        return self.builder.add(op, name)

    def linear(self, x: str, outputs: int) -> str:
        """Add a matrix on a grid."""
        inputs = self.shape(x)[-1]
        codes = self.rng.integers(-7, 8, (inputs, outputs)) * (self.rng.uniform(size=(inputs, outputs)) < 0.7)
        bias = np.float32(self.rng.normal(size=outputs)).astype(np.float64)
        if self.dyadic or self.rng.integers(2):
            bias = np.round(bias * 16) / 16 if self.rng.integers(2) else bias
            op = RealLinear(x=x, weight=FloatArray.of(codes / 8), bias=FloatArray.of(bias))
        else:
            step = np.float32(self.rng.uniform(0.05, 0.2, outputs)).astype(np.float64)
            op = RealLinear(x=x, weight=FloatArray.of(codes * step), bias=FloatArray.of(bias), step=FloatArray.of(step))
        return self.builder.add(op, "linear")

    def window(self, x: str) -> str:
        """Add sliding windows over an image or a sequence."""
        rank = len(self.shape(x)) - 1
        op = Window(
            x=x,
            kernel=(2,) * rank,
            strides=(1,) * rank,
            dilations=(1,) * rank,
            before=(1,) * rank,
            after=(0,) * rank,
        )
        return self.builder.add(op, "window")

    def pooled(self, x: str) -> str:
        """Add pooling of pairs along the last axis."""
        shape = self.shape(x)
        if shape[-1] % 2:
            return x
        split = (*shape[:-1], shape[-1] // 2, 2)
        index = np.arange(int(np.prod(shape))).reshape(split)
        y = self.builder.add(Rewire(xs=(x,), index=IntArray.of(index), shape=split), "pairs")
        kind = (ReduceKind.SUM, ReduceKind.MAX, ReduceKind.MIN)[self.rng.integers(3)]
        y = self.builder.add(Reduce(x=y, axes=(len(split) - 1,), kind=kind), "pool")
        if kind is ReduceKind.SUM:
            y = self.builder.add(Multiply(x=y, y=self.constant(0.5)), "mean")
        return y

    def activation(self, x: str) -> str:
        """Add what may stand between a matrix and its quantizer."""
        match self.rng.integers(6):
            case 0:
                return self.builder.add(Extremum(x=x, y=self.constant(0.0)), "relu")
            case 1:
                low = self.builder.add(Extremum(x=x, y=self.constant(-0.8)), "low")
                return self.builder.add(Extremum(x=low, y=self.constant(1.3), kind=ExtremumKind.MIN), "high")
            case 2:
                size = self.shape(x)[-1]
                scale = np.float32(self.rng.normal(size=size) + 0.5)
                shift = np.float32(self.rng.normal(size=size))
                if self.dyadic:
                    scale = 2.0 ** np.round(np.log2(np.abs(scale))) * np.sign(scale)
                y = self.builder.add(Multiply(x=x, y=self.constant(scale)), "scaled")
                return self.builder.add(Add(x=y, y=self.constant(shift)), "shifted")
            case 3:
                kind = (FunctionKind.TANH, FunctionKind.SIGMOID, FunctionKind.EXP)[self.rng.integers(3)]
                return self.builder.add(RealFunction(x=x, kind=kind), "function")
            case _:
                return x

    def layer(self, x: str) -> str:
        """Add a layer and its quantizer."""
        shape = self.shape(x)
        match self.rng.integers(5):
            case 0 if len(shape) > 1:
                y = self.linear(self.window(x), 3)
            case 1:
                y = self.pooled(x)
            case 2:
                first, second = self.quantize(x, 0.25, "branch"), self.quantize(x, 0.2, "branch")
                op: Add | Multiply | Extremum = Add(x=first, y=second, subtract=bool(self.rng.integers(2)))
                if self.rng.integers(3) == 0:
                    op = Multiply(x=first, y=second)
                if self.rng.integers(3) == 0:
                    op = Extremum(x=first, y=second)
                y = self.builder.add(op, "both")
            case 3:
                index = np.arange(int(np.prod(shape))).reshape(shape)
                index = np.concatenate([index, np.full_like(index, -1)[..., :1]], axis=-1)
                y = self.builder.add(Rewire(xs=(x,), index=IntArray.of(index), shape=index.shape), "pad")
            case _:
                y = self.linear(x, int(self.rng.integers(1, 5)))
        return self.quantize(self.activation(y), 0.25)


def draw(seed: int, *, dyadic: bool, layers: int = 2, rounding: Rounding | None = None) -> RealGraph:
    """Return a random quantized network."""
    rng = np.random.default_rng(seed)
    drawing = Drawing(rng=rng, dyadic=dyadic, rounding=rounding)
    shape: tuple[int, ...] = [(4,), (3, 2), (3, 2, 2)][rng.integers(3)]
    x = drawing.builder.add(RealInput(shape=shape), "x")
    x = drawing.quantize(x, 0.25)
    for _ in range(layers):
        x = drawing.layer(x)
    drawing.builder.output("y", x)
    return drawing.builder.build()


def normalized(*, relu: bool = False) -> RealGraph:
    """Return floats behind a float32 batch normalization, padded windows, a matrix and its quantizer."""
    rng = np.random.default_rng(1)
    drawing = Drawing(rng=rng, dyadic=True, rounding=Rounding.RND_CONV, overflow=Overflow.SAT)
    builder = drawing.builder
    x = builder.add(RealInput(shape=(4, 3)), "x")
    scale = np.float32(rng.uniform(0.003, 1, 3))
    x = builder.add(Multiply(x=x, y=drawing.constant(scale)), "scaled")
    x = builder.add(Add(x=x, y=drawing.constant(np.float32(rng.normal(size=3)))), "normalized")
    if relu:
        x = builder.add(Extremum(x=x, y=drawing.constant(0.0)), "relu")
    x = drawing.linear(drawing.window(x), 2)
    builder.output("y", drawing.quantize(x, 0.25, "out"))
    return builder.build()


def events_for(graph: RealGraph, seed: int, count: int) -> dict[str, Floats]:
    """Return random events, among them many on the edges between steps, and some far outside."""
    rng = np.random.default_rng(seed)
    found = {}
    for node in graph.inputs:
        shape = (count, *node.shape)
        smooth = rng.normal(size=shape) * 2
        edges = np.round(rng.normal(size=shape) * 16) / 16
        far = rng.normal(size=shape) * 100
        pick = rng.integers(0, 10, size=(count, *(1,) * len(node.shape)))
        found[node.name] = np.where(pick < 4, smooth, np.where(pick < 9, edges, far))
    return found
