"""Which multipliers of folds HLS makes: those that see a weight other than 0 in some beat, as the loops go."""

from __future__ import annotations

import numpy as np
from hls_projects import project_of
from hypothesis import given
from hypothesis import strategies as st

from metronn.emit.hls.live import inputs_live, outputs_live
from metronn.emit.hls.ops import HlsDirective
from metronn.emit.hls.project import emit_hls
from metronn.ir.arrays import IntArray
from metronn.ir.graph import GraphBuilder
from metronn.ir.ops import Input, Linear
from metronn.ir.types import Range
from random_tests import examples


@examples(60)
@given(st.integers(1, 9), st.integers(1, 12), st.integers(1, 5), st.integers(0, 3), st.integers(0, 1 << 30))
def test_live_multipliers_are_those_the_loops_use(inputs: int, parallel: int, beats: int, rest: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    outputs = (beats - 1) * parallel + int(rng.integers(1, parallel + 1)) + rest
    weight = rng.integers(-1, 2, (outputs, inputs)) * (rng.random((outputs, inputs)) < 0.3)
    main, remainder = np.zeros((parallel, inputs), bool), np.zeros((rest, -(-inputs // beats)), bool)
    whole = outputs - rest
    for beat in range(beats):
        for lane in range(parallel):
            for i in range(inputs):
                place = beat * parallel + lane
                main[lane, i] |= place < whole and bool(weight[place, i])
        for r in range(rest):
            for lane in range(remainder.shape[1]):
                i = beat * remainder.shape[1] + lane
                remainder[r, lane] |= i < inputs and bool(weight[whole + r, i])
    found = outputs_live(weight, parallel, beats, rest)
    assert np.array_equal(found[0], main)
    assert np.array_equal(found[1], remainder)
    lanes = -(-inputs // beats)
    folded = np.zeros((outputs, lanes), bool)
    for o in range(outputs):
        for i in range(inputs):
            folded[o, i % lanes] |= bool(weight[o, i])
    assert np.array_equal(inputs_live(weight, lanes, beats), folded)


def test_multipliers_of_zeros_are_named_in_the_configuration() -> None:
    weight = np.ones((4, 6), dtype=np.int64)
    weight[1] = 0
    weight[:, 0::2] = 0
    builder = GraphBuilder()
    x = builder.add(Input(shape=(4,), range=Range(-8, 7)), "x")
    y = builder.add(Linear(x=x, weight=IntArray.of(weight), bias=IntArray.of([0] * 6)), "y")
    builder.output("y", y)
    graph = builder.build()
    table = "y_live[8] = { 0, 0, 0, 0, 1, 0, 1, 1 };"
    for kernel, count, live in (
        ("matvec_fold_outputs", 3, "live(int b, int s) { return y_live[b * 4 + s]; }"),
        ("matvec_fold_inputs", 6, "live(int b, int) { return b % 2; }"),
    ):
        directive = HlsDirective(kernel=kernel, start_cycle=0, latency_cycles=9, parallel=2)
        files = emit_hls(graph, project_of(graph, "sparse", {y: directive}))
        text = " ".join(" ".join(content.split()) for content in files.values() if isinstance(content, str))
        assert f"static const int multipliers = {count};" in text
        assert live in text
        assert (table in text) == (kernel == "matvec_fold_outputs")
