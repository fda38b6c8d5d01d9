"""Which super logic region of its FPGA each kernel is in: budgets of regions hold, the latency added is least.

A crossing between neighbouring regions takes cycles; what is on the critical way should have few of them, then few bits
should cross. The kernels are chosen already, so the model is small: CP-SAT, one worker, fixed seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from metronn.plan.hardware.resources import Resources

Linear = Any
"""A linear expression of the model: the solver's own type is a union that its operators do not accept."""

SOLVER_SECONDS = 20.0
"""Deterministic time of the solver; what it has found by then is taken."""


NOTHING = Resources()


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """What is in one region: a kernel, an input, or an end of a link. Its values are there from `ready` on at least."""

    need: Resources = NOTHING
    ready: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """`target` starts at least `cycles` after `source`, and later by every crossing between their regions.

    Edges of one `net` carry the same `bits`, which cross a boundary once.
    """

    source: int
    target: int
    cycles: int
    net: str
    bits: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionProblem:
    """Items to put into regions with budgets.

    `fixed`: pairs of an item and its region. `together`: pairs of items in the same region. `ends`: the latency is the
    largest start of these items, plus cycles.
    `crossing_cycles`: of one boundary. `lines`: bits that one boundary carries, None where it is not known.
    """

    items: tuple[Item, ...]
    edges: tuple[Edge, ...]
    together: tuple[tuple[int, int], ...]
    ends: tuple[tuple[int, int], ...]
    fixed: tuple[tuple[int, int], ...] = ()
    budgets: tuple[Resources, ...]
    crossing_cycles: int
    lines: int | None = None


def assign(problem: RegionProblem) -> tuple[int, ...] | None:
    """Return the region of every item: least latency, then fewest bits times boundaries, then lowest regions.

    None where no assignment keeps the budgets and lines.
    """
    total = sum((item.need for item in problem.items), Resources())
    if any(region >= len(problem.budgets) for _, region in problem.fixed):
        return None
    for region, budget in enumerate(problem.budgets):
        if total.fits(budget) and all(asked == region for _, asked in problem.fixed):
            return (region,) * len(problem.items)
    return _solved(problem) if len(problem.budgets) > 1 else None


def _solved(problem: RegionProblem) -> tuple[int, ...] | None:
    from ortools.sat.python import cp_model  # noqa: PLC0415 - it loads pandas: 0.5 s of every start otherwise

    model = cp_model.CpModel()
    count = len(problem.budgets)
    inside = [[model.new_bool_var(f"item {i} in {r}") for r in range(count)] for i in range(len(problem.items))]
    for literals in inside:
        model.add_exactly_one(literals)
    for item, region in problem.fixed:
        model.add(inside[item][region] == 1)
    for one, other in problem.together:
        for a, b in zip(inside[one], inside[other], strict=True):
            model.add(a == b)

    def above(item: int, boundary: int) -> Linear:
        return sum(inside[item][boundary + 1 :])

    for r, budget in enumerate(problem.budgets):
        for name, limit in budget.as_dict().items():
            scale = 2 if name == "bram36" else 1
            need = [int(item.need.as_dict()[name] * scale) * inside[i][r] for i, item in enumerate(problem.items)]
            model.add(sum(need) <= int(limit * scale))

    horizon = sum(edge.cycles + count * problem.crossing_cycles for edge in problem.edges)
    horizon += max((item.ready for item in problem.items), default=0)
    starts = [model.new_int_var(item.ready, horizon, f"start {i}") for i, item in enumerate(problem.items)]
    for k, edge in enumerate(problem.edges):
        hops = model.new_int_var(0, count - 1, f"hops {k}")
        way = sum(above(edge.target, b) - above(edge.source, b) for b in range(count - 1))
        model.add(hops >= way)
        model.add(hops >= -way)
        model.add(starts[edge.target] >= starts[edge.source] + edge.cycles + problem.crossing_cycles * hops)
    end = model.new_int_var(0, horizon + max((cycles for _, cycles in problem.ends), default=0), "end")
    for item, cycles in problem.ends:
        model.add(end >= starts[item] + cycles)

    carried: list[Linear] = []
    most = 0
    for boundary in range(count - 1):
        load: list[Linear] = []
        for net, edges in _nets(problem.edges).items():
            for sign in (1, -1):
                crosses = model.new_bool_var(f"{net} crosses {boundary} {sign}")
                for edge in edges:
                    model.add(crosses >= sign * (above(edge.target, boundary) - above(edge.source, boundary)))
                load.append(edges[0].bits * crosses)
                most += edges[0].bits
        carried += load
        if problem.lines is not None:
            model.add(sum(load) <= problem.lines)
    height = sum(r * literal for literals in inside for r, literal in enumerate(literals))
    low = 1 + count * len(problem.items)
    model.minimize(low * (most + 1) * end + low * sum(carried) + height)

    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = 1
    solver.parameters.max_deterministic_time = SOLVER_SECONDS
    solver.parameters.catch_sigint_signal = False  # it would take the interpreter's handler away
    if solver.solve(model) not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return None
    return tuple(next(r for r, v in enumerate(literals) if solver.boolean_value(v)) for literals in inside)


def _nets(edges: Sequence[Edge]) -> Mapping[str, list[Edge]]:
    found: dict[str, list[Edge]] = {}
    for edge in edges:
        found.setdefault(edge.net, []).append(edge)
    return found
