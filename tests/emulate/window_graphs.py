"""Random networks with shape: windows of every kind under linear ops and pools, with chains behind them."""

from __future__ import annotations

import math
import random

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st
from native_graphs import random_inputs, random_ints, random_range, random_requantize, random_scales

from metronn.ir.arrays import IntArray, object_array
from metronn.ir.graph import Graph, GraphBuilder
from metronn.ir.infer import TypeRuleError
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
from metronn.ir.types import Range, TensorType

MOST_ELEMENTS = 1500
BYTES = (Range(0, 255, 5), Range(-128, 127, 3), Range(0, 1), Range(-100, 155, -2), Range(40, 90, 1), Range(-3, -1))


def random_window(rng: random.Random, x: str, shape: tuple[int, ...]) -> Window:
    """Any window that fits: one to three axes, dilated, padded more on one side than on the other."""
    rank = rng.randint(1, min(3, len(shape) - 1))
    spatial = shape[-rank - 1 : -1]
    kernel = tuple(rng.randint(1, 3) for _ in spatial)
    dilations = tuple(rng.choice((1, 1, 2)) for _ in spatial)
    before = tuple(rng.choice((0, 1, 2)) for _ in spatial)
    needed = [d * (k - 1) + 1 - n - b for n, k, d, b in zip(spatial, kernel, dilations, before, strict=True)]
    return Window(
        x=x,
        kernel=kernel,
        strides=tuple(rng.choice((1, 1, 2, 3)) for _ in spatial),
        dilations=dilations,
        before=before,
        after=tuple(max(0, least) + rng.choice((0, 1)) for least in needed),
        padding=rng.choice(list(Padding)),
    )


def random_weights(rng: random.Random, taps: int, channels: int, bits: int) -> IntArray:
    """Weights of a dense, grouped, depthwise or very sparse convolution."""
    kind = rng.choice(("dense", "dense", "groups", "depthwise", "sparse", "none"))
    if kind in ("dense", "none"):
        values = random_ints(rng, (taps * channels, rng.choice((1, 3, 8, 11))), bits)
        return values if kind == "dense" else IntArray.of(np.zeros_like(values.array))
    outputs = channels * rng.choice((1, 2)) if kind != "sparse" else 9
    weight = np.zeros((taps * channels, outputs), dtype=object)
    groups = channels if kind == "depthwise" else rng.choice([g for g in (1, 2, channels) if channels % g == 0])
    for i in range(taps * channels):
        for o in range(outputs):
            same = (i % channels) // (channels // groups) == o // (outputs // groups) if kind != "sparse" else False
            if same or rng.random() < 0.02:
                weight[i, o] = rng.randint(-(1 << bits) + 1, (1 << bits) - 1)
    return IntArray.of(weight)


