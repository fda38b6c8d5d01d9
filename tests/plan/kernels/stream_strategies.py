"""Hypothesis strategies for kernels on streams: rows and pixels in beats, with gaps, of equal functions."""

from __future__ import annotations

import math

from hypothesis import assume
from hypothesis import strategies as st
from strategies import Draw, bounds, scales, timings
from window_strategies import rasters

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
    Rounding,
)
from metronn.ir.types import Ints, Range
from metronn.plan.hardware.timing import Timing
from metronn.plan.kernels.folds.fold import fold_outputs_spec
from metronn.plan.kernels.kernels import planned
from metronn.plan.kernels.slices import NotStreamableError, slice_of
from metronn.plan.kernels.spec import (
    Elementwise,
    FoldInputs,
    FoldOutputs,
    Gather,
    KernelSpec,
    MatvecAdders,
    ReduceSerial,
    ReduceTree,
    Streamed,
    Table,
)
from metronn.plan.layout import Layout
from metronn.verify.kernel_bench import Case

KINDS = ("adders", "fold_outputs", "fold_inputs", "elementwise", "table", "reduce")


@st.composite
def cycles(draw: Draw, beats: int, least: int = 1, groups: int = 1) -> tuple[int, ...]:
    """Draw the cycles of beats at least `least` apart: even, in rows, or at random; the same in each of `groups`."""
    kind = draw(st.sampled_from(["dense", "even", "rows", "random"]))
    count = beats // groups
    steps = [least] * count
    if kind == "even":
        steps = [least + draw(st.integers(1, 4))] * count
    if kind == "rows":
        row, pause = draw(st.integers(1, 4)), draw(st.integers(1, 9))
        steps = [least + (pause if k % row == row - 1 else 0) for k in range(count)]
    if kind == "random":
        steps = [least + draw(st.integers(0, 5)) for _ in range(count)]
    found, cycle = [], 0
    for step in steps * groups:
        found.append(cycle)
        cycle += step
    return tuple(found)


@st.composite
def column_ranges(draw: Draw, rows: int, columns: int, max_bits: int = 8) -> Range:
    """Draw a range: one for all, or bounds per element with an exponent per column."""
    if draw(st.booleans()):
        lo, hi = draw(bounds(max_bits))
        return Range(lo, hi, draw(st.integers(-2, 5)))
    fracs = [draw(st.integers(-1, 3)) for _ in range(columns)]
    own = [draw(bounds(max_bits)) for _ in range(columns)]
    pairs = [pair if draw(st.integers(0, 3)) else draw(bounds(max_bits)) for _ in range(rows) for pair in own]
    return Range(tuple(lo for lo, _ in pairs), tuple(hi for _, hi in pairs), tuple(fracs) * rows)


@st.composite
def same_requantize(draw: Draw, graph: GraphBuilder, x: str) -> Requantize:
    """Draw a Requantize to one range for all elements, or to one that is moved as they are."""
    kind = graph.types[x].range
    overflow, rounding = draw(st.sampled_from(list(Overflow))), draw(st.sampled_from(list(Rounding)))
    shift = draw(st.integers(-2, 6))
    top = max(abs(round_shift(v, shift, rounding)) for v in (kind.lowest, kind.highest))
    top = (1 << max(1, top.bit_length() + draw(st.integers(-4, 1)))) - 1
    low = draw(st.sampled_from([0, -top if overflow in (Overflow.SAT_SYM, Overflow.SAT_ZERO) else -top - 1]))
    frac: Ints = kind.max_frac - shift
    if draw(st.booleans()):
        frac = tuple(own - shift for own in kind.fracs(graph.types[x].size))
    out = Range(low, top, frac)
    return Requantize(x=x, out=out, rounding=rounding, overflow=overflow)


@st.composite
def same_ops(draw: Draw, graph: GraphBuilder, values: list[str], columns: int, most: int) -> tuple[str, ...]:
    """Add up to `most` ops on the latest of `values`; constants differ by column at most."""
    nodes: list[str] = []
    for k in range(draw(st.integers(0, most))):
        x = values[-1]
        kind = draw(st.sampled_from(["requantize", "requantize", "relu", "multiply", "add", "earlier"]))
        op: Add | Multiply | Extremum | Requantize
        if kind == "requantize":
            op = draw(same_requantize(graph, x))
        elif kind == "earlier":
            op = Extremum(x=x, y=draw(st.sampled_from(values)), kind=draw(st.sampled_from(list(ExtremumKind))))
        elif kind == "relu":
            op = Extremum(x=x, y=graph.add(Constant(values=IntArray.of([0])), "zero"))
        else:
            count = draw(st.sampled_from([1, columns]))
            codes = draw(st.lists(st.integers(-20, 20), min_size=count, max_size=count))
            y = graph.add(Constant(values=IntArray.of(codes), frac=draw(st.integers(0, 4))), "c")
            op = Multiply(x=x, y=y) if kind == "multiply" else Add(x=x, y=y, subtract=draw(st.booleans()))
        nodes.append(graph.add(op, f"e{k}", f"layer{k}"))
        values.append(nodes[-1])
    return tuple(nodes)


