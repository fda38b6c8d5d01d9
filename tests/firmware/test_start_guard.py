"""Runs of tb_start_guard, and its lint."""

from pathlib import Path

import pytest
from simulate import lint, run_cocotb, sources

SHAPES = ((1, 0), (2, 0), (2, 1), (9, 4), (64, 63))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("simulator", "distance", "window"), [("icarus", d, w) for d, w in SHAPES] + [("verilator", 7, 6)]
)
def test_start_guard(tmp_path: Path, simulator: str, distance: int, window: int) -> None:
    """Distances from every cycle on, with and without cycles in which an early start hits."""
    run_cocotb(
        simulator=simulator,
        files=sources("mnn_start_guard"),
        top="mnn_start_guard",
        module="tb_start_guard",
        build=tmp_path / "guard",
        parameters={"Distance": distance, "Window": window},
    )


@pytest.mark.slow
@pytest.mark.parametrize(("distance", "window"), SHAPES)
def test_lint(distance: int, window: int) -> None:
    """Clean at -Wall."""
    assert lint("mnn_start_guard", {"Distance": distance, "Window": window}) == ""


@pytest.mark.slow
@pytest.mark.parametrize(("distance", "window"), [(0, 0), (4, 4), (4, -1)])
def test_illegal_parameters(distance: int, window: int) -> None:
    """Illegal parameters fail at elaboration, with the values in the message."""
    message = f"Distance={distance}, at least 1 is needed; Window={window}"
    assert message in lint("mnn_start_guard", {"Distance": distance, "Window": window})
