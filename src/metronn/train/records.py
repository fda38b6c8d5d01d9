"""What a run has found: a record per epoch, the Pareto set of metric against cost, and the files kept for it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The state after an epoch (0: before training).

    `metric` on the validation events, larger is better; `loss_of_metric` relative to the reference network; `ebops`
    and `lut_equivalents` (NaN where they were not counted); `sparsity`: share of weights that are zero; `price`: what
    a LUT-equivalent counts in the loss.
    """

    epoch: int
    loss: float
    metric: float
    loss_of_metric: float
    sparsity: float
    ebops: float = math.nan
    lut_equivalents: float = math.nan
    price: float = 0.0

    @property
    def cost(self) -> float:
        """LUT-equivalents, else EBOPs, else the share of weights that are left: smaller is better."""
        if not math.isnan(self.lut_equivalents):
            return self.lut_equivalents
        return 1.0 - self.sparsity if math.isnan(self.ebops) else self.ebops

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values; NaN becomes None."""
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in asdict(self).items()}

    @staticmethod
    def of(data: Mapping[str, Any]) -> Record:
        """Return the record that `as_dict` wrote."""
        values: dict[str, Any] = {k: math.nan if v is None else v for k, v in data.items()}
        return Record(**values)


def relative_loss(reference: float, value: float) -> float:
    """Return how much of the metric is lost, relative to its magnitude; negative where it is better."""
    return (reference - value) / max(abs(reference), 1e-12)


def pareto(records: Iterable[Record]) -> tuple[Record, ...]:
    """Return the records that no other beats in both metric and cost, the cheapest first; of equals the first."""
    kept: list[Record] = []
    best = -math.inf
    for record in sorted(records, key=lambda r: (r.cost, -r.metric, r.epoch)):
        if record.metric > best:
            kept.append(record)
            best = record.metric
    return tuple(kept)


def cheapest(records: Iterable[Record], tolerance: float) -> Record | None:
    """Return the record of least cost whose metric loss is within the tolerance, None where there is none."""
    within = [r for r in records if r.loss_of_metric <= tolerance]
    return min(within, key=lambda r: (r.cost, -r.metric, r.epoch), default=None)


def most_accurate(records: Iterable[Record], target_cost: float) -> Record | None:
    """Return the record of best metric at no more than a cost, None where there is none."""
    within = [r for r in records if r.cost <= target_cost]
    return max(within, key=lambda r: (r.metric, -r.cost, -r.epoch), default=None)


def file_of(folder: Path, record: Record) -> Path:
    """Return where the network of a record is kept."""
    return folder / f"epoch-{record.epoch:04d}.keras"


def drop_files(folder: Path, kept: Sequence[Record]) -> None:
    """Remove networks of records that are not kept."""
    names = {file_of(folder, record).name for record in kept}
    for path in folder.glob("epoch-*.keras"):
        if path.name not in names:
            with suppress(OSError):
                path.unlink()
