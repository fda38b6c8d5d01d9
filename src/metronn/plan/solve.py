"""The solver: a kernel and an FPGA for every step, so that budgets, bandwidth and the II hold and latency is least.

CP-SAT, one worker, fixed seed: the same input gives the same plan. It decides kernels and FPGAs; cycles follow from
them in `schedule`.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from metronn.ir.graph import Graph
from metronn.plan.candidates.convert import conversion
from metronn.plan.candidates.steps import Step
from metronn.plan.design import Signal
from metronn.plan.figures import estimated_figures, exact_figures, takes_long
from metronn.plan.frames.packing import TAIL_BITS, WORD_BITS, FramePlan, link_latency_cycles, plan_frame
from metronn.plan.hardware.resources import Resources, lut_equivalents
from metronn.plan.hardware.system import System
from metronn.plan.kernels.kernels import Kernels
from metronn.plan.kernels.spec import KernelSpec, result_value
from metronn.plan.layout import Layout
from metronn.plan.options import Objective, PlanOptions
from metronn.plan.port_words import departure_cycles
from metronn.plan.progress import Progress, silent
from metronn.plan.schedule import Choice

if TYPE_CHECKING:
    from ortools.sat.python import cp_model

Linear = Any
"""A linear expression of the model: the solver's own type is a union that its operators do not accept."""

HORIZON_CYCLES = 200_000
LATENCY_WEIGHT, FPGA_WEIGHT = 100_000, 2_000
"""The objective of latency in one number: a cycle outweighs all FPGAs, an FPGA any utilisation (in 1/1000)."""
RESOURCE_WEIGHT = HORIZON_CYCLES
"""In the objective of resources half a LUT-equivalent outweighs any latency."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What the solver is asked: the steps with their candidates, the system, the options, the layouts of the inputs.

    `kernels`: those of the graph, planned as they are asked for.
    `reserve`: of each FPGA, what is kept in every region for delays, crossings and links, which are known only once
    cycles are fixed. `regions`: only so many regions of each FPGA are used, the lowest; None for all. `words`: what
    the inputs come as, None where each has its own port.
    """

    kernels: Kernels
    system: System
    options: PlanOptions
    steps: tuple[Step, ...]
    inputs: Mapping[str, Layout]
    reserve: tuple[Resources, ...] = ()
    regions: int | None = None
    words: FramePlan | None = None

    def budgets(self, fpga: int) -> tuple[Resources, ...]:
        """What may be used of each region of an FPGA, by its number."""
        return self.system.fpgas[fpga].region_budgets[: self.regions]

    @property
    def graph(self) -> Graph:
        """The network."""
        return self.kernels.graph


@dataclass(frozen=True, slots=True)
class _Candidate:
    """One kernel a step could become, with everything the model needs to know of it."""

    spec: KernelSpec
    latency: int
    output: Layout
    wants: dict[str, Layout]
    cost: Resources


@dataclass(frozen=True, slots=True)
class _Made:
    """A value as one of its makers gives it: whether that maker is chosen, the layout, the maker's latency."""

    chosen: Linear
    layout: Layout
    latency: int


def solve(problem: Problem, log: Progress = silent) -> dict[str, Choice] | None:
    """Return the choice for every step by the value it makes, or None when nothing fits.

    Unrolled matrices that take long to solve are estimated, and solved when they are chosen; with what was found the
    choice is made again, until it holds none that is only estimated.
    """
    known: frozenset[KernelSpec] = frozenset()
    while True:
        choices = _Model(problem, known, log).solve()
        if choices is None:
            return None
        chosen = {choice.spec for choice in choices.values()} - known
        fresh = {spec for spec in chosen if takes_long(problem.kernels.of(spec))}
        if not fresh:
            return choices
        for number, spec in enumerate(sorted(fresh, key=result_value)):
            log(f"adder graph of {result_value(spec)}: {number} of {len(fresh)} done")
            exact_figures(problem.kernels.of(spec))
        known |= fresh


def may_fit(problem: Problem) -> bool:
    """Whether a plan exists by what is known without solving large adder graphs."""
    return _Model(problem, frozenset(), silent).solve(any_plan=True) is not None


