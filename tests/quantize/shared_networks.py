"""Random quantized networks whose layers are used several times, with values of many readers, some of them rounded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from hypothesis import strategies as st

from metronn.ir.arrays import IntArray
from metronn.ir.ops import Add, Extremum, ExtremumKind, Multiply, Overflow, Reduce, ReduceKind, Rewire, Rounding
from metronn.model.graph import (
    FloatArray,
    FunctionKind,
    RealConstant,
    RealFunction,
    RealGraph,
    RealGraphBuilder,
    RealInput,
    RealLinear,
    RealOp,
    RealQuantize,
    RealSoftmax,
)

SIZE = 3
STEP = 0x1357_9BDF_0246_81 * 2.0**-53
"""Of 53 bits, and so is 1 - STEP: brought to one scale, a sum of values of these two steps is rounded.

Both steps together are 1: sums of equal codes are whole numbers, on the edges of quantizers, where any error shows.
"""
STEPS = (1.0, 0.25, 0.5, STEP, 1 - STEP, float(np.float32(0.1)), float(np.float32(0.3)), 0.1)
CONSTANTS = (1.0, 2.0, -0.5, 1 / 3, STEP, 1 - STEP, float(np.float32(0.1)), 0.1)

Layer = Callable[[str, str], str]
"""A layer with its weights: the values that it reads (one of them, or both) to its result."""


@dataclass(slots=True)
class SharedDrawing:
    """A network being drawn: `values` of one shape, and `layers`, which may be used again."""

    draw: st.DrawFn
    builder: RealGraphBuilder = field(default_factory=RealGraphBuilder)
    values: list[str] = field(default_factory=list)
    layers: list[tuple[str, Layer]] = field(default_factory=list)
    source: str = ""

    def add(self, op: RealOp, name: str) -> str:
        """Append an op of the layer at work."""
        return self.builder.add(op, f"{self.source}.{name}", self.source)

    def constant(self, value: float) -> str:
        """Append a constant for each element, unlike ones in general."""
        return self.add(RealConstant(values=FloatArray.of(np.array([value, 1.0, value]))), "constant")

    def step(self) -> float:
        """Draw a step."""
        return self.draw(st.sampled_from(STEPS))

    def codes(self) -> np.ndarray:
        """Draw whole weights."""
        entries = st.lists(st.integers(-2, 2), min_size=SIZE * SIZE, max_size=SIZE * SIZE)
        return np.array(self.draw(entries), dtype=np.float64).reshape(SIZE, SIZE)

    def matrix(self, x: str, codes: np.ndarray, step: float) -> str:
        """Append a matrix of whole weights in steps."""
        steps = FloatArray.of(np.full(SIZE, step))
        op = RealLinear(x=x, weight=FloatArray.of(codes * step), bias=FloatArray.of(np.zeros(SIZE)), step=steps)
        return self.add(op, "matrix")

    def new_layer(self) -> Layer:
        """Draw a layer; what it does is drawn now, what it reads later."""
        kinds = (
            self.matrix_layer,
            self.branches,
            self.branches,
            self.quantizer,
            self.quantizer,
            self.scaled,
            self.merge,
            self.merge,
            self.moved,
            self.reduced,
            self.clipped,
            self.function,
            self.softmax,
        )
        return self.draw(st.sampled_from(kinds))()

    def matrix_layer(self) -> Layer:
        """Return a matrix."""
        codes, step = self.codes(), self.step()
        return lambda x, _: self.matrix(x, codes, step)

    def branches(self) -> Layer:
        """Return the sum of two matrices; often of the same codes, in steps that are 1 together."""
        first, subtract = self.codes(), self.draw(st.booleans())
        second = self.codes() if self.draw(st.booleans()) else first * (-1 if subtract else 1)
        steps = (STEP, 1 - STEP) if self.draw(st.booleans()) else (self.step(), self.step())
        apart = self.draw(st.booleans())
        return lambda x, y: self.add(
            Add(
                x=self.matrix(x, first, steps[0]),
                y=self.matrix(y if apart else x, second, steps[1]),
                subtract=subtract,
            ),
            "sum",
        )

    def quantizer(self) -> Layer:
        """Return a quantizer of any modes."""
        step, half = self.step(), self.draw(st.sampled_from((2, 8, 64)))
        rounding, overflow = self.draw(st.sampled_from(Rounding)), self.draw(st.sampled_from(Overflow))
        signed = self.draw(st.booleans())
        lo, hi = (-half, half - 1) if signed else (0, 2 * half - 1)
        return lambda x, _: self.add(
            RealQuantize(
                x=x,
                scale=FloatArray.of(step),
                lo=IntArray.of(np.array(lo)),
                hi=IntArray.of(np.array(hi)),
                rounding=rounding,
                overflow=overflow,
            ),
            "quantize",
        )

    def scaled(self) -> Layer:
        """Return a product with constants and a sum with others."""
        factor, summand = self.draw(st.sampled_from(CONSTANTS)), self.draw(st.sampled_from((*CONSTANTS, 0.0)))

        def apply(x: str, _: str) -> str:
            y = self.add(Multiply(x=x, y=self.constant(factor)), "scaled")
            return self.add(Add(x=y, y=self.constant(summand)), "shifted") if summand else y

        return apply

    def merge(self) -> Layer:
        """Return an op of two values."""
        kind = self.draw(st.integers(0, 4))
        if kind == 0:
            return lambda x, y: self.add(Multiply(x=x, y=y), "product")
        if kind == 1:
            which = self.draw(st.sampled_from(ExtremumKind))
            return lambda x, y: self.add(Extremum(x=x, y=y, kind=which), "extremum")
        subtract = self.draw(st.booleans())
        return lambda x, y: self.add(Add(x=x, y=y, subtract=subtract), "add")

    def moved(self) -> Layer:
        """Return elements of two values, or zeros."""
        index = np.array(self.draw(st.lists(st.integers(-1, 2 * SIZE - 1), min_size=SIZE, max_size=SIZE)))
        return lambda x, y: self.add(Rewire(xs=(x, y), index=IntArray.of(index), shape=(SIZE,)), "moved")

    def reduced(self) -> Layer:
        """Return a reduction of pairs of elements of two values."""
        kind = self.draw(st.sampled_from(ReduceKind))
        index = np.arange(2 * SIZE).reshape(2, SIZE).T

        def apply(x: str, y: str) -> str:
            pairs = self.add(Rewire(xs=(x, y), index=IntArray.of(index), shape=(SIZE, 2)), "pairs")
            return self.add(Reduce(x=pairs, axes=(1,), kind=kind), "reduce")

        return apply

    def clipped(self) -> Layer:
        """Return a maximum with constants."""
        bound = self.draw(st.sampled_from((0.0, *CONSTANTS)))
        return lambda x, _: self.add(Extremum(x=x, y=self.constant(bound)), "clip")

    def function(self) -> Layer:
        """Return a function."""
        kind = self.draw(st.sampled_from((FunctionKind.TANH, FunctionKind.SIGMOID)))
        return lambda x, _: self.add(RealFunction(x=x, kind=kind), "function")

    def softmax(self) -> Layer:
        """Return a softmax."""
        return lambda x, _: self.add(RealSoftmax(x=x, axis=0), "softmax")

    def use(self) -> None:
        """Use a layer, an old one half of the time, on values of which later ones are likelier."""
        if not self.layers or self.draw(st.booleans()):
            self.layers.append((f"layer{len(self.layers)}", self.new_layer()))
        self.source, layer = self.draw(st.sampled_from(self.layers))
        recent = st.sampled_from(self.values[-4:])
        self.values.append(layer(self.draw(recent), self.draw(recent)))


@st.composite
def shared_networks(draw: st.DrawFn) -> RealGraph:
    """Draw a network of which every value is a tensor; what nothing reads is an output.

    Half of the networks begin with a softmax, which is never exact, beside a quantizer.
    """
    drawing = SharedDrawing(draw)
    x = drawing.builder.add(RealInput(shape=(SIZE,)), "x", "x")
    drawing.source = "first"
    op = RealQuantize(x=x, scale=FloatArray.of(1.0), lo=IntArray.of(np.array(-8)), hi=IntArray.of(np.array(7)))
    drawing.values.append(drawing.add(op, "quantize"))
    if draw(st.booleans()):
        drawing.values.append(drawing.softmax()(drawing.values[0], ""))
    for _ in range(draw(st.integers(2, 8))):
        drawing.use()
    nodes = drawing.builder.nodes
    plain = RealGraph(nodes=tuple(nodes), outputs=())
    ends = [value for value in drawing.values if not plain.uses[value]]
    return RealGraph(
        nodes=tuple(nodes),
        outputs=tuple((f"y{k}", value) for k, value in enumerate(ends)),
        tensors=tuple((node.name, node.name) for node in nodes),
    )
