"""Costs of unrolled matrices without solving them: trees against a naive layout, estimates against planned kernels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metronn.ir.arrays import IntArray
from metronn.ir.graph import Graph, GraphBuilder
from metronn.ir.ops import Constant, Extremum, Input, Linear, Overflow, Requantize, Rounding
from metronn.ir.types import Range
from metronn.plan.hardware.boards import load_device
from metronn.plan.hardware.resources import Resources, lut_equivalents
from metronn.plan.kernels.adder_graph import nonzero_digits
from metronn.plan.kernels.adders.matvec import is_candidate
from metronn.plan.kernels.adders.trees import trees
from metronn.plan.kernels.adders.unrolled_cost import unrolled_cost
from metronn.plan.kernels.kernels import planned
from metronn.plan.kernels.spec import MatvecAdders
from random_tests import examples
from timings import level_timing

FABRIC = load_device("vu13p").fabric


def digits(value: int) -> list[int]:
    """Places of the nonzero digits in canonical signed-digit form."""
    found, place = [], 0
    while value:
        if value & 1:
            found.append(place)
            value -= 2 - (value & 3)
        value >>= 1
        place += 1
    return found


@examples(60)
@given(st.integers(1, 7), st.integers(1, 5), st.integers(1, 90), st.integers(0, 1 << 30))
def test_trees_are_laid_out_term_by_term(inputs: int, outputs: int, bits: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weight = np.array(rng.integers(-9, 10, (inputs, outputs)).tolist(), dtype=object) * (1 << bits)
    bounds = [(0, int(high)) for high in rng.integers(0, 40, inputs)]
    luts, levels = 0, [0] * 12
    for column in range(outputs):
        terms = [(place, k, high << place) for k, (_, high) in enumerate(bounds) if high
                 for place in digits(int(weight[k, column]))]  # fmt: skip
        values = [(low, span) for low, _, span in sorted(terms)]
        for level in range(len(levels)):
            levels[level] += sum(span.bit_length() - low for low, span in values)
            following = []
            for first, second in zip(values[::2], values[1::2], strict=False):
                low, span = min(first[0], second[0]), first[1] + second[1]
                luts += max(1, span.bit_length() - low - abs(first[0] - second[0]) - 1)
                following.append((low, span))
            values = [*following, *values[len(following) * 2 :]]
    laid = trees(weight, bounds)
    live = np.array([high > 0 for _, high in bounds])
    assert laid.luts == luts
    assert laid.bits == tuple(levels[: len(laid.bits)])
    assert set(levels[len(laid.bits) :]) <= {laid.bits[-1]}
    assert laid.digits == nonzero_digits(weight[live])
    assert laid.weights == np.count_nonzero(weight[live])


def layer(rng: np.random.Generator, inputs: int, outputs: int, bits: int, *, ramp: bool) -> tuple[Graph, MatvecAdders]:
    """Return a dense layer of random weights and biases, a ReLU and fewer bits behind it."""
    weight = rng.integers(1 - (1 << (bits - 1)), 1 << (bits - 1), (inputs, outputs))
    builder = GraphBuilder()
    x = builder.add(Input(shape=(inputs,), range=Range.fixed(6, 2, signed=False)), "x")
    bias = IntArray.of(rng.integers(-500, 500, outputs))
    names = [builder.add(Linear(x=x, weight=IntArray.of(weight), bias=bias), "y")]
    if ramp:
        zero = builder.add(Constant(values=IntArray.of([0])), "zero")
        names.append(builder.add(Extremum(x=names[0], y=zero), "relu"))
        out = Range.fixed(20, 1, signed=False)
        op = Requantize(x=names[1], out=out, rounding=Rounding.RND, overflow=Overflow.WRAP)
        names.append(builder.add(op, "out"))
    builder.output("out", names[-1])
    return builder.build(), MatvecAdders(linear="y", epilogue=tuple(names[1:]))


@pytest.mark.parametrize("ramp", [False, True])
@pytest.mark.parametrize("levels", [2, 5])
@pytest.mark.parametrize("device", ["vu13p", "ecp5-85f"])
def test_the_estimate_is_near_the_kernel(device: str, levels: int, ramp: bool) -> None:
    rng = np.random.default_rng(8)
    timing = level_timing(load_device(device).fabric, levels)
    estimated, found = Resources(), Resources()
    for inputs, outputs, bits in ((16, 12, 4), (24, 8, 3), (12, 16, 5), (20, 5, 6)):
        graph, spec = layer(rng, inputs, outputs, bits, ramp=ramp)
        estimated += unrolled_cost(spec, graph, timing)
        found += planned(spec, graph, timing).resources
    assert abs(estimated.lut / found.lut - 1) < 0.1
    assert abs(lut_equivalents(estimated) / lut_equivalents(found) - 1) < 0.15


def test_a_ramp_and_wires_cost_no_luts() -> None:
    timing = level_timing(FABRIC, 2)
    plain, ramped = (layer(np.random.default_rng(5), 12, 8, 4, ramp=ramp) for ramp in (False, True))
    assert unrolled_cost(plain[1], plain[0], timing).lut == unrolled_cost(ramped[1], ramped[0], timing).lut
    builder = GraphBuilder()
    x = builder.add(Input(shape=(3,), range=Range.fixed(6, 2)), "x")
    y = builder.add(Linear(x=x, weight=IntArray.of(np.diag([4, 0, 1])), bias=IntArray.of([0, 0, 0])), "y")
    builder.output("out", y)
    graph = builder.build()
    wires = unrolled_cost(MatvecAdders(linear=y), graph, timing)
    assert wires == Resources(ff=graph.type_of(y).total_bits)


def test_elements_of_one_code_do_not_make_weights_wide() -> None:
    """Quantized networks carry elements without bits whose fraction bits are far from those of the others."""
    builder = GraphBuilder()
    x = builder.add(Input(shape=(3,), range=Range((-8, 0, -8), (7, 0, 7), (3, -24, 2))), "x")
    y = builder.add(Linear(x=x, weight=IntArray.of(np.full((3, 2), 3)), bias=IntArray.of([0, 0])), "y")
    builder.output("out", y)
    graph = builder.build()
    assert is_candidate(MatvecAdders(linear=y), graph)
