"""Events to calibrate and judge with: arrays by input name, labels, and anything a metric may want."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from metronn.ir.arrays import Array
from metronn.model.graph import Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """Floats of shape (events, *shape) by input name, optional labels, and extra arrays by name."""

    inputs: Mapping[str, Floats]
    labels: Array | None = None
    extra: Mapping[str, Array] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Number of events."""
        return len(next(iter(self.inputs.values())))
