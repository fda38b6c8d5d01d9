"""Networks, widths, IIs and folds to compare: each quantized once, and planned at every place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from metronn.errors import InfeasibleError, ModelError
from metronn.events.data import Events
from metronn.ir.text import graph_hash
from metronn.log import Log
from metronn.model.graph import RealGraph
from metronn.passes.pipeline import quantize_model
from metronn.plan.hardware.resources import Resources, lut_equivalents
from metronn.plan.hardware.system import System
from metronn.plan.options import Fold, PlanOptions
from metronn.plan.planner import plan
from metronn.quantize.options import QuantizeOptions
from metronn.search.evaluate import events_digest, network_digest
from metronn.search.journal import Journal
from metronn.search.network import SearchRun, Subject, search_widths
from metronn.search.options import SearchOptions
from metronn.search.pareto import ParetoPoint, with_front
from metronn.search.space import uniform_options
from metronn.search.workers import workers

JOURNAL = "Pareto front"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A network with one choice of widths, and where to plan it."""

    network: str
    widths: str
    model: RealGraph = field(repr=False)
    events: Events = field(repr=False)
    options: QuantizeOptions
    base: Path
    system: System = field(repr=False)
    plan: PlanOptions
    places: tuple[tuple[int, Fold], ...]

    @property
    def key(self) -> str:
        """Return everything the points of this candidate depend on, in one line."""
        system = sha256(repr(self.system).encode()).hexdigest()[:16]
        about = f"{network_digest(self.model)} {events_digest(self.events)} {system}"
        places = " ".join(f"{ii}/{fold.value}" for ii, fold in self.places)
        options = self.options.model_dump_json(exclude={"widths", "tolerance"})
        plan_options = self.plan.model_dump_json(exclude={"fold"})
        return f"{self.network} | {self.widths} | {places} | {about} | {options} | {plan_options}"


def judged(candidate: Candidate) -> list[dict[str, Any]]:
    """Quantize a candidate and plan it at each of its places; the points as plain data."""
    quantized = quantize_model(candidate.model, candidate.events, candidate.options, base=candidate.base)
    metric = quantized.report.metric
    if metric is None:
        raise ModelError(
            f"{candidate.network}: there is no metric to compare.\n"
            "  Add labels to the events, or give [quantize] metric = accuracy, auc or file.py:function."
        )
    points = []
    for ii, fold in candidate.places:
        point = ParetoPoint(
            network=candidate.network,
            widths=candidate.widths,
            ii_cycles=ii,
            fold=fold.value,
            metric=metric.fixed_value,
            float_metric=metric.float_value,
            loss=metric.loss,
            graph=graph_hash(quantized.graph),
        )
        system = candidate.system.with_overrides(ii=ii, clock_mhz=None)
        try:
            design = plan(quantized.graph, system, candidate.plan.model_copy(update={"fold": fold}))
        except InfeasibleError as error:
            points.append(asdict(replace(point, problem=error.message.splitlines()[0])))
            continue
        total = sum((fpga.resources for fpga in design.fpgas), Resources())
        points.append(
            asdict(
                replace(
                    point,
                    lut_equivalents=lut_equivalents(total),
                    lut=total.lut,
                    ff=total.ff,
                    dsp=total.dsp,
                    bram36=total.bram36,
                    uram=total.uram,
                    fpgas=len(design.fpgas),
                    latency_cycles=design.latency_cycles,
                    latency_ns=design.latency_ns,
                )
            )
        )
    return points


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """What is swept for every network: `widths` are options whose layers differ, by name; the rest are numbers."""

    uniform: tuple[int, ...]
    tolerances: tuple[float, ...]
    widths: Mapping[str, QuantizeOptions]
    iis: tuple[int, ...]
    folds: tuple[Fold, ...]


def candidates(subject: Subject, sweep: Sweep, run: SearchRun, log: Log) -> list[Candidate]:
    """Return the candidates of one network; widths to search are searched here.

    The name of the journal of `run` begins those of the searches, one for each II.
    """
    folds = sweep.folds or (subject.plan.fold,)
    iis = sweep.iis or (subject.system.ii,)
    places = tuple((ii, fold) for ii in iis for fold in folds)

    def candidate(widths: str, quantize: QuantizeOptions, at: tuple[tuple[int, Fold], ...] = places) -> Candidate:
        return Candidate(
            network=subject.name,
            widths=widths,
            model=subject.model,
            events=subject.events,
            options=quantize,
            base=subject.base.absolute(),
            system=subject.system,
            plan=subject.plan,
            places=at,
        )

    if subject.model.quantized:
        return [candidate("as trained", subject.quantize)]
    found = [candidate("as given", subject.quantize)]
    found += [candidate(f"{bits} bits", uniform_options(subject.quantize, bits)) for bits in sweep.uniform]
    found += [candidate(name, options) for name, options in sweep.widths.items()]
    for ii in iis:
        system = subject.system.with_overrides(ii=ii, clock_mhz=None)
        for tolerance in sweep.tolerances:
            quantize = subject.quantize.model_copy(update={"tolerance": tolerance})
            first = tolerance == sweep.tolerances[0]
            journal = run.journal.with_name(f"{run.journal.name}.ii{ii}.journal")
            own = replace(run, journal=journal, restart=run.restart and first)
            log(f"{subject.name}: searching widths at II {ii}, tolerance {100 * tolerance:g} %")
            searched = search_widths(replace(subject, quantize=quantize, system=system), SearchOptions(), own, log)
            at = tuple((ii, fold) for fold in folds)
            found.append(candidate(f"searched {100 * tolerance:g} %", searched.options, at))
    return found


def points(several: Sequence[Candidate], run: SearchRun, log: Log) -> tuple[ParetoPoint, ...]:
    """Judge every candidate, those known from the journal apart; the front is marked."""
    with Journal(run.journal, JOURNAL, {}, restart=run.restart) as journal:
        keys = [candidate.key for candidate in several]
        results = {key: known["points"] for key in keys if (known := journal.get(key)) is not None}
        missing = [(key, candidate) for key, candidate in zip(keys, several, strict=True) if key not in results]
        if results:
            log(f"journal: {run.journal}: {len(results)} of {len(several)} choices of widths are known")
        if missing:
            with workers(judged, jobs=run.jobs, dask=run.dask) as some:
                for index, found in some.run([candidate for _, candidate in missing]):
                    key, candidate = missing[index]
                    journal.put(key, {"points": found})
                    results[key] = found
                    log(f"planned: {candidate.network}, {candidate.widths} ({len(results)} of {len(several)})")
    return with_front([ParetoPoint(**point) for key in keys for point in results[key]])
