"""How well cross sections are predicted, as a number that is larger when better."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def explained(outputs: Mapping[str, np.ndarray], arrays: Mapping[str, np.ndarray]) -> float:
    """Share of the variance of log10(cross section) that the network explains (R^2)."""
    target = arrays["target"].astype(np.float64)
    rest = outputs["cross_section"].reshape(-1) - target
    return float(1.0 - np.mean(rest**2) / np.var(target))


def median_error(outputs: Mapping[str, np.ndarray], arrays: Mapping[str, np.ndarray]) -> float:
    """Median of |predicted / true - 1| of the cross section itself."""
    rest = 4.0 * (outputs["cross_section"].reshape(-1) - arrays["target"])
    return float(np.median(np.abs(10.0**rest - 1.0)))