def add_reader(rng: random.Random, builder: GraphBuilder, window: str, channels: int, bits: int) -> str:
    """Read a window as a convolution or as a pool."""
    shape = builder.types[window].shape
    if rng.random() < 0.6:
        weight = random_weights(rng, shape[-1] // channels, channels, rng.choice((3, 7, bits)))
        bias = random_ints(rng, (weight.shape[1],), rng.choice((3, 10, bits)))
        op = Linear(
            x=window,
            weight=weight,
            bias=bias,
            weight_frac=random_scales(rng, weight.shape[1]),
            input_frac=random_inputs(rng, builder.types[window]),
        )
        return builder.add(op, "conv")
    split = (*shape[:-1], shape[-1] // channels, channels)
    index = IntArray.of(np.arange(math.prod(split)).reshape(split))
    split_name = builder.add(Rewire(xs=(window,), index=index, shape=split), "split")
    axis = len(split) - 2 if rng.random() < 0.8 else len(split) - 1
    return builder.add(Reduce(x=split_name, axes=(axis,), kind=rng.choice(list(ReduceKind))), "pool")


def add_elementwise(rng: random.Random, builder: GraphBuilder, x: str) -> str:
    """Put an activation, a rounding, a table or a residual sum behind a value."""
    t = builder.types[x]
    match rng.randrange(6):
        case 0:
            shape = rng.choice(((), t.shape[-1:]))
            constant = builder.add(Constant(values=random_ints(rng, shape, 3), frac=rng.randint(0, 4)), "constant")
            return builder.add(Extremum(x=x, y=constant), "relu")
        case 1:
            partners = [name for name, other in builder.types.items() if other.shape == t.shape]
            return builder.add(Add(x=x, y=rng.choice(partners), subtract=rng.random() < 0.5), "sum")
        case 2:
            return builder.add(Multiply(x=x, y=x), "square")
        case 3 if isinstance(t.range.frac, int) and t.range.highest - t.range.lowest < 1024:
            table = random_ints(rng, (t.range.highest - t.range.lowest + 1,), rng.choice((4, 8, 20)))
            return builder.add(Lookup(x=x, table=table, frac=rng.randint(0, 5)), "table")
        case 4:
            return builder.add(random_requantize(rng, x, t, 8), "requantized")
        case _:
            out = rng.choice(BYTES[:2])
            return builder.add(Requantize(x=x, out=out, rounding=Rounding.RND, overflow=Overflow.SAT), "bytes")


def _input(rng: random.Random, shape: tuple[int, ...], bits: int) -> Input:
    size = math.prod(shape)
    if rng.random() < 0.6:
        return Input(shape=shape, range=rng.choice(BYTES))
    if rng.random() < 0.5:
        lows = [rng.randint(-100, 20) for _ in range(shape[-1])] * (size // shape[-1])
        fracs = [rng.randint(-1, 4) for _ in range(shape[-1])] * (size // shape[-1])
        return Input(shape=shape, range=Range(tuple(lows), tuple(low + 90 for low in lows), tuple(fracs)))
    return Input(shape=shape, range=random_range(rng, size, bits))


@st.composite
def window_graphs(draw: st.DrawFn, blocks: int = 2) -> Graph:
    """Draw a chain of up to `blocks` windows with readers, sometimes several, and what follows them."""
    rng = draw(st.randoms(use_true_random=True))
    bits = rng.choice((8, 8, 12, 30, 40, 70))
    shape = (*(rng.randint(2, 6) for _ in range(rng.randint(1, 3))), rng.choice((1, 1, 2, 3, 4, 8)))
    builder = GraphBuilder()
    x = builder.add(_input(rng, shape, bits), "x")
    seen: list[str] = []
    for _ in range(rng.randint(1, blocks)):
        t = builder.types[x]
        try:
            window = builder.add(random_window(rng, x, t.shape), "window")
        except TypeRuleError:  # the lowest code beyond the edge needs one frac
            break
        if not small(builder.types[window]):
            break
        ends = [add_reader(rng, builder, window, t.shape[-1], bits) for _ in range(rng.choice((1, 1, 1, 2)))]
        if rng.random() < 0.1:
            ends.append(window)
        for number, end in enumerate(ends):
            for _ in range(rng.randint(0, 4)):
                if small(builder.types[end]):
                    end = add_elementwise(rng, builder, end)
            ends[number] = end
        seen += [end for end in ends if rng.random() < 0.3]
        x = ends[0]
        if len(builder.types[x].shape) < 2 or not small(builder.types[x]):
            break
    assume(any(isinstance(node.op, Window) for node in builder.nodes))
    flat = builder.types[x].size
    x = builder.add(Rewire(xs=(x,), index=IntArray.of(np.arange(flat)), shape=(flat,)), "flat")
    for number, value in enumerate(dict.fromkeys((x, *seen))):
        builder.output(f"out{number}", value)
    return builder.build()


def small(t: TensorType) -> bool:
    """Whether a value is worth more ops behind it."""
    return t.size <= MOST_ELEMENTS and t.range.width_bits <= 120


def upsampled(channels: int) -> Graph:
    """Zeros between the elements and a convolution over them, as a transposed convolution is."""
    builder = GraphBuilder()
    x = builder.add(Input(shape=(5, 6, channels), range=Range(-20, 100, 4)), "x")
    index = np.full((9, 11, channels), -1)
    index[::2, ::2] = np.arange(5 * 6 * channels).reshape(5, 6, channels)
    x = builder.add(Rewire(xs=(x,), index=IntArray.of(index), shape=(9, 11, channels)), "spread")
    x = builder.add(Window(x=x, kernel=(3, 3), strides=(1, 1), dilations=(1, 1), before=(1, 1), after=(1, 1)), "window")
    values = object_array([(k * 37) % 255 - 127 for k in range(9 * channels * 5)], (9 * channels, 5))
    x = builder.add(Linear(x=x, weight=IntArray.of(values), bias=IntArray.of([1, 2, 3, 4, 5])), "conv")
    builder.output("y", x)
    return builder.build()
