"""Random folds of dense layers, of layers with groups of zeros and of powers of two, and two layers that are given."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from strategies import Chain, layouts, linear_graphs, timings

from metronn.ir.arrays import IntArray
from metronn.ir.graph import Graph, GraphBuilder
from metronn.ir.ops import Constant, Extremum, Input, Linear, Overflow, Requantize, Rounding
from metronn.ir.types import Range
from metronn.plan.kernels.folds.fold import fold_outputs_spec
from metronn.plan.kernels.kernels import planned
from metronn.plan.kernels.spec import FoldInputs, FoldOutputs
from metronn.verify.kernel_bench import Case


def one_axis(chain: Chain) -> bool:
    """Whether the input is a plain vector, which is what folds take."""
    return len(chain.graph.type_of("x").shape) == 1


@st.composite
def fold_cases(draw: st.DrawFn, name: str, kind: str) -> Case:
    """Draw a folded kernel: any shape, range, sparsity, epilogue, fold length and pipelining."""
    chain = draw(linear_graphs(max_in=24, max_out=20).filter(one_axis))
    timing = draw(timings())
    linear, epilogue = chain.nodes[0], chain.nodes[1:]
    if kind == "outputs":
        spec: FoldOutputs | FoldInputs = fold_outputs_spec(
            chain.graph, linear, epilogue, draw(st.integers(1, 9)), timing
        )
    else:
        layout = draw(layouts(chain.graph.type_of("x").size, max_beats=9))
        spec = FoldInputs(linear=linear, epilogue=epilogue, layout=layout)
    gap = draw(st.sampled_from([0, 0, 1, 5]))
    return Case(
        name=name,
        spec=spec,
        graph=chain.graph,
        timing=timing,
        ii_cycles=planned(spec, chain.graph, timing).cycles_per_event + gap,
    )


@st.composite
def fold_batches(draw: st.DrawFn, count: int) -> list[Case]:
    """Draw `count` kernels of each kind."""
    return [draw(fold_cases(f"fold_{kind}_{k}", kind)) for kind in ("outputs", "inputs") for k in range(count)]


def dense(n_in: int, n_out: int, *, weight_bits: int = 8, x: Range | None = None, seed: int = 1) -> tuple[Graph, str]:
    """Return a random layer with ReLU and a saturating requantization, and the name of its Linear."""
    generator = np.random.Generator(np.random.PCG64(seed))
    span = 1 << (weight_bits - 1)
    builder = GraphBuilder()
    value = builder.add(Input(shape=(n_in,), range=x or Range(0, 255)), "x")
    linear = builder.add(
        Linear(
            x=value,
            weight=IntArray.of(generator.integers(-span, span, (n_in, n_out))),
            bias=IntArray.of(generator.integers(-999, 999, n_out)),
        ),
        "dense",
    )
    zero = builder.add(Constant(values=IntArray.of(0)), "zero")
    relu = builder.add(Extremum(x=linear, y=zero), "relu")
    out = Range(0, 255, -6)
    builder.output("y", builder.add(Requantize(x=relu, out=out, rounding=Rounding.RND, overflow=Overflow.SAT), "q"))
    return builder.build(), linear


def sparse(weight: np.ndarray, x: Range) -> tuple[Graph, str]:
    """Return a layer of these weights, and the name of its Linear."""
    builder = GraphBuilder()
    value = builder.add(Input(shape=(weight.shape[0],), range=x), "x")
    bias = IntArray.of(np.arange(weight.shape[1]))
    linear = builder.add(Linear(x=value, weight=IntArray.of(weight), bias=bias), "dense")
    builder.output("y", linear)
    return builder.build(), linear


def grouped_weights(seed: int, n_in: int, n_out: int, beats: int, zeros: float, powers: float) -> np.ndarray:
    """Weights whose multipliers, main lanes two outputs wide, are all zeros, all powers of two, or anything."""
    generator = np.random.Generator(np.random.PCG64(seed))
    weight = generator.integers(-128, 128, (n_in, n_out))
    lanes = 2 * (n_out // (2 * beats))
    for i in range(n_in):
        for pair in range(max(1, lanes // 2)):
            columns = [o for o in range(n_out) if not lanes or o % lanes // 2 == pair]
            kind = generator.random()
            if kind < zeros:
                weight[i, columns] = 0
            elif kind < zeros + powers:
                exponents = generator.integers(0, 4, len(columns))
                weight[i, columns] = generator.integers(-1, 2, len(columns)) << exponents
    return weight


@st.composite
def sparse_batches(draw: st.DrawFn, count: int) -> list[Case]:
    """Draw folds of layers with groups of zeros and of powers of two, in both directions."""
    cases = []
    for k in range(count):
        n_in, n_out, beats = draw(st.integers(2, 14)), draw(st.integers(2, 14)), draw(st.integers(1, 5))
        zeros, powers = draw(st.sampled_from([(0.3, 0.4), (0.9, 0.0), (0.0, 1.0), (0.5, 0.5)]))
        weight = grouped_weights(draw(st.integers(0, 999)), n_in, n_out, beats, zeros, powers)
        low = draw(st.sampled_from([0, -8, -100]))
        graph, linear = sparse(weight, Range(low, draw(st.sampled_from([7, 100]))))
        timing = draw(timings())
        spec: FoldOutputs | FoldInputs = fold_outputs_spec(graph, linear, (), beats, timing)
        if draw(st.booleans()):
            spec = FoldInputs(linear=linear, layout=draw(layouts(n_in, max_beats=5)))
        name = f"sparse_{k}"
        cases.append(
            Case(
                name=name,
                spec=spec,
                graph=graph,
                timing=timing,
                ii_cycles=planned(spec, graph, timing).cycles_per_event,
            )
        )
    return cases
