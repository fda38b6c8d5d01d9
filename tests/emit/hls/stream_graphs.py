"""Random networks over images and sequences, and random layouts in which their inputs come."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from metronn.ir.arrays import IntArray
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
    Padding,
    Reduce,
    ReduceKind,
    Requantize,
    Rewire,
    Rounding,
    Window,
)
from metronn.ir.types import Range
from metronn.plan.layout import Layout


def random_window(rng: random.Random, x: str, shape: tuple[int, ...], rank: int, padding: Padding) -> Window:
    """Return a window of any stride, dilation and padding that fits the shape."""
    fields: dict[str, list[int]] = {name: [] for name in ("kernel", "strides", "dilations", "before", "after")}
    for size in shape[-rank - 1 : -1]:
        kernel, dilation = rng.randint(1, 3), rng.randint(1, 2)
        before, after = rng.randint(0, 2), rng.randint(0, 2)
        while dilation * (kernel - 1) + 1 > size + before + after:
            kernel -= 1
        for name, value in zip(fields, (kernel, rng.randint(1, 3), dilation, before, after), strict=True):
            fields[name].append(value)
    return Window(x=x, padding=padding, **{name: tuple(values) for name, values in fields.items()})


class Network:
    """A network while it grows."""

    def __init__(self, rng: random.Random) -> None:
        """Begin with nothing."""
        self.rng, self.builder, self.count = rng, GraphBuilder(), 0

    def shape(self, x: str) -> tuple[int, ...]:
        """Shape of a value."""
        return self.builder.types[x].shape

    def name(self, stem: str) -> str:
        """Return a new name."""
        self.count += 1
        return f"{stem}_{self.count}"

    def narrow(self, x: str) -> str:
        """Requantize to a few bits, with modes at random."""
        bits = self.rng.randint(3, 7)
        out = Range.fixed(bits, bits - 1) if self.rng.random() < 0.5 else Range(0, 2**bits - 1, 2)
        if self.rng.random() < 0.3:  # the codes of all channels alike, or each with its own point
            kind = self.builder.types[x]
            points = [self.rng.randint(0, 3) for _ in range(kind.shape[-1])] * (kind.size // kind.shape[-1])
            fracs = tuple(f - 3 for f in kind.range.fracs(kind.size)) if self.rng.random() < 0.5 else tuple(points)
            out = Range(out.lo, out.hi, fracs)
        op = Requantize(
            x=x,
            out=out,
            rounding=self.rng.choice(list(Rounding)),
            overflow=self.rng.choice([Overflow.SAT, Overflow.WRAP]),
        )
        return self.builder.add(op, self.name("narrow"))

    def linear(self, x: str) -> str:
        """Add a matrix, perhaps a ReLU with a bound for each channel, and fewer bits."""
        n_in, n_out = self.shape(x)[-1], self.rng.randint(1, 5)
        numbers = np.random.default_rng(self.rng.randint(0, 10**6))
        weight = IntArray.of(numbers.integers(-6, 7, (n_in, n_out)))
        bias = IntArray.of(numbers.integers(-50, 50, n_out))
        op = Linear(x=x, weight=weight, bias=bias, weight_frac=2)
        if self.rng.random() < 0.5:
            fracs = self.builder.types[x].range.fracs(math.prod(self.shape(x)))[:n_in]
            op = replace(
                op,
                weight_frac=tuple(numbers.integers(0, 5, n_out).tolist()),
                input_frac=tuple(2 - f for f in fracs) if self.rng.random() < 0.7 else 1,
            )
        made = self.builder.add(op, self.name("linear"))
        if self.rng.random() < 0.6:
            bounds = numbers.integers(-9, 9, n_out) if self.rng.random() < 0.3 else np.array([0])
            zero = self.builder.add(Constant(values=IntArray.of(bounds), frac=1), self.name("bound"))
            made = self.builder.add(Extremum(x=made, y=zero), self.name("relu"))
        return self.narrow(made)

    def windows(self, x: str) -> str:
        """Add sliding windows."""
        shape = self.shape(x)
        rank = self.rng.randint(1, len(shape) - 1)
        fracs = self.builder.types[x].range.frac_array(shape).reshape(-1, shape[-1])
        same = bool((fracs == fracs[0]).all())
        op = random_window(self.rng, x, shape, rank, self.rng.choice(list(Padding)) if same else Padding.ZERO)
        return self.builder.add(op, self.name("windows"))

    def pool(self, x: str) -> str:
        """Add a pooling layer."""
        shape = self.shape(x)
        rank = len(shape) - 1
        size = tuple(self.rng.randint(1, min(2, n)) for n in shape[:-1])
        kind = self.rng.choice(list(ReduceKind))
        fracs = self.builder.types[x].range.frac_array(shape).reshape(-1, shape[-1])
        lowest = kind is ReduceKind.MAX and bool((fracs == fracs[0]).all())
        padding = Padding.LOWEST if lowest else Padding.ZERO
        zeros = (0,) * rank
        op = Window(x=x, kernel=size, strides=size, dilations=(1,) * rank, before=zeros, after=zeros, padding=padding)
        made = self.builder.add(op, self.name("windows"))
        parted = (*self.shape(made)[:-1], math.prod(size), shape[-1])
        index = IntArray.of(np.arange(math.prod(parted)))
        taps = self.builder.add(Rewire(xs=(made,), index=index, shape=parted), self.name("taps"))
        return self.builder.add(Reduce(x=taps, axes=(rank,), kind=kind), self.name("pool"))

    def lookup(self, x: str) -> str:
        """Add a table."""
        small = self.builder.add(Requantize(x=x, out=Range.fixed(4, 2), overflow=Overflow.SAT), self.name("small"))
        span = self.builder.types[small].range
        table = IntArray.of(np.array([self.rng.randint(-20, 20) for _ in range(span.highest - span.lowest + 1)]))
        return self.builder.add(Lookup(x=small, table=table, frac=2), self.name("table"))

    def join(self, x: str) -> str:
        """Add a branch, and join it by its channels or element by element: a value with two readers."""
        branch = self.lookup(x) if self.rng.random() < 0.5 else self.narrow(x)
        if self.rng.random() < 0.4:
            op = self.rng.choice([Add(x=x, y=branch), Multiply(x=branch, y=x), Extremum(x=x, y=branch)])
            return self.narrow(self.builder.add(op, self.name("merge")))
        shape, other = self.shape(x), self.shape(branch)
        first = np.arange(math.prod(shape)).reshape(shape)
        second = math.prod(shape) + np.arange(math.prod(other)).reshape(other)
        index = np.concatenate([first, second], axis=-1)
        return self.builder.add(
            Rewire(xs=(x, branch), index=IntArray.of(index.ravel()), shape=index.shape), self.name("concat")
        )

    def moved(self, x: str) -> str:
        """Crop, pad, repeat or turn an image."""
        place = np.arange(math.prod(self.shape(x))).reshape(self.shape(x))
        match self.rng.randrange(4):
            case 0:
                place = place[-max(1, len(place) - 1) :]
            case 1:
                place = np.pad(place, [(1, 0)] + [(0, 1)] * (place.ndim - 2) + [(0, 0)], constant_values=-1)
            case 2:
                place = np.repeat(place, 2, axis=place.ndim - 2)
            case _:
                place = np.swapaxes(place, 0, place.ndim - 2)
        op = Rewire(xs=(x,), index=IntArray.of(place.ravel()), shape=place.shape)
        return self.builder.add(op, self.name("moved"))

    def ending(self, x: str) -> str:
        """Reduce over the image, or flatten it into a matrix product, or stop."""
        shape = self.shape(x)
        match self.rng.randrange(3):
            case 0:
                axes = tuple(sorted(self.rng.sample(range(len(shape) - 1), self.rng.randint(1, len(shape) - 1))))
                return self.builder.add(
                    Reduce(x=x, axes=axes, kind=self.rng.choice(list(ReduceKind))), self.name("all")
                )
            case 1:
                size = math.prod(shape)
                index = IntArray.of(np.arange(size))
                flat = self.builder.add(Rewire(xs=(x,), index=index, shape=(size,)), self.name("flat"))
                return self.linear(flat)
            case _:
                return x


def random_raster(rng: random.Random, shape: tuple[int, ...]) -> Layout:
    """Return a raster: pixels per beat, parts of the channels, gaps within and behind rows at random."""
    rows, columns, channels = math.prod(shape[:-2]), shape[-2], shape[-1]
    width = rng.choice([w for w in range(1, columns + 1) if columns % w == 0 or rng.random() < 0.2])
    per_part = rng.choice([c for c in range(1, channels + 1) if channels % c == 0 or rng.random() < 0.1])
    gap, blank = rng.choice((1, 1, 1, 2, 3)), rng.choice((0, 0, 1, 4))
    beats, cycles, cycle = [], [], 0
    for row in range(rows):
        for first in range(0, columns, width):
            pixels = range(first, min(columns, first + width))
            for part in range(0, channels, per_part):
                some = range(part, min(channels, part + per_part))
                beats.append(tuple((row * columns + p) * channels + c for p in pixels for c in some))
                cycles.append(cycle)
                cycle += gap
        cycle += blank
    return Layout(tuple(beats), tuple(cycles))


@st.composite
def stream_networks(draw: st.DrawFn) -> tuple[Graph, dict[str, Layout], int]:
    """Draw a network, the layout of its input, and a seed for the choice of kernels."""
    rng = draw(st.randoms(use_true_random=True))
    rank = rng.choice((1, 2, 2))
    shape = tuple(rng.randint(1, 6) for _ in range(rank)) + (rng.randint(1, 3),)
    if rng.random() < 0.1:
        shape = (2, *shape)
    network = Network(rng)
    low = rng.choice((-8, 0, -100))
    x = network.builder.add(Input(shape=shape, range=Range(low, low + rng.randint(1, 200), 3)), "x")
    layers = [network.windows, network.linear, network.pool, network.lookup, network.join, network.moved]
    for _ in range(rng.randint(1, 4)):
        layer = rng.choice(layers)
        before = len(network.builder.nodes)
        x = layer(x)
        if math.prod(network.shape(x)) > 400 and len(network.builder.nodes) > before + 1:
            break
        if layer == network.windows:
            x = network.linear(x) if rng.random() < 0.7 else x
        if math.prod(network.shape(x)) > 400:
            break
    network.builder.output("y", network.ending(x))
    if rng.random() < 0.2:
        network.builder.output("also", x)
    return network.builder.build(), {"x": random_raster(rng, shape)}, rng.randint(0, 10**6)
