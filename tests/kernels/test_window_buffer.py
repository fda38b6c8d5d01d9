"""Windows, moved elements and other layouts in time: RTL gives the emulator's bits, each beat in its cycle."""

from __future__ import annotations

import pytest
from harness import check_cases, check_lint
from hypothesis import HealthCheck, Phase, given, settings
from window_strategies import buffer_batches

from metronn.verify.kernel_bench import Case

GENERATED = settings(
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.generate],  # a failing batch names its kernels; shrinking would build hundreds of simulations
    suppress_health_check=list(HealthCheck),
)


@settings(GENERATED, max_examples=2)
@given(cases=buffer_batches(1))
def test_buffers_in_icarus(cases: list[Case], tmp_path_factory: pytest.TempPathFactory) -> None:
    assert check_cases(cases, "icarus", tmp_path_factory.mktemp("icarus")) > 20


@pytest.mark.slow
@settings(GENERATED, max_examples=12)
@given(cases=buffer_batches(4))
def test_buffers_in_icarus_widely(cases: list[Case], tmp_path_factory: pytest.TempPathFactory) -> None:
    assert check_cases(cases, "icarus", tmp_path_factory.mktemp("icarus"), seed=7) > 20


@pytest.mark.slow
@settings(GENERATED, max_examples=2)
@given(cases=buffer_batches(4))
def test_buffers_in_verilator(cases: list[Case], tmp_path_factory: pytest.TempPathFactory) -> None:
    assert check_cases(cases, "verilator", tmp_path_factory.mktemp("verilator")) > 20


@pytest.mark.slow
@settings(GENERATED, max_examples=6)
@given(cases=buffer_batches(6))
def test_buffers_are_lint_clean(cases: list[Case], tmp_path_factory: pytest.TempPathFactory) -> None:
    check_lint(cases, tmp_path_factory.mktemp("lint"))
