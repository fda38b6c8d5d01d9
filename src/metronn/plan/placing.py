"""From a graph, a system and options to the problem of placing it, and from that to a timed design."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from metronn.ir.graph import Graph
from metronn.plan.bounds import least_load
from metronn.plan.candidates.steps import arrival_layouts, steps
from metronn.plan.design import Design
from metronn.plan.hardware.resources import Resources
from metronn.plan.hardware.system import System
from metronn.plan.kernels.kernels import Kernels
from metronn.plan.options import PlanOptions
from metronn.plan.progress import Progress, silent
from metronn.plan.schedule import Choice, Scheduler
from metronn.plan.solve import Problem, solve

RESERVE_ROUNDS = 4
"""Attempts to find room for delays that did not fit."""


def problem_of(
    graph: Graph, system: System, options: PlanOptions, log: Progress = silent, known: Kernels | None = None
) -> Problem:
    """Return the planning problem of a graph on a system; `known` are kernels of another problem.

    They are gone on with where it has the same graph and timing.
    """
    shared = known is not None and known.graph is graph and known.timing == system.timing
    kernels = known if known is not None and shared else Kernels(graph, system.timing)
    inputs = arrival_layouts(graph, system.ii, options.inputs)
    found = steps(kernels, system.ii, options, inputs, log)
    return Problem(kernels=kernels, system=system, options=options, steps=found, inputs=inputs)


def scheduled(problem: Problem, choices: Mapping[str, Choice]) -> Design:
    """Return the design of the choices."""
    options = problem.options
    scheduler = Scheduler(problem.kernels, problem.system, options.outputs, problem.inputs)
    return scheduler.run(problem.steps, choices)


def placed(problem: Problem, log: Progress = silent) -> Design | None:
    """Solve and schedule; None when there is no plan.

    Delays are known only once cycles are: where they do not fit, room is kept for them and solved again. The design
    may be later than `max_latency_ns` by what the solver does not know of cycles. Raises InfeasibleError when a link
    does not carry what crosses it.
    """
    if least_load(problem, log) > 1:
        return None
    for _ in range(RESERVE_ROUNDS):
        choices = solve(problem, log)
        if choices is None:
            return None
        log("cycles of every kernel")
        design = scheduled(problem, choices)
        over = [
            _missing(fpga.resources, budget.budget)
            for fpga, budget in zip(design.fpgas, problem.system.fpgas, strict=False)
        ]
        if all(need == Resources() for need in over):
            return design
        kept = list(problem.reserve) or [Resources()] * len(problem.system.fpgas)
        for index, need in enumerate(over):
            kept[index] += need
        problem = replace(problem, reserve=tuple(kept))
    return None


def _missing(need: Resources, budget: Resources) -> Resources:
    """What is needed beyond the budget."""
    have = budget.as_dict()
    return Resources(**{name: max(0, value - have[name]) for name, value in need.as_dict().items()})  # type: ignore[arg-type]
