"""Configurations of hls4ml: types, granularities, errors, and what they make of a network's layers."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from metronn.errors import ModelError
from metronn.frontends.common.builder import LayerBuilder, LayerProblem
from metronn.frontends.hls4ml.apply import Hls4mlApplied, apply_hls4ml
from metronn.frontends.hls4ml.config import parse_hls4ml, read_hls4ml
from metronn.frontends.hls4ml.types import Fixed, parse_type
from metronn.ir.ops import Overflow, Rounding
from metronn.model.graph import Floats, FunctionKind, RealGraph
from metronn.model.reference import run_reference

PLAIN: dict[str, Any] = {"Model": {"Precision": "ap_fixed<16,6>", "ReuseFactor": 1}}


def dense_network(seed: int = 0) -> RealGraph:
    """Return a dense layer with ReLU, batch normalization, a second dense layer and softmax."""
    random = np.random.default_rng(seed)
    network = LayerBuilder()
    x = network.input("x", (4,))
    network.layer = "fc1"
    weight = random.normal(size=(4, 3)).astype(np.float32).astype(np.float64)
    x = network.relu(network.linear(x, weight, np.array([0.3, -0.2, 0.1])))
    network.layer = "bn"
    x = network.plus(network.times(x, network.constant([0.7, 1.3, 0.9])), network.constant([0.1, 0.2, -0.4]))
    network.layer = "out"
    x = network.softmax(network.linear(x, random.normal(size=(3, 2)), np.zeros(2)), 0)
    return network.finish([("out", x)], "test")


def applied(config: dict[str, Any], model: RealGraph | None = None) -> Hls4mlApplied:
    return apply_hls4ml(model or dense_network(), parse_hls4ml(config, "types.yml"))


def values(model: RealGraph, inputs: Floats) -> dict[str, Floats]:
    """Return the results of hls4ml's layers on events."""
    seen: dict[str, Floats] = {}
    run_reference(model, {"x": inputs}, lambda node, found: seen.__setitem__(node.name, found))
    return {name: seen[value] for name, value in model.tensors}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("ap_fixed<16,6>", Fixed(width=16, integer=6)),
        ("fixed<16, 6>", Fixed(width=16, integer=6)),
        (
            "ap_ufixed<8,0,AP_RND,AP_SAT>",
            Fixed(width=8, integer=0, signed=False, rounding=Rounding.RND, overflow=Overflow.SAT),
        ),
        ("fixed<18,8,TRN,WRAP,0>", Fixed(width=18, integer=8)),
        ("ap_uint<3>", Fixed(width=3, integer=3, signed=False)),
        ("int<4>", Fixed(width=4, integer=4)),
        ("ac_fixed<10,3,false>", Fixed(width=10, integer=3, signed=False)),
        ("ac_fixed<10,3,true,AC_RND,AC_SAT>", Fixed(width=10, integer=3, rounding=Rounding.RND, overflow=Overflow.SAT)),
    ],
)
def test_types_are_read(text: str, wanted: Fixed) -> None:
    assert parse_type(text) == wanted


