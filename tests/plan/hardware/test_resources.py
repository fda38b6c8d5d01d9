"""Resources: sums, budgets and utilisation."""

import math

import pytest

from metronn.plan.hardware.resources import RESOURCE_NAMES, Resources

BUDGET = Resources(lut=1000, ff=2000, dsp=10, bram36=4.5, uram=0)


def test_add_is_by_resource() -> None:
    total = Resources(lut=1, ff=2, dsp=3, bram36=0.5, uram=4) + Resources(lut=10, ff=20, dsp=30, bram36=1.0, uram=40)
    assert total == Resources(lut=11, ff=22, dsp=33, bram36=1.5, uram=44)


def test_scaled_rounds_down_to_whole_blocks() -> None:
    assert BUDGET.scaled(0.5) == Resources(lut=500, ff=1000, dsp=5, bram36=2.0, uram=0)


def test_scaled_forgives_binary_fractions() -> None:
    # 10 * 0.7 is 7.0 but 100 * 0.29 is 28.999999999999996 in binary.
    assert Resources(lut=100).scaled(0.29).lut == 29


def test_exceeds_names_what_binds() -> None:
    need = Resources(lut=1000, ff=2001, dsp=10, bram36=5.0, uram=1)
    assert need.exceeds(BUDGET) == ("ff", "bram36", "uram")
    assert not need.fits(BUDGET)
    assert BUDGET.exceeds(BUDGET) == ()
    assert BUDGET.fits(BUDGET)


def test_utilisation() -> None:
    need = Resources(lut=500, dsp=9)
    assert need.utilisation(BUDGET) == {"lut": 0.5, "ff": 0.0, "dsp": 0.9, "bram36": 0.0, "uram": 0.0}
    assert need.worst_utilisation(BUDGET) == ("dsp", 0.9)
    assert Resources(uram=1).utilisation(BUDGET)["uram"] == math.inf


def test_as_dict_keeps_the_order() -> None:
    assert tuple(BUDGET.as_dict()) == RESOURCE_NAMES == ("lut", "ff", "dsp", "bram36", "uram")


def test_is_a_value() -> None:
    with pytest.raises(AttributeError):
        BUDGET.lut = 1  # type: ignore[misc]
    assert hash(BUDGET) == hash(Resources(lut=1000, ff=2000, dsp=10, bram36=4.5, uram=0))
