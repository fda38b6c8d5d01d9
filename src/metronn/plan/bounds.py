"""A lower bound of how full a system gets, from the costs of kernels alone: above 1 there is no plan.

Cuts, links, conversions and delays only add to it. Multipliers of the budgets (a Lagrangian relaxation) weigh what
kernels trade against each other, LUTs for DSP blocks say; the bound holds for any weights, so they need not be the
best ones. The caps of single regions count too: a kernel is in one of them.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from metronn.plan.figures import estimated_figures
from metronn.plan.hardware.resources import RESOURCE_NAMES
from metronn.plan.progress import Progress, silent
from metronn.plan.solve import Problem

ROUNDS = 60
"""Steps towards better weights; each costs microseconds."""

Floats = npt.NDArray[np.float64]


def least_costs(problem: Problem) -> list[dict[str, float]]:
    """Return for each step the least of each resource that any of its kernels takes."""
    return [dict(zip(RESOURCE_NAMES, table.min(axis=0).tolist(), strict=True)) for table in _tables(problem)]


def least_load(problem: Problem, log: Progress = silent) -> float:
    """Return a lower bound of need over budget of the resource that is fullest; infinite when a resource is lacking."""
    return max(least_total(problem, log), max(least_loads(problem, log), default=0.0))


def least_total(problem: Problem, log: Progress = silent) -> float:
    """Return what `least_load` does for all regions together, as if kernels could be cut anywhere."""
    whole, largest = _budgets(problem).sum(axis=0), _budgets(problem).max(axis=0)
    usable = [_usable(table, largest) for table in _tables(problem, log)]
    if not all(map(len, usable)):
        return math.inf
    there = largest > 0
    shares = [table * (largest[there] / whole[there]) for table in usable]
    return _relaxed(shares, int(there.sum()))


def least_loads(problem: Problem, log: Progress = silent) -> list[float]:
    """Return for each step what its smallest kernel takes of the largest region: above 1 none holds it."""
    largest = _budgets(problem).max(axis=0)
    return [_fullest(_usable(table, largest)) for table in _tables(problem, log)]


def _budgets(problem: Problem) -> Floats:
    """One row for each region of each FPGA, one column for each resource."""
    count = problem.options.fpgas or len(problem.system.fpgas)
    found = [budget for fpga in range(count) for budget in problem.budgets(fpga)]
    return np.array([list(budget.as_dict().values()) for budget in found], dtype=float)


def _usable(table: Floats, largest: Floats) -> Floats:
    """What kernels take of the largest region; those alone that need nothing which no region has."""
    there = largest > 0
    kept: Floats = table[(table[:, ~there] == 0).all(axis=1)][:, there] / largest[there]
    return kept


def _fullest(table: Floats) -> float:
    return float(table.max(axis=1).min()) if len(table) else math.inf


def _tables(problem: Problem, log: Progress = silent) -> list[Floats]:
    """Costs of each step: one row for each kernel, one column for each resource."""
    found = []
    for number, step in enumerate(problem.steps):
        log(f"latency and cost of the kernels of {step.source}: {number} of {len(problem.steps)} steps done")
        costs = [estimated_figures(problem.kernels.of(spec)).cost for spec in step.candidates]
        found.append(np.array([list(cost.as_dict().values()) for cost in costs], dtype=float))
    return found


def _relaxed(shares: list[Floats], count: int) -> float:
    """Return the best bound found: the least weighted need of all steps, weights adding up to 1."""
    best, weights = 0.0, np.full(count, 1 / max(count, 1))
    for number in range(ROUNDS):
        used = np.zeros(count)
        for table in shares:
            used += table[int(np.argmin(table @ weights))]
        best = max(best, float(used @ weights))
        top = used.max(initial=0.0)
        if top == 0:
            break
        weights = weights * np.exp(used / top / math.sqrt(number + 1))
        weights /= weights.sum()
    return best