class _Model:
    """The CP-SAT model of one problem."""

    def __init__(self, problem: Problem, known: frozenset[KernelSpec], log: Progress) -> None:
        """Create the variables and constraints."""
        from ortools.sat.python import cp_model  # noqa: PLC0415 - it loads pandas: 0.5 s of every start otherwise

        self.cp_model = cp_model
        self.problem, self.known = problem, known
        self.model = cp_model.CpModel()
        self.fpga_count = problem.options.fpgas or len(problem.system.fpgas)
        self.candidates: dict[str, list[_Candidate]] = {}
        for number, step in enumerate(problem.steps):
            log(f"latency and cost of the kernels of {step.source}: {number} of {len(problem.steps)} steps done")
            self.candidates[step.value] = [self._candidate(spec) for spec in step.candidates]
        log(f"a kernel and an FPGA for each of {len(problem.steps)} steps")
        self.at: dict[tuple[str, int, int], cp_model.IntVar] = {}
        self.inside: dict[tuple[str, int, int, int], cp_model.IntVar] = {}
        self.start: dict[str, cp_model.IntVar] = {}
        self.fpga: dict[str, cp_model.IntVar] = {}
        self.converted: dict[int, list[tuple[Resources, Linear]]] = {k: [] for k in range(self.fpga_count)}
        self.hops = lru_cache(maxsize=None)(self._planned_hop)
        self._place()
        self._precede()
        self._carry()
        worst = self._budget()
        self._minimise(worst)

    def _candidate(self, spec: KernelSpec) -> _Candidate:
        kernel = self.problem.kernels.of(spec)
        figures = (exact_figures if spec in self.known else estimated_figures)(kernel)
        return _Candidate(spec, figures.latency, kernel.output, dict(kernel.inputs), figures.cost)

    def _place(self) -> None:
        """One kernel and one FPGA for every step."""
        for step in self.problem.steps:
            self.start[step.value] = self.model.new_int_var(0, HORIZON_CYCLES, f"start {step.value}")
            self.fpga[step.value] = self.model.new_int_var(0, self.fpga_count - 1, f"fpga {step.value}")
            here = []
            for c in range(len(self.candidates[step.value])):
                for k in range(self.fpga_count):
                    literal = self.model.new_bool_var(f"{step.value} candidate {c} on {k}")
                    self.at[step.value, c, k] = literal
                    here.append(literal)
                    self._regions(step.value, c, k)
            self.model.add_exactly_one(here)
            places = itertools.product(range(len(self.candidates[step.value])), range(self.fpga_count))
            where = sum(k * v for (_, k), v in zip(places, here, strict=True))
            self.model.add(self.fpga[step.value] == where)

    def _regions(self, value: str, candidate: int, k: int) -> None:
        """One region of the FPGA for a kernel that is on it: no kernel is larger than a region."""
        count = len(self.problem.budgets(k))
        if count == 1:
            self.inside[value, candidate, k, 0] = self.at[value, candidate, k]
            return
        for r in range(count):
            self.inside[value, candidate, k, r] = self.model.new_bool_var(
                f"{value} candidate {candidate} on {k} in {r}"
            )
        self.model.add(sum(self.inside[value, candidate, k, r] for r in range(count)) == self.at[value, candidate, k])

    def _chosen(self, value: str, candidate: int) -> Linear:
        return sum(self.at[value, candidate, k] for k in range(self.fpga_count))

    def _hop_cycles(self, value: str, layout: Layout) -> int | None:
        """Cycles one link adds to a value in a layout when it has the link to itself, or None when it does not fit."""
        return self.hops(value, layout) if self.problem.system.links else None

    def _planned_hop(self, value: str, layout: Layout) -> int | None:
        system = self.problem.system
        signal = Signal(name=value, value=value, layout=layout, first_cycle=0)
        lanes = min(link.lanes for link in system.links)
        plan = plan_frame(self.problem.graph, [signal], system.ii, lanes)
        if plan is None:
            return None
        slowest = max(link.latency_max_cycles for link in system.links)
        return plan.send_cycle + link_latency_cycles(slowest) + plan.first_cycles[value]

    def _precede(self) -> None:
        """A step starts when its inputs are there, in the layout its kernel wants, links included."""
        for step in self.problem.steps:
            for value in step.inputs:
                if value in self.candidates:
                    makers = [
                        _Made(self._chosen(value, p), producer.output, producer.latency)
                        for p, producer in enumerate(self.candidates[value])
                    ]
                    self._after(step, value, makers, self.start[value], self.fpga[value])
                else:
                    self._after(step, value, [_Made(1, self.problem.inputs[value], 0)], self._arrives(value), 0)

    def _arrives(self, value: str) -> int:
        """Cycle of the first beat of an input."""
        return 0 if self.problem.words is None else self.problem.words.first_cycles[value]

    def _leaves(self, value: str, layout: Layout) -> int:
        """Cycles from the first beat of a result to the end of the answer; where words do not hold it, far too many."""
        options, ii = self.problem.options, self.problem.system.ii
        if options.output_lanes is None:
            return layout.span - 1
        leaves = departure_cycles(self.problem.graph, value, layout, ii, options.output_lanes)
        return HORIZON_CYCLES // 2 if leaves is None else leaves

    def _after(self, step: Step, value: str, makers: Sequence[_Made], begin: Linear, fpga: Linear) -> None:
        """Order a step behind the kernels that could make its input, or behind an input of the network.

        One variable for each pair of kernels that go together: the latency of a chain is then a shortest path, which
        the linear relaxation of the model knows exactly, however long the chain is.
        """
        hops = self.fpga[step.value] - fpga
        self.model.add(hops >= 0)
        mine = [self._chosen(step.value, c) for c in range(len(self.candidates[step.value]))]
        into: list[list[Linear]] = [[] for _ in mine]
        path: Linear = begin
        for p, made in enumerate(makers):
            hop = self._hop_cycles(value, made.layout) if self.fpga_count > 1 else 0
            if hop is None:
                self.model.add(hops <= self.fpga_count * (1 - made.chosen))
            out: list[Linear] = []
            for c, consumer in enumerate(self.candidates[step.value]):
                latency = self._reached(value, made.layout, consumer.wants[value])
                if latency is None:
                    continue
                pair = self.model.new_bool_var(f"{value} {p} to {step.value} {c}")
                out.append(pair)
                into[c].append(pair)
                path += (made.latency + latency) * pair
                if consumer.wants[value] != made.layout:
                    self._convert(value, made.layout, step.value, c, pair)
                if hop:
                    ready: Linear = begin + made.latency + latency + hop * hops
                    self.model.add(self.start[step.value] + HORIZON_CYCLES * (1 - pair) >= ready)
            self.model.add(sum(out) == made.chosen)
        for pairs, chosen in zip(into, mine, strict=True):
            self.model.add(sum(pairs) == chosen)
        self.model.add(self.start[step.value] >= path)

    def _reached(self, value: str, have: Layout, wanted: Layout) -> int | None:
        """Cycles from one layout of a value to another, or None when there is no way."""
        if wanted == have:
            return 0
        kernel = conversion(self.problem.kernels, value, have, wanted, self.problem.system.ii)
        return None if kernel is None else kernel.latency_cycles

    def _convert(self, value: str, have: Layout, reader: str, candidate: int, pair: Linear) -> None:
        """Count the conversion of a value for a candidate of its reader, where the reader is, when both are chosen."""
        wanted = self.candidates[reader][candidate].wants[value]
        kernel = conversion(self.problem.kernels, value, have, wanted, self.problem.system.ii)
        assert kernel is not None
        cost = kernel.resources
        if cost == Resources():
            return
        if self.fpga_count == 1:
            self.converted[0].append((cost, pair))
            return
        for k in range(self.fpga_count):
            both = self.model.new_bool_var(f"{value} converted on {k}")
            self.model.add(both >= pair + self.at[reader, candidate, k] - 1)
            self.converted[k].append((cost, both))

    def _carry(self) -> None:
        """Every link carries the values made before it and read behind it within its words of one event."""
        graph, system = self.problem.graph, self.problem.system
        shown = {output.value for output in graph.outputs}
        readers: dict[str, list[str]] = {}
        for step in self.problem.steps:
            for value in step.inputs:
                readers.setdefault(value, []).append(step.value)
        self.last = self.model.new_int_var(0, self.fpga_count - 1, "last FPGA")
        self.model.add_max_equality(self.last, [0, *self.fpga.values()])  # 0: a network of wires alone has no steps
        for k, link in enumerate(system.links[: self.fpga_count - 1]):
            load: list[Linear] = []
            for value in dict.fromkeys([*readers, *shown]):
                crosses = self.model.new_bool_var(f"{value} crosses {k}")
                before = self._at_most(value, k)
                for reader in readers.get(value, []):
                    self.model.add(crosses >= before - self._at_most(reader, k))
                if value in shown:
                    more = self.model.new_bool_var(f"more than {k} FPGAs for {value}")
                    self.model.add(self.last >= k + 1).only_enforce_if(more)
                    self.model.add(self.last <= k).only_enforce_if(~more)
                    self.model.add(crosses >= before + more - 1)
                load.append(graph.type_of(value).total_bits * crosses)
            room = link.lanes * (WORD_BITS * system.ii - TAIL_BITS)
            self.model.add(sum(load) <= room)

    def _at_most(self, value: str, k: int) -> Linear:
        """1 when the value is made on FPGA k or before it."""
        if value not in self.candidates:
            return 1
        return sum(self.at[value, c, j] for c in range(len(self.candidates[value])) for j in range(k + 1))

    def _budget(self) -> cp_model.IntVar:
        """No FPGA and no region of one holds more than its budget; returns the worst utilisation in thousandths."""
        worst = self.model.new_int_var(0, 1000, "worst utilisation")
        inside: dict[tuple[int, int], list[tuple[dict[str, float], Linear]]] = {}
        for (value, c, k, r), literal in self.inside.items():
            inside.setdefault((k, r), []).append((self.candidates[value][c].cost.as_dict(), literal))
        for k in range(self.fpga_count):
            kept_there = self.problem.reserve[k] if self.problem.reserve else Resources()
            regions = self.problem.budgets(k)
            budget = sum(regions, Resources()).as_dict()
            for name, limit in budget.items():
                scale = 2 if name == "bram36" else 1
                loads = [
                    [int(cost[name] * scale) * literal for cost, literal in inside.get((k, r), [])]
                    for r in range(len(regions))
                ]
                for region, part in zip(regions, loads, strict=True) if len(regions) > 1 else ():
                    self.model.add(sum(part) <= int(region.without(kept_there).as_dict()[name] * scale))
                load = [term for part in loads for term in part]
                load += [int(cost.as_dict()[name] * scale) * both for cost, both in self.converted[k]]
                self.model.add(sum(load) <= int((limit - len(regions) * kept_there.as_dict()[name]) * scale))
                if limit:
                    self.model.add(1000 * sum(load) <= worst * int(limit * scale))
        return worst

    def _minimise(self, worst: cp_model.IntVar) -> None:
        """Least latency, fewest FPGAs, the least worst utilisation; or fewest LUT-equivalents, then least latency."""
        graph, options = self.problem.graph, self.problem.options
        end = self.model.new_int_var(0, HORIZON_CYCLES, "latency")
        for output in graph.outputs:
            path: Linear = self.start.get(output.value, 0)
            for c, candidate in enumerate(self.candidates.get(output.value, [])):
                hop = self._hop_cycles(output.value, candidate.output) or 0
                last = candidate.latency + self._leaves(output.value, candidate.output)
                path += last * self._chosen(output.value, c)
                ready: Linear = self.start[output.value] + last + hop * (self.last - self.fpga[output.value])
                if hop:
                    self.model.add(end + HORIZON_CYCLES * (1 - self._chosen(output.value, c)) >= ready)
            self.model.add(end >= path)
        if options.fpgas is not None:
            self.model.add(self.last == options.fpgas - 1)
            for k in range(options.fpgas):
                self.model.add(sum(v for (_, _, j), v in self.at.items() if j == k) >= 1)
        if options.max_latency_ns is not None:
            cycles = int(options.max_latency_ns / self.problem.system.period_ns + 1e-9)
            self.model.add(end <= cycles)
        if options.objective is Objective.RESOURCES:
            self.model.minimize(RESOURCE_WEIGHT * self._half_luts() + end)
        else:
            self.model.minimize(LATENCY_WEIGHT * end + FPGA_WEIGHT * self.last + worst)

    def _half_luts(self) -> Linear:
        """Twice the LUT-equivalents of all kernels and conversions: whole numbers."""
        kernels = [(self.candidates[value][c].cost, literal) for (value, c, _), literal in self.at.items()]
        converted = [pair for pairs in self.converted.values() for pair in pairs]
        return sum(round(2 * lut_equivalents(cost)) * literal for cost, literal in [*kernels, *converted])

    def solve(self, *, any_plan: bool = False) -> dict[str, Choice] | None:
        """Run the solver; with `any_plan` the first plan found is enough."""
        solver = self.cp_model.CpSolver()
        solver.parameters.num_workers = 1
        solver.parameters.random_seed = 1
        solver.parameters.max_deterministic_time = 60.0
        solver.parameters.stop_after_first_solution = any_plan
        solver.parameters.catch_sigint_signal = False  # it would take the interpreter's handler away
        status = solver.solve(self.model)
        if status not in (self.cp_model.OPTIMAL, self.cp_model.FEASIBLE):
            return None
        choices = {}
        for (value, c, k), literal in self.at.items():
            if solver.boolean_value(literal):
                choices[value] = Choice(self.candidates[value][c].spec, k)
        return choices