def test_auto_is_no_type() -> None:
    assert parse_type("auto") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("float", "found 'float', allowed are auto, ap_fixed<W,I"),
        ("ap_fixed<16>", "width and integer bits"),
        ("ap_fixed<99,6>", "found 99 bits, allowed are 1 to 64"),
        ("ap_fixed<8,2,AP_UP>", "found rounding AP_UP, allowed are AP_TRN"),
        ("ap_fixed<8,2,AP_TRN,AP_WRAP_SM>", "found overflow AP_WRAP_SM, allowed are AP_WRAP, AP_SAT"),
        ("ap_fixed<8,2,AP_TRN,AP_WRAP,1>", "found 1 saturation bits, allowed is 0"),
        ("ap_fixed<a,b>", "whole numbers of bits"),
    ],
)
def test_wrong_types_are_told(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_type(text)


def oracle(kind: Fixed, value: float) -> Fraction:
    """Convert one value as `ap_fixed` does, in fractions."""
    scaled = Fraction(value) * Fraction(2) ** kind.frac
    floor = scaled.numerator // scaled.denominator
    part = scaled - floor
    half = Fraction(1, 2)
    up = {
        Rounding.TRN: False,
        Rounding.TRN_ZERO: scaled < 0 and part > 0,
        Rounding.RND: part >= half,
        Rounding.RND_ZERO: part > half or (part == half and scaled < 0),
        Rounding.RND_INF: part > half or (part == half and scaled > 0),
        Rounding.RND_MIN_INF: part > half,
        Rounding.RND_CONV: part > half or (part == half and floor % 2 == 1),
    }[kind.rounding]
    code = floor + up
    low, high = kind.codes
    if kind.overflow is Overflow.WRAP:
        code = low + (code - low) % (high - low + 1)
    elif kind.overflow is Overflow.SAT_ZERO:
        code = code if low <= code <= high else 0
    else:
        symmetric = kind.overflow is Overflow.SAT_SYM and kind.signed
        code = min(max(code, -high if symmetric else low), high)
    return Fraction(code) / Fraction(2) ** kind.frac


@given(
    width=st.integers(1, 12),
    integer=st.integers(-3, 14),
    signed=st.booleans(),
    rounding=st.sampled_from(Rounding),
    overflow=st.sampled_from(Overflow),
    sixteenths=st.integers(-5000, 5000),
)
def test_conversion_is_that_of_the_type(
    width: int, integer: int, signed: bool, rounding: Rounding, overflow: Overflow, sixteenths: int
) -> None:
    kind = Fixed(width=width, integer=integer, signed=signed, rounding=rounding, overflow=overflow)
    value = sixteenths / 16
    assert Fraction(float(kind.converted(np.array([value]))[0])) == oracle(kind, value)


@given(
    width=st.integers(13, 64),
    integer=st.integers(-3, 70),
    signed=st.booleans(),
    rounding=st.sampled_from(Rounding),
    overflow=st.sampled_from(Overflow),
    mantissa=st.integers(-(2**53), 2**53),
    exponent=st.integers(-70, 70),
)
@example(
    width=64, integer=30, signed=True, rounding=Rounding.TRN, overflow=Overflow.WRAP, mantissa=942_101, exponent=-23
)
def test_conversion_to_a_type_wider_than_a_double_keeps_every_bit(
    width: int, integer: int, signed: bool, rounding: Rounding, overflow: Overflow, mantissa: int, exponent: int
) -> None:
    kind = Fixed(width=width, integer=integer, signed=signed, rounding=rounding, overflow=overflow)
    value = math.ldexp(mantissa, exponent)
    expected = oracle(kind, value)
    if Fraction(float(expected)) != expected:
        with pytest.raises(LayerProblem, match="whose largest value has more bits than a double"):
            kind.converted(np.array([value]))
    else:
        assert Fraction(float(kind.converted(np.array([value]))[0])) == expected


def test_weights_are_written_with_the_decimals_of_their_type() -> None:
    kind = Fixed(width=8, integer=5)
    written = kind.written(np.array([0.12499, 0.1251, -0.1249, 0.4999]))
    assert written.tolist() == [0.125, 0.125, -0.125, 0.5], "0.12499 is written 0.125, which the type holds"


def test_layer_then_type_then_model_is_asked() -> None:
    config = {
        "Model": {"Precision": {"default": "fixed<16,6>", "accum": "fixed<20,8>"}},
        "LayerType": {"Dense": {"Precision": {"weight": "fixed<8,1>"}}},
        "LayerName": {"FC1": {"Precision": {"weight": "fixed<6,1>", "bias": "auto"}}},
    }
    found = parse_hls4ml(config, "types.yml")
    assert str(found.precision("fc1", "Dense", "weight")) == "ap_fixed<6,1>"
    assert found.precision("fc1", "Dense", "bias") is None
    assert str(found.precision("fc2", "Dense", "weight")) == "ap_fixed<8,1>"
    assert str(found.precision("fc2", "Dense", "result")) == "ap_fixed<16,6>"
    assert str(found.precision("fc2", "Dense", "accum")) == "ap_fixed<20,8>"


def test_products_are_cut_one_by_one() -> None:
    """A narrow accumulator cuts every product before the sum: the sum of the floors, not the floor of the sum."""
    network = LayerBuilder()
    x = network.input("x", (3,))
    network.layer = "fc"
    y = network.linear(x, np.full((3, 1), 0.5), np.zeros(1))
    model = network.finish([("fc", y)], "test")
    config = {
        "Model": {"Precision": "fixed<16,6>"},
        "LayerName": {"fc": {"Precision": {"accum": "fixed<8,8>", "weight": "fixed<8,2>"}}},
    }
    found = values(applied(config, model).model, np.array([[1.0, 1.0, 1.0], [3.0, 3.0, -1.0]]))
    assert found["fc"].tolist() == [[0.0], [1.0]], "0.5 is cut to 0; 1.5 + 1.5 - 0.5 to 1 + 1 - 1"


def test_an_accumulator_saturates_in_between() -> None:
    network = LayerBuilder()
    x = network.input("x", (3,))
    network.layer = "fc"
    y = network.linear(x, np.array([[1.0], [1.0], [-1.0]]), np.zeros(1))
    model = network.finish([("fc", y)], "test")
    config = {
        "Model": {"Precision": "fixed<16,6>"},
        "LayerName": {"fc": {"Precision": {"accum": "fixed<4,4,TRN,SAT>", "weight": "fixed<8,2>"}}},
    }
    found = values(applied(config, model).model, np.array([[6.0, 6.0, 6.0], [-6.0, -6.0, 5.0], [1.0, 2.0, 3.0]]))
    assert found["fc"].tolist() == [[1.0], [-8.0], [0.0]], "6 + 6 stays 7, then 7 - 6; -6 - 6 stays -8"


def test_batch_normalization_is_folded_where_the_result_is_auto() -> None:
    config: dict[str, Any] = {"Model": {"Precision": "fixed<16,6>"}, "LayerName": {"fc": {"Precision": {}}}}
    network = LayerBuilder()
    x = network.input("x", (2,))
    network.layer = "fc"
    y = network.linear(x, np.eye(2) * 0.75, np.zeros(2))
    network.layer = "bn"
    y = network.plus(network.times(y, network.constant([0.3, 0.7])), network.constant([0.0, 0.5]))
    model = network.finish([("bn", y)], "test")
    separate = applied(config, model).model
    assert {name for name, _ in separate.tensors} == {"x", "fc", "bn"}
    config["LayerName"]["fc"]["Precision"] = {"result": "auto", "accum": "auto"}
    folded = applied(config, model).model
    assert {name for name, _ in folded.tensors} == {"x", "fc"}
    weight = Fixed(width=16, integer=6).written(np.float64(np.float32(0.3) * np.float32(0.75)) * np.ones(1))
    assert values(folded, np.array([[1.0, 0.0]]))["fc"][0, 0] == weight[0]


def test_softmax_uses_tables_of_the_highest_bits() -> None:
    found = values(applied(PLAIN).model, np.array([[1.0, -2.0, 0.5, 3.0]]))
    step = 2.0**-10
    assert (found["out_softmax"] / step == np.rint(found["out_softmax"] / step)).all()
    assert abs(float(found["out_softmax"].sum()) - 1) < 0.1


def test_sigmoid_is_cut_towards_zero_and_looked_up() -> None:
    network = LayerBuilder()
    x = network.input("x", (1,))
    network.layer = "act"
    model = network.finish([("act", network.function(x, FunctionKind.SIGMOID))], "test")
    config = {"Model": {"Precision": "fixed<16,6>"}, "LayerName": {"act": {"TableSize": 16}}}
    found = values(applied(config, model).model, np.array([[0.9], [-0.9], [1.5], [30.0]]))["act"].ravel()
    entries = 1 / (1 + np.exp(-np.array([0.0, 0.0, 1.0, 7.0])))
    assert found.tolist() == (np.floor(entries * 1024) / 1024).tolist()


def test_what_is_not_applied_is_told() -> None:
    config = {
        "Model": {"Precision": "fixed<16,6>", "ReuseFactor": 1, "BramFactor": 10},
        "LayerType": {"InputLayer": {"Precision": {"result": "fixed<8,3>"}}},
        "LayerName": {"fc1": {"ReuseFactor": 4}, "out_softmax": {"Precision": {"exp_table": "fixed<10,4>"}}},
    }
    notes = "\n".join(applied(config).notes)
    assert "ReuseFactor 4: read, not applied" in notes
    assert "read, not applied (hardware of hls4ml): BramFactor" in notes
    assert "LayerType inputlayer: has no effect" in notes
    assert "Precision.exp_table: has no effect in hls4ml, the key exp_table_t" in notes


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"Modell": {}}, "no hls4ml configuration: found Modell"),
        ({"Model": {"ReuseFactor": 1}}, "Model.Precision.default: a type such as ap_fixed<16,6> is needed"),
        ({"Model": {"Precision": "auto"}}, "auto is not one"),
        (
            PLAIN | {"LayerName": {"fc1": {"Precison": "x"}}},
            "LayerName.fc1.Precison: unknown key .did you mean Precision",
        ),
        (PLAIN | {"LayerName": {"fc1": {"Precision": {"weigth": "auto"}}}}, "did you mean weight"),
        (PLAIN | {"LayerName": {"fc1": {"Precision": {"weight": "fixed<x>"}}}}, "LayerName.fc1.Precision.weight"),
        (PLAIN | {"LayerName": {"fc1": {"Strategy": "Fast"}}}, "found Fast, allowed are latency, resource"),
        (PLAIN | {"LayerName": {"fc1": {"ReuseFactor": 0}}}, "a whole number of at least 1"),
        (PLAIN | {"SkipOptimizers": ["fuse_bias_add"]}, "another list of hls4ml's own passes"),
        (
            PLAIN | {"LayerName": {"fc7": {}}},
            "LayerName has 1 name that no layer has: fc7\n  Layers are x, fc1, fc1_relu, bn",
        ),
    ],
)
def test_errors_name_the_key(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        applied(config)


def test_layers_that_cannot_be_had_are_listed() -> None:
    network = LayerBuilder()
    x = network.input("x", (2,))
    network.layer = "odd"
    model = network.finish([("odd", network.function(x, FunctionKind.ERF))], "test")
    with pytest.raises(ModelError, match=r"1 unsupported layer:\n  odd: the function erf\n  Replace"):
        applied(PLAIN, model)


def test_a_quantized_network_keeps_its_own_types() -> None:
    with pytest.raises(ModelError, match="brings quantizers of its own"):
        apply_hls4ml(applied(PLAIN).model, parse_hls4ml(PLAIN, "types.yml"))


def test_files_of_both_kinds_are_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(PLAIN))
    (tmp_path / "project.yml").write_text(
        "Backend: Vitis\nKerasModel: !keras_model 'model.keras'\nPart: xcvu13p\n"
        "HLSConfig:\n  Model:\n    Precision: {default: 'ap_fixed<16,6>'}\n    ReuseFactor: 1\n"
    )
    first, second = (read_hls4ml(tmp_path / name) for name in ("config.json", "project.yml"))
    assert first.default == second.default == Fixed(width=16, integer=6)
    (tmp_path / "broken.yml").write_text("Model: [")
    with pytest.raises(ModelError, match="cannot be read"):
        read_hls4ml(tmp_path / "broken.yml")
    (tmp_path / "config.txt").write_text("Model: {}")
    with pytest.raises(ModelError, match=r"suffix .txt; an hls4ml configuration is .yml, .yaml or .json"):
        read_hls4ml(tmp_path / "config.txt")


@pytest.mark.parametrize("value", [None, False])
def test_the_bit_exact_key_that_hls4ml_writes_is_read(value: bool | None) -> None:
    """hls4ml 1.3.0 writes it into the YAML of every project."""
    config = {"Model": {**PLAIN["Model"], "BitExact": value, "BramFactor": 1000000000, "TraceOutput": False}}
    assert parse_hls4ml({"HLSConfig": config, "Backend": "Vitis"}, "t").default == Fixed(width=16, integer=6)


def test_bit_exact_types_are_refused() -> None:
    config = {"Model": {**PLAIN["Model"], "BitExact": True}}
    with pytest.raises(ModelError, match=r"Model.BitExact: found True, allowed are null and false: hls4ml would repl"):
        parse_hls4ml(config, "t")
