"""How well energies are measured, as a number that is larger when better."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def ratio(outputs: Mapping[str, np.ndarray], arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Measured over true energy [n]."""
    return outputs["energy"].reshape(-1) / arrays["target"].astype(np.float64)


def sharpness(outputs: Mapping[str, np.ndarray], arrays: Mapping[str, np.ndarray]) -> float:
    """1 minus the resolution: half the width of the central 68 % of measured over true energy."""
    low, high = np.quantile(ratio(outputs, arrays), (0.16, 0.84))
    return float(1.0 - (high - low) / 2)
