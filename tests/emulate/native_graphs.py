"""Random integer graphs over all ops, with input codes that reach their corners, for tests of the compiled emulator."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from metronn.ir.arrays import Array, IntArray, as_dtype_for, object_array
from metronn.ir.graph import Graph, GraphBuilder
from metronn.ir.ops import (
    Add,
    Constant,
    Extremum,
    ExtremumKind,
    Input,
    Linear,
    Lookup,
    Multiply,
    Op,
    Overflow,
    Reduce,
    ReduceKind,
    Requantize,
    Rewire,
    Rounding,
)
from metronn.ir.types import Ints, Range, TensorType
from random_tests import builds

MOST_BITS = 200
MOST_ELEMENTS = 60
SHAPES = ((), (1,), (3,), (7,), (2, 3), (1, 3), (3, 1), (2, 1, 4), (9,), (4, 2))


def random_bounds(rng: random.Random, bits: int) -> tuple[int, int]:
    """Bounds of at most about `bits` bits: full ranges, one-sided, skewed or a single value."""
    match rng.randrange(5):
        case 0:
            return -(1 << (bits - 1)), (1 << (bits - 1)) - 1
        case 1:
            return 0, (1 << bits) - 1
        case 2:
            lo = rng.randint(-(1 << bits), 1 << bits)
            return lo, lo
        case _:
            lo = rng.randint(-(1 << bits), 1 << bits)
            return lo, lo + rng.randint(0, 1 << bits)


def random_range(rng: random.Random, size: int, bits: int) -> Range:
    """Bounds and fracs for all elements or for each."""
    count = size if rng.random() < 0.5 else 1
    pairs = [random_bounds(rng, rng.randint(1, bits)) for _ in range(count)]
    fracs = [rng.randint(-3, 8) if rng.random() < 0.8 else rng.randint(-20, 40) for _ in range(count)]
    if count == 1:
        return Range(*pairs[0], fracs[0])
    return Range(tuple(lo for lo, _ in pairs), tuple(hi for _, hi in pairs), tuple(fracs))


def random_ints(rng: random.Random, shape: tuple[int, ...], bits: int) -> IntArray:
    """Constants of at most `bits` bits with some zeros."""
    limit = 1 << bits
    values = [0 if rng.random() < 0.15 else rng.randint(-limit, limit) for _ in range(math.prod(shape))]
    return IntArray.of(object_array(values, shape))


def _target(rng: random.Random, overflow: Overflow, bits: int) -> tuple[int, int]:
    top = (1 << rng.randint(1, max(1, bits))) - 1
    first, second = rng.randint(-top - 1, top), rng.randint(-top - 1, top)
    match overflow:
        case Overflow.WRAP:
            return (0, top) if rng.random() < 0.5 else (-top - 1, top)
        case Overflow.SAT_SYM:
            return (0, top) if rng.random() < 0.5 else (-top, top)
        case Overflow.SAT_ZERO:
            return -abs(first), abs(second)
        case Overflow.SAT:
            return min(first, second), max(first, second)


def random_requantize(rng: random.Random, x: str, t: TensorType, out_bits: int) -> Requantize:
    """Any rounding and overflow mode; targets for all elements or each."""
    overflow = rng.choice(list(Overflow))
    count = t.size if rng.random() < 0.5 else 1
    pairs = [_target(rng, overflow, out_bits) for _ in range(count)]
    fracs = [t.range.element(k).max_frac - rng.randint(-4, 12) for k in range(count)]
    out = Range(tuple(p[0] for p in pairs), tuple(p[1] for p in pairs), tuple(fracs))
    return Requantize(x=x, out=out, rounding=rng.choice(list(Rounding)), overflow=overflow)


def random_scales(rng: random.Random, count: int) -> Ints:
    """One exponent for all outputs of a matrix, or one for each."""
    return rng.randint(-2, 9) if rng.random() < 0.5 else tuple(rng.randint(-2, 5) for _ in range(count))


def random_inputs(rng: random.Random, x: TensorType) -> Ints:
    """Exponents of the inputs of a matrix: none, one for each, or what makes up for the fracs of the first row."""
    count = x.shape[-1]
    return rng.choice(
        (0, tuple(rng.randint(-1, 2) for _ in range(count)), tuple(3 - frac for frac in x.range.fracs(x.size)[:count]))
    )


def _rewire(rng: random.Random, types: dict[str, TensorType]) -> Rewire:
    xs = tuple(rng.choice(list(types)) for _ in range(rng.randint(1, 3)))
    total = sum(types[x].size for x in xs)
    shape = rng.choice(SHAPES)
    if rng.random() < 0.3 and len(xs) == 1:
        return Rewire(xs=xs, index=IntArray.of(np.arange(total)), shape=(total,))
    index = [rng.randint(-1, total - 1) for _ in range(math.prod(shape))]
    return Rewire(xs=xs, index=IntArray.of(np.array(index).reshape(shape)), shape=shape)


def _partner(rng: random.Random, types: dict[str, TensorType], x: str) -> str:
    shape = types[x].shape

    def broadcasts(t: TensorType) -> bool:
        pairs = itertools.zip_longest(reversed(shape), reversed(t.shape), fillvalue=1)
        return all(a == b or 1 in (a, b) for a, b in pairs)

    return rng.choice([name for name, t in types.items() if broadcasts(t)])


def random_op(rng: random.Random, types: dict[str, TensorType], bits: int) -> Op:
    """Any op over values already there."""
    x = rng.choice(list(types))
    t = types[x]
    makers: dict[str, Callable[[], Op]] = {
        "constant": lambda: Constant(values=random_ints(rng, rng.choice(SHAPES), bits), frac=rng.randint(-3, 9)),
        "rewire": lambda: _rewire(rng, types),
        "add": lambda: Add(x=x, y=_partner(rng, types, x), subtract=rng.random() < 0.5),
        "multiply": lambda: Multiply(x=x, y=_partner(rng, types, x)),
        "extremum": lambda: Extremum(x=x, y=_partner(rng, types, x), kind=rng.choice(list(ExtremumKind))),
        "requantize": lambda: random_requantize(rng, x, t, rng.choice((4, 8, bits, t.range.width_bits))),
    }
    if t.shape:
        n_out = rng.randint(1, 19)
        axes = tuple(sorted(rng.sample(range(len(t.shape)), rng.randint(1, len(t.shape)))))
        makers["reduce"] = lambda: Reduce(x=x, axes=axes, kind=rng.choice(list(ReduceKind)))
        makers["linear"] = makers["linear again"] = lambda: Linear(
            x=x,
            weight=random_ints(rng, (t.shape[-1], n_out), rng.choice((1, 8, bits))),
            bias=random_ints(rng, (n_out,), rng.choice((3, bits))),
            weight_frac=random_scales(rng, n_out),
            input_frac=random_inputs(rng, t),
        )
    span = t.range.highest - t.range.lowest + 1
    if isinstance(t.range.frac, int) and span <= 2048:
        makers["lookup"] = lambda: Lookup(x=x, table=random_ints(rng, (span,), bits), frac=rng.randint(-2, 9))
    return makers[rng.choice(list(makers))]()


@st.composite
def graphs(draw: st.DrawFn, most_nodes: int = 10) -> Graph:
    """Draw a graph with one to three inputs, any ops, and widths from one bit to MOST_BITS."""
    rng = draw(st.randoms(use_true_random=True))
    bits = rng.choice((3, 8, 12, 30, 31, 60, 62, 63, 64, 90, 127))
    builder = GraphBuilder()
    for number in range(rng.randint(1, 3)):
        shape = rng.choice(SHAPES)
        builder.add(Input(shape=shape, range=random_range(rng, math.prod(shape), bits)), f"in.{number}")
    for _ in range(rng.randint(1, most_nodes)):
        op = random_op(rng, builder.types, rng.choice((4, bits)))
        name = builder.add(op, type(op).__name__)
        t = builder.types[name]
        if t.size > MOST_ELEMENTS or t.range.width_bits > MOST_BITS:
            builder.nodes.pop()
            del builder.types[name]
    names = list(builder.types)
    for number, value in enumerate(dict.fromkeys((names[-1], rng.choice(names), rng.choice(names)))):
        builder.output(f"out{number}", value)
    return builder.build()


def collected(strategy: st.SearchStrategy[Graph], count: int) -> list[Graph]:
    """Return `count` examples of a strategy, always the same ones: many graphs for one compiler run."""
    found: list[Graph] = []

    @builds(count)
    @given(strategy)
    def gather(graph: Graph) -> None:
        found.append(graph)

    gather()
    return found


def random_codes(graph: Graph, events: int, seed: int) -> dict[str, Array]:
    """Codes for every input: lowest, highest and one-hot corners first, then random ones."""
    rng = random.Random(seed)
    codes: dict[str, Array] = {}
    for node in graph.inputs:
        los, his = node.type.range.los(node.type.size), node.type.range.his(node.type.size)
        pairs = list(zip(los, his, strict=True))
        rows = [list(los), list(his)]
        rows += [[hi if k == event % len(pairs) else lo for k, (lo, hi) in enumerate(pairs)] for event in range(3)]
        rows += [[rng.choice((lo, hi, rng.randint(lo, hi))) for lo, hi in pairs] for _ in range(events)]
        flat = object_array((value for row in rows[:events] for value in row), (events, *node.type.shape))
        codes[node.name] = as_dtype_for(flat, node.type.range.lowest, node.type.range.highest)
    return codes
