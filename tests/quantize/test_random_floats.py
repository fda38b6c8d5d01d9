"""No float network ends in a traceback, and none passes rung 1 while fresh events lose their signal.

`make fuzz SELECT=tests/quantize/test_random_floats.py` runs more of them.
"""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_floats import EVENTS, KINDS, REFUSED, Recipe, outcome

from random_tests import examples

FEW, MORE = 5, 25
EXPONENTS = st.integers(-6, 6)
RECIPES = st.builds(
    lambda seed, layers, features, exponents, events, bits: Recipe(
        seed=seed,
        layers=tuple(layers),
        features=features,
        low=min(exponents),
        high=max(exponents),
        events=events,
        bits=bits,
    ),
    seed=st.integers(0, 2**16),
    layers=st.lists(st.sampled_from(KINDS), min_size=1, max_size=6),
    features=st.integers(2, 10),
    exponents=st.tuples(EXPONENTS, EXPONENTS),
    events=st.sampled_from(EVENTS),
    bits=st.sampled_from((None, 6, 8, 12, 16)),
)


def holds(recipe: Recipe, folder: Path) -> None:
    found = outcome(recipe, folder)
    assert found.verdict != REFUSED or "NaN or infinite" in found.reason, found.reason
    assert not found.silent, f"passes with {found.total_db:.1f} dB, {found.median_db:.1f} dB in the median event"


@given(recipe=RECIPES)
@examples(FEW, slow=True)
def test_random_floats(recipe: Recipe, tmp_path: Path) -> None:
    holds(recipe, tmp_path)


@pytest.mark.slow
@given(recipe=RECIPES)
@examples(MORE, slow=True)
def test_more_random_floats(recipe: Recipe, tmp_path: Path) -> None:
    holds(recipe, tmp_path)
