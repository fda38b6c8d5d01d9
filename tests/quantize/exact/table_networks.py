"""Random layers of tables: a small network of float32 weights between an input and every output, then a sum."""

from __future__ import annotations

import numpy as np
from exact_networks import Drawing

from metronn.ir.arrays import IntArray
from metronn.ir.ops import Add, Extremum, Multiply, Reduce, Rewire
from metronn.model.graph import Floats, FunctionKind, RealFunction, RealGraph, RealInput, RealSoftmax

KINDS = (FunctionKind.TANH, FunctionKind.SIGMOID, FunctionKind.SILU, None)


def single(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Draw float32 numbers, a few of them 0."""
    values = rng.normal(size=shape) * (rng.uniform(size=shape) < 0.85)
    return np.float32(values).astype(np.float64)


def table_layer(drawing: Drawing, x: str, outputs: int, hidden: int) -> str:
    """Add a layer: every input reaches every output through `hidden` functions of its own."""
    rng, builder = drawing.rng, drawing.builder
    (inputs,) = drawing.shape(x)
    index = np.arange(inputs * outputs) // outputs
    x = builder.add(Rewire(xs=(x,), index=IntArray.of(index), shape=(inputs, outputs)), "repeat")
    x = drawing.quantize(x, 0.25, "iq")
    index = np.arange(inputs * outputs)
    wide = builder.add(Rewire(xs=(x,), index=IntArray.of(index), shape=(inputs, outputs, 1)), "wide")
    shape = (inputs, outputs, hidden)
    y = builder.add(Multiply(x=wide, y=drawing.constant(single(rng, shape))), "first")
    y = builder.add(Add(x=y, y=drawing.constant(single(rng, shape))), "bias")
    kind = KINDS[rng.integers(len(KINDS))]
    if kind is None:
        y = builder.add(Extremum(x=y, y=drawing.constant(0.0)), "relu")
    else:
        y = builder.add(RealFunction(x=y, kind=kind), "function")
    if rng.integers(5) == 0:
        y = builder.add(RealSoftmax(x=y, axis=2), "softmax")
    y = builder.add(Multiply(x=y, y=drawing.constant(single(rng, shape))), "second")
    y = builder.add(Reduce(x=y, axes=(2,)), "hidden")
    if rng.integers(3) == 0:
        y = builder.add(Add(x=y, y=x, subtract=bool(rng.integers(2))), "skip")
    y = drawing.quantize(y, 0.25, "toq")
    return builder.add(Reduce(x=y, axes=(0,)), "sum")


def draw_tables(seed: int, *, dyadic: bool, sizes: tuple[int, ...] = (3, 2), hidden: int = 3) -> RealGraph:
    """Return a network of an input of `sizes[0]` elements and a layer of tables for each further size."""
    drawing = Drawing(rng=np.random.default_rng(seed), dyadic=dyadic)
    x = drawing.builder.add(RealInput(shape=sizes[:1]), "x")
    x = drawing.quantize(x, 0.25)
    for size in sizes[1:]:
        x = table_layer(drawing, x, size, hidden)
    drawing.builder.output("y", drawing.quantize(x, 0.25))
    return drawing.builder.build()
