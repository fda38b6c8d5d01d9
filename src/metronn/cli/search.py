"""What `metronn quantize --search` does between reading the events and writing the graph."""

from __future__ import annotations

import glob
import json
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from hashlib import sha256
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress as Bar
from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

from metronn import __version__
from metronn.cli.config import Request
from metronn.cli.console import Log
from metronn.errors import InfeasibleError, ModelError
from metronn.events.data import Events
from metronn.ir.graph import Graph
from metronn.ir.names import toml_string
from metronn.model.graph import RealGraph
from metronn.passes.pipeline import optimize, prepare, quantize_model
from metronn.plan.estimate import estimate
from metronn.plan.hardware.system import System
from metronn.plan.options import PlanOptions
from metronn.quantize.options import QuantizeOptions
from metronn.quantize.quantize import Quantized
from metronn.search.evaluate import Cost, Evaluation, Evaluator, evaluator, events_digest, network_digest
from metronn.search.journal import Journal
from metronn.search.run import Limits, Progress, Recorder, SearchResult, run_search
from metronn.search.space import Layers, Space, applied, layer_space, uniform_options
from metronn.search.workers import workers

JOURNAL = "search of widths"
LEAST_EVALUATIONS = 50
MIDDLE_BITS = 6
"""Width at which is decided whether channels are scaled between layers."""
SAID_EVERY = 25
"""Evaluations between two lines of the log where there is no terminal."""
COLUMNS = ("layer", "weights", "searched", "activations", "searched", "LUT-equivalents", "searched")


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
class SearchSettings:
    """What the command line says about a search."""

    limits: Limits
    held_out_events: int
    kept: tuple[str, ...]
    journal: Path
    restart: bool
    jobs: int | None
    dask: str | None

    def check(self) -> None:
        """Raise ModelError listing every value that is out of bounds."""
        limits = self.limits
        problems = []
        if not 2 <= limits.narrowest <= limits.widest <= 32:
            problems.append(
                f"--narrowest {limits.narrowest}, --widest {limits.widest}: allowed are 2 to 32, the narrowest first"
            )
        if limits.evaluations < LEAST_EVALUATIONS:
            problems.append(
                f"--max-evaluations: found {limits.evaluations}, a search needs {LEAST_EVALUATIONS} at least"
            )
        if self.held_out_events < 1:
            problems.append(f"--held-out-events: found {self.held_out_events}, at least 1 is needed")
        if problems:
            raise ModelError("\n".join(problems))


@dataclass(frozen=True, slots=True, kw_only=True)
class Searched:
    """The widths found, the network quantized with them, and the same before the search."""

    layers: Layers
    options: QuantizeOptions
    quantized: Quantized
    given: Quantized
    evaluation: Evaluation
    result: SearchResult


def check_searchable(model: RealGraph, path: Path) -> None:
    """Raise ModelError for a network whose widths are its framework's business."""
    if model.quantized:
        raise ModelError(
            f"{path.name}: the network is quantized already: its widths are those it was trained with.\n"
            "  Search the float network it was made from, or train it again with other widths."
        )


