"""The [quantize] table: defaults, patterns, and every message."""

from __future__ import annotations

from typing import Any

import pytest

from metronn.errors import ModelError
from metronn.ir.ops import Overflow, Rounding
from metronn.quantize.options import Calibration, QuantizeOptions, parse_options


def lines(table: dict[str, Any]) -> list[str]:
    """Return the lines of the error."""
    with pytest.raises(ModelError) as error:
        parse_options(table)
    return error.value.message.splitlines()


def test_an_empty_table_is_the_default() -> None:
    assert parse_options({}) == QuantizeOptions()
    assert (QuantizeOptions().weight_bits, QuantizeOptions().overflow) == (8, Overflow.SAT)


def test_a_full_table() -> None:
    options = parse_options(
        {
            "weight_bits": 6,
            "input": {"bits": 10, "frac": 3},
            "inputs": {"x": {"bits": 12}},
            "rounding": "TRN",
            "overflow": "WRAP",
            "calibration": "percentile",
            "percentile": 99,
            "layers": {"dense*": {"weight_bits": 4, "table_max_error": 0.01}},
            "metric": "metrics/turn_on.py:efficiency",
        }
    )
    assert options.rounding is Rounding.TRN
    assert options.calibration is Calibration.PERCENTILE
    assert options.layer("dense_1").weight_bits == 4
    assert options.layer("output").weight_bits == 6
    assert options.layer("dense_1").overflow is Overflow.WRAP


def test_later_patterns_win_and_any_name_of_a_layer_counts() -> None:
    options = parse_options({"layers": {"*": {"activation_bits": 5}, "relu": {"activation_bits": 7}}})
    assert options.layer("dense").activation_bits == 5
    assert options.layer("dense", "relu").activation_bits == 7


def test_unknown_keys_are_all_named_with_what_is_allowed() -> None:
    found = lines({"weight_bit": 8, "layers": {"a": {"bits": 3}}, "inputs": {"x": {"width": 3}}})
    assert len(found) == 3
    start = "[quantize]: unknown key 'weight_bit'; did you mean 'weight_bits'? allowed here: bits, weight_bits, act"
    assert any(line.startswith(start) for line in found)
    assert "[quantize]: unknown key 'inputs.x.width'; allowed here: bits, frac" in found
    unknown = "[quantize]: unknown key 'layers.a.bits'"
    assert any(line.startswith(unknown) and "table_max_error" in line for line in found)


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"weight_bits": 0}, "[quantize]: key 'weight_bits' must be a whole number from 2 to 32, found 0"),
        ({"weight_bits": "8"}, "[quantize]: key 'weight_bits' must be a whole number from 2 to 32, found '8'"),
        ({"activation_bits": 64}, "[quantize]: key 'activation_bits' must be a whole number from 2 to 32, found 64"),
        ({"overflow": "SATURATE"}, "[quantize]: key 'overflow' should be 'WRAP', 'SAT', 'SAT_ZERO'"),
        ({"overflow": "SAT_SYM"}, "[quantize]: key 'overflow' must be SAT or WRAP, found SAT_SYM"),
        (
            {"layers": {"a": {"overflow": "SAT_ZERO"}}},
            "[quantize]: key 'layers.a.overflow' must be SAT or WRAP, found SAT_ZERO",
        ),
        ({"calibration": "best"}, "[quantize]: key 'calibration' should be 'max', 'percentile' or 'mse', found 'best'"),
        ({"metric": "f1"}, "[quantize]: key 'metric' must be one of auto, none, accuracy, auc"),
        ({"percentile": 20}, "[quantize]: key 'percentile' must be a number from 50 to 100, found 20"),
        ({"layers": {"a": {"weight_bits": 1}}}, "[quantize]: key 'layers.a.weight_bits' must be a whole number from 2"),
        ({"tolerance": -1}, "[quantize]: key 'tolerance' must be a number from 0 to 1000000, found -1"),
    ],
)
def test_bad_values(table: dict[str, Any], expected: str) -> None:
    (line,) = lines(table)
    assert line.startswith(expected)


def test_a_bad_input_names_what_is_possible() -> None:
    found = lines({"input": "exact"})
    assert any(line.startswith("[quantize]: key 'input' should be 'auto'") for line in found)
