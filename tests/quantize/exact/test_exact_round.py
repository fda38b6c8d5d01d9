"""Staircases of integers: every code, every rounding mode."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metronn.ir.ops import Overflow, Rounding
from metronn.quantize.exact.closing_ways import Target
from metronn.quantize.exact.pairs import exact_pair
from metronn.quantize.exact.staircase import Scaling, exact_scaling, round_fraction
from random_tests import examples

SCALES = st.one_of(
    st.floats(0.001, 3).map(Fraction),
    st.builds(Fraction, st.integers(1, 20), st.sampled_from([1, 2, 3, 4, 6, 8])),
).flatmap(lambda scale: st.sampled_from([scale, -scale]))
OFFSETS = st.one_of(st.floats(-5, 5).map(Fraction), st.builds(Fraction, st.integers(-8, 8), st.just(4)))


@given(
    scale=SCALES,
    offset=OFFSETS,
    rounding=st.sampled_from(list(Rounding)),
    reach=st.tuples(st.integers(0, 60), st.integers(0, 60)),
    levels=st.one_of(st.tuples(st.integers(-20, 0), st.integers(0, 20)), st.just((-(10**9), 10**9))),
)
@examples(80)
def test_scalings_are_the_quantizer_on_every_code(
    scale: Fraction, offset: Fraction, rounding: Rounding, reach: tuple[int, int], levels: tuple[int, int]
) -> None:
    """What is found is exact for all codes, and nothing is found only where ties alternate or zero is wider."""
    low, high = -reach[0], reach[1]
    found = exact_scaling(scale, offset, rounding, (low, high), levels)
    wanted = [round_fraction(scale * code + offset, rounding) for code in range(low, high + 1)]
    if found is None:
        assert rounding in (Rounding.RND_CONV, Rounding.TRN_ZERO, Rounding.RND_INF, Rounding.RND_ZERO)
        return
    for code, level in zip(range(low, high + 1), wanted, strict=True):
        given_level = (code * found.multiplier + found.addend) >> found.shift
        assert np.clip(given_level, *levels) == np.clip(level, *levels)


def test_the_fewest_bits_are_found() -> None:
    """A shift is a shift, a step is one bit, and half a step is plain rounding."""
    assert exact_scaling(Fraction(1, 8), Fraction(0), Rounding.TRN, (-128, 127), (-99, 99)) == Scaling(1, 0, 3)
    assert exact_scaling(Fraction(1, 8), Fraction(0), Rounding.RND, (-128, 127), (-99, 99)) == Scaling(1, 4, 3)
    step = exact_scaling(Fraction(1, 1000), Fraction(0), Rounding.RND, (-600, 600), (0, 1))
    assert step is not None and step.shift <= 1


@pytest.mark.parametrize("rounding", list(Rounding))
@pytest.mark.parametrize("overflow", [Overflow.SAT, Overflow.WRAP])
def test_pairs_are_the_quantizer_on_every_pair(rounding: Rounding, overflow: Overflow) -> None:
    """A sum of two codes of unlike scales."""
    rng = np.random.default_rng(list(Rounding).index(rounding))
    found = 0
    for _ in range(3):
        scales = (Fraction(float(np.float32(rng.uniform(0.1, 1)))), Fraction(float(np.float32(rng.uniform(-1, 1)))))
        offset = Fraction(float(np.float32(rng.normal())))
        target = Target(Fraction(1), -8, 7, 0, rounding, overflow)
        pair = exact_pair(scales, offset, ((-16, 15), (0, 15)), target)
        if pair is None:
            continue
        found += 1
        for x in range(-16, 16):
            for y in range(16):
                level = round_fraction(scales[0] * x + scales[1] * y + offset, rounding)
                given_level = (x * pair.first + y * pair.second + pair.addend) >> pair.shift
                if overflow is Overflow.SAT:
                    level, given_level = min(max(level, -8), 7), min(max(given_level, -8), 7)
                assert given_level == level
    assert found or rounding is Rounding.TRN_ZERO
