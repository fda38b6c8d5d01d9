"""Pruning: weights become zero, and hardware vanishes with them.

Unstructured pruning takes single weights: an unrolled kernel pays for the digits that are left. Pruning for the fold
takes the weights that share a multiplier together, as the planner folds the layer at the II (`plan.fold_groups`), so
that the multiplier vanishes. Between the steps of a rising sparsity the network is trained with the zeros held.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, assert_never

import numpy as np

from metronn.errors import InfeasibleError, ModelError
from metronn.events.data import Events
from metronn.ir.arrays import Array
from metronn.plan.estimate import Estimate
from metronn.plan.fold_groups import graph_groups
from metronn.train.cost import Target
from metronn.train.engine import Engine, learning_rate
from metronn.train.networks import WeightMatrix, kernels, save_network
from metronn.train.options import Method, PruneOptions, Structure
from metronn.train.prune_rules import (
    Mask,
    Units,
    allocate,
    mask_at,
    polynomial,
    sparsity_of,
    units_of,
    used_units,
)
from metronn.train.records import Record, cheapest, drop_files, file_of, pareto, relative_loss
from metronn.train.state import read_checkpoint, restore, same_run, write_checkpoint

CLIMB = 0.85
"""Share of the weights left that stays when the sparsity is raised after an epoch within the tolerance."""
LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 1.0)
"""Sparsities of a layer at which the loss is measured."""
BISECTIONS = 10
"""Sparsities measured when no training follows."""

Log = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerResult:
    """A layer: its weights, how many were and are not zero, LUT-equivalents and multipliers before and after."""

    layer: str
    weights: int
    before: int
    after: int
    cost_before: float
    cost_after: float
    multipliers_before: int
    multipliers_after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """The result: the chosen record and its file, all records, and the layers."""

    best: Record
    file: Path
    records: tuple[Record, ...]
    layers: tuple[LayerResult, ...]
    cost_before: float
    reference: float


@dataclass(slots=True)
class Pruner:
    """A run. `engine` holds a compiled network, float or of HGQ2; `reference` the metric its loss is relative to."""

    engine: Engine
    options: PruneOptions
    folder: Path
    reference: float
    target: Target | None
    events: Events
    about: Mapping[str, Any]
    log: Log
    chosen: Sequence[WeightMatrix] = ()
    units: Sequence[Units] = ()
    groups: Sequence[Units | None] = ()
    records: list[Record] = field(default_factory=list)
    first: Mapping[str, Mask] = field(default_factory=dict)
    before: Estimate | None = None

    def run(self, *, resume: bool) -> Pruned:
        """Prune, or go on. Raises InfeasibleError where the tolerance cannot be kept, ModelError for wrong options."""
        about = {**self.about, **self.options.record()}
        self._prepare()
        if resume:
            self._resume(about)
        else:
            drop_files(self.folder, ())
            self._judge(0, self.engine.loss_alone(self.engine.task.train))
        options = self.options
        if options.epochs == 0:
            self._one_shot()
        for epoch in range(self.records[-1].epoch, options.epochs):
            self._mask(self._sparsity(epoch))
            loss = self.engine.fit(epoch, learning_rate(options.rate, epoch, options.epochs))
            self._judge(epoch + 1, loss)
            if (epoch + 1) % options.checkpoint_every == 0 or epoch + 1 == options.epochs:
                self._checkpoint(about)
        return self._result()

    # What is pruned

    def _prepare(self) -> None:
        """Find the kernels, their zeros at the start, and the weights that go together."""
        found = kernels(self.engine.model)
        names = [kernel.layer for kernel in found]
        unknown = [p for p in self.options.keep if not any(fnmatchcase(name, p) for name in names)]
        if unknown:
            raise ModelError(
                "\n".join(
                    f"--keep {p}: no layer with weights has such a name; there are {', '.join(names)}" for p in unknown
                )
            )
        kept = [k for k in found if not any(fnmatchcase(k.layer, p) for p in self.options.keep)]
        if not kept:
            raise ModelError("prune: the network has no layer with weights that may be pruned")
        self.chosen = kept
        self.first = {kernel.layer: kernel.value != 0 for kernel in kept}
        self.groups = [None] * len(kept)
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "start.keras"
        if self.target is not None:
            self.engine.trace()
            save_network(self.engine.model, path)
            self.before = self.target.estimate(path, self.events)
            if self.options.structure is Structure.FOLD:
                self.groups = self._fold_groups(path, self.target)
        self.units = [units_of(k.value.shape, g) for k, g in zip(kept, self.groups, strict=True)]

    def _fold_groups(self, path: Path, target: Target) -> list[Units | None]:
        """Return the multiplier of each weight of each kernel; None where the planner's matrix is another one."""
        graph = target.graph(path, self.events)
        by_source: dict[str, list[Units]] = {}
        for found in graph_groups(graph, target.system, target.plan):
            by_source.setdefault(found.source, []).append(found.groups)
        result: list[Units | None] = []
        for kernel in self.chosen:
            shape = kernel.value.shape
            matrix = (math.prod(shape[:-1]), shape[-1])
            matching = [g for g in by_source.get(kernel.layer, []) if g.shape == matrix]
            if len(matching) != 1:
                self.log(f"{kernel.layer}: its matrix is not one of the plan; its weights go one by one")
            result.append(matching[0].reshape(shape) if len(matching) == 1 else None)
        return result

    def _mask(self, sparsity: float) -> None:
        """Set weights to zero until this share is, those that are zero already first, and hold them."""
        values = [kernel.value for kernel in self.chosen]
        scores = [np.square(value.astype(np.float64)) for value in values]
        shares = self._shares(sparsity, scores)
        masks = [mask_at(*each) for each in zip(shares, scores, self.units, strict=True)]
        masks = [mask & (value != 0) for mask, value in zip(masks, values, strict=True)]
        self.engine.hold_zeros(list(zip(self.chosen, masks, strict=True)))

    def _shares(self, sparsity: float, scores: Sequence[Array]) -> list[float]:
        """Return the sparsity of each layer."""
        match self.options.method:
            case Method.MAGNITUDE:
                return [sparsity] * len(self.chosen)
            case Method.SENSITIVITY:
                trials = [
                    [mask_at(level, score, unit) for level in LEVELS]
                    for score, unit in zip(scores, self.units, strict=True)
                ]
                rises = self.engine.sensitivity(self.chosen, trials)
                return allocate(sparsity, [score.size for score in scores], LEVELS, rises)
            case _ as never:
                assert_never(never)

    # How much

    def _now(self) -> float:
        return sparsity_of([kernel.value != 0 for kernel in self.chosen])

    def _sparsity(self, epoch: int) -> float:
        """Return the sparsity of an epoch."""
        options = self.options
        if options.sparsity is not None:
            start = sparsity_of(list(self.first.values()))
            return max(self._now(), polynomial(options.sparsity, epoch, options.epochs, start))
        now, last = self._now(), self.records[-1]
        assert options.tolerance is not None
        return 1.0 - (1.0 - now) * CLIMB if last.loss_of_metric <= options.tolerance else now

    def _one_shot(self) -> None:
        """Prune without training: to the sparsity, or by bisection to the most that the tolerance allows."""
        options = self.options
        if options.sparsity is not None:
            self._mask(options.sparsity)
            self._judge(1, self.engine.loss_alone(self.engine.task.train))
            return
        assert options.tolerance is not None
        values = [kernel.value.copy() for kernel in self.chosen]
        low, high = self._now(), 1.0
        for trial in range(1, BISECTIONS + 1):
            middle = (low + high) / 2
            self.engine.hold_zeros([(k, value == value) for k, value in zip(self.chosen, values, strict=True)])
            for kernel, value in zip(self.chosen, values, strict=True):
                kernel.variable.assign(value)
            self._mask(middle)
            self._judge(trial, self.engine.loss_alone(self.engine.task.train))
            if self.records[-1].loss_of_metric <= options.tolerance:
                low = middle
            else:
                high = middle

    # What was reached

    def _judge(self, epoch: int, loss: float) -> None:
        ebops = self.engine.trace()
        metric = self.engine.measure()
        record = Record(
            epoch=epoch,
            loss=loss,
            metric=metric,
            loss_of_metric=relative_loss(self.reference, metric),
            sparsity=self._now(),
            ebops=ebops,
        )
        self.records.append(record)
        save_network(self.engine.model, file_of(self.folder, record))
        self.log(
            f"epoch {epoch:3d}  loss {loss:.4f}  {self.engine.task.metric_name} {metric:.4f} "
            f"({-100 * record.loss_of_metric:+.2f} %)  zeros {100 * record.sparsity:.1f} %"
        )

    def _kept(self) -> tuple[Record, ...]:
        """Return the records whose networks are kept: the Pareto set of metric and sparsity, and the last one."""
        return (*pareto([_by_sparsity(r) for r in self.records]), self.records[-1])

    def _checkpoint(self, about: Mapping[str, Any]) -> None:
        state = {"run": dict(about), "records": [record.as_dict() for record in self.records]}
        write_checkpoint(self.folder, self.engine.model, state)
        drop_files(self.folder, self._kept())

    def _resume(self, about: Mapping[str, Any]) -> None:
        state = read_checkpoint(self.folder)
        same_run(state.about["run"], about, self.folder)
        restore(state, self.engine.model, self.folder)
        self.records = [Record.of(data) for data in state.about["records"]]
        self.log(f"resumed after epoch {self.records[-1].epoch}")

    def _best(self) -> Record:
        options = self.options
        if options.sparsity is not None:
            best = self.records[-1]
            if options.tolerance is not None and best.loss_of_metric > options.tolerance:
                raise InfeasibleError(
                    f"prune: at {100 * best.sparsity:.1f} % zeros {best.loss_of_metric:.4g} of the metric is lost, the "
                    f"tolerance is {options.tolerance:g}.\n"
                    f"  Train longer (--epochs) or ask for less (--sparsity); the networks are in {self.folder}"
                )
            return best
        assert options.tolerance is not None
        found = cheapest([_by_sparsity(r) for r in self.records], options.tolerance)
        if found is None:
            near = max(self.records, key=lambda r: r.metric)
            raise InfeasibleError(
                f"prune: no network is within the tolerance {options.tolerance:g}; the best loses "
                f"{near.loss_of_metric:.4g}.\n  Raise --tolerance, or finetune first."
            )
        return next(r for r in self.records if r.epoch == found.epoch)

    def _result(self) -> Pruned:
        best = self._best()
        path = file_of(self.folder, best)
        keras = self.engine.backend.keras
        model = keras.models.load_model(path, compile=False)
        masks = {kernel.layer: kernel.value != 0 for kernel in kernels(model)}
        after = None if self.target is None else self.target.estimate(path, self.events)
        layers = []
        for kernel, groups in zip(self.chosen, self.groups, strict=True):
            old, new = self.first[kernel.layer], masks[kernel.layer]
            layers.append(
                LayerResult(
                    layer=kernel.layer,
                    weights=old.size,
                    before=int(old.sum()),
                    after=int(new.sum()),
                    cost_before=_layer_cost(self.before, kernel.layer),
                    cost_after=_layer_cost(after, kernel.layer),
                    multipliers_before=used_units(old, groups)[1],
                    multipliers_after=used_units(new, groups)[1],
                )
            )
        if after is not None:
            best = Record(**{**asdict(best), "lut_equivalents": after.lut_equivalents})
        return Pruned(
            best=best,
            file=path,
            records=tuple(self.records),
            layers=tuple(layers),
            cost_before=math.nan if self.before is None else self.before.lut_equivalents,
            reference=self.reference,
        )


def _by_sparsity(record: Record) -> Record:
    """Return the record with the share of weights left as its cost."""
    return Record(**{**asdict(record), "ebops": math.nan, "lut_equivalents": math.nan})


def _layer_cost(found: Estimate | None, layer: str) -> float:
    return math.nan if found is None else found.layers.get(layer, 0.0)
