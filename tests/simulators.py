"""Simulators that tests need: where one is missing, a visible skip."""

from __future__ import annotations

import pytest

from metronn.verify.simulator import missing


def need(simulator: str = "verilator") -> None:
    """Skip the calling test, and say why, when "verilator" or "icarus", or cocotb, cannot be used."""
    reason = missing(simulator)
    if reason:
        pytest.skip(reason)
