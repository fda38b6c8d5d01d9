"""Layers in parts, before kernels and FPGAs are chosen: those asked for, and those that no region of an FPGA holds.

Parts are ops of the graph like any other (`passes.integer.split_linear`): kernels, links, emission and verification
know nothing of them. They keep the name of the layer that they are of.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from metronn.errors import ModelError
from metronn.ir.graph import Graph
from metronn.ir.ops import Linear
from metronn.passes.integer.split_linear import split_inputs, split_rows
from metronn.plan.bounds import least_load, least_loads, least_total
from metronn.plan.candidates.steps import Step
from metronn.plan.design import Design
from metronn.plan.kernels.spec import covered_nodes
from metronn.plan.options import PlanOptions
from metronn.plan.placing import placed, problem_of
from metronn.plan.progress import Progress, silent
from metronn.plan.solve import Problem

FILLS = (1.0, 0.5, 0.25)
"""What of the largest region a part of a layer may take that no region of an FPGA holds.

Coarse parts come first: they are fewer and share more. Finer ones fill FPGAs together where those have no plan.
"""

ROUNDS = 4
"""Times a part is split again that turns out larger than its share."""


def asked_parts(graph: Graph, options: PlanOptions) -> Graph:
    """Return the graph with the layers split that the options name. Raises ModelError that lists what cannot be."""
    problems = []
    for node in graph.nodes:
        parts = options.parts_of(node.source)
        if not isinstance(node.op, Linear) or parts is None or parts == 1:
            continue
        outputs = node.op.weight.shape[1]
        if parts > outputs:
            problems.append(
                f'plan.layers."{node.source}".parts is {parts}, the layer has {outputs} outputs; allowed are 1 to '
                f"{outputs}"
            )
        else:
            graph = split_rows(graph, node.name, parts)
    if problems:
        raise ModelError("\n".join(dict.fromkeys(problems)))
    return graph


def design_of(problem: Problem, log: Progress = silent, fills: Sequence[float] = FILLS) -> Design | None:
    """Solve and schedule, with layers in parts where no region holds them as they are; None when there is no plan.

    Raises InfeasibleError when a link does not carry what crosses it.
    """
    designs = (placed(found, log) for found in in_parts(problem, log, fills))
    return next((design for design in designs if design is not None), None)


def in_parts(problem: Problem, log: Progress = silent, fills: Sequence[float] = FILLS) -> Iterator[Problem]:
    """Give the problem as it is where regions hold each layer, else with layers in parts, fewest first."""
    if max(least_loads(problem, log), default=0) <= 1:
        yield problem
        return
    if least_total(problem, log) > 1:
        return
    tried: list[Graph] = []
    for fill in fills:
        found = _split(problem, fill, log)
        if found is not None and found.graph not in tried and least_load(found, log) <= 1:
            tried.append(found.graph)
            yield found


def _split(problem: Problem, fill: float, log: Progress) -> Problem | None:
    """Split what no region holds into parts of about that share of the largest one; None where that is not possible."""
    for _ in range(ROUNDS):
        loads = zip(problem.steps, least_loads(problem, log), strict=True)
        large = [(step, load) for step, load in loads if load > 1]
        if not large:
            return problem
        graph: Graph | None = problem.graph
        for step, load in large:
            if graph is None or load == math.inf or problem.options.parts_of(step.source) is not None:
                return None
            graph = _smaller(graph, step, math.ceil(load / fill))
        if graph is None:
            return None
        log(f"no region of an FPGA holds {large[0][0].source} as it is: trying it in parts")
        problem = problem_of(graph, problem.system, problem.options, log)
    return None


def _smaller(graph: Graph, step: Step, parts: int) -> Graph | None:
    """Return the graph with the matrix of a step in parts, None where it has none or too few weights."""
    for name in covered_nodes(step.candidates[0]):
        op = graph.by_name[name].op
        if isinstance(op, Linear):
            inputs, outputs = op.weight.shape
            if parts <= outputs:
                return split_rows(graph, name, parts)
            shares = -(-parts // outputs)
            return split_inputs(graph, name, shares) if 1 < shares <= inputs else None
    return None


def split_layers(before: Graph, after: Graph) -> dict[str, int]:
    """Return the layers that a plan has in parts, and in how many: matrices after for each one before."""
    whole, now = (Counter(node.source for node in graph if isinstance(node.op, Linear)) for graph in (before, after))
    return {source: now[source] // count for source, count in whole.items() if now[source] > count}
