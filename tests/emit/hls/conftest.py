"""Shared by the HLS tests: the compiler, and random graphs."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from metronn.errors import ToolError
from metronn.verify.hls import ap_types_directory

TESTS = Path(__file__).resolve().parents[2]
sys.path += [str(TESTS / "emit" / "hls"), str(TESTS / "emulate")]


@pytest.fixture(scope="session")
def hls_compiler() -> None:
    """Skip, visibly, where g++ or the vendor's integer types are missing."""
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    try:
        ap_types_directory()
    except ToolError as error:
        pytest.skip(error.message)
