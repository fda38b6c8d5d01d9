"""No float network ends in a traceback, and none passes rung 1 while fresh events lose their signal.

METRONN_EXAMPLES=500 pytest tests/quantize/test_random_floats.py runs more of them.
"""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_floats import EVENTS, KINDS, REFUSED, Recipe, outcome

FEW, MORE = 5, 25
ASKED = os.environ.get("METRONN_EXAMPLES")
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
@settings(max_examples=FEW, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_floats(recipe: Recipe, tmp_path: Path) -> None:
    holds(recipe, tmp_path)


@pytest.mark.slow
@given(recipe=RECIPES)
@settings(max_examples=int(ASKED) if ASKED else MORE, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_more_random_floats(recipe: Recipe, tmp_path: Path) -> None:
    holds(recipe, tmp_path)
