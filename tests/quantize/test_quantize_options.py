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
    start = "[quantize] weight_bit: unknown key (did you mean weight_bits?); allowed are bits, weight_bits, activation_"
    assert any(line.startswith(start) for line in found)
    assert "[quantize] inputs.x.width: unknown key; allowed are bits, frac" in found
    assert any(line.startswith("[quantize] layers.a.bits: unknown key") and "table_max_error" in line for line in found)


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"weight_bits": 0}, "[quantize] weight_bits: found 0; input should be greater than or equal to 2"),
        ({"weight_bits": "8"}, "[quantize] weight_bits: found '8'; input should be a valid integer"),
        ({"activation_bits": 64}, "[quantize] activation_bits: found 64; input should be less than or equal to 32"),
        ({"overflow": "SATURATE"}, "[quantize] overflow: found 'SATURATE'; input should be 'WRAP', 'SAT', 'SAT_ZERO'"),
        ({"overflow": "SAT_SYM"}, "[quantize] overflow: SAT_SYM is not possible here, allowed are SAT and WRAP"),
        (
            {"layers": {"a": {"overflow": "SAT_ZERO"}}},
            "[quantize] layers.a overflow: SAT_ZERO is not possible here, allowed are SAT and WRAP",
        ),
        ({"calibration": "best"}, "[quantize] calibration: found 'best'; input should be 'max', 'percentile' or 'mse'"),
        ({"metric": "f1"}, "[quantize] metric: found 'f1', allowed are auto, none, accuracy, auc and file.py:function"),
        ({"percentile": 20}, "[quantize] percentile: found 20; input should be greater than 50"),
        ({"layers": {"a": {"weight_bits": 1}}}, "[quantize] layers.a.weight_bits: found 1; input should be"),
        ({"tolerance": -1}, "[quantize] tolerance: found -1; input should be greater than or equal to 0"),
    ],
)
def test_bad_values(table: dict[str, Any], expected: str) -> None:
    (line,) = lines(table)
    assert line.startswith(expected)


def test_a_bad_input_names_what_is_possible() -> None:
    found = lines({"input": "exact"})
    assert any(line.startswith("[quantize] input: found 'exact'; input should be 'auto'") for line in found)
