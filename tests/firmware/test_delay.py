"""Runs of tb_delay."""

from pathlib import Path

import pytest
from simulate import run_cocotb, sources


@pytest.mark.slow
@pytest.mark.parametrize(
    ("simulator", "width", "latency"),
    [("icarus", w, n) for w, n in ((8, 0), (1, 1), (13, 1), (13, 2), (200, 7))] + [("verilator", 70, 5)],
)
def test_delay(tmp_path: Path, simulator: str, width: int, latency: int) -> None:
    """Values and cycles, from a wire to a long line."""
    run_cocotb(
        simulator=simulator,
        files=sources("mnn_delay"),
        top="mnn_delay",
        module="tb_delay",
        build=tmp_path / "delay",
        parameters={"Width": width, "Latency": latency},
    )
