"""From a graph, a system and options to the problem of placing it, and from that to a timed design."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from metronn.errors import InfeasibleError
from metronn.ir.graph import Graph
from metronn.plan.bounds import least_load
from metronn.plan.candidates.steps import arrival_layouts, steps
from metronn.plan.design import Design, FpgaDesign
from metronn.plan.hardware.resources import RESOURCE_NAMES, Resources
from metronn.plan.hardware.system import System
from metronn.plan.kernels.kernels import Kernels
from metronn.plan.options import Objective, PlanOptions
from metronn.plan.port_words import arrival, check_lanes
from metronn.plan.progress import Progress, silent
from metronn.plan.schedule import Choice, Scheduler
from metronn.plan.solve import Problem, solve

RESERVE_ROUNDS = 4
"""Attempts to find room for delays that did not fit."""


def problem_of(
    graph: Graph, system: System, options: PlanOptions, log: Progress = silent, known: Kernels | None = None
) -> Problem:
    """Return the planning problem of a graph on a system; `known` are kernels of another problem.

    They are gone on with where it has the same graph and timing. Raises ModelError where lanes at the system's edge do
    not carry an event.
    """
    shared = known is not None and known.graph is graph and known.timing == system.timing
    kernels = known if known is not None and shared else Kernels(graph, system.timing)
    inputs = arrival_layouts(graph, system.ii, options.inputs)
    check_lanes(graph, inputs, system.ii, options)
    words = None if options.input_lanes is None else arrival(graph, inputs, system.ii, options.input_lanes)
    found = steps(kernels, system.ii, options, inputs, log)
    return Problem(kernels=kernels, system=system, options=options, steps=found, inputs=inputs, words=words)


def scheduled(problem: Problem, choices: Mapping[str, Choice]) -> Design:
    """Return the design of the choices."""
    options = problem.options
    scheduler = Scheduler(
        problem.kernels,
        problem.system,
        options.outputs,
        problem.inputs,
        problem.reserve,
        problem.regions,
        words=problem.words,
        output_lanes=options.output_lanes,
    )
    return scheduler.run(problem.steps, choices)


def placed(problem: Problem, log: Progress = silent) -> Design | None:
    """Solve and schedule; None when there is no plan.

    Delays are known only once cycles are: where they do not fit, room is kept for them and solved again. So are
    crossings between regions: for least latency, plans with fewer regions are made as well, of kernels that fit these;
    for fewest resources, a plan that crossings make late is solved again with less time. The design may still be later
    than `max_latency_ns` by what the solver does not know of cycles. Raises InfeasibleError when a link or a boundary
    does not carry what crosses it.
    """
    best = _placed(problem, log)
    if best is None or not _crosses(best):
        return best
    if problem.options.objective is Objective.LATENCY:
        return min([best, *_fewer_regions(problem, best, log)], key=lambda design: design.latency_cycles)
    return [best, *_sooner(problem, best, log)][-1]


def _crosses(design: Design) -> bool:
    return any(fpga.crossings for fpga in design.fpgas)


def _fewer_regions(problem: Problem, design: Design, log: Progress) -> Iterator[Design]:
    """Yield the designs with fewer and fewer regions, until there is none or nothing crosses."""
    used = max(signal.region for fpga in design.fpgas for signal in fpga.signals) + 1
    for regions in range(used - 1, 0, -1):
        found = _tried(replace(problem, regions=regions), log)
        if found is None:
            return
        yield found
        if not _crosses(found):
            return


def _sooner(problem: Problem, design: Design, log: Progress) -> Iterator[Design]:
    """Yield designs of ever less time, until one keeps the latency limit or there is none."""
    limit = problem.options.max_latency_ns
    time = limit
    while limit is not None and time is not None and design.latency_ns > limit:
        time -= max(design.latency_ns - limit, design.system.period_ns)
        if time <= 0:
            return
        options = problem.options.model_copy(update={"max_latency_ns": time})
        found = _tried(replace(problem, options=options), log)
        if found is None:
            return
        design = found
        yield design


def _tried(problem: Problem, log: Progress) -> Design | None:
    try:
        return _placed(problem, log)
    except InfeasibleError:
        return None


def _placed(problem: Problem, log: Progress) -> Design | None:
    """Return the design of a problem with its number of regions."""
    if least_load(problem, log) > 1:
        return None
    for _ in range(RESERVE_ROUNDS):
        choices = solve(problem, log)
        if choices is None:
            return None
        log("cycles of every kernel")
        design = scheduled(problem, choices)
        over = [
            _missing(fpga, budget.region_budgets)
            for fpga, budget in zip(design.fpgas, problem.system.fpgas, strict=False)
        ]
        if all(need == Resources() for need in over):
            return design
        kept = list(problem.reserve) or [Resources()] * len(problem.system.fpgas)
        for index, need in enumerate(over):
            kept[index] += need
        problem = replace(problem, reserve=tuple(kept))
    return None


def _missing(fpga: FpgaDesign, budgets: Sequence[Resources]) -> Resources:
    """What is needed beyond the budget, in the region where it is most of each resource."""
    over = [fpga.resources_in(region).without(budget).as_dict() for region, budget in enumerate(budgets)]
    return Resources(**{name: max(one[name] for one in over) for name in RESOURCE_NAMES})  # type: ignore[arg-type]