@st.composite
def row_graphs(draw: Draw, rows: int, epilogue: int = 3) -> tuple[Graph, tuple[str, ...]]:
    """Draw one Linear on `rows` rows, and ops behind it."""
    graph = GraphBuilder()
    n_in, n_out = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    x = graph.add(Input(shape=(rows, n_in), range=draw(column_ranges(rows, n_in))), "x")
    bits, zeros = draw(st.integers(1, 8)), draw(st.sampled_from([0, 5]))
    weight = [
        0 if draw(st.integers(0, 9)) < zeros else draw(st.integers(-(1 << (bits - 1)), (1 << (bits - 1)) - 1))
        for _ in range(n_in * n_out)
    ]
    bias = [draw(st.integers(-300, 300)) for _ in range(n_out)]
    weight_frac, input_frac = draw(scales(graph.types[x], n_out))
    op = Linear(
        x=x,
        weight=IntArray.of(object_array(weight, (n_in, n_out))),
        bias=IntArray.of(bias),
        weight_frac=weight_frac,
        input_frac=input_frac,
    )
    linear = graph.add(op, "dense", "conv")
    nodes = (linear, *draw(same_ops(graph, [linear], n_out, epilogue)))
    graph.output("y", nodes[-1])
    return graph.build(), nodes


@st.composite
def row_cases(draw: Draw, name: str, kind: str) -> Case:
    """Draw a Streamed matrix-vector kernel."""
    rows, timing = draw(st.integers(1, 9)), draw(timings())
    graph, nodes = draw(row_graphs(rows))
    linear, epilogue = nodes[0], nodes[1:]
    n_in = graph.type_of("x").shape[1]
    order = draw(st.permutations(range(rows))) if draw(st.booleans()) else list(range(rows))
    if kind == "fold_inputs":
        parts = draw(st.integers(min(2, n_in), min(n_in, 5)))
        assume(parts > 1)
        edges = [round(k * n_in / parts) for k in range(parts + 1)]
        base = draw(cycles(parts))
        between = base[-1] + 1 + draw(st.integers(0, 6))
        beats, at = [], []
        for position, row in enumerate(order):
            for cycle, a, b in zip(base, edges, edges[1:], strict=False):
                beats.append(tuple(range(row * n_in + a, row * n_in + b)))
                at.append(position * between + cycle)
        part = Layout(tuple(tuple(range(a, b)) for a, b in zip(edges, edges[1:], strict=False)), base)
        inner: MatvecAdders | FoldOutputs | FoldInputs = FoldInputs(linear=linear, epilogue=epilogue, layout=part)
        spec = Streamed(inner=inner, layouts=(Layout(tuple(beats), tuple(at)),))
    else:
        copies = draw(st.integers(1, min(3, rows)))
        least = 1
        if kind == "adders":
            inner = MatvecAdders(linear=linear, epilogue=epilogue)
        else:
            least = draw(st.integers(1, 6))
            inner = fold_outputs_spec(graph, linear, epilogue, least, timing)
        groups = [order[k : k + copies] for k in range(0, rows, copies)]
        made = tuple(tuple(row * n_in + k for row in group for k in range(n_in)) for group in groups)
        spec = Streamed(inner=inner, layouts=(Layout(made, draw(cycles(len(made), least))),), copies=copies)
    return draw(cased(name, spec, graph, timing))


@st.composite
def cased(draw: Draw, name: str, spec: KernelSpec, graph: Graph, timing: Timing) -> Case:
    """Give a kernel an II: the least it keeps, or more."""
    try:
        least = planned(spec, graph, timing).cycles_per_event
    except NotStreamableError:
        assume(condition=False)
    ii = least + draw(st.sampled_from([0, 0, 1, 5]))
    return Case(name=name, spec=spec, graph=graph, timing=timing, ii_cycles=ii, events=10)


@st.composite
def box_cases(draw: Draw, name: str, kind: str) -> Case:
    """Draw a Streamed kernel on an image that comes in boxes."""
    shape = (draw(st.integers(1, 4)), draw(st.integers(1, 5)), draw(st.integers(1, 4)))
    timing, pixels = draw(timings()), shape[0] * shape[1]
    layout = draw(rasters(shape))
    graph = GraphBuilder()
    if kind == "table":
        lo, hi = draw(bounds(6))
        x = graph.add(Input(shape=shape, range=Range(lo, hi, 2)), "x")
        table = draw(st.lists(st.integers(-99, 99), min_size=hi - lo + 1, max_size=hi - lo + 1))
        last = graph.add(Lookup(x=x, table=IntArray.of(table), frac=3), "sigmoid")
        inner: Table | ReduceTree | Elementwise = Table(lookup=last)
        layouts: tuple[Layout, ...] = (layout,)
    elif kind == "reduce":
        x = graph.add(Input(shape=shape, range=draw(column_ranges(pixels, shape[2]))), "x")
        axes = draw(st.sampled_from([(2,), (2,), (1,), (1, 2)]))
        last = graph.add(Reduce(x=x, axes=axes, kind=draw(st.sampled_from(list(ReduceKind)))), "r")
        inner, layouts = ReduceTree(reduce=last), (layout,)
        if 1 in axes:
            whole = Layout.rows(pixels * shape[2], shape[1] * shape[2])
            layouts = (Layout(whole.beats, draw(cycles(whole.beat_count))),)
    else:
        values = [graph.add(Input(shape=shape, range=draw(column_ranges(pixels, shape[2]))), "x")]
        if draw(st.booleans()):
            other = graph.add(Input(shape=shape, range=draw(column_ranges(pixels, shape[2]))), "other")
            values.append(graph.add(Add(x=values[0], y=other), "both"))
        nodes = draw(same_ops(graph, list(values), shape[2], 3))
        made = (*values[1:], *nodes)
        if not made:
            made = (graph.add(Add(x=values[0], y=values[0]), "twice"),)
        last = made[-1]
        inner = Elementwise(nodes=made)
        layouts = (layout,) * (2 if len(values) > 1 else 1)
    graph.output("y", last)
    built = graph.build()
    spec = Streamed(inner=inner, layouts=layouts)
    try:
        slice_of(spec, built)
    except NotStreamableError:
        assume(condition=False)
    return draw(cased(name, spec, built, timing))


