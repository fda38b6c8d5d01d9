"""The command line run in this process, and a small network for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_network import Ran, Run, write_events, write_network
from typer.testing import CliRunner

from metronn.cli.app import app


@pytest.fixture
def metronn() -> Run:
    """Run the command line in this process."""

    def run(*arguments: object) -> Ran:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert "Traceback" not in result.stderr
        return Ran(status=result.exit_code, out=result.stdout, err=result.stderr)

    return run


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """Return an ONNX file of a small dense network."""
    return write_network(tmp_path / "small.onnx")


@pytest.fixture
def events(tmp_path: Path) -> Path:
    """Return a file of calibration events for it."""
    return write_events(tmp_path / "events.npz")
