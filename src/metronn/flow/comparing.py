"""One network planned on several systems, with several numbers of FPGAs and at several IIs."""

from __future__ import annotations

import time
from collections.abc import Iterator
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


def is_network(target: Path) -> bool:
    """Tell whether a path is that of a network, a metronn.toml or a folder with one, and not of an integer graph."""
    return target.is_dir() or target.suffix == ".toml" or target.suffix.lower() in READERS


def graph_to_compare(target: Path, given: Given, log: Log) -> tuple[Request, Graph]:
    """Read the graph to plan, and the options: those of the metronn.toml beside it with what was given besides.

    A network, a metronn.toml or a folder with one is quantized as a compilation does; any other file is a graph.txt.
    """
    if is_network(target):
        request = find_request(target, given)
        return request, quantized_network(request, log)
    beside = target.parent / FILE_NAME
    request = read_request(beside if beside.is_file() else None, given, model=target)
    return request, read_graph(target)


def quantized_network(request: Request, log: Log) -> Graph:
    """Return the integer graph of a request's network."""
    network = import_network(request.model, log, request.hls4ml_config)
    return quantized_graph(request, network, calibration_events(request, network.model, log), log).graph


def compared(request: Request, graph: Graph, sweep: Sweep, log: Log) -> Comparison:
    """Plan a graph for every system, number of FPGAs and II.

    Where a pair has no plan the comparison says what binds. Raises ModelError listing every system that cannot be read;
    where no pair has a plan InfeasibleError that says why for each, ModelError where all of them are bad requests.
    """
    places = list(_places(request, sweep))
    plans: list[ComparedPlan] = []
    refused: list[MetronnError] = []
    for name, system, fpgas in places:
        options = request.plan.model_copy(update={"fpgas": fpgas})
        found, error = _planned(graph, name, system, options, log)
        plans.append(found)
        refused += [error] if error is not None else []
        log(f"{found.asked}: {found.words}")
    if len(refused) == len(plans):
        kind = InfeasibleError if any(isinstance(error, InfeasibleError) for error in refused) else ModelError
        raise kind("no plan for any of these:\n" + "\n".join(f"  {found.asked}: {found.problem}" for found in plans))
    return Comparison(name=request.name, graph_hash=graph_hash(graph), plans=tuple(plans))


def _places(request: Request, sweep: Sweep) -> Iterator[tuple[str, System, int | None]]:
    """Yield what is asked for: the name of a system, the system at an II, and a number of FPGAs."""
    wanted = request.options.plan
    names = sweep.systems or (() if request.system is None else (request.system,))
    if not names:
        raise ModelError(
            f"no systems: which ones are to be compared?\n  Give --systems NAME,NAME or plan.system in {FILE_NAME}; "
            f"known systems: {', '.join(list_systems())}."
        )
    found: list[tuple[str, list[System]]] = []
    problems: list[str] = []
    for name in dict.fromkeys(names):
        systems = []
        for ii in sweep.iis or (wanted.ii,):
            try:
                systems.append(system_at(name, ii=ii, clock_mhz=wanted.clock_mhz))
            except ModelError as error:
                problems.append(error.message)
        found.append((str(name), systems))
    if problems:
        raise ModelError("\n".join(dict.fromkeys(problems)))
    for name, systems in found:
        for system, fpgas in product(systems, sweep.fpgas or (wanted.fpgas,)):
            yield name, system, fpgas


def _planned(
    graph: Graph, name: str, system: System, options: PlanOptions, log: Log
) -> tuple[ComparedPlan, MetronnError | None]:
    """Plan one pair; also return the error where there is no plan."""
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
