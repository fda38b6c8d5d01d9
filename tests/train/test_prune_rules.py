"""Which weights go: units, masks, allocation over layers, schedules."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metronn.plan.fold_groups import ALONE
from metronn.train.prune_rules import allocate, mask_at, polynomial, sparsity_of, units_of, used_units
from metronn.train.records import Record, cheapest, most_accurate, pareto, relative_loss


def test_weights_alone_are_units_of_their_own() -> None:
    groups = np.array([[0, 0], [ALONE, 5], [ALONE, 5]])
    units = units_of((3, 2), groups)
    assert units[0, 0] == units[0, 1]
    assert units[1, 1] == units[2, 1]
    assert len(np.unique(units)) == 4


@given(st.floats(0.0, 0.99), st.integers(0, 10_000))
def test_a_mask_has_the_sparsity_and_drops_the_smallest(sparsity: float, seed: int) -> None:
    score = np.random.Generator(np.random.PCG64(seed)).random((9, 7))
    mask = mask_at(sparsity, score, units_of(score.shape, None))
    gone = int((~mask).sum())
    assert gone - 1 < sparsity * score.size <= gone + 1e-6 or gone == score.size - 1
    assert not gone or score[~mask].max() <= score[mask].min()


def test_units_go_whole_and_the_best_one_stays() -> None:
    groups = np.arange(12).reshape(6, 2) // 4
    score = np.array([[1, 9], [1, 1], [2, 2], [2, 2], [8, 8], [8, 8]], dtype=float)
    units = units_of(score.shape, groups)
    assert np.array_equal(mask_at(0.2, score, units), groups != 1)
    assert np.array_equal(mask_at(0.999, score, units), groups == 2)
    assert used_units(mask_at(0.2, score, units), groups) == (3, 2)


def test_the_layer_that_costs_least_gives_most() -> None:
    levels = (0.25, 0.5, 0.75, 1.0)
    rises = [[0.0, 0.0, 0.0, 5.0], [1.0, 2.0, 3.0, 9.0]]
    assert allocate(0.375, [100, 100], levels, rises) == pytest.approx([0.75, 0.0])
    assert allocate(0.5, [100, 100], levels, rises) == pytest.approx([0.75, 0.25])
    assert allocate(0.0, [100, 100], levels, rises) == [0.0, 0.0]
    total = allocate(0.9, [100, 300], levels, [[0.1, 0.1, 4.0, 9.0], [0.0, 3.0, 3.0, 3.5]])
    assert 100 * total[0] + 300 * total[1] == pytest.approx(360)


def test_the_schedule_rises_to_the_full_sparsity() -> None:
    values = [polynomial(0.8, epoch, 10, 0.1) for epoch in range(10)]
    assert values == sorted(values)
    assert 0.1 < values[0] < 0.45
    assert values[6:] == pytest.approx([0.8] * 4)


def test_sparsity_counts_all_layers() -> None:
    assert sparsity_of([np.ones((2, 2), dtype=bool), np.zeros((2, 6), dtype=bool)]) == pytest.approx(0.75)


def record(epoch: int, metric: float, cost: float) -> Record:
    return Record(
        epoch=epoch, loss=0.0, metric=metric, loss_of_metric=relative_loss(1.0, metric), sparsity=0.0, ebops=cost
    )


def test_the_front_and_what_is_chosen_from_it() -> None:
    records = [record(0, 0.99, 100), record(1, 0.995, 80), record(2, 0.98, 50), record(3, 0.98, 60), record(4, 0.9, 10)]
    assert [r.epoch for r in pareto(records)] == [4, 2, 1]
    best, small = cheapest(records, 0.02 + 1e-12), most_accurate(records, 60)
    assert best is not None and best.epoch == 2
    assert small is not None and small.epoch == 2
    assert cheapest(records, 0.001) is None
    assert most_accurate(records, 5) is None
    assert Record.of(records[0].as_dict()).metric == 0.99
