"""A search for the widths of a network: what is judged, what is searched, and what is confirmed in the end."""

from __future__ import annotations

import glob
import json
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from hashlib import sha256
from pathlib import Path
from typing import Any

from metronn import __version__
from metronn.errors import InfeasibleError, ModelError
from metronn.events.data import Events
from metronn.ir.graph import Graph
from metronn.ir.names import toml_string
from metronn.log import Log
from metronn.model.graph import RealGraph
from metronn.passes.pipeline import optimize, prepare, quantize_model
from metronn.plan.estimate import estimate
from metronn.plan.hardware.system import System
from metronn.plan.options import PlanOptions
from metronn.quantize.options import QuantizeOptions
from metronn.quantize.quantize import Quantized
from metronn.search.evaluate import Cost, Evaluation, Evaluator, evaluator, events_digest, network_digest
from metronn.search.journal import Journal
from metronn.search.options import SearchOptions
from metronn.search.run import Progress, Recorder, SearchResult, run_search
from metronn.search.space import Layers, Space, applied, layer_space, uniform_options
from metronn.search.workers import workers

JOURNAL = "search of widths"
MIDDLE_BITS = 6
"""Width at which is decided whether channels are scaled between layers."""
SAID_EVERY = 25
"""Evaluations between two lines of the log where there is no terminal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannerCost:
    """What the planner's kernels cost on a system, in LUT-equivalents (`metronn.plan.estimate`)."""

    system: System
    options: PlanOptions

    def __call__(self, graph: Graph) -> Cost:
        """Estimate a graph as quantization leaves it."""
        found = estimate(optimize(graph), self.system, self.options)
        return Cost(total=found.lut_equivalents, layers=found.layers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is searched: a network, its events, how it is quantized, and where it is to run.

    `name` is that of the network in messages; `base` the folder of a metric `file.py:function`.
    """

    name: str
    model: RealGraph
    events: Events
    quantize: QuantizeOptions
    base: Path
    system: System
    plan: PlanOptions

    def check(self) -> None:
        """Raise ModelError for a network whose widths are its framework's business."""
        if self.model.quantized:
            raise ModelError(
                f"{self.name}: the network is quantized already: its widths are those it was trained with.\n"
                "  Search the float network it was made from, or train it again with other widths."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRun:
    """How a search works: its journal, and who evaluates (`metronn.search.workers`)."""

    journal: Path
    restart: bool = False
    jobs: int | None = None
    dask: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Searched:
    """The widths found, the network quantized with them, and the same before the search."""

    layers: Layers
    options: QuantizeOptions
    quantized: Quantized
    given: Quantized
    evaluation: Evaluation
    result: SearchResult

    def to_json(self) -> dict[str, Any]:
        """Return what --json and --report say about the search."""
        result = self.result
        return {
            "layers": {name: dict(widths) for name, widths in self.layers.items()},
            "cost_given": result.given.cost,
            "cost_uniform": result.uniform.cost,
            "uniform_bits": result.uniform_bits,
            "cost": self.evaluation.cost,
            "cost_by_layer": dict(self.evaluation.layers),
            "cost_given_by_layer": dict(result.given.layers),
            "held_out_metric": self.evaluation.metric,
            "evaluations": result.evaluations,
            "from_journal": result.known,
            "stopped_early": result.cut,
        }


def search_widths(subject: Subject, options: SearchOptions, run: SearchRun, log: Log) -> Searched:
    """Search, then quantize with the cheapest widths that hold the metric on all events.

    Raises InfeasibleError when none do, ModelError when the request does not fit the network or the journal.
    """
    options.check()
    subject.check()
    model, events, quantize = subject.model, subject.events, subject.quantize
    cost = PlannerCost(system=subject.system, options=subject.plan)
    prepared = prepare(model)
    with log.stage("quantizing as given"):
        given = quantize_model(model, events, quantize, base=subject.base)
        judge = evaluator(prepared, events, quantize, subject.base, cost, options.held_out_events)
    parts = journal_parts(subject, judge)
    if quantize.rescale and not equalisation_helps(judge):
        log("search: channels are not scaled between layers: that leaves more noise in this network")
        quantize = quantize.model_copy(update={"rescale": False})
        judge = replace(judge, options=quantize)
    space = knobs_of(given, options)
    log(
        f"search: {len(space.knobs)} widths of {options.narrowest} to {options.widest} bits; "
        f"{judge.calibration.count:,} events calibrate, {judge.held_out.count:,} others judge; "
        f"metric {judge.float_metric:.6g} float, tolerance {100 * quantize.tolerance:g} %"
    )
    with (
        Journal(run.journal, JOURNAL, parts, restart=run.restart) as journal,
        workers(judge, jobs=run.jobs, dask=run.dask) as some,
        log.counter(SAID_EVERY) as say,
    ):
        if len(journal):
            log(f"journal: {run.journal}: {len(journal)} evaluations are known")
        recorder = Recorder(
            evaluator=judge,
            workers=some,
            journal=journal,
            limit=options.max_evaluations,
            tolerance=quantize.tolerance,
            show=lambda progress: say(progress.evaluations, progress_text(progress)),
        )
        result = run_search(space, recorder, options, log)
    cut = "; stopped there: --max-evaluations" if result.cut else ""
    log(f"search: {result.evaluations} evaluations, {result.known} of them from the journal{cut}")
    for layers, found in result.found:
        quantized = _confirmed(replace(subject, quantize=quantize), layers, found, log)
        if quantized is not None:
            return Searched(
                layers=layers,
                options=applied(quantize, layers),
                quantized=quantized,
                given=given,
                evaluation=found,
                result=result,
            )
    raise InfeasibleError(
        "search: no widths hold the metric on all events, though some do on those held out.\n"
        "  Give more events, wider ones with --widest, or a larger tolerance."
    )


def equalisation_helps(judge: Evaluator) -> bool:
    """Whether scaling channels between layers leaves less noise at the outputs, at `MIDDLE_BITS` everywhere."""
    middle = uniform_options(judge.options, MIDDLE_BITS)
    scaled, plain = (
        replace(judge, options=middle.model_copy(update={"rescale": rescale}))({}) for rescale in (True, False)
    )
    return scaled.noise <= plain.noise


def progress_text(progress: Progress) -> str:
    """Return how far a search is, on one line."""
    best = "none holds the metric yet"
    if progress.best_cost is not None:
        best = f"least cost {progress.best_cost:,.0f} at metric {progress.best_metric:.5g}"
    return f"{progress.evaluations} evaluations, {best}"


def knobs_of(given: Quantized, options: SearchOptions) -> Space:
    """Return the widths to search: of the weights and results of every layer that is not kept.

    Raises ModelError for a pattern that keeps no layer, and when nothing is left to search.
    """
    layers = [layer for layer in given.report.layers if layer.kind != "input"]
    names = [layer.layer for layer in layers]
    weights = [layer.layer for layer in layers if layer.weight_bits is not None]
    for pattern in options.keep:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ModelError(f"--keep {pattern}: no layer has such a name; there are {', '.join(dict.fromkeys(names))}")
    space = layer_space(weights, names, narrowest=options.narrowest, widest=options.widest, kept=options.keep)
    if not space.knobs:
        raise ModelError("search: every layer is kept as it is (--keep); there is nothing to search")
    return space


def journal_parts(subject: Subject, judge: Evaluator) -> dict[str, str]:
    """Return the hashes of everything a judgement depends on; the tolerance is not among them."""
    options = subject.quantize.model_dump(mode="json", exclude={"tolerance", "widths"})
    place, _, _ = subject.quantize.metric.rpartition(":")
    metric = (subject.base / place).read_bytes() if place else b""
    plan = subject.plan.model_dump(mode="json")
    return {
        "network": network_digest(judge.model),
        "events": f"{events_digest(judge.calibration)} {events_digest(judge.held_out)}",
        "options": _digest(json.dumps(options, sort_keys=True)),
        "metric": _digest(metric),
        "system": _digest(f"{subject.system!r} {json.dumps(plan, sort_keys=True)}"),
    }


def _digest(content: str | bytes) -> str:
    return sha256(content.encode() if isinstance(content, str) else content).hexdigest()[:16]


def _confirmed(subject: Subject, layers: Layers, found: Evaluation, log: Log) -> Quantized | None:
    """Quantize as `compile` does; return the result when the metric holds on all events."""
    options = applied(subject.quantize, layers)
    quantized = quantize_model(subject.model, subject.events, options, base=subject.base)
    metric = quantized.report.metric
    if metric is None or not metric.accepted:
        loss = "" if metric is None else f": loss {100 * metric.loss:.3g} %"
        log(f"widths of cost {found.cost:,.0f} do not hold the metric on all events{loss}")
        return None
    return quantized


def widths_text(searched: Searched) -> str:
    """Return the widths as a TOML file: `[quantize.layers]`, and `quantize.rescale` where it is off."""
    metric = searched.quantized.report.metric
    assert metric is not None
    lines = [
        f"# Widths found by metronn {__version__} quantize --search: {metric.name} {metric.fixed_value:.6g},",
        f"# {metric.float_value:.6g} before quantization; about {searched.evaluation.cost:,.0f} LUT-equivalents.",
    ]
    if not searched.options.rescale:
        lines += ["", "[quantize]", "rescale = false"]
    if not searched.layers:
        lines += ["", "[quantize.layers]"]
    for layer, widths in searched.layers.items():
        lines += ["", f"[quantize.layers.{toml_string(glob.escape(layer))}]"]
        lines += [f"{key} = {value}" for key, value in widths.items()]
    return "\n".join(lines) + "\n"
