"""`metronn pareto`: metric against LUT-equivalents against latency, over widths, IIs, folds and networks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

import typer

from metronn.cli import options
from metronn.cli.config import Overrides, Request, find_request, with_widths
from metronn.cli.console import Log, handled, plain_json, say, say_json
from metronn.cli.folders import write_file
from metronn.cli.planning import chosen_system
from metronn.cli.search import SearchSettings, search_widths
from metronn.cli.stages import calibration_events, import_model
from metronn.errors import InfeasibleError, ModelError
from metronn.events.data import Events
from metronn.ir.text import graph_hash
from metronn.model.graph import RealGraph
from metronn.passes.pipeline import quantize_model
from metronn.plan.hardware.resources import Resources, lut_equivalents
from metronn.plan.hardware.system import System
from metronn.plan.options import Fold, PlanOptions
from metronn.plan.planner import plan
from metronn.quantize.options import QuantizeOptions
from metronn.report.pareto import COLUMNS, RIGHT, ParetoPoint, csv_text, records, rows, with_front
from metronn.report.pareto_plot import pareto_png
from metronn.report.tables import table_text
from metronn.search.evaluate import events_digest, network_digest
from metronn.search.journal import Journal
from metronn.search.run import Limits
from metronn.search.space import uniform_options
from metronn.search.workers import workers

JOURNAL = "Pareto front"
UNIFORM = "4,5,6,8,10"
HELD_OUT = 4096


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
class _Sweep:
    """What is swept for every network."""

    uniform: tuple[int, ...]
    tolerances: tuple[float, ...]
    files: tuple[Path, ...]
    iis: tuple[int, ...]
    folds: tuple[Fold, ...]


@handled
def pareto_front(
    targets: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[MODEL | metronn.toml | FOLDER]...", help="Networks to compare.", show_default=False),
    ] = None,
    calibrate: options.Calibrate = None,
    label: options.Label = None,
    system: options.SystemName = None,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for points, picture and journals.")
    ] = Path("pareto"),
    bits: Annotated[str, typer.Option("--bits", metavar="N,N", help="Uniform widths; none: an empty list.")] = UNIFORM,
    search: Annotated[
        str, typer.Option("--search", metavar="F,F", help="Also search widths with each of these tolerances.")
    ] = "",
    widths: Annotated[
        list[Path] | None, typer.Option("--widths", metavar="FILE", help="Also these widths; repeatable.")
    ] = None,
    ii: Annotated[str, typer.Option("--ii", metavar="N,N", help="IIs to plan at; by default the system's.")] = "",
    fold: Annotated[str, typer.Option("--fold", metavar="full,latency", help="Folds to plan with.")] = "",
    clock_mhz: options.ClockMhz = None,
    fpgas: options.Fpgas = None,
    inputs: options.Inputs = None,
    outputs: options.Outputs = None,
    metric: options.MetricName = None,
    plot: Annotated[bool, typer.Option("--plot/--no-plot", help="Draw the picture.")] = True,
    jobs: options.Jobs = None,
    dask: options.Dask = None,
    restart: options.Restart = False,
    json: options.Json = False,
) -> None:
    """Compare networks, widths, IIs and folds: metric against LUT-equivalents against latency, each point planned.

    Writes points.csv, points.json and pareto.png; the terminal shows the front. What was stopped goes on where it was.
    """
    log = Log()
    overrides = Overrides(
        calibrate=calibrate,
        label=label,
        system=system,
        clock_mhz=clock_mhz,
        fpgas=fpgas,
        inputs=inputs,
        outputs=outputs,
        metric=metric,
    )
    requests = _requests(targets, overrides)
    sweep = _Sweep(
        uniform=_numbers("--bits", bits, 2, 32),
        tolerances=_tolerances(search),
        files=tuple(widths or ()),
        iis=_numbers("--ii", ii, 1, 65_536),
        folds=_folds(fold),
    )
    if plot:
        pareto_png((), "")  # without matplotlib, say so before the work
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(f"{output}: the folder cannot be made: {error.strerror}") from None
    candidates: list[Candidate] = []
    for name, request in requests.items():
        settings = SearchSettings(
            limits=Limits(), held_out_events=HELD_OUT, kept=(), journal=output, restart=restart, jobs=jobs, dask=dask
        )
        candidates += _candidates(name, request, sweep, settings, log)
    points = with_front(_points(candidates, output / "points.journal", jobs, dask, log, restart=restart))
    if not any(point.planned for point in points):
        raise InfeasibleError("no point has a plan:\n" + "\n".join(f"  {_place(p)}: {p.problem}" for p in points))
    write_file(output / "points.csv", csv_text(points).encode())
    write_file(output / "points.json", plain_json({"points": records(points)}).encode())
    if plot:
        names = dict.fromkeys(
            "accuracy" if r.quantize.metric == "auto" else r.quantize.metric for r in requests.values()
        )
        write_file(output / "pareto.png", pareto_png(points, ", ".join(names)))
    log(f"written: {output}: points.csv, points.json{', pareto.png' if plot else ''}")
    for point in points:
        if not point.planned:
            log(f"no plan: {_place(point)}: {point.problem}")
    if json:
        say_json({"points": records(points)})
        return
    say(table_text(COLUMNS, rows(points), right=RIGHT))
    say(f"{sum(p.front for p in points)} of {len(points)} points are on the front")


def _place(point: ParetoPoint) -> str:
    return f"{point.network}, {point.widths}, II {point.ii_cycles}, fold {point.fold}"


def _requests(targets: Sequence[Path] | None, overrides: Overrides) -> dict[str, Request]:
    """Read every request; by name, the path where names are the same."""
    found: dict[str, Request] = {}
    problems: list[str] = []
    named: list[Path | None] = [*targets] if targets else [None]
    for target in named:
        try:
            request = find_request(target, overrides)
            name = request.name if request.name not in found else str(request.model)
            if name in found:
                problems.append(f"{target}: is named twice")
            found[name] = request
        except ModelError as error:
            problems.extend(error.message.splitlines())
    if problems:
        raise ModelError("\n".join(problems))
    return found


def _candidates(name: str, request: Request, sweep: _Sweep, settings: SearchSettings, log: Log) -> list[Candidate]:
    """Return the candidates of one network; widths to search are searched here."""
    system = chosen_system(request)
    model = import_model(request.model, log)
    events = calibration_events(request, model, log)
    folds = sweep.folds or (request.plan.fold,)
    iis = sweep.iis or (system.ii,)
    places = tuple((ii, fold) for ii in iis for fold in folds)

    def candidate(widths: str, quantize: QuantizeOptions, at: tuple[tuple[int, Fold], ...] = places) -> Candidate:
        return Candidate(
            network=name,
            widths=widths,
            model=model,
            events=events,
            options=quantize,
            base=request.base.absolute(),
            system=system,
            plan=request.plan,
            places=at,
        )

    if model.quantized:
        return [candidate("as trained", request.quantize)]
    found = [candidate("as given", request.quantize)]
    found += [candidate(f"{bits} bits", uniform_options(request.quantize, bits)) for bits in sweep.uniform]
    found += [candidate(path.stem, with_widths(request.quantize, path)) for path in sweep.files]
    for ii in iis:
        for tolerance in sweep.tolerances:
            wanted = replace(request, quantize=request.quantize.model_copy(update={"tolerance": tolerance}))
            first = tolerance == sweep.tolerances[0]
            journal = settings.journal / f"{request.model.stem}.ii{ii}.journal"
            own = replace(settings, journal=journal, restart=settings.restart and first)
            log(f"{name}: searching widths at II {ii}, tolerance {100 * tolerance:g} %")
            searched = search_widths(wanted, system.with_overrides(ii=ii, clock_mhz=None), model, events, own, log)
            at = tuple((ii, fold) for fold in folds)
            found.append(candidate(f"searched {100 * tolerance:g} %", searched.options, at))
    return found


def _points(
    candidates: Sequence[Candidate], path: Path, jobs: int | None, dask: str | None, log: Log, *, restart: bool
) -> list[ParetoPoint]:
    """Judge every candidate, those known from the journal apart."""
    with Journal(path, JOURNAL, {}, restart=restart) as journal:
        keys = [candidate.key for candidate in candidates]
        results = {key: known["points"] for key in keys if (known := journal.get(key)) is not None}
        missing = [(key, candidate) for key, candidate in zip(keys, candidates, strict=True) if key not in results]
        if results:
            log(f"journal: {path}: {len(results)} of {len(candidates)} choices of widths are known")
        if missing:
            with workers(judged, jobs=jobs, dask=dask) as some:
                for index, points in some.run([candidate for _, candidate in missing]):
                    key, candidate = missing[index]
                    journal.put(key, {"points": points})
                    results[key] = points
                    log(f"planned: {candidate.network}, {candidate.widths} ({len(results)} of {len(candidates)})")
    return [ParetoPoint(**point) for key in keys for point in results[key]]


def _numbers(option: str, text: str, low: int, high: int) -> tuple[int, ...]:
    """Read whole numbers with commas between them."""
    found = []
    for part in filter(None, (item.strip() for item in text.split(","))):
        if not re.fullmatch("[0-9]{1,9}", part) or not low <= int(part) <= high:
            raise ModelError(f"{option}: found {part!r}, allowed are whole numbers from {low} to {high}, with commas")
        found.append(int(part))
    return tuple(dict.fromkeys(found))


def _tolerances(text: str) -> tuple[float, ...]:
    found = []
    for part in filter(None, (item.strip() for item in text.split(","))):
        try:
            value = float(part)
        except ValueError:
            value = -1.0
        if not 0 <= value < 1:
            raise ModelError(f"--search: found {part!r}, allowed are tolerances from 0 to 1, with commas")
        found.append(value)
    return tuple(dict.fromkeys(found))


def _folds(text: str) -> tuple[Fold, ...]:
    allowed = [fold.value for fold in Fold]
    parts = [part for part in (item.strip() for item in text.split(",")) if part]
    for part in parts:
        if part not in allowed:
            raise ModelError(f"--fold: found {part!r}, allowed are {', '.join(allowed)}, with commas")
    return tuple(dict.fromkeys(Fold(part) for part in parts))
