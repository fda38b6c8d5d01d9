"""Metrics against values worked out by hand and against pair counting; every message."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metronn.errors import ModelError
from metronn.events.metrics import accuracy, auc, find_metric
from metronn.quantize.report import MetricReport, sqnr_db

SCORES = np.array([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2], [0.2, 0.2, 0.6], [0.9, 0.1, 0.0]])


def test_accuracy_of_classes_and_of_one_hot_labels() -> None:
    assert accuracy(SCORES, np.array([1, 0, 2, 1])) == 0.75
    assert accuracy(SCORES, np.eye(3)[[1, 0, 2, 1]]) == 0.75
    assert accuracy(SCORES, np.array([[1.0], [0.0], [2.0], [1.0]])) == 0.75


def test_accuracy_of_one_score_is_a_threshold() -> None:
    assert accuracy(np.array([[0.2], [0.5], [0.6], [0.9]]), np.array([0, 0, 1, 0])) == 0.75


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=30))
def test_auc_counts_pairs(events: list[tuple[int, bool]]) -> None:
    ones = [score for score, label in events if label]
    zeros = [score for score, label in events if not label]
    scores = np.array([[float(score)] for score, _ in events])
    labels = np.array([label for _, label in events])
    if not ones or not zeros:
        with pytest.raises(ModelError, match="metric auc: the labels show one class only"):
            auc(scores, labels)
        return
    wins = sum((a > b) + (a == b) / 2 for a in ones for b in zeros)
    assert auc(scores, labels) == pytest.approx(wins / (len(ones) * len(zeros)))
    both = np.concatenate([-scores, scores], axis=1)
    assert auc(both, labels) == pytest.approx(wins / (len(ones) * len(zeros)))


def test_auc_of_several_classes_is_the_mean_of_one_against_the_rest() -> None:
    labels = np.array([1, 0, 2, 1])
    expected = np.mean([auc(SCORES[:, [k]], (labels == k).astype(int)) for k in range(3)])
    assert auc(SCORES, labels) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([0, 1]), "metric: 2 labels for 4 events"),
        (np.zeros((4, 2)), "metric: labels have 2 columns, the output has 3 scores"),
        (np.array([0.5, 1, 2, 0]), "metric: labels are not whole numbers"),
        (np.array([0, 1, 2, 3]), "metric: labels go from 0 to 3, the output's 3 scores allow 0 to 2"),
        (np.array([0, 1, -1, 0]), "metric: labels go from -1 to 1"),
    ],
)
def test_labels_that_do_not_fit(labels: np.ndarray, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        accuracy(SCORES, labels)


def test_auto_needs_labels_that_are_classes() -> None:
    base = Path()
    assert find_metric("auto", {}, {"y": 3}, base) is None
    assert find_metric("none", {"label": np.array([1])}, {"y": 3}, base) is None
    assert find_metric("auto", {"label": np.array([0.5])}, {"y": 3}, base) is None
    assert find_metric("auto", {"label": np.array([7])}, {"y": 3}, base) is None
    assert find_metric("auto", {"label": np.array([1])}, {"y": 3, "z": 1}, base) is None
    found = find_metric("auto", {"label": np.array([1, 0, 2, 1])}, {"y": 3}, base)
    assert found is not None
    assert found({"y": SCORES}, {"label": np.array([1, 0, 2, 1])}) == 0.75


def test_named_metrics_say_what_they_miss() -> None:
    with pytest.raises(ModelError, match="metric auc: the events have no labels; add an array `label`"):
        find_metric("auc", {}, {"y": 1}, Path())
    with pytest.raises(ModelError, match="metric accuracy: the model has outputs y, z, one is needed"):
        find_metric("accuracy", {"label": np.array([1])}, {"y": 1, "z": 1}, Path())


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("def f(o, a):\n    return o['z']", "f", "it failed with KeyError: 'z'"),
        ("def f(o, a):\n    return float('nan')", "f", "it returned nan, a finite number is needed"),
        ("def f(o):\n    return 1", "f", "it failed with TypeError"),
        ("f = 3", "f", "m.py has no function f"),
        ("import nowhere_at_all", "f", "m.py cannot be loaded: ModuleNotFoundError"),
        ("def f(:", "f", "m.py cannot be loaded: SyntaxError"),
    ],
)
def test_functions_of_ones_own_that_fail(tmp_path: Path, text: str, name: str, message: str) -> None:
    (tmp_path / "m.py").write_text(text)
    with pytest.raises(ModelError, match=message):
        function = find_metric(f"m.py:{name}", {}, {"y": 1}, tmp_path)
        assert function is not None
        function({"y": SCORES}, {})


def test_a_function_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="metric gone.py:f: there is no file gone.py"):
        find_metric("gone.py:f", {}, {"y": 1}, tmp_path)


def test_loss_is_relative_and_may_be_a_gain() -> None:
    def report(before: float, after: float) -> MetricReport:
        return MetricReport(name="m", float_value=before, fixed_value=after, tolerance=0.005, events=1)

    assert report(0.8, 0.796).loss == pytest.approx(0.005)
    assert report(0.8, 0.79).accepted is False
    assert report(0.8, 0.9).accepted is True
    assert report(0.0, -0.001).loss == pytest.approx(0.001)


def test_sqnr() -> None:
    assert sqnr_db(np.array([3.0, 4.0]), np.array([3.0, 4.5])) == pytest.approx(20.0)
    assert sqnr_db(np.ones(2), np.ones(2)) is None
    assert np.isfinite(sqnr_db(np.zeros(2), np.ones(2)) or 0)
