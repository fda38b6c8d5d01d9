"""Fixtures for the frontends: where the real networks lie, and float comparison.

Tolerances are allowed here, and only here: the frameworks compute in float32, the reference in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

SHARED_MODELS = Path(__file__).resolve().parents[3] / "shared" / "models"


@pytest.fixture(scope="session")
def shared_models() -> Path:
    """Return the folder of real networks; the test is skipped without it."""
    if not SHARED_MODELS.is_dir():
        pytest.skip("the real networks (../shared/models) are not here")
    return SHARED_MODELS


def _assert_close(found: npt.ArrayLike, expected: npt.ArrayLike) -> None:
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    scale = max(1.0, float(np.abs(expected).max(initial=0.0)))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-6 * scale)


@pytest.fixture(scope="session")
def assert_close() -> Callable[[npt.ArrayLike, npt.ArrayLike], None]:
    """Return the comparison to float32 precision."""
    return _assert_close