def search_widths(
    request: Request, system: System, model: RealGraph, events: Events, settings: SearchSettings, log: Log
) -> Searched:
    """Search, then quantize with the cheapest widths that hold the metric on all events.

    Raises InfeasibleError when none do, ModelError when the request does not fit the network or the journal.
    """
    settings.check()
    check_searchable(model, request.model)
    cost = PlannerCost(system=system, options=request.plan)
    prepared = prepare(model)
    with log.stage("quantizing as given"):
        given = quantize_model(model, events, request.quantize, base=request.base)
        judge = evaluator(prepared, events, request.quantize, request.base, cost, settings.held_out_events)
    parts = journal_parts(request, judge, system)
    if request.quantize.rescale and not equalisation_helps(judge):
        log("search: channels are not scaled between layers: that leaves more noise in this network")
        request = replace(request, quantize=request.quantize.model_copy(update={"rescale": False}))
        judge = replace(judge, options=request.quantize)
    space = knobs_of(given, settings)
    log(
        f"search: {len(space.knobs)} widths of {settings.limits.narrowest} to {settings.limits.widest} bits; "
        f"{judge.calibration.count:,} events calibrate, {judge.held_out.count:,} others judge; "
        f"metric {judge.float_metric:.6g} float, tolerance {100 * request.quantize.tolerance:g} %"
    )
    with (
        Journal(settings.journal, JOURNAL, parts, restart=settings.restart) as journal,
        workers(judge, jobs=settings.jobs, dask=settings.dask) as some,
        progress_line(log) as show,
    ):
        if len(journal):
            log(f"journal: {settings.journal}: {len(journal)} evaluations are known")
        recorder = Recorder(
            evaluator=judge,
            workers=some,
            journal=journal,
            limit=settings.limits.evaluations,
            tolerance=request.quantize.tolerance,
            show=show,
        )
        result = run_search(space, recorder, settings.limits, log)
    cut = "; stopped there: --max-evaluations" if result.cut else ""
    log(f"search: {result.evaluations} evaluations, {result.known} of them from the journal{cut}")
    for layers, found in result.found:
        quantized = _confirmed(request, model, events, layers, found, log)
        if quantized is not None:
            return Searched(
                layers=layers,
                options=applied(request.quantize, layers),
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


def knobs_of(given: Quantized, settings: SearchSettings) -> Space:
    """Return the widths to search: of the weights and results of every layer that is not kept.

    Raises ModelError for a pattern that keeps no layer, and when nothing is left to search.
    """
    layers = [layer for layer in given.report.layers if layer.kind != "input"]
    names = [layer.layer for layer in layers]
    weights = [layer.layer for layer in layers if layer.weight_bits is not None]
    limits = settings.limits
    for pattern in settings.kept:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ModelError(f"--keep {pattern}: no layer has such a name; there are {', '.join(dict.fromkeys(names))}")
    space = layer_space(weights, names, narrowest=limits.narrowest, widest=limits.widest, kept=settings.kept)
    if not space.knobs:
        raise ModelError("search: every layer is kept as it is (--keep); there is nothing to search")
    return space


def journal_parts(request: Request, judge: Evaluator, system: System) -> dict[str, str]:
    """Return the hashes of everything a judgement depends on; the tolerance is not among them."""
    options = request.quantize.model_dump(mode="json", exclude={"tolerance", "widths"})
    place, _, _ = request.quantize.metric.rpartition(":")
    metric = (request.base / place).read_bytes() if place else b""
    plan = request.plan.model_dump(mode="json")
    return {
        "network": network_digest(judge.model),
        "events": f"{events_digest(judge.calibration)} {events_digest(judge.held_out)}",
        "options": _digest(json.dumps(options, sort_keys=True)),
        "metric": _digest(metric),
        "system": _digest(f"{system!r} {json.dumps(plan, sort_keys=True)}"),
    }


def _digest(content: str | bytes) -> str:
    return sha256(content.encode() if isinstance(content, str) else content).hexdigest()[:16]


class _Show:
    """Shows progress: a moving line on terminals, else a line of the log now and then."""

    def __init__(self, log: Log, bar: Bar | None) -> None:
        self._log, self._bar = log, bar
        self._task = None if bar is None else bar.add_task("searching", total=None)

    def __call__(self, progress: Progress) -> None:
        best = "none holds the metric yet"
        if progress.best_cost is not None:
            best = f"least cost {progress.best_cost:,.0f} at metric {progress.best_metric:.5g}"
        text = f"{progress.evaluations} evaluations, {best}"
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=text)
        elif progress.evaluations % SAID_EVERY == 0:
            self._log(text)


@contextmanager
def progress_line(log: Log) -> Iterator[_Show]:
    """Give what shows the progress of a search on stderr."""
    console = Console(stderr=True, highlight=False, markup=False)
    if not console.is_terminal:
        yield _Show(log, None)
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Bar(*columns, console=console, transient=True) as bar:
        yield _Show(log, bar)


def _confirmed(
    request: Request, model: RealGraph, events: Events, layers: Layers, found: Evaluation, log: Log
) -> Quantized | None:
    """Quantize as `compile` does; return the result when the metric holds on all events."""
    quantized = quantize_model(model, events, applied(request.quantize, layers), base=request.base)
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


