"""Integer networks with shape, with drawn weights: convolutions, pooling, skips, branches, several inputs."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from metronn.ir.arrays import IntArray
from metronn.ir.graph import Graph, GraphBuilder
from metronn.ir.ops import (
    Add,
    Constant,
    Extremum,
    Input,
    Linear,
    Multiply,
    Overflow,
    Padding,
    Reduce,
    ReduceKind,
    Requantize,
    Rewire,
    Rounding,
    Window,
)
from metronn.ir.types import Range


@dataclass
class Net:
    """Builds a network layer by layer; every method returns the name of a value."""

    seed: int = 0
    builder: GraphBuilder = field(default_factory=GraphBuilder)

    def __post_init__(self) -> None:
        """Seed the weights."""
        self.generator = np.random.Generator(np.random.PCG64(self.seed))

    def input(self, name: str, shape: tuple[int, ...], bits: int = 5) -> str:
        return self.builder.add(Input(shape=shape, range=Range.fixed(bits, bits - 1, signed=False)), name)

    def shape(self, value: str) -> tuple[int, ...]:
        return self.builder.types[value].shape

    def target(self, x: str, out: Range) -> Range:
        """Return where a value is requantized to: `out` for all elements."""
        del x
        return out

    def requantized(self, x: str, name: str, *, bits: int = 6, relu: bool = True, one_frac: bool = False) -> str:
        frac = self.builder.types[x].range.max_frac
        width = self.builder.types[x].range.width_bits
        if relu:
            zero = self.builder.add(Constant(values=IntArray.of(np.array(0))), f"{name}.zero", name)
            x = self.builder.add(Extremum(x=x, y=zero), f"{name}.relu", name)
        out = Range.fixed(bits, frac - max(0, width - bits - 2), signed=not relu)
        out = out if one_frac else self.target(x, out)
        op = Requantize(x=x, out=out, rounding=Rounding.RND, overflow=Overflow.SAT)
        return self.builder.add(op, f"{name}.q", name)

    def window(
        self, x: str, name: str, kernel: int, *, stride: int = 1, pad: int = 0, padding: Padding = Padding.ZERO
    ) -> str:
        rank = len(self.shape(x)) - 1
        op = Window(
            x=x,
            kernel=(kernel,) * rank,
            strides=(stride,) * rank,
            dilations=(1,) * rank,
            before=(pad,) * rank,
            after=(pad,) * rank,
            padding=padding,
        )
        return self.builder.add(op, f"{name}.window", name)

    def linear(self, x: str, name: str, outputs: int, *, bits: int = 6) -> str:
        half = 1 << (bits - 1)
        weight = self.generator.integers(1 - half, half, (self.shape(x)[-1], outputs))
        bias = self.generator.integers(-8 * half, 8 * half, outputs)
        op = Linear(x=x, weight=IntArray.of(weight), bias=IntArray.of(bias), weight_frac=bits - 1)
        return self.builder.add(op, name)

    def conv(
        self, x: str, name: str, filters: int, *, kernel: int = 3, stride: int = 1, pad: int = 1, relu: bool = True
    ) -> str:
        windows = self.window(x, name, kernel, stride=stride, pad=pad) if kernel > 1 or stride > 1 else x
        return self.requantized(self.linear(windows, name, filters), name, relu=relu)

    def dense(self, x: str, name: str, outputs: int) -> str:
        return self.requantized(self.linear(x, name, outputs), name)

    def max_pool(self, x: str, name: str, size: int = 2) -> str:
        windows = self.window(x, name, size, stride=size, padding=Padding.LOWEST)
        channels = self.shape(x)[-1]
        shape = (*self.shape(windows)[:-1], self.shape(windows)[-1] // channels, channels)
        apart = self.reshape(windows, f"{name}.apart", shape)
        return self.builder.add(Reduce(x=apart, axes=(len(shape) - 2,), kind=ReduceKind.MAX), name)

    def reshape(self, x: str, name: str, shape: tuple[int, ...]) -> str:
        index = IntArray.of(np.arange(self.builder.types[x].size))
        return self.builder.add(Rewire(xs=(x,), index=index, shape=shape), name)

    def flatten(self, x: str) -> str:
        return self.reshape(x, "flatten", (self.builder.types[x].size,))

    def add(self, x: str, y: str, name: str) -> str:
        return self.requantized(self.builder.add(Add(x=x, y=y), name), name)

    def concat(self, x: str, y: str, name: str) -> str:
        size = self.builder.types[x].size
        parts = [np.arange(size).reshape(self.shape(x)), np.arange(self.builder.types[y].size).reshape(self.shape(y))]
        index = np.concatenate([parts[0], parts[1] + size], axis=-1)
        return self.builder.add(Rewire(xs=(x, y), index=IntArray.of(index), shape=index.shape), name)

    def global_pool(self, x: str, name: str, kind: ReduceKind = ReduceKind.SUM) -> str:
        axes = tuple(range(len(self.shape(x)) - 1))
        pooled = self.builder.add(Reduce(x=x, axes=axes, kind=kind), name)
        return self.requantized(pooled, name, bits=8)

    def finish(self, *outputs: str) -> Graph:
        for number, value in enumerate(outputs):
            self.builder.output(f"y{number}", value)
        return self.builder.build()


def image_network(size: int = 12, filters: tuple[int, ...] = (3, 4), dense: int = 6) -> Graph:
    """Convolutions with padding, max pooling after each, two dense layers."""
    net = Net(1)
    x = net.input("x", (size, size, 1))
    for number, count in enumerate(filters):
        x = net.max_pool(net.conv(x, f"conv{number}", count), f"pool{number}")
    x = net.dense(net.flatten(x), "dense0", dense)
    return net.finish(net.linear(x, "dense1", 2))


def residual_network(size: int = 8, filters: int = 4) -> Graph:
    """A skip connection over two convolutions, two branches joined, global pooling."""
    net = Net(2)
    first = net.conv(net.input("x", (size, size, 1)), "first", filters)
    branch = net.conv(net.conv(first, "block0", filters), "block1", filters, relu=False)
    x = net.add(first, branch, "skip")
    x = net.concat(net.conv(x, "narrow", 2, kernel=1, pad=0), net.conv(x, "wide", 3), "join")
    return net.finish(net.linear(net.global_pool(x, "pool"), "out", 3))


def strided_network() -> Graph:
    """Valid and strided convolutions, a kernel of 5, maxima over the whole image."""
    net = Net(3)
    x = net.conv(net.input("x", (11, 9, 2)), "valid", 3, pad=0)
    x = net.conv(x, "strided", 4, kernel=5, stride=2, pad=2)
    return net.finish(net.linear(net.global_pool(x, "pool", ReduceKind.MAX), "out", 2))


def series_network(steps: int = 32) -> Graph:
    """A time series with two channels: one-dimensional convolutions with strides and pooling."""
    net = Net(4)
    x = net.conv(net.input("x", (steps, 2)), "conv0", 4, kernel=5, pad=2)
    x = net.conv(net.max_pool(x, "pool0"), "conv1", 4, kernel=3, stride=2)
    return net.finish(net.dense(net.flatten(x), "dense", 3))


def two_images() -> Graph:
    """Two images of different size and a vector, each with its branch, joined."""
    net = Net(5)
    left = net.flatten(net.max_pool(net.conv(net.input("ecal", (8, 8, 1)), "conv_e", 3), "pool_e"))
    right = net.reshape(net.conv(net.input("hcal", (4, 4, 1)), "conv_h", 2), "flat_h", (32,))
    x = net.concat(net.dense(left, "dense_e", 5), net.dense(right, "dense_h", 4), "join")
    x = net.concat(x, net.input("high", (3,), bits=6), "all")
    return net.finish(net.linear(net.dense(x, "dense", 6), "out", 1))


NETWORKS = {
    "image": image_network,
    "residual": residual_network,
    "strided": strided_network,
    "series": series_network,
    "two images": two_images,
}


def pairs_network(layers: int, tokens: int, width: int, bits: int = 8) -> Graph:
    """Layers side by side that each multiply every token with every other: `tokens**2 * width` products."""
    net = Net(0)
    x = net.input("x", (tokens, 4), bits)
    for k in range(layers):
        q, other = (
            net.requantized(net.linear(x, f"{n}{k}", width), f"{n}{k}", bits=bits, relu=False)
            for n in ("left", "right")
        )
        rows = np.arange(tokens * width).reshape(tokens, width)
        sides = [
            net.builder.add(
                Rewire(xs=(value,), index=IntArray.of(index.ravel()), shape=index.shape), f"{value}.side{k}"
            )
            for value, index in ((q, rows[:, None]), (other, rows[None]))
        ]
        products = net.builder.add(Multiply(x=sides[0], y=sides[1]), f"pairs{k}.products", f"pairs{k}")
        net.builder.output(f"y{k}", net.builder.add(Reduce(x=products, axes=(0, 1, 2)), f"pairs{k}", f"pairs{k}"))
    return net.builder.build()


def attention_network(tokens: int, width: int, heads: int = 1, bits: int = 8, seed: int = 0) -> Graph:
    """Self-attention without softmax: `tokens**2 * width` products of queries with keys, as many for the values."""
    net = Net(seed)
    x = net.input("x", (tokens, 4), bits)
    q, k, v = (net.requantized(net.linear(x, n, width), n, bits=bits, relu=False) for n in ("query", "key", "value"))
    place = np.arange(tokens * width).reshape(tokens, heads, width // heads).transpose(1, 0, 2)

    def picked(value: str, name: str, index: np.ndarray) -> str:
        op = Rewire(xs=(value,), index=IntArray.of(index.ravel()), shape=index.shape)
        return net.builder.add(op, name)

    def summed(x: str, y: str, name: str) -> str:
        products = net.builder.add(Multiply(x=x, y=y), f"{name}.products", name)
        return net.requantized(net.builder.add(Reduce(x=products, axes=(3,)), f"{name}.sum", name), name, bits=bits)

    queries, keys = picked(q, "queries", place[:, :, None]), picked(k, "keys", place[:, None])
    scores = summed(queries, keys, "scores")
    apart = net.reshape(scores, "apart", (heads, tokens, 1, tokens))
    mixed = summed(apart, picked(v, "values", place.transpose(0, 2, 1)[:, None]), "mixed")
    net.builder.output("y", net.linear(net.flatten(mixed), "out", 3))
    return net.builder.build()
