"""Small real networks for the tests of quantization and passes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metronn.ir.ops import Extremum
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


def dense(sizes: Sequence[int], *, seed: int = 0, last: str = "", scale: float = 1.0) -> RealGraph:
    """Return a stack of matrices of random weights with ReLU between; `last` is "", "softmax" or a function."""
    rng = np.random.default_rng(seed)
    builder = RealGraphBuilder()
    x = builder.add(RealInput(shape=(sizes[0],)), "x")
    zero = builder.add(RealConstant(values=FloatArray.of(0.0)), "zero")
    for layer, (inputs, outputs) in enumerate(zip(sizes, sizes[1:], strict=False)):
        weight = rng.normal(size=(inputs, outputs)) * np.sqrt(2 / inputs) * scale
        bias = rng.normal(size=outputs) * 0.1
        x = builder.add(linear(x, weight, bias), f"dense{layer}")
        if layer < len(sizes) - 2:
            x = builder.add(Extremum(x=x, y=zero), f"relu{layer}", f"dense{layer}")
    if last == "softmax":
        x = builder.add(RealSoftmax(x=x, axis=0), "softmax")
    elif last:
        x = builder.add(RealFunction(x=x, kind=FunctionKind(last)), last)
    builder.output("y", x)
    return builder.build()


def linear(x: str, weight: Floats, bias: Floats) -> RealLinear:
    """Return a matrix op."""
    return RealLinear(x=x, weight=FloatArray.of(weight), bias=FloatArray.of(bias))


def normal(events: int, size: int, seed: int = 1) -> Floats:
    """Return normally distributed inputs."""
    return np.random.default_rng(seed).normal(size=(events, size))
