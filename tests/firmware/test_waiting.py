"""Runs of tb_pulse_delay and tb_ring, and their lint."""

from pathlib import Path

import pytest
from simulate import lint, run_cocotb, sources


@pytest.mark.slow
@pytest.mark.parametrize(
    ("simulator", "cycles", "distance"),
    [("icarus", c, d) for c, d in ((2, 1), (2, 2), (5, 5), (17, 100), (40, 3), (33, 32))] + [("verilator", 90, 7)],
)
def test_pulse_delay(tmp_path: Path, simulator: str, cycles: int, distance: int) -> None:
    """Counters and shift registers, at and beyond the distance of pulses."""
    run_cocotb(
        simulator=simulator,
        files=sources("mnn_pulse_delay"),
        top="mnn_pulse_delay",
        module="tb_pulse_delay",
        build=tmp_path / "pulse",
        parameters={"Cycles": cycles, "Distance": distance},
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("simulator", "width", "depth"),
    [("icarus", w, n) for w, n in ((1, 2), (8, 3), (13, 16), (70, 33))] + [("verilator", 70, 5)],
)
def test_ring(tmp_path: Path, simulator: str, width: int, depth: int) -> None:
    """Depths that are powers of two and others."""
    run_cocotb(
        simulator=simulator,
        files=sources("mnn_ring"),
        top="mnn_ring",
        module="tb_ring",
        build=tmp_path / "ring",
        parameters={"Width": width, "Depth": depth, "Block": int(depth > 16)},
    )


@pytest.mark.parametrize(
    ("top", "parameters"),
    [
        ("mnn_pulse_delay", {"Cycles": 2, "Distance": 1}),
        ("mnn_pulse_delay", {"Cycles": 90, "Distance": 100}),
        ("mnn_ring", {"Width": 8, "Depth": 2}),
        ("mnn_ring", {"Width": 1, "Depth": 500, "Block": 1}),
    ],
)
def test_lint(top: str, parameters: dict[str, int]) -> None:
    """The smallest and larger ones are clean."""
    assert lint(top, parameters) == ""
