"""Points of metric, cost and latency as CSV, plain data and rows of a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from metronn.search.pareto import ParetoPoint

COLUMNS = ("network", "widths", "II", "fold", "metric", "loss", "LUT-eq.", "LUT", "FF", "DSP", "BRAM36", "latency")
RIGHT = range(4, len(COLUMNS))


def csv_text(points: Sequence[ParetoPoint]) -> str:
    """Return all points as CSV, a header first; empty cells where there is no plan."""
    file = io.StringIO()
    writer = csv.DictWriter(file, [item.name for item in fields(ParetoPoint)], lineterminator="\n")
    writer.writeheader()
    writer.writerows({**asdict(point), "front": int(point.front)} for point in points)
    return file.getvalue()


def records(points: Sequence[ParetoPoint]) -> list[dict[str, Any]]:
    """Return all points as plain data."""
    return [asdict(point) for point in points]


def rows(points: Sequence[ParetoPoint]) -> list[tuple[str, ...]]:
    """Return the rows of the front, the cheapest first, in the order of COLUMNS."""
    front = [point for point in points if point.front]
    return [
        (
            point.network,
            point.widths,
            str(point.ii_cycles),
            point.fold,
            f"{point.metric:.4f}",
            f"{100 * point.loss:.2f} %",
            f"{point.lut_equivalents:,.0f}",
            f"{point.lut:,}",
            f"{point.ff:,}",
            f"{point.dsp:,}",
            f"{point.bram36:g}",
            f"{point.latency_ns:.1f} ns",
        )
        for point in sorted(front, key=lambda p: (p.lut_equivalents or 0.0, -p.metric, p.latency_ns or 0.0, p.network))
    ]
