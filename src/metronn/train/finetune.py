"""Quantization-aware training: widths are learned by gradient, and hardware has a price in the loss.

The loss of a step is `loss(answers) + price * k * EBOPs`, where k is LUT-equivalents per EBOP: after an epoch the
planner counts the network (`metronn.plan.estimate`) and k follows; without a system k is 1. The price is raised as long
as the metric holds and lowered when it does not (or, with a target cost, raised as long as the cost is above it), so
that training walks along the border. Every network that no other beats in metric and cost is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from metronn.errors import InfeasibleError
from metronn.events.data import Events
from metronn.train.backend import KerasObject
from metronn.train.cost import Target
from metronn.train.engine import HOLD, Engine, learning_rate, set_beta
from metronn.train.networks import kernels, save_network
from metronn.train.options import FinetuneOptions
from metronn.train.records import (
    Record,
    cheapest,
    drop_files,
    file_of,
    most_accurate,
    pareto,
    relative_loss,
)
from metronn.train.state import read_checkpoint, restore, same_run, write_checkpoint

FIRST_SHARE = 0.05
"""The resource term of the first epoch, as a share of the loss of the answers."""
PRICE_REACH = 1000.0
"""How far the price may climb while the learning rate is high."""
LEAST_STEP, MOST_STEP = 1.05, 3.0

Log = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finetuned:
    """The result: the record that was chosen, its file, all records, and the Pareto set."""

    best: Record
    file: Path
    records: tuple[Record, ...]
    front: tuple[Record, ...]
    reference: float


@dataclass(slots=True)
class Finetuner:
    """A run. `engine` holds a compiled HGQ2 network, `reference` the metric that its loss is relative to.

    `options` has a tolerance; without a price, the first is `FIRST_SHARE` of the loss.
    """

    engine: Engine
    options: FinetuneOptions
    folder: Path
    reference: float
    target: Target | None
    events: Events
    about: Mapping[str, Any]
    log: Log
    records: list[Record] = field(default_factory=list)
    price: float = 0.0
    scale: float = 1.0

    @property
    def tolerance(self) -> float:
        """Loss of metric that is accepted, relative to the reference network."""
        assert self.options.tolerance is not None
        return self.options.tolerance

    def run(self, *, resume: bool) -> Finetuned:
        """Train, or go on. Raises InfeasibleError where no network is good enough; the checkpoints stay."""
        options = self.options
        about = {**self.about, **options.record()}
        if resume:
            self._resume(about)
        else:
            self._begin(about)
        for epoch in range(self.records[-1].epoch, options.epochs):
            if self._waited():
                self.log(f"no better network in {options.patience} epochs: training ends")
                break
            set_beta(self.engine.model, self.price * self.scale)
            loss = self.engine.fit(epoch, learning_rate(options.rate, epoch, options.epochs))
            self._judge(epoch + 1, loss)
            self._reprice()
            if (epoch + 1) % options.checkpoint_every == 0 or epoch + 1 == options.epochs:
                self._checkpoint(about)
        return self._result()

    def _begin(self, about: Mapping[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        drop_files(self.folder, ())
        self._judge(0, self.engine.loss_alone(self.engine.task.train))
        first = self.records[0]
        given = self.options.price
        self.price = FIRST_SHARE * first.loss / max(first.cost, 1.0) if given is None else given
        self._checkpoint(about)

    def _resume(self, about: Mapping[str, Any]) -> None:
        state = read_checkpoint(self.folder)
        same_run(state.about["run"], about, self.folder)
        restore(state, self.engine.model, self.folder)
        self.records = [Record.of(data) for data in state.about["records"]]
        self.price, self.scale = float(state.about["price"]), float(state.about["scale"])
        self.log(f"resumed after epoch {self.records[-1].epoch}")

    def _checkpoint(self, about: Mapping[str, Any]) -> None:
        state = {
            "run": dict(about),
            "records": [record.as_dict() for record in self.records],
            "price": self.price,
            "scale": self.scale,
        }
        write_checkpoint(self.folder, self.engine.model, state)
        drop_files(self.folder, pareto(self.records))

    def _judge(self, epoch: int, loss: float) -> None:
        """Measure metric and cost; keep the network where no other beats it."""
        ebops = self.engine.trace()
        metric = self.engine.measure()
        record = Record(
            epoch=epoch,
            loss=loss,
            metric=metric,
            loss_of_metric=relative_loss(self.reference, metric),
            sparsity=zero_share(self.engine.model),
            ebops=ebops,
            price=self.price,
        )
        path = file_of(self.folder, record)
        save_network(self.engine.model, path)
        if self.target is not None:
            cost = self.target.estimate(path, self.events).lut_equivalents
            self.scale = cost / max(ebops, 1.0)
            record = Record(**{**asdict(record), "lut_equivalents": cost})
        self.records.append(record)
        if record not in pareto(self.records):
            path.unlink(missing_ok=True)
        unit = "EBOPs" if self.target is None else "LUT-equivalents"
        self.log(
            f"epoch {epoch:3d}  loss {loss:.4f}  {self.engine.task.metric_name} {metric:.4f} "
            f"({-100 * record.loss_of_metric:+.2f} %)  {record.cost:,.0f} {unit}  zeros {100 * record.sparsity:.1f} %"
        )

    def _reprice(self) -> None:
        options, last = self.options, self.records[-1]
        step = PRICE_REACH ** (1.0 / max(1.0, HOLD * options.epochs))
        step = min(MOST_STEP, max(LEAST_STEP, step))
        if options.target_cost is not None:
            raised = last.cost > options.target_cost
        else:
            raised = last.loss_of_metric <= self.tolerance
        self.price *= step if raised else 1.0 / step

    def _chosen(self, records: list[Record]) -> Record | None:
        if self.options.target_cost is not None:
            return most_accurate(records, self.options.target_cost)
        return cheapest(records, self.tolerance)

    def _waited(self) -> bool:
        patience, count = self.options.patience, len(self.records)
        if not patience or count <= patience:
            return False
        best = self._chosen(self.records)
        return best is not None and self.records[-1].epoch - best.epoch >= patience

    def _result(self) -> Finetuned:
        best, front = self._chosen(self.records), pareto(self.records)
        if best is None:
            near = max(self.records, key=lambda r: r.metric)
            cheap = min(self.records, key=lambda r: r.cost)
            wanted = (
                f"costs {self.options.target_cost:,.0f} or less; the cheapest costs {cheap.cost:,.0f} "
                f"(epoch {cheap.epoch})"
                if self.options.target_cost is not None
                else f"is within the tolerance {self.tolerance:g}; the best loses {near.loss_of_metric:.4g} "
                f"(epoch {near.epoch})"
            )
            raise InfeasibleError(
                f"finetune: after {self.records[-1].epoch} epochs no network {wanted}.\n"
                f"  Train longer (--epochs), start wider (--weight-bits, --activation-bits) or accept more; "
                f"the networks found are in {self.folder}"
            )
        return Finetuned(
            best=best,
            file=file_of(self.folder, best),
            records=tuple(self.records),
            front=front,
            reference=self.reference,
        )


def zero_share(model: KerasObject) -> float:
    """Return the share of the weights of matrices that are zero; in a quantized network, after rounding."""
    zeros = total = 0
    owners = {id(k.variable): k for k in kernels(model)}
    for layer in model._flatten_layers(include_self=False):
        variable = getattr(layer, "_kernel", None)
        variable = getattr(layer, "kernel", None) if variable is None else variable
        if id(variable) not in owners:
            continue
        values = np.asarray(layer.qkernel) if hasattr(layer, "qkernel") else np.asarray(variable)
        zeros, total = zeros + int((values == 0).sum()), total + values.size
    return zeros / total if total else math.nan
