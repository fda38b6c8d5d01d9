"""From a graph and a system to a checked design; when there is none, what binds and what would help."""

from __future__ import annotations

from metronn.errors import InfeasibleError, MetronnError, ModelError
from metronn.ir.graph import Graph
from metronn.plan.candidates.reuse import check_reuse, layers_of
from metronn.plan.design import Design
from metronn.plan.explain.clock import too_slow
from metronn.plan.explain.remedies import binding, late, refusal
from metronn.plan.hardware.system import System
from metronn.plan.options import PlanOptions
from metronn.plan.placing import problem_of
from metronn.plan.progress import Progress, silent
from metronn.plan.solve import Problem
from metronn.plan.splitting import asked_parts, design_of
from metronn.plan.verify import violations


def plan(graph: Graph, system: System, options: PlanOptions, log: Progress = silent, *, advise: bool = True) -> Design:
    """Place and time the graph on the system; `log` is told what is done and what is left, step by step.

    Raises InfeasibleError when no design meets all constraints, saying what binds and, with `advise`, which changes
    were tried and give a plan.
    """
    there = len(system.fpgas)
    if options.fpgas is not None and options.fpgas > there:
        raise ModelError(
            f"plan.fpgas is {options.fpgas}, system {system.name} has {there} FPGA{'s' if there > 1 else ''}.\n"
            "  Ask for fewer FPGAs or name a larger system."
        )
    check_reuse(graph, options)
    problem = problem_of(asked_parts(graph, options), system, options, log)
    try:
        design = design_of(problem, log)
    except InfeasibleError as error:
        raise _refused(problem, (error.message,), advise, log) from None
    if design is None:
        raise _refused(problem, (), advise, log)
    slow = too_slow(design)
    if slow is not None:
        raise InfeasibleError(slow)
    reuse = {layer: n for layer in layers_of(graph) if (n := options.reuse_of(layer)) is not None}
    found = violations(design, reuse, (options.input_lanes, options.output_lanes))
    if found:
        raise AssertionError("the planner made an unsound design:\n  " + "\n  ".join(found))
    if late(design, options):
        raise _refused(
            problem,
            (
                f"latency: {design.latency_cycles} cycles = {design.latency_ns:.1f} ns, plan.max_latency_ns is "
                f"{options.max_latency_ns:g}.",
            ),
            advise,
            log,
        )
    return design


def first_reason(error: MetronnError, system: System) -> str:
    """Return in one line why there is no plan on a system, of what `plan` raised: what binds first."""
    first, *more = error.message.splitlines()
    whole = f"{first} {more[0].strip()}" if first.endswith(":") and more else first
    return whole.removeprefix(f"no plan for system {system.name}").lstrip(": ")


def _refused(problem: Problem, known: tuple[str, ...], advise: bool, log: Progress) -> InfeasibleError:
    """Return the error; `known` is what binds, where that is known already."""
    log("no plan: looking for what binds" + (" and what would help" if advise else ""))
    if advise:
        return InfeasibleError(refusal(problem, known, log).text)
    lines = known or binding(problem)
    return InfeasibleError(f"no plan for system {problem.system.name}: {lines[0]}")
