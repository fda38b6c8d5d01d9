"""Points of metric, cost and latency, and which of them no other beats: the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class ParetoPoint:
    """One network with one choice of widths, planned at one II and fold.

    `metric` is larger when better, `loss` relative to the float network. Resources are those of the plan, over
    all FPGAs; they and the latency are None where there is no plan, and `problem` says why.
    """

    network: str
    widths: str
    ii_cycles: int
    fold: str
    metric: float
    float_metric: float
    loss: float
    lut_equivalents: float | None = None
    lut: int | None = None
    ff: int | None = None
    dsp: int | None = None
    bram36: float | None = None
    uram: int | None = None
    fpgas: int | None = None
    latency_cycles: int | None = None
    latency_ns: float | None = None
    graph: str = ""
    problem: str = ""
    front: bool = False

    @property
    def planned(self) -> bool:
        """Whether there is a plan."""
        return self.lut_equivalents is not None and self.latency_ns is not None


def beats(a: ParetoPoint, b: ParetoPoint) -> bool:
    """Whether `a` is nowhere worse than `b` and somewhere better: metric, LUT-equivalents, latency in ns."""
    first, second = _merits(a), _merits(b)
    return all(x >= y for x, y in zip(first, second, strict=True)) and first != second


def _merits(point: ParetoPoint) -> tuple[float, float, float]:
    assert point.lut_equivalents is not None and point.latency_ns is not None
    return point.metric, -point.lut_equivalents, -point.latency_ns


def with_front(points: Sequence[ParetoPoint]) -> tuple[ParetoPoint, ...]:
    """Mark the points with a plan that no other beats. Of equal points the first of least II is."""
    planned = [(point.ii_cycles, number) for number, point in enumerate(points) if point.planned]
    first: dict[tuple[float, float, float], int] = {}
    for _, number in sorted(planned):
        first.setdefault(_merits(points[number]), number)
    front = {
        number for number in first.values() if not any(beats(points[other], points[number]) for other in first.values())
    }
    return tuple(replace(point, front=number in front) for number, point in enumerate(points))
