"""Matrices that are solved in parts: connected parts, blocks, and the graph joined of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metronn.plan.kernels.adder_graph import adder_graph_matrix, nonzero_digits
from metronn.plan.kernels.adders import solver as adder_solver
from metronn.plan.kernels.adders.solver import connected_parts
from random_tests import examples


@examples(60)
@given(data=st.data())
def test_parts_share_nothing_and_hold_everything(data: st.DataObject) -> None:
    rows, columns = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
    values = data.draw(st.lists(st.sampled_from((0, 0, 0, 0, 5)), min_size=rows * columns, max_size=rows * columns))
    weight = np.array(values).reshape(rows, columns)
    left, seen_rows, seen_columns = weight.copy(), [], []
    for some, few in connected_parts(weight):
        left[np.ix_(some, few)] = 0
        seen_rows += some.tolist()
        seen_columns += few.tolist()
    assert not left.any()
    assert len(set(seen_rows)) == len(seen_rows)
    assert len(set(seen_columns)) == len(seen_columns)


@pytest.mark.parametrize("apart", [False, True])
def test_a_matrix_solved_in_parts_is_the_matrix(monkeypatch: pytest.MonkeyPatch, apart: bool) -> None:
    monkeypatch.setattr(adder_solver, "LARGEST_WORK", 2e3)
    monkeypatch.setattr(adder_solver, "LEAST_DIVIDED_WORK", 1e3)
    monkeypatch.setattr(adder_solver, "BLOCK_INPUTS", 5)
    monkeypatch.setattr(adder_solver, "BLOCK_OUTPUTS", 3)
    weight = np.random.default_rng(3).integers(-60, 60, (14, 8))
    if apart:
        weight = weight * (np.arange(14)[:, None] % 4 == np.arange(8) % 4)
    (graph,) = adder_solver.solve(weight, [(-8, 7)] * 14)
    assert (adder_graph_matrix(graph) == weight.astype(object)).all()


@given(values=st.lists(st.integers(-(2**70), 2**70) | st.integers(-300, 300), min_size=1, max_size=8))
def test_digits_are_counted_alike_in_machine_integers_and_exactly(values: list[int]) -> None:
    exact = np.array(values, dtype=object)
    small = np.array([v for v in values if abs(v) < 2**60] or [0], dtype=np.int64)
    assert nonzero_digits(exact) == sum((3 * abs(v) ^ abs(v)).bit_count() for v in values)
    assert nonzero_digits(small) == nonzero_digits(small.astype(object))
