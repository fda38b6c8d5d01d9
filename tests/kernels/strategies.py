"""Hypothesis strategies for small graphs: ranges, elementwise chains, sparse matrices."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

from metronn.ir.arrays import IntArray
from metronn.ir.graph import Graph, GraphBuilder
from metronn.ir.infer import round_shift
from metronn.ir.ops import Add, Constant, Extremum, ExtremumKind, Input, Multiply, Overflow, Requantize, Rounding
from metronn.ir.types import Range

Draw = st.DrawFn


@dataclass(frozen=True, slots=True)
class Chain:
    """A graph and the names of its elementwise nodes, in order; the last is the result."""

    graph: Graph
    nodes: tuple[str, ...]


@st.composite
def bounds(draw: Draw, max_bits: int = 12) -> tuple[int, int]:
    """Draw code bounds: full ranges, one-sided, skewed, single values."""
    bits = draw(st.integers(1, max_bits))
    kind = draw(st.sampled_from(["signed", "unsigned", "any", "negative", "point"]))
    if kind == "signed":
        return -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    if kind == "unsigned":
        return 0, (1 << bits) - 1
    lo = draw(st.integers(-(1 << bits), 1 << bits))
    if kind == "point":
        return lo, lo
    if kind == "negative":
        return -abs(lo) - draw(st.integers(1, 9)), -1 - draw(st.integers(0, 0))
    return lo, lo + draw(st.integers(0, 1 << bits))


@st.composite
def ranges(draw: Draw, size: int, max_bits: int = 12, frac: int | None = None) -> Range:
    """Draw a range: one for all elements or one each."""
    count = size if draw(st.booleans()) else 1
    pairs = [draw(bounds(max_bits)) for _ in range(count)]
    fracs = tuple(draw(st.integers(-2, 6)) if frac is None else frac for _ in range(count))
    if count == 1:
        return Range(pairs[0][0], pairs[0][1], fracs[0])
    return Range(tuple(lo for lo, _ in pairs), tuple(hi for _, hi in pairs), fracs)


def _target(draw: Draw, overflow: Overflow, lo: int, hi: int) -> tuple[int, int]:
    """Draw bounds the overflow mode allows, mostly near the reach of what comes in."""
    bits = max(1, max(abs(lo), abs(hi)).bit_length() + draw(st.integers(-4, 1)))
    top = (1 << bits) - 1
    match overflow:
        case Overflow.WRAP:
            return (0, top) if draw(st.booleans()) else (-top - 1, top)
        case Overflow.SAT_SYM:
            top = draw(st.integers(0, top))
            return (0, top) if draw(st.booleans()) else (-top, top)
        case Overflow.SAT_ZERO:
            return -draw(st.integers(0, top)), draw(st.integers(0, top))
        case Overflow.SAT:
            first, second = draw(st.integers(-top - 1, top)), draw(st.integers(-top - 1, top))
            return min(first, second), max(first, second)


@st.composite
def requantize(draw: Draw, graph: GraphBuilder, x: str) -> Requantize:
    """Draw a Requantize of value `x`: any mode, uniform or per-element target."""
    kind = graph.types[x]
    overflow = draw(st.sampled_from(list(Overflow)))
    rounding = draw(st.sampled_from(list(Rounding)))
    count = kind.size if draw(st.booleans()) else 1
    lows, highs, fracs = [], [], []
    for k in range(count):
        source = kind.range.element(k)
        frac = source.max_frac - draw(st.integers(-2, 7))
        shift = source.max_frac - frac
        lo, hi = _target(
            draw, overflow, round_shift(source.lowest, shift, rounding), round_shift(source.highest, shift, rounding)
        )
        lows.append(lo)
        highs.append(hi)
        fracs.append(frac)
    out = Range(tuple(lows), tuple(highs), tuple(fracs)) if count > 1 else Range(lows[0], highs[0], fracs[0])
    return Requantize(x=x, out=out, rounding=rounding, overflow=overflow)


@st.composite
def chains(draw: Draw, max_size: int = 5, max_nodes: int = 4, max_bits: int = 10) -> Chain:
    """Draw a DAG of elementwise ops on one to three inputs, with constants and broadcasting."""
    size = draw(st.integers(1, max_size))
    graph = GraphBuilder()
    values = []
    for k in range(draw(st.integers(1, 3))):
        own = size if k == 0 or draw(st.booleans()) else 1
        values.append(graph.add(Input(shape=(own,), range=draw(ranges(own, max_bits))), f"x{k}"))
    nodes: list[str] = []
    for k in range(draw(st.integers(1, max_nodes))):
        op = draw(elementwise_op(graph, values, size))
        nodes.append(graph.add(op, f"n{k}", f"layer{k}"))
        values.append(nodes[-1])
    if graph.types[nodes[-1]].size != size:  # the result has the full shape
        nodes.append(graph.add(Add(x=nodes[-1], y=values[0]), "wide", "wide"))
    graph.output("y", nodes[-1])
    return Chain(graph.build(), tuple(nodes))


@st.composite
def elementwise_op(
    draw: Draw, graph: GraphBuilder, values: list[str], size: int
) -> Add | Multiply | Extremum | Requantize:
    """Draw one op on the latest value and another one, or a constant (added to the graph)."""
    x = values[-1]
    kind = draw(st.sampled_from(["add", "multiply", "extremum", "requantize", "requantize"]))
    if kind == "requantize":
        return draw(requantize(graph, x))
    if draw(st.booleans()):
        y = draw(st.sampled_from(values))
    else:
        count = graph.types[x].size if draw(st.booleans()) else 1
        codes = draw(st.lists(st.integers(-70, 70), min_size=count, max_size=count))
        y = graph.add(Constant(values=IntArray.of(codes), frac=draw(st.integers(-1, 5))), "c")
    if draw(st.booleans()):
        x, y = y, x
    if all(graph.types[name].size == 1 for name in (x, y)) and size > 1 and values[0] not in (x, y):
        y = values[0]
    match kind:
        case "add":
            return Add(x=x, y=y, subtract=draw(st.booleans()))
        case "multiply" if max(graph.types[x].range.width_bits, graph.types[y].range.width_bits) <= 24:
            return Multiply(x=x, y=y)
        case _:
            return Extremum(x=x, y=y, kind=draw(st.sampled_from(list(ExtremumKind))))
