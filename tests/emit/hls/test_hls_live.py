"""Which multipliers of folds HLS makes: those that see a weight other than 0 in some beat, as the loops go."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from metronn.emit.hls.index import Members
from metronn.emit.hls.live import add_live, inputs_live, outputs_live
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
    for main, count, live in (
        (outputs_live(weight.T, 2, 3, 0)[0], 3, "live(int b, int s) { return sparse_live[b * 4 + s]; }"),
        (inputs_live(weight.T, 2, 2), 6, "live(int b, int) { return b % 2; }"),
    ):
        members = Members("sparse")
        add_live(members, 1, main)
        assert f"static const int multipliers = {count};" in members.lines
        assert f"static int {live}" in members.lines
