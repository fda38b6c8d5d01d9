"""How well cross sections are predicted, as a number that is larger when better."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def median_error(outputs: Mapping[str, np.ndarray], arrays: Mapping[str, np.ndarray]) -> float:
    """Median of |predicted / true - 1| of the cross section."""
    rest = 4.0 * (outputs["cross_section"].reshape(-1) - arrays["target"].astype(np.float64))
    return float(np.median(np.abs(10.0**rest - 1.0)))


def closeness(outputs: Mapping[str, np.ndarray], arrays: Mapping[str, np.ndarray]) -> float:
    """1 minus the median error."""
    return 1.0 - median_error(outputs, arrays)