@st.composite
def reduce_cases(draw: Draw, name: str) -> Case:
    """Draw a ReduceSerial: any axes, any elements in any beats."""
    shape = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=3)))
    size = math.prod(shape)
    graph = GraphBuilder()
    x = graph.add(Input(shape=shape, range=draw(column_ranges(size // shape[-1], shape[-1]))), "x")
    axes = tuple(sorted(draw(st.lists(st.sampled_from(range(len(shape))), min_size=1, unique=True))))
    graph.output("y", graph.add(Reduce(x=x, axes=axes, kind=draw(st.sampled_from(list(ReduceKind)))), "r"))
    spec = ReduceSerial(reduce="r", layout=draw(stream_layouts(size)))
    return draw(cased(name, spec, graph.build(), draw(timings())))


@st.composite
def stream_layouts(draw: Draw, size: int) -> Layout:
    """Draw beats of equal width (the last may be shorter) or of any widths and order, at any cycles."""
    if draw(st.booleans()):
        plain = Layout.rows(size, draw(st.integers(1, size)))
        return Layout(plain.beats, draw(cycles(plain.beat_count)))
    order = draw(st.permutations(range(size)))
    beats = draw(st.integers(1, min(size, 9)))
    cuts = sorted(draw(st.permutations(range(1, size)))[: beats - 1])
    edges = [0, *cuts, size]
    made = tuple(tuple(order[a:b]) for a, b in zip(edges, edges[1:], strict=False))
    return Layout(made, draw(cycles(len(made))))


@st.composite
def gap_cases(draw: Draw, name: str, kind: str) -> Case:
    """Draw a FoldInputs or Gather of a stream with gaps; some of them long."""
    size = draw(st.sampled_from([draw(st.integers(1, 24)), draw(st.integers(60, 90)), 150]))
    graph = GraphBuilder()
    x = graph.add(Input(shape=(size,), range=draw(column_ranges(1, size, 6))), "x")
    layout = draw(stream_layouts(size)) if size < 60 else Layout.rows(size, draw(st.integers(1, 2)), 1)
    if size >= 60:
        layout = Layout(layout.beats, draw(cycles(layout.beat_count)))
    if kind == "gather":
        graph.output("y", x)
        return draw(cased(name, Gather(value="x", layout=layout), graph.build(), draw(timings())))
    n_out = draw(st.integers(1, 5))
    top = draw(st.sampled_from([3, 30, 2000]))
    weight = draw(st.lists(st.integers(-top, top), min_size=size * n_out, max_size=size * n_out))
    bias = draw(st.lists(st.integers(-300, 300), min_size=n_out, max_size=n_out))
    op = Linear(x=x, weight=IntArray.of(object_array(weight, (size, n_out))), bias=IntArray.of(bias))
    linear = graph.add(op, "dense", "dense")
    epilogue = draw(same_ops(graph, [linear], n_out, 2))
    graph.output("y", epilogue[-1] if epilogue else linear)
    spec = FoldInputs(linear=linear, epilogue=epilogue, layout=layout)
    return draw(cased(name, spec, graph.build(), draw(timings())))


@st.composite
def stream_batches(draw: Draw, count: int) -> list[Case]:
    """Draw `count` Streamed kernels of every inner kind."""
    found = []
    for kind in KINDS:
        of_rows = kind in ("adders", "fold_outputs", "fold_inputs")
        for k in range(count):
            name = f"mnn_{kind}_{k}"
            found.append(draw(row_cases(name, kind) if of_rows else box_cases(name, kind)))
    return found


@st.composite
def serial_batches(draw: Draw, count: int) -> list[Case]:
    """Draw `count` kernels that collect a stream: reductions, folds over inputs, gathers."""
    found = [draw(reduce_cases(f"mnn_serial_{k}")) for k in range(count)]
    return found + [draw(gap_cases(f"mnn_{kind}_{k}", kind)) for kind in ("fold", "gather") for k in range(count)]
