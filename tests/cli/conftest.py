"""The command line run in this process, and a small network for it."""

from __future__ import annotations

from pathlib import Path

import pytest

import command_line
from command_line import Run
from small_network import write_events, write_network


@pytest.fixture
def metronn() -> Run:
    """Run the command line in this process."""
    return command_line.metronn


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """Return an ONNX file of a small dense network."""
    return write_network(tmp_path / "small.onnx")


@pytest.fixture
def events(tmp_path: Path) -> Path:
    """Return a file of calibration events for it."""
    return write_events(tmp_path / "events.npz")
