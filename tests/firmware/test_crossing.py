"""Runs of tb_crossing, and what synthesis makes of the registers."""

from pathlib import Path

import pytest
from simulate import lint, run_cocotb, sources


@pytest.mark.slow
@pytest.mark.parametrize(
    ("simulator", "width", "registers"), [("icarus", 1, 2), ("icarus", 13, 3), ("icarus", 40, 6), ("verilator", 70, 3)]
)
def test_crossing(simulator: str, width: int, registers: int, tmp_path: Path) -> None:
    """Values and cycles."""
    passed = run_cocotb(
        simulator=simulator,
        files=sources("mnn_crossing"),
        top="mnn_crossing",
        module="tb_crossing",
        build=tmp_path / "crossing",
        parameters={"Width": width, "Registers": registers},
    )
    assert passed == 1


def test_too_few_registers_are_refused() -> None:
    assert "mnn_crossing: Width=8, at least 1 is needed; Registers=1, at least 2" in lint(
        "mnn_crossing", {"Registers": 1}
    )
    assert lint("mnn_crossing", {"Registers": 2}) == ""
    assert lint("mnn_crossing") == ""
