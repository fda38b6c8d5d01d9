"""Hypothesis strategies for small graphs: ranges, elementwise chains, sparse matrices."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from hypothesis import strategies as st

from metronn.ir.arrays import IntArray, object_array
from metronn.ir.graph import Graph, GraphBuilder
from metronn.ir.infer import round_shift
from metronn.ir.ops import (
    Add,
    Constant,
    Extremum,
    ExtremumKind,
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
from metronn.ir.types import Ints, Range, TensorType
from metronn.plan.hardware.boards import list_devices, load_device
from metronn.plan.hardware.fabric import common
from metronn.plan.hardware.timing import Timing
from metronn.plan.kernels.kernels import planned
from metronn.plan.kernels.spec import (
    Crossing,
    Delay,
    Elementwise,
    Gather,
    KernelSpec,
    MatvecAdders,
    ReduceTree,
    Table,
    Wiring,
)
from metronn.plan.layout import Layout
from metronn.verify.kernel_bench import Case
from timings import level_timing

Draw = st.DrawFn

FABRICS = tuple(dict.fromkeys(load_device(name).fabric for name in list_devices()))


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
    form = draw(st.sampled_from(["one", "each", "moved"]))
    if form == "moved":  # the same for the codes of all elements, whatever their fracs
        shift = draw(st.integers(-2, 7))
        lo, hi = _target(
            draw, overflow, *(round_shift(code, shift, rounding) for code in (kind.range.lowest, kind.range.highest))
        )
        moved = tuple(frac - shift for frac in kind.range.fracs(kind.size))
        return Requantize(x=x, out=Range(lo, hi, moved), rounding=rounding, overflow=overflow)
    count = kind.size if form == "each" else 1
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


def timings() -> st.SearchStrategy[Timing]:
    """One to three adder levels per stage, on every device that there is and on two different ones at once."""
    fabrics = st.lists(st.sampled_from(FABRICS), min_size=1, max_size=2).map(common)
    return st.builds(level_timing, levels=st.integers(1, 3), fabric=fabrics)


@st.composite
def layouts(draw: Draw, size: int, max_beats: int = 6) -> Layout:
    """Draw a layout of `size` elements: one to `max_beats` beats, of different widths, elements in any order."""
    order = draw(st.permutations(range(size))) if draw(st.booleans()) else list(range(size))
    beats = draw(st.integers(1, min(size, max_beats)))
    cuts = sorted(draw(st.permutations(range(1, size)))[: beats - 1])
    edges = [0, *cuts, size]
    return Layout(tuple(tuple(order[a:b]) for a, b in zip(edges, edges[1:], strict=False)))


@st.composite
def scales(draw: Draw, kind: TensorType, n_out: int) -> tuple[Ints, Ints]:
    """Draw weight_frac and input_frac of a Linear: for all, or for each; making up for the fracs of x, or not."""
    n_in = kind.shape[-1]
    outputs = draw(st.integers(0, 3)) if draw(st.booleans()) else [draw(st.integers(-2, 4)) for _ in range(n_out)]
    form = draw(st.sampled_from(["none", "each", "cancelling"]))
    if form == "none":
        inputs: Ints = draw(st.sampled_from([0, 0, 2]))
    elif form == "each":
        inputs = tuple(draw(st.integers(-1, 2)) for _ in range(n_in))
    else:
        inputs = tuple(3 - frac for frac in kind.range.fracs(kind.size)[:n_in])
    return tuple(outputs) if isinstance(outputs, list) else outputs, inputs


@st.composite
def linear_graphs(draw: Draw, max_in: int = 9, max_out: int = 6, *, epilogue: bool = True) -> Chain:
    """Draw one Linear, dense or sparse, with ranges per element or not, and up to three ops behind it.

    The chain's first node is the Linear.
    """
    graph = GraphBuilder()
    n_in, n_out = draw(st.integers(1, max_in)), draw(st.integers(1, max_out))
    shape = draw(st.sampled_from([(n_in,), (n_in,), (2, n_in)]))
    size = n_in * (2 if len(shape) == 2 else 1)
    kind = draw(ranges(size, 8, frac=draw(st.integers(0, 5)) if draw(st.booleans()) else None))
    x = graph.add(Input(shape=shape, range=kind), "x")
    bits, zeros = draw(st.integers(1, 8)), draw(st.sampled_from([0, 5, 9]))
    weight = [
        0 if draw(st.integers(0, 9)) < zeros else draw(st.integers(-(1 << (bits - 1)), (1 << (bits - 1)) - 1))
        for _ in range(n_in * n_out)
    ]
    bias = [draw(st.integers(-300, 300)) if draw(st.booleans()) else 0 for _ in range(n_out)]
    values = IntArray.of(object_array(weight, (n_in, n_out)))
    weight_frac, input_frac = draw(scales(graph.types[x], n_out))
    op = Linear(x=x, weight=values, bias=IntArray.of(bias), weight_frac=weight_frac, input_frac=input_frac)
    nodes = [graph.add(op, "dense", "jet_dense")]
    for k in range(draw(st.integers(0, 3)) if epilogue else 0):
        nodes.append(graph.add(draw(epilogue_op(graph, nodes, n_out)), f"e{k}", f"layer{k}"))
    graph.output("y", nodes[-1])
    return Chain(graph.build(), tuple(nodes))


@st.composite
def epilogue_op(
    draw: Draw, graph: GraphBuilder, nodes: list[str], n_out: int
) -> Add | Multiply | Extremum | Requantize:
    """Draw an op on the latest node and a constant, or an earlier node."""
    kind = draw(st.sampled_from(["requantize", "requantize", "relu", "multiply", "add", "earlier"]))
    x = nodes[-1]
    if kind == "requantize":
        return draw(requantize(graph, x))
    if kind == "earlier":
        return Extremum(x=x, y=draw(st.sampled_from(nodes)), kind=draw(st.sampled_from(list(ExtremumKind))))
    if kind == "relu":
        return Extremum(x=x, y=graph.add(Constant(values=IntArray.of([0])), "zero"))
    count = n_out if draw(st.booleans()) else 1
    codes = draw(st.lists(st.integers(-20, 20), min_size=count, max_size=count))
    y = graph.add(Constant(values=IntArray.of(codes), frac=draw(st.integers(0, 4))), "c")
    return Multiply(x=x, y=y) if kind == "multiply" else Add(x=x, y=y, subtract=draw(st.booleans()))


@st.composite
def reduce_graphs(draw: Draw) -> Chain:
    """Draw one Reduce over any axes of a tensor of one to three axes."""
    graph = GraphBuilder()
    shape = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=3)))
    x = graph.add(Input(shape=shape, range=draw(ranges(math.prod(shape), 9))), "x")
    axes = draw(st.lists(st.sampled_from(range(len(shape))), min_size=1, unique=True))
    op = Reduce(x=x, axes=tuple(sorted(axes)), kind=draw(st.sampled_from(list(ReduceKind))))
    graph.output("y", graph.add(op, "r", "pool"))
    return Chain(graph.build(), ("r",))


@st.composite
def lookup_graphs(draw: Draw, max_bits: int = 7) -> Chain:
    """Draw one Lookup with a random table."""
    graph = GraphBuilder()
    size = draw(st.integers(1, 4))
    kind = draw(ranges(size, max_bits, frac=draw(st.integers(0, 4))))
    x = graph.add(Input(shape=(size,), range=kind), "x")
    lo, hi = draw(bounds(9))
    seed = random.Random(draw(st.integers(0, 1 << 20)))
    table = [seed.randint(lo, hi) for _ in range(kind.highest - kind.lowest + 1)]
    graph.output("y", graph.add(Lookup(x=x, table=IntArray.of(table), frac=3), "sigmoid", "act"))
    return Chain(graph.build(), ("sigmoid",))


@st.composite
def rewire_graphs(draw: Draw) -> Chain:
    """Draw one Rewire of one or two values and a constant, with zeros and repeats."""
    graph = GraphBuilder()
    sizes = draw(st.lists(st.integers(1, 6), min_size=1, max_size=2))
    frac = draw(st.integers(0, 3))
    xs = [graph.add(Input(shape=(n,), range=draw(ranges(n, 7, frac=frac))), f"x{k}") for k, n in enumerate(sizes)]
    if draw(st.booleans()):
        xs.append(graph.add(Constant(values=IntArray.of([5, -3]), frac=frac), "c"))
        sizes.append(2)
    total = sum(sizes)
    count = draw(st.integers(1, 10))
    index = draw(st.lists(st.integers(-1, total - 1), min_size=count, max_size=count))
    if draw(st.booleans()):
        index = list(range(total))
    op = Rewire(xs=tuple(xs), index=IntArray.of(index), shape=(len(index),))
    graph.output("y", graph.add(op, "moved", "concat"))
    return Chain(graph.build(), ("moved",))


@st.composite
def inputs_only(draw: Draw) -> Chain:
    """Draw a graph of one input, shown as output: what Gather, Delay and Crossing carry."""
    graph = GraphBuilder()
    size = draw(st.integers(1, 9))
    x = graph.add(Input(shape=(size,), range=draw(ranges(size, 8))), "x")
    graph.output("y", x)
    return Chain(graph.build(), ())


@st.composite
def kernel_cases(draw: Draw, name: str, kind: str) -> Case:
    """Draw a kernel of a kind, its timing and an II it can keep."""
    timing = draw(timings())
    spec: KernelSpec
    match kind:
        case "adders":
            chain = draw(linear_graphs())
            spec = MatvecAdders(linear=chain.nodes[0], epilogue=chain.nodes[1:])
        case "elementwise":
            chain = draw(chains())
            spec = Elementwise(nodes=chain.nodes)
        case "table":
            chain = draw(lookup_graphs())
            spec = Table(lookup=chain.nodes[0])
        case "reduce":
            chain = draw(reduce_graphs())
            spec = ReduceTree(reduce=chain.nodes[0])
        case "wiring":
            chain = draw(rewire_graphs())
            spec = Wiring(rewire=chain.nodes[0])
        case "gather":
            chain = draw(inputs_only())
            spec = Gather(value="x", layout=draw(layouts(chain.graph.type_of("x").size)))
        case "delay":
            chain = draw(inputs_only())
            layout = draw(layouts(chain.graph.type_of("x").size))
            spec = Delay(value="x", layout=layout, cycles=draw(st.integers(0, 40)))
        case "crossing":
            chain = draw(inputs_only())
            layout = draw(layouts(chain.graph.type_of("x").size))
            spec = Crossing(value="x", layout=layout, registers=draw(st.integers(2, 6)))
        case _:
            raise ValueError(f"unknown kind {kind}")
    return Case(
        name=name,
        spec=spec,
        graph=chain.graph,
        timing=timing,
        ii_cycles=planned(spec, chain.graph, timing).cycles_per_event + draw(st.sampled_from([0, 0, 1, 5])),
    )


KINDS = ("adders", "elementwise", "table", "reduce", "wiring", "gather", "delay", "crossing")


@st.composite
def batches(draw: Draw, count: int, kinds: tuple[str, ...] = KINDS) -> list[Case]:
    """Draw `count` kernels of each kind."""
    return [draw(kernel_cases(f"mnn_{kind}_{k}", kind)) for kind in kinds for k in range(count)]
