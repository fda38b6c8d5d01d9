"""The command line run in this process, and what a run leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from typer.testing import CliRunner

from metronn.cli.app import app


class Ran(NamedTuple):
    """Exit status, stdout, stderr."""

    status: int
    out: str
    err: str


Run = Callable[..., Ran]


def metronn(*arguments: object) -> Ran:
    """Run the command line; a traceback fails the test."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert "Traceback" not in result.stderr
    return Ran(result.exit_code, result.stdout, result.stderr)
