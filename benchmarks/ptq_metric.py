"""The metric of the regressions of ptq.py; a file of its own, since a build keeps a copy of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt


def closeness(outputs: Mapping[str, npt.NDArray[Any]], arrays: Mapping[str, npt.NDArray[Any]]) -> float:
    """1 minus the deviation of the answers from `target` in units of the target's own spread."""
    found, target = next(iter(outputs.values())), arrays["target"].astype(np.float64)
    error = (np.asarray(found) - target.reshape(np.shape(found))).astype(np.float64)
    return float(1.0 - np.sqrt(np.square(error).mean()) / target.std())
