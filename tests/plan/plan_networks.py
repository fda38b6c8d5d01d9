"""Integer networks to plan: dense stacks, and one with everything a dense network can have."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metronn.ir.arrays import IntArray
from metronn.ir.check import check
from metronn.ir.graph import Graph, GraphBuilder
from metronn.ir.ops import (
    Add,
    Constant,
    Extremum,
    Input,
    Linear,
    Lookup,
    Multiply,
    Overflow,
    Reduce,
    ReduceKind,
    Requantize,
    Rewire,
    Rounding,
)
from metronn.ir.types import Range


class Network:
    """Builds layers of random integers; the same every time."""

    def __init__(self, seed: int = 0) -> None:
        self.builder = GraphBuilder()
        self.generator = np.random.Generator(np.random.PCG64(seed))
        self.zero = ""

    def input(self, name: str, size: int, bits: int = 8) -> str:
        return self.builder.add(Input(shape=(size,), range=Range.fixed(bits, 4, signed=False)), name)

    def linear(self, x: str, outputs: int, name: str, bits: int = 8) -> str:
        span = 1 << (bits - 1)
        inputs = self.builder.types[x].shape[-1]
        op = Linear(
            x=x,
            weight=IntArray.of(self.generator.integers(-span, span, (inputs, outputs))),
            bias=IntArray.of(self.generator.integers(-400, 400, outputs)),
            weight_frac=bits - 1,
        )
        return self.builder.add(op, name, name)

    def relu(self, x: str, name: str, bits: int = 8) -> str:
        if not self.zero:
            self.zero = self.builder.add(Constant(values=IntArray.of(0)), "zero")
        kept = self.builder.add(Extremum(x=x, y=self.zero), f"{name}.relu", name)
        return self.fixed(kept, f"{name}.out", name, Range.fixed(bits, 4, signed=False))

    def fixed(self, x: str, name: str, source: str, out: Range) -> str:
        op = Requantize(x=x, out=out, rounding=Rounding.RND, overflow=Overflow.SAT)
        return self.builder.add(op, name, source)

    def dense(self, x: str, outputs: int, name: str) -> str:
        return self.relu(self.linear(x, outputs, name), name)

    def build(self, *outputs: tuple[str, str]) -> Graph:
        for name, value in outputs:
            self.builder.output(name, value)
        return check(self.builder.build())


def stack(sizes: Sequence[int], seed: int = 0) -> Graph:
    """Dense layers with ReLU, the last one without; `sizes` starts with the inputs."""
    network = Network(seed)
    x = network.input("hits", sizes[0])
    for k, size in enumerate(sizes[1:-1]):
        x = network.dense(x, size, f"dense{k}")
    last = network.linear(x, sizes[-1], "logits")
    return network.build(("scores", network.fixed(last, "logits.out", "logits", Range.fixed(12, 3))))


def everything(seed: int = 3) -> Graph:
    """Two inputs, branches, a skip connection, concatenation, sum, product, maximum, tables, two outputs."""
    network = Network(seed)
    build = network.builder
    tracks, jets = network.input("tracks", 20), network.input("jets", 6, 10)
    left = network.dense(tracks, 24, "left")
    right = network.dense(jets, 10, "right")
    index = list(range(24)) + list(range(24, 34)) + [-1, 0]
    joined = build.add(Rewire(xs=(left, right), index=IntArray.of(index), shape=(36,)), "concat", "concat")
    deep = network.dense(network.dense(joined, 24, "deep1"), 24, "deep2")
    skipped = build.add(Add(x=deep, y=left), "skip", "skip")
    narrow = network.fixed(skipped, "skip.out", "skip", Range.fixed(7, 3, signed=False))
    table = [round(63 / (1 + np.exp(4 - k / 16))) for k in range(build.types[narrow].range.highest + 1)]
    gate = build.add(Lookup(x=narrow, table=IntArray.of(table), frac=6), "gate", "gate")
    gated = build.add(Multiply(x=gate, y=left), "gated", "gated")
    small = network.fixed(gated, "gated.out", "gated", Range.fixed(8, 5, signed=False))
    most = build.add(Reduce(x=small, axes=(0,), kind=ReduceKind.MAX), "most", "most")
    total = build.add(Reduce(x=small, axes=(0,)), "total", "total")
    return network.build(("scores", network.linear(small, 3, "head")), ("most", most), ("total", total))