def rows(searched: Searched) -> list[tuple[str, ...]]:
    """Return the rows of the table of layers, in the order of COLUMNS; the last one is the sum."""
    before = {layer.layer: layer for layer in searched.given.report.layers}
    given, found = searched.result.given, searched.evaluation
    shown: list[tuple[str, ...]] = []
    listed: set[str] = set()
    for layer in searched.quantized.report.layers:
        if layer.kind == "input" or layer.layer in listed:
            continue
        listed.add(layer.layer)
        old = before.get(layer.layer, layer)
        shown.append(
            (
                layer.layer,
                "" if old.weight_bits is None else str(old.weight_bits),
                _weights(searched.layers.get(layer.layer, {}), layer.weight_bits),
                str(old.bits),
                str(layer.bits),
                f"{given.layers.get(layer.layer, 0):,.0f}",
                f"{found.layers.get(layer.layer, 0):,.0f}",
            )
        )
    rest = [sum(v for name, v in e.layers.items() if name not in listed) for e in (given, found)]
    if any(rest):
        shown.append(("between layers", "", "", "", "", f"{rest[0]:,.0f}", f"{rest[1]:,.0f}"))
    return [*shown, ("all", "", "", "", "", f"{given.cost:,.0f}", f"{found.cost:,.0f}")]


def _weights(widths: Mapping[str, Any], bits: int | None) -> str:
    channels = widths.get("channel_bits")
    if channels:
        return f"{min(channels)}..{max(channels)}" if min(channels) < max(channels) else str(channels[0])
    return "" if bits is None else str(bits)


def summary(searched: Searched) -> str:
    """Return what a terminal shows below the table."""
    result, found = searched.result, searched.evaluation
    lines = [
        f"searched: {_share(result.given.cost, found.cost)} of the widths given, "
        f"{_share(result.uniform.cost, found.cost)} of {result.uniform_bits} bits everywhere"
    ]
    if not searched.layers:
        lines.append("the widths given are the cheapest found: nothing is changed")
    return "\n".join([*lines, searched.quantized.report.summary()])


def _share(before: float, after: float) -> str:
    return f"{100 * after / before:.1f} %" if before else "the cost"


def record(searched: Searched) -> dict[str, Any]:
    """Return what --json and --report say about the search."""
    result = searched.result
    return {
        "layers": {name: dict(widths) for name, widths in searched.layers.items()},
        "cost_given": result.given.cost,
        "cost_uniform": result.uniform.cost,
        "uniform_bits": result.uniform_bits,
        "cost": searched.evaluation.cost,
        "cost_by_layer": dict(searched.evaluation.layers),
        "cost_given_by_layer": dict(result.given.layers),
        "held_out_metric": searched.evaluation.metric,
        "evaluations": result.evaluations,
        "from_journal": result.known,
        "stopped_early": result.cut,
    }


def updated_configuration(path: Path, widths: str) -> str:
    """Return the text of a metronn.toml with `widths` in its [quantize] table, all else as it was.

    Raises ModelError when the line cannot be put there without touching more.
    """
    text = path.read_text(encoding="utf-8")
    line = f"widths = {toml_string(widths)}"
    lines = text.splitlines()
    headers = [number for number, content in enumerate(lines) if content.split("#")[0].strip() == "[quantize]"]
    if headers:
        start = headers[0] + 1
        end = next((n for n in range(start, len(lines)) if lines[n].lstrip().startswith("[")), len(lines))
        body = [content for content in lines[start:end] if content.split("=")[0].strip() != "widths"]
        made = "\n".join([*lines[:start], line, *body, *lines[end:]]) + "\n"
    else:
        made = "\n".join([*lines, "", "[quantize]", line]) + "\n"
    wanted = tomllib.loads(text)
    wanted.setdefault("quantize", {})["widths"] = widths
    try:
        found = tomllib.loads(made)
    except tomllib.TOMLDecodeError:
        found = {}
    if found != wanted:
        raise ModelError(f"{path}: cannot be updated; write this line into its [quantize] table: {line}")
    return made
