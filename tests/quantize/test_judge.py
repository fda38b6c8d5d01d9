"""What is left of an output's signal, by element and by event, and which events judge it."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metronn.errors import ModelError
from metronn.events.split import candidates, split_events
from metronn.model.graph import Floats
from metronn.quantize.judge import NAMED, Signal, judge
from metronn.quantize.report import (
    LayerReport,
    OutputReport,
    QuantizationReport,
    lost_words,
    remedy,
    where_lost,
    where_words,
)


def normal(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(size=shape)


def rounded(values: Floats, frac: int) -> Floats:
    return np.asarray(np.rint(np.ldexp(values, frac)) / 2.0**frac)


@given(
    st.integers(8, 100),
    st.integers(1, 3),
    st.integers(0, 1000),
    st.sampled_from([1e-200, 1e-21, 1.0, 1e21, 1e150]),
    st.sampled_from([0.0, 1.0, 30.0]),
)
def test_one_lost_element_among_many_is_found(
    events: int, elements: int, seed: int, unit: float, offset: float
) -> None:
    """In any unit, beside any number of others that are kept, with any offset, with one huge event or without."""
    reference = normal(events, elements, seed=seed) + offset
    kept = rounded(reference, 8)
    assert not judge("y", reference * unit, kept * unit).lost(20)
    lost = kept.copy()
    at = seed % elements
    lost[:, at] = offset
    for huge in (False, True):
        if huge:
            reference[seed % events, at] = 1e6
            lost[seed % events, at] = 1e6
        signal = judge("y", reference * unit, lost * unit)
        assert signal.lost(20)
        assert signal.element == (at,)
        assert signal.element_db is not None
        assert signal.element_db < 4


@given(st.integers(8, 400), st.integers(1, 4), st.integers(0, 1000), st.sampled_from([1e3, 1e6, 1e12]))
def test_one_event_that_saturates_neither_hides_nor_condemns(
    events: int, elements: int, seed: int, huge: float
) -> None:
    reference = normal(events, elements, seed=seed)
    at = seed % events
    reference[at, seed % elements] = huge
    fixed = np.clip(rounded(reference, 8), -8, 8)
    signal = judge("y", reference, fixed)
    assert all(found is None or found > 20 for found in (signal.element_db, signal.median_db, signal.worst_db))
    assert signal.sqnr_db is not None
    assert signal.sqnr_db < 1
    assert signal.lost(20), "it is told, unless it is left out"
    assert not judge("y", reference, fixed, np.arange(events) == at).lost(20)
    assert (signal.worst_event, signal.worst_element) == (at, (seed % elements,))
    assert (signal.worst_float, signal.worst_fixed) == (huge, 8.0)
    zero = np.where(np.abs(reference) > 100, reference, 0.0)
    assert judge("y", reference, zero).lost(20), "all other events are lost"


def test_masked_events_are_not_looked_at() -> None:
    reference = normal(100, 2)
    fixed = rounded(reference, 8)
    mask = np.zeros(100, dtype=bool)
    mask[[3, 50]] = True
    fixed[mask] = 0
    assert judge("y", reference, fixed).worst_event in (3, 50)
    signal = judge("y", reference, fixed, mask)
    assert (signal.events, signal.excluded) == (98, 2)
    assert signal.sqnr_db is not None
    assert signal.sqnr_db > 45
    assert signal.worst_event not in (3, 50)
    assert judge("y", reference, fixed, np.ones(100, dtype=bool)).events == 100


def test_three_percent_of_bad_events_are_lost_though_the_median_is_fine() -> None:
    reference = normal(400, 3)
    fixed = rounded(reference, 10)
    fixed[::33] += 1
    signal = judge("y", reference, fixed)
    assert signal.median_db is not None
    assert signal.worst_db is not None
    assert signal.median_db > 60
    assert signal.worst_db < 3
    assert signal.lost(20)


def test_an_offset_is_no_signal() -> None:
    """40 dB of all values together, nothing of what varies."""
    reference = 100 + normal(400, 2)
    signal = judge("y", reference, np.full_like(reference, 100.0))
    assert signal.sqnr_db is not None
    assert signal.sqnr_db > 39
    assert signal.element_db is not None
    assert signal.element_db < 1
    assert signal.lost(20)


def test_constant_elements_are_named_and_judged_by_their_size() -> None:
    reference = normal(200, 20)
    reference[:, 3:15] = 2.0
    signal = judge("y", reference, rounded(reference, 6))
    assert (signal.constant_count, signal.constants) == (12, tuple((k,) for k in range(3, 3 + NAMED)))
    assert not signal.lost(20)
    off = rounded(reference, 6)
    off[:, 5] = 0.0
    found = judge("y", reference, off)
    assert (found.element, found.element_db) == ((5,), pytest.approx(0.0))
    reference[:, 5] = 0.0
    assert judge("y", reference, np.where(reference == 0, 0.5, reference)).lost(20), "far above what it resolves"
    assert not judge("y", reference, np.where(reference == 0, 2.0**-24, reference)).lost(20)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (3, 2), (1,), (7, 2, 3), (400,), (400, 2, 2)])
def test_few_events_and_any_shape(shape: tuple[int, ...]) -> None:
    reference = normal(*shape)
    assert not judge("y", reference, rounded(reference, 10)).lost(20)
    assert judge("y", reference, np.zeros(shape)).lost(20)
    signal = judge("y", reference, reference)
    assert (signal.sqnr_db, signal.element_db, signal.median_db, signal.worst_db) == (None,) * 4
    assert signal.words() == "exact"
    assert len(signal.element) == len(shape) - 1


@pytest.mark.parametrize("events", [1, 5, 100])
def test_zeros(events: int) -> None:
    zeros = np.zeros((events, 3))
    assert not judge("y", zeros, zeros).lost(20)
    signal = judge("y", zeros, zeros + 0.25)
    assert signal.lost(20)
    assert all(v is None or math.isfinite(v) for v in (signal.sqnr_db, signal.element_db, signal.worst_event_db))


@given(
    st.integers(1, 60),
    st.integers(1, 3),
    st.integers(0, 100),
    st.sampled_from([0.0, 1e-310, 1e-21, 1.0, 1e21, 1e307]),
    st.sampled_from([0.0, 1e-30, 1.0, 1e6]),
)
def test_a_signal_is_plain_finite_data(events: int, elements: int, seed: int, unit: float, noise: float) -> None:
    reference = normal(events, elements, seed=seed) * unit
    fixed = reference + normal(events, elements, seed=seed + 1) * noise
    signal = judge("y", reference, fixed)
    data = json.loads(json.dumps(signal.to_json(), allow_nan=False))
    assert Signal.from_json(data) == signal
    assert Signal.from_json({"sqnr_db": 3.0}) is None


def test_float_answers_that_are_no_numbers_are_told() -> None:
    reference = normal(10, 2)
    reference[4, 1] = np.nan
    text = (
        "output y: the float network gives 1 NaN or infinite values on the events that judge it, the first in event 4"
    )
    with pytest.raises(ModelError, match=text):
        judge("y", reference, normal(10, 2))


@pytest.mark.parametrize(
    ("classes", "wrong", "lost"), [(2, 0.005, False), (2, 0.03, True), (10, 0.01, False), (100, 1.0, True)]
)
def test_decisions_are_counted(classes: int, wrong: float, lost: bool) -> None:
    """An argmax of many classes that is always off by one has 29 dB and says nothing."""
    reference = np.random.default_rng(0).integers(0, classes, (1000, 1)).astype(np.float64)
    fixed = reference.copy()
    fixed[: int(1000 * wrong)] = (fixed[: int(1000 * wrong)] + 1) % classes
    signal = judge("y", reference, fixed)
    assert signal.decision
    assert signal.differing == int(1000 * wrong)
    assert signal.lost(20) is lost
    assert not signal.lost(0)
    if lost:
        said = lost_words("y", signal, 20, "", "Widen.")
        assert f"output y: {100 * wrong:g} % of its decisions differ from the trained network's" in said
        assert f"({signal.differing:,} of 1,000 events), allowed are 1 % (quantize.min_sqnr_db = 20)" in said


def test_whole_numbers_that_are_no_decisions_are_judged_by_their_signal() -> None:
    reference = np.rint(normal(2000, 2) * 1000)
    assert not judge("y", reference, reference + 1).decision
    assert not judge("y", reference, reference + 1).lost(20)


@given(st.integers(1, 3000), st.integers(1, 3000))
def test_a_fifth_never_calibrates(count: int, limit: int) -> None:
    split = split_events(count, limit)
    assert len(split.calibrating) == min(limit, candidates(count))
    assert split.unseen is (count >= 50)
    if split.unseen:
        assert not set(split.calibrating) & set(split.judging)
        assert len(split.calibrating) + len(split.judging) == count
        assert set(range(4, count, 5)) <= set(split.judging.tolist())
    else:
        assert split.judging.tolist() == list(range(count))


def layer(name: str, ratio: float | None, kind: str = "linear") -> LayerReport:
    return LayerReport(
        layer=name, kind=kind, weight_bits=None if kind == "input" else 8, weight_frac=7, weights=100,
        weights_saturated=0, accumulator_bits=20, bits=8, frac=6, signed=True, sqnr_db=ratio, saturated=0, values=100,
        table_entries=None, table_max_error=None,
    )  # fmt: skip


def report(
    *layers: LayerReport, behind: tuple[str, ...] = (), lost: bool = True, advice: str = ""
) -> QuantizationReport:
    reference = normal(400, 3)
    fixed = rounded(reference, 0 if lost else 9)
    outputs = (OutputReport(name="y", signal=judge("y", reference, fixed), layers=behind),)
    return QuantizationReport(
        calibration_events=1600, calibration_cut=False, events=2000, layers=layers, outputs=outputs, metric=None,
        judging_events=400, unseen=True, advice=advice,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [
        ((None, None), None),
        ((40.0, 15.0, 10.0), "b"),
        ((40.0, 39.0, 25.0, 24.0), "c"),
        ((22.0, 22.0), "a"),
        ((None, 30.0, None, 29.0), "b"),
    ],
)
def test_where_the_signal_is_lost(ratios: tuple[float | None, ...], expected: str | None) -> None:
    found = where_lost(report(*(layer(name, ratio) for name, ratio in zip("abcd", ratios, strict=False))))
    assert (found.layer if found else None) == expected


def test_a_layer_beside_the_output_did_not_lose_its_signal() -> None:
    found = report(layer("other", 3.0), layer("mine", 15.0), behind=("mine",))
    assert where_words(where_lost(found, "y")) == "layer mine (15.0 dB)"


def test_the_message_names_output_element_layer_and_remedy() -> None:
    found = report(layer("a", 40.0), layer("b", 10.0), layer("c", 9.0), behind=("a", "b", "c"))
    (text,) = found.lost()
    assert "output y: too little of its signal is left: all together keeps " in text
    assert "the worst 1 % of events " in text
    assert "; 20 dB are needed (quantize.min_sqnr_db). Event " in text
    assert "; it is lost in layer b (10.0 dB)" in text
    assert 'Give it 3 bits more, for example [quantize.layers] "b" = {weight_bits = 11, activation_bits = 11}' in text
    assert 'or let bits = "auto" choose.' in text
    assert report(layer("a", 40.0), lost=False).lost() == ()
    assert report(layer("a", 4.0), advice="Widen b.").lost()[0].endswith("\n  Widen b.")
    first = report(layer("x", 5.0, "input"))
    assert remedy(first, first.outputs[0]) == 'Give it 3 bits more, for example [quantize] inputs."x" = {bits = 11}.'
    last = report(layer("b", 5.0), behind=("b",))
    assert '"b" = {weight_bits = 11}, or' in remedy(last, last.outputs[0])
    nowhere = report(layer("b", None))
    assert remedy(nowhere, nowhere.outputs[0]).startswith("Raise quantize.weight_bits and quantize.activation_bits")


def test_the_summary_does_not_praise() -> None:
    said = report(layer("a", 40.0), lost=False).summary()
    assert said.startswith("quantized: y ")
    assert " dB (worst 1 % of events " in said
    assert said.endswith(" on 400 unseen events; no metric")


def test_types_of_an_hls4ml_configuration_are_blamed_and_no_layer() -> None:
    """Layers that hold their types exactly have no SQNR, so an input at 120 dB would be blamed for a poor output."""
    found = replace(report(layer("x", 120.0, "input")), hls4ml_types=True)
    assert where_lost(found) is None
    assert remedy(found, found.outputs[0]).startswith("The types of the hls4ml configuration lose it")
