"""Shared by the HLS tests: the option that rewrites golden files, the compiler, and random graphs."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from metronn.errors import ToolError
from metronn.verify.hls import ap_types_directory

TESTS = Path(__file__).resolve().parents[2]
sys.path += [str(TESTS / "emit" / "hls"), str(TESTS / "emulate")]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --update-golden unless a folder above has."""
    try:
        parser.addoption("--update-golden", action="store_true", help="rewrite golden files with what is emitted now")
    except ValueError:
        return


@pytest.fixture(scope="session")
def hls_compiler() -> None:
    """Skip, visibly, where g++ or the vendor's integer types are missing."""
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    try:
        ap_types_directory()
    except ToolError as error:
        pytest.skip(error.message)


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Whether golden files are to be rewritten."""
    return bool(request.config.getoption("--update-golden", default=False))
