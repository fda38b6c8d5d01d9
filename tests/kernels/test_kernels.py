"""The ladder of kernels: emitted RTL gives the NumPy emulator's bits, each beat in the promised cycle."""

from __future__ import annotations

import pytest
from harness import check_cases, check_lint
from hypothesis import HealthCheck, Phase, given, settings
from strategies import batches

from metronn.verify.kernel_bench import Case

GENERATED = settings(
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.generate],  # a failing batch names its kernels; shrinking would build hundreds of simulations
    suppress_health_check=list(HealthCheck),
)


@settings(GENERATED, max_examples=3)
@given(cases=batches(3))
def test_kernels_in_icarus(cases: list[Case], tmp_path_factory: pytest.TempPathFactory) -> None:
    assert check_cases(cases, "icarus", tmp_path_factory.mktemp("icarus")) > 100


@pytest.mark.slow
@settings(GENERATED, max_examples=6)
@given(cases=batches(8))
def test_kernels_in_icarus_widely(cases: list[Case], tmp_path_factory: pytest.TempPathFactory) -> None:
    assert check_cases(cases, "icarus", tmp_path_factory.mktemp("icarus"), seed=7) > 100


@pytest.mark.slow
@settings(GENERATED, max_examples=3)
@given(cases=batches(6))
def test_kernels_in_verilator(cases: list[Case], tmp_path_factory: pytest.TempPathFactory) -> None:
    assert check_cases(cases, "verilator", tmp_path_factory.mktemp("verilator")) > 100


@pytest.mark.slow
@settings(GENERATED, max_examples=4)
@given(cases=batches(8))
def test_kernels_are_lint_clean(cases: list[Case], tmp_path_factory: pytest.TempPathFactory) -> None:
    check_lint(cases, tmp_path_factory.mktemp("lint"))
