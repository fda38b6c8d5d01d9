"""From a graph and a system to a checked design; when there is none, what binds and the smallest change that helps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from metronn.errors import InfeasibleError, ModelError
from metronn.ir.graph import Graph
from metronn.plan.design import Design
from metronn.plan.figures import estimated_figures
from metronn.plan.kernels.spec import FoldInputs, FoldOutputs, Streamed
from metronn.plan.options import Fold, PlanOptions
from metronn.plan.progress import Progress, silent
from metronn.plan.resources import RESOURCE_NAMES, Resources
from metronn.plan.reuse import check_reuse, layers_of
from metronn.plan.schedule import Choice, Scheduler
from metronn.plan.solve import Problem, may_fit, solve
from metronn.plan.steps import input_layouts_of, steps
from metronn.plan.system import System
from metronn.plan.timing import Timing
from metronn.plan.verify import violations

LARGEST_II_FACTOR = 64

RESERVE_ROUNDS = 4
"""Attempts to find room for delays that did not fit."""


def timing_of(system: System) -> Timing:
    """Return the pipelining rules every FPGA of the system can keep: those of its slowest device."""
    rules = [Timing.of(fpga.device.yosys.family, system.period_ps) for fpga in system.fpgas]
    return min(rules, key=lambda rule: rule.levels_per_stage)


def problem_of(graph: Graph, system: System, options: PlanOptions, log: Progress = silent) -> Problem:
    """Return the planning problem of a graph on a system."""
    timing = timing_of(system)
    inputs = input_layouts_of(graph, system.ii, options.inputs)
    found = steps(graph, system.ii, timing, options, inputs, log)
    return Problem(graph=graph, system=system, timing=timing, options=options, steps=found, inputs=inputs)


def scheduled(problem: Problem, choices: Mapping[str, Choice]) -> Design:
    """Return the design of the choices."""
    options = problem.options
    scheduler = Scheduler(problem.graph, problem.system, problem.timing, options.outputs, problem.inputs)
    return scheduler.run(problem.steps, choices)


def _placed(problem: Problem, log: Progress) -> Design | None:
    """Solve and schedule. Delays are known only then: where they do not fit, room is kept for them and solved again."""
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


def plan(graph: Graph, system: System, options: PlanOptions, log: Progress = silent) -> Design:
    """Place and time the graph on the system; `log` is told what is done and what is left, step by step.

    Raises InfeasibleError, saying what binds and what would help, when no design meets all constraints.
    """
    if options.fpgas is not None and options.fpgas > len(system.fpgas):
        raise ModelError(
            f"plan.fpgas is {options.fpgas}, system {system.name} has {len(system.fpgas)} FPGAs.\n"
            "  Ask for fewer FPGAs or name a larger system."
        )
    check_reuse(graph, options)
    problem = problem_of(graph, system, options, log)
    design = _placed(problem, log)
    if design is None:
        log("no plan: looking for what binds and what would help")
        raise InfeasibleError(explain(problem))
    found = violations(design, {layer: n for layer in layers_of(graph) if (n := options.reuse_of(layer)) is not None})
    if found:
        raise AssertionError("the planner made an unsound design:\n  " + "\n  ".join(found))
    limit = options.max_latency_ns
    if limit is not None and design.latency_ns > limit:
        fewer = ", or use fewer FPGAs" if len(design.fpgas) > 1 else ""
        raise InfeasibleError(
            f"latency: {design.latency_cycles} cycles = {design.latency_ns:.1f} ns, plan.max_latency_ns is {limit:g}.\n"
            f"  Raise the limit{_shorter_folds(design, options)}{fewer}."
        )
    return design


def _shorter_folds(design: Design, options: PlanOptions) -> str:
    """Advice on folds, where there are any that could be shorter."""
    specs = [kernel.spec for fpga in design.fpgas for kernel in fpga.kernels]
    folded = any(
        isinstance(spec.inner if isinstance(spec, Streamed) else spec, FoldOutputs | FoldInputs) for spec in specs
    )
    return ", set plan.fold to latency" if folded and options.fold is not Fold.LATENCY else ""


def explain(problem: Problem) -> str:
    """Say which constraint binds and the smallest change that makes the problem feasible."""
    lines = list(dict.fromkeys(_binding(problem)))
    helps = list(dict.fromkeys(_remedies(problem)))
    return "\n".join([f"no plan for system {problem.system.name}: {lines[0]}", *(f"  {x}" for x in lines[1:] + helps)])


def _binding(problem: Problem) -> list[str]:
    system = problem.system
    found: list[str] = []
    for step in problem.steps:
        costs = [estimated_figures(spec, problem.graph, problem.timing).cost.as_dict() for spec in step.candidates]
        for name in RESOURCE_NAMES:
            least = min(cost[name] for cost in costs)
            most = max(fpga.budget.as_dict()[name] for fpga in system.fpgas)
            if least > most:
                found.append(f"{step.source}: needs {least:,} {name} at least, the largest FPGA has {most:,}.")
    for name in RESOURCE_NAMES:
        least = sum(
            min(estimated_figures(spec, problem.graph, problem.timing).cost.as_dict()[name] for spec in step.candidates)
            for step in problem.steps
        )
        have = sum(fpga.budget.as_dict()[name] for fpga in system.fpgas)
        if least > have:
            found.append(f"all layers together need {least:,} {name} at least, the system has {have:,}.")
    if found:
        return found
    if problem.options.max_latency_ns is not None:
        relaxed = _with(problem, max_latency_ns=None)
        choices = solve(relaxed)
        if choices is not None:
            design = scheduled(relaxed, choices)
            return [
                f"the least latency is {design.latency_cycles} cycles = {design.latency_ns:.1f} ns, "
                f"plan.max_latency_ns is {problem.options.max_latency_ns:g}."
            ]
    if problem.options.fpgas is not None and may_fit(_with(problem, fpgas=None)):
        count = problem.options.fpgas
        if count > len(problem.steps):
            return [f"plan.fpgas asks for {count} FPGAs, the network has {len(problem.steps)} layers to share out."]
        return [f"it does not fit exactly {count} FPGAs; another number of FPGAs has a plan."]
    return ["budgets and link bandwidth cannot be met together: no cut leaves every FPGA within its resources."]


def _with(problem: Problem, **changes: object) -> Problem:
    options = problem.options.model_copy(update=changes)
    return problem_of(problem.graph, problem.system, options)


def _faster(problem: Problem, limit_ns: float) -> str:
    """Say what to change for a latency within the limit."""
    came = max(layout.span for layout in problem.inputs.values())
    if came > 1 and (came - 1) * problem.system.period_ns >= limit_ns:
        return (
            f"The inputs alone come over {came} cycles: lower the II (now {problem.system.ii}), set plan.inputs to "
            "parallel, or raise plan.max_latency_ns."
        )
    faster = _with(problem, fold=Fold.LATENCY)
    if problem.options.fold is not Fold.LATENCY and may_fit(faster):
        return 'Set plan.fold to "latency": shorter folds with more multipliers keep the limit.'
    return "Raise plan.max_latency_ns: no other kernels of these layers are faster."


def _remedies(problem: Problem) -> list[str]:
    """Try the changes a user can make, smallest first; report those with which a plan exists."""
    found: list[str] = []
    if problem.options.max_latency_ns is not None and may_fit(_with(problem, max_latency_ns=None)):
        found.append(_faster(problem, problem.options.max_latency_ns))
    if problem.options.fpgas is not None and may_fit(_with(problem, fpgas=None)):
        found.append("Remove plan.fpgas and let the planner take the number that fits.")
    if found:
        return found
    ii = _smallest_ii(problem)
    if ii is not None:
        found.append(f"Raise the II to {ii} or more (now {problem.system.ii}).")
    count = _more_fpgas(problem)
    if count is not None:
        found.append(f"Use {count} FPGAs of the last kind (now {len(problem.system.fpgas)}).")
    found.append("Fewer bits or a pruned network need less of everything.")
    return found


def _smallest_ii(problem: Problem) -> int | None:
    """Return the smallest larger II with a plan, found by doubling and bisection, or None up to 64 times the II."""

    def feasible(ii: int) -> bool:
        return may_fit(problem_of(problem.graph, problem.system.with_overrides(ii=ii), problem.options))

    low, high = problem.system.ii, problem.system.ii
    while True:
        high *= 2
        if high > LARGEST_II_FACTOR * problem.system.ii:
            return None
        if feasible(high):
            break
        low = high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if feasible(middle) else (middle, high)
    return high


def _more_fpgas(problem: Problem) -> int | None:
    """Return how many FPGAs like the last one would do, up to 16, or None when the system has no link to copy."""
    system = problem.system
    if not system.links:
        return None
    for count in range(len(system.fpgas) + 1, 17):
        system = system.extended()
        if may_fit(problem_of(problem.graph, system, problem.options)):
            return count
    return None
