"""One network planned on several systems, with several numbers of FPGAs and at several IIs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from metronn.errors import InfeasibleError, MetronnError, ModelError
from metronn.flow.options import Given
from metronn.flow.planning import read_graph, system_at
from metronn.flow.request import FILE_NAME, Request, find_request, read_request
from metronn.flow.stages import calibration_events, import_network, quantized_graph
from metronn.frontends.load import READERS
from metronn.ir.graph import Graph
from metronn.ir.text import graph_hash
from metronn.log import Log
from metronn.plan.hardware.system import System, list_systems
from metronn.plan.options import PlanOptions
from metronn.plan.planner import first_reason, plan
from metronn.report.comparison import ComparedPlan, Comparison


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """What plans are made for: every system with every number of FPGAs at every II.

    What is empty is as the request has it: its system; as many FPGAs as it asks for, or as the planner chooses; its II,
    or that of each system.
    """

    systems: tuple[str | Path, ...] = ()
    fpgas: tuple[int, ...] = ()
    iis: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What one plan is made for: a system, by the name it was asked for, at an II; so many FPGAs of it, or any."""

    name: str
    system: System
    fpgas: int | None


def is_network(target: Path) -> bool:
    """Tell whether a path is that of a network, a metronn.toml or a folder with one, and not of an integer graph."""
    return target.is_dir() or target.suffix == ".toml" or target.suffix.lower() in READERS


def request_to_compare(target: Path, given: Given) -> Request:
    """Read the options: those of the metronn.toml of a network, or beside a graph, with what was given besides."""
    if is_network(target):
        return find_request(target, given)
    beside = target.parent / FILE_NAME
    return read_request(beside if beside.is_file() else None, given, model=target)


def graph_to_compare(target: Path, request: Request, log: Log) -> Graph:
    """Read the graph to plan; a network is quantized as a compilation does."""
    return quantized_network(request, log) if is_network(target) else read_graph(target)


def quantized_network(request: Request, log: Log) -> Graph:
    """Return the integer graph of a request's network."""
    network = import_network(request.model, log, request.hls4ml_config)
    return quantized_graph(request, network, calibration_events(request, network.model, log), log).graph


def places_of(request: Request, sweep: Sweep) -> tuple[Place, ...]:
    """Return what plans are made for, in the order of systems, IIs, FPGAs.

    Raises ModelError listing every system that cannot be read, or has not the II or the clock that was asked for.
    """
    wanted = request.options.plan
    names = sweep.systems or (() if request.system is None else (request.system,))
    if not names:
        raise ModelError(
            f"no systems: which ones are to be compared?\n  Give --systems NAME,NAME or plan.system in {FILE_NAME}; "
            f"known systems: {', '.join(list_systems())}."
        )
    found: list[Place] = []
    problems: list[str] = []
    for name, ii in product(dict.fromkeys(names), sweep.iis or (wanted.ii,)):
        try:
            system = system_at(name, ii=ii, clock_mhz=wanted.clock_mhz)
        except ModelError as error:
            problems.append(error.message)
            continue
        found += [Place(name=str(name), system=system, fpgas=fpgas) for fpgas in sweep.fpgas or (wanted.fpgas,)]
    if problems:
        raise ModelError("\n".join(dict.fromkeys(problems)))
    return tuple(found)


def compared(request: Request, graph: Graph, places: Sequence[Place], log: Log) -> Comparison:
    """Plan a graph at every place.

    Where one has no plan the comparison says what binds. Where none has, raises InfeasibleError that says why for each,
    ModelError where all of them are bad requests.
    """
    plans: list[ComparedPlan] = []
    refused: list[MetronnError] = []
    for place in places:
        found, error = _planned(graph, place, request.plan.model_copy(update={"fpgas": place.fpgas}), log)
        plans.append(found)
        refused += [error] if error is not None else []
        log(f"{found.asked}: {found.words}")
    if len(refused) == len(plans):
        kind = InfeasibleError if any(isinstance(error, InfeasibleError) for error in refused) else ModelError
        raise kind("no plan for any of these:\n" + "\n".join(f"  {found.asked}: {found.problem}" for found in plans))
    return Comparison(name=request.name, graph_hash=graph_hash(graph), plans=tuple(plans))


def _planned(graph: Graph, place: Place, options: PlanOptions, log: Log) -> tuple[ComparedPlan, MetronnError | None]:
    """Plan at one place; also return the error where there is no plan."""
    name, system = place.name, place.system
    design, refused, start = None, None, time.monotonic()
    try:
        with log.stage(f"planning on {name}"):
            design = plan(graph, system, options, log.progress(f"planning on {name}"), advise=False)
    except (InfeasibleError, ModelError) as error:
        refused = error
    found = ComparedPlan(
        system=name,
        system_name=system.name,
        fpgas_asked=options.fpgas,
        ii_cycles=system.ii,
        clock_mhz=system.clock_mhz,
        planning_s=time.monotonic() - start,
        design=design,
        problem="" if refused is None else first_reason(refused, system),
    )
    return found, refused
