"""Why there is no plan, and which changes give one: a change is named only after it was tried.

A trial places the changed problem as `plan` does. Where that would need large adder graphs solved, which takes minutes,
it stops at what is estimated of them, and says so. What cannot be tried, since it is another network, is told as what
is true of it.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from metronn.errors import InfeasibleError, ModelError
from metronn.ir.graph import Graph
from metronn.ir.ops import Linear
from metronn.plan.bounds import least_costs, least_load
from metronn.plan.candidates.reuse import layers_of
from metronn.plan.design import Design
from metronn.plan.explain.products import Products, narrowed, products_of
from metronn.plan.figures import takes_long
from metronn.plan.hardware.system import MAX_FPGAS, MAX_II, System, list_systems, load_system
from metronn.plan.kernels.spec import covered_nodes
from metronn.plan.options import Fold, InputForm, Objective, PlanOptions
from metronn.plan.placing import problem_of
from metronn.plan.progress import Progress, silent
from metronn.plan.solve import Problem, may_fit
from metronn.plan.splitting import FILLS, design_of, in_parts

LARGEST_II_FACTOR = 64

LARGE_ELEMENTS = 200_000
"""Elements of all values from which a network takes seconds for each II that is tried."""
COARSE = 16
"""Of a large network the II that is named has a plan, and one smaller by a part of so many has none."""
HOPELESS_LOAD = 1.5
"""Need over budget above which other kernels of the same network at the same II are not tried (1 for a large one)."""
NARROW_BITS = (17, 4)
"""Widths of operands at which a product needs less: one DSP block, and no DSP block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """A change with which a plan exists: how it is said, and what to plan instead."""

    text: str
    graph: Graph
    system: System
    options: PlanOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a system has no plan: what binds, what was tried and helps, and what is true of other networks."""

    system: str
    binding: tuple[str, ...]
    remedies: tuple[Remedy, ...]
    hints: tuple[str, ...]

    @property
    def text(self) -> str:
        """The message: no line twice."""
        lines = [*self.binding, *(remedy.text for remedy in self.remedies), *self.hints]
        first, *others = dict.fromkeys(line for text in lines for line in text.splitlines())
        return "\n".join([f"no plan for system {self.system}: {first}", *(f"  {line}" for line in others)])


class Trial(enum.Enum):
    """What came of a change."""

    NONE = "no plan"
    ESTIMATED = "a plan by estimated adder graphs"
    PLANNED = "a plan"


def late(design: Design, options: PlanOptions) -> bool:
    """Whether a design misses the latency limit."""
    return options.max_latency_ns is not None and design.latency_ns > options.max_latency_ns


def refusal(problem: Problem, known: tuple[str, ...] = (), log: Progress = silent) -> Refusal:
    """Say what binds and what helps, for a problem without a plan; `known` is what binds, where that is known."""
    search = _Search(problem, log)
    remedies = tuple(search.remedies())
    found = known or binding(problem, frozenset(search.lasting))
    return Refusal(
        system=problem.system.name,
        binding=(*found, *search.lasting_lines()),
        remedies=remedies,
        hints=tuple(search.hints(remedies)),
    )


def binding(problem: Problem, told: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """Say which constraints bind, at least one line; DSP blocks of the steps `told` are told elsewhere, too."""
    found = tuple(dict.fromkeys(_short(problem, told)))
    return found or (() if told else (_other_cause(problem),))


def _short(problem: Problem, told: frozenset[str]) -> Iterator[str]:
    """Resources of which single steps, or all together, need more than there is."""
    asked = problem.options.fpgas
    fpgas = problem.system.fpgas[:asked]
    costs = least_costs(problem)
    regions = [region.as_dict() for fpga in fpgas for region in fpga.region_budgets]
    where = "FPGA has" if len(regions) == len(fpgas) else "super logic region, which a kernel stays within, has"
    for step, least in zip(problem.steps, costs, strict=True):
        for name, need in least.items():
            most = max(region[name] for region in regions)
            elsewhere = name == "dsp" and step.value in told and len(regions) == len(fpgas)
            if need > most and not elsewhere:
                yield f"{step.source}: needs {need:,.0f} {name} at least, the largest {where} {most:,.0f}."
    have_it = "the system has"
    if asked:
        have_it = "the FPGA asked for has" if asked == 1 else f"the {asked} FPGAs asked for have"
    for name in costs[0] if costs else ():
        least_sum, have = sum(cost[name] for cost in costs), sum(fpga.budget.as_dict()[name] for fpga in fpgas)
        if least_sum > have:
            yield f"all layers together need {least_sum:,.0f} {name} at least, {have_it} {have:,.0f}."


def _other_cause(problem: Problem) -> str:
    options = problem.options
    if options.fpgas is not None and options.fpgas > len(problem.steps):
        return f"plan.fpgas asks for {options.fpgas} FPGAs, the network has {len(problem.steps)} layers to share out."
    design = _fastest(problem)
    if design is not None and late(design, options):
        return (
            f"the least latency is {design.latency_cycles} cycles = {design.latency_ns:.1f} ns, "
            f"plan.max_latency_ns is {options.max_latency_ns:g}."
        )
    if options.fpgas is not None and _try(_with(problem, fpgas=None)) is not Trial.NONE:
        return f"it does not fit exactly {options.fpgas} FPGAs; another number of FPGAs has a plan."
    if len(problem.system.fpgas) > 1:
        return "budgets and link bandwidth cannot be met together: no cut leaves every FPGA within its resources."
    if len(problem.system.fpgas[0].region_budgets) > 1:
        return "no choice of kernels keeps the budgets of all super logic regions together."
    return "no choice of kernels keeps all budgets together."


def _fastest(problem: Problem) -> Design | None:
    """Return the fastest design of the same kernels, whatever the latency limit; None without a limit or a design."""
    if problem.options.max_latency_ns is None:
        return None
    return _design(_with(problem, max_latency_ns=None, objective=Objective.LATENCY))


def _with(problem: Problem, **changes: object) -> Problem:
    """Return the problem with options that play no part in which kernels there are."""
    return replace(problem, options=problem.options.model_copy(update=changes))


def _design(problem: Problem) -> Design | None:
    try:
        return design_of(problem, fills=FILLS[:1])
    except InfeasibleError:
        return None


def _fits(problem: Problem) -> bool:
    return any(least_load(found) <= 1 and may_fit(found) for found in in_parts(problem, fills=FILLS[:1]))


def _try(problem: Problem) -> Trial:
    """Place the problem, or estimate it where adder graphs would take long."""
    if any(takes_long(problem.kernels.of(spec)) for step in problem.steps for spec in step.candidates):
        return Trial.ESTIMATED if _fits(problem) else Trial.NONE
    design = _design(problem)
    return Trial.NONE if design is None or late(design, problem.options) else Trial.PLANNED


class _Search:
    """Changes of one problem, tried from the smallest on."""

    def __init__(self, problem: Problem, log: Progress) -> None:
        self.problem, self.log = problem, log
        self.load = least_load(problem)
        self.known: dict[int, Problem | None] = {problem.system.ii: problem}
        reuses = [n for layer in layers_of(problem.graph) if (n := problem.options.reuse_of(layer)) is not None]
        self.unit = math.lcm(*reuses)
        most = min(LARGEST_II_FACTOR * problem.system.ii, MAX_II)
        self.large = sum(node.type.size for node in problem.graph.nodes) > LARGE_ELEMENTS
        self.top = max(most // self.unit * self.unit, problem.system.ii)

    def remedies(self) -> Iterator[Remedy]:
        """Try what may have been asked too strictly; where that is not it, what gives more room."""
        found = [*self._latency(), *self._requests()]
        yield from found or [*self._room(), *self._narrower()]

    # One change

    def _tried(self, problem: Problem | None, text: str) -> Remedy | None:
        """Return the remedy if the changed problem has a plan."""
        if problem is None:
            return None
        self.log(f"no plan: trying another one: {text}")
        trial = _try(problem)
        if trial is Trial.NONE:
            return None
        told = text if trial is Trial.PLANNED else f"{text.removesuffix('.')}, by the estimate of its adder graphs."
        return Remedy(text=told, graph=problem.graph, system=problem.system, options=problem.options)

    def _rebuilt(self, graph: Graph | None = None, ii: int | None = None, **changes: object) -> Problem | None:
        """Return the problem with changes that make other kernels; None where they are not possible."""
        now = self.problem
        system = now.system if ii is None else now.system.with_overrides(ii=ii)
        try:
            options = now.options.model_copy(update=changes)
            return problem_of(graph or now.graph, system, options, known=now.kernels)
        except ModelError:  # a reuse that is asked for is not possible with the change
            return None

    def _at(self, ii: int) -> Problem | None:
        if ii not in self.known:
            self.log(f"no plan: trying II {ii}")
            self.known[ii] = self._rebuilt(ii=ii)
        return self.known[ii]

    # Requests that may be too strict

    def _latency(self) -> Iterator[Remedy]:
        options, system = self.problem.options, self.problem.system
        fastest = _fastest(self.problem)
        if fastest is None or options.max_latency_ns is None:
            return
        changes: list[tuple[Problem | None, str]] = []
        if options.objective is Objective.RESOURCES:
            changes.append((_with(self.problem, objective=Objective.LATENCY), 'Set plan.objective to "latency".'))
        elif options.fold is not Fold.LATENCY:
            text = 'Set plan.fold to "latency": shorter folds with more multipliers keep the limit.'
            changes.append((self._rebuilt(fold=Fold.LATENCY), text))
        if any(layout.beat_count > 1 for layout in self.problem.inputs.values()):
            came = max(layout.span for layout in self.problem.inputs.values())
            text = f'Set plan.inputs to "parallel": the inputs alone come over {came} cycles.'
            changes.append((self._rebuilt(inputs=InputForm.PARALLEL), text))
            smaller = (system.ii >> bits for bits in range(1, system.ii.bit_length()))
            for ii in smaller:
                remedy = self._tried(self._at(ii), f"Lower the II to {ii} (now {system.ii}).")
                if remedy is not None:
                    yield remedy
                    break
        for problem, text in changes:
            remedy = self._tried(problem, text)
            if remedy is not None:
                yield remedy
        limit = math.ceil(10 * fastest.latency_ns) / 10
        eased = _with(self.problem, max_latency_ns=limit)
        remedy = self._tried(eased, f"Raise plan.max_latency_ns to {limit:g} or more (now {options.max_latency_ns:g}).")
        if remedy is not None:
            yield remedy

    def _requests(self) -> Iterator[Remedy]:
        options = self.problem.options
        changes: list[tuple[Problem | None, str]] = []
        if options.fpgas is not None:
            text = "Remove plan.fpgas and let the planner take the number that fits."
            changes.append((_with(self.problem, fpgas=None), text))
        if options.layers:
            changes.append((self._rebuilt(layers={}), "Remove plan.layers and let the planner choose every reuse."))
        if self.load <= (1 if self.large else HOPELESS_LOAD) and options.objective is not Objective.RESOURCES:
            changes.append((self._rebuilt(objective=Objective.RESOURCES), 'Set plan.objective to "resources".'))
        for problem, text in changes:
            remedy = self._tried(problem, text)
            if remedy is not None:
                yield remedy

    # More room

    def _room(self) -> Iterator[Remedy]:
        found = [remedy for remedy in (self._larger_ii(), self._more_fpgas()) if remedy is not None]
        yield from found
        free = self._rebuilt(layers={}) if self.problem.options.layers and not found else None
        if free is not None:  # multipliers whose reuse is given are as many at any II
            for remedy in _Search(free, self.log)._room():
                text = remedy.text[0].lower() + remedy.text[1:]
                yield replace(remedy, text=f"Remove plan.layers and {text}")

    def _larger_ii(self) -> Remedy | None:
        """Double until there is a plan, then halve the distance to the II that had none."""
        now = self.problem.system.ii
        last = self._at(self.top)
        if self.top == now or last is None or least_load(last) > 1:
            return None
        low = high = now
        while True:
            low, high = high, min(max(2 * high // self.unit, 1) * self.unit, self.top)
            if low == high:
                return None
            if self._may_fit(high):
                break
        while True:
            middle = (low + high) // 2 // self.unit * self.unit
            if middle <= low or (self.large and high - low <= high // COARSE):
                break
            low, high = (low, middle) if self._may_fit(middle) else (middle, high)
        for _ in range(4):  # with the cycles of every kernel known, delays may need a little more
            below = f"; at {low} there is no plan" if low > now else ""
            remedy = self._tried(self._at(high), f"Raise the II to {high} (now {now}{below}).")
            if remedy is not None or high >= self.top:
                return remedy
            low, high = high, min(high + max(high // 16 // self.unit, 1) * self.unit, self.top)
        return None

    def _may_fit(self, ii: int) -> bool:
        problem = self._at(ii)
        return problem is not None and _fits(problem)

    def _more_fpgas(self) -> Remedy | None:
        """The fewest FPGAs of a longer chain, or of a known system of such boards, of those tried."""
        found = []
        for system, text in self._longer():
            problem = replace(_with(self.problem, fpgas=None), system=system)
            if least_load(problem) <= 1:
                found.append((problem, text))
        for problem, text in [*found[:3], *found[3:][-1:]]:
            remedy = self._tried(problem, text)
            if remedy is not None:
                return remedy
        return None

    def _longer(self) -> Iterator[tuple[System, str]]:
        """Systems of more FPGAs of the same kind, the smallest first."""
        system = self.problem.system
        count = len(system.fpgas)
        unasked = " and remove plan.fpgas" if self.problem.options.fpgas is not None else ""
        if system.links:
            for more in range(count + 1, MAX_FPGAS + 1):
                system = system.extended()
                yield system, f"Use {more} FPGAs of the last kind (now {count}){unasked}."
            return
        for known in sorted(_known_systems(), key=lambda some: (len(some.fpgas), some.name)):
            alike = {(fpga.board, fpga.budget) for fpga in known.fpgas} == {
                (fpga.board, fpga.budget) for fpga in system.fpgas
            }
            if alike and len(known.fpgas) > count and known.clock_mhz == system.clock_mhz:
                yield (
                    known.with_overrides(ii=system.ii),
                    f"Use system {known.name}, {len(known.fpgas)} FPGAs of this kind{unasked}.",
                )

    # Products of two variables

    @cached_property
    def lasting(self) -> dict[str, Products]:
        """Where a resource is short, products that take a good part of the system, at the largest II as well."""
        if self.load <= 1:
            return {}
        now, last = products_of(self.problem), self._at(self.top)
        later = products_of(last) if last is not None else {}
        budgets = [fpga.budget.dsp for fpga in self.problem.system.fpgas[: self.problem.options.fpgas]]
        return {
            value: products
            for value, products in now.items()
            if 4 * products.dsps >= sum(budgets) and value in later and later[value].dsps == products.dsps
        }

    def lasting_lines(self) -> Iterator[str]:
        """Say which multipliers no II folds, where DSP blocks are short."""
        found = self.lasting.values()
        if found:
            count, dsps = sum(products.count for products in found), sum(products.dsps for products in found)
            larger = f" as at II {self.top}" if self.top > self.problem.system.ii else ""
            yield (
                f"{_layers(found)}: {count:,} products of two variables take {dsps:,} dsp at II "
                f"{self.problem.system.ii}{larger}: their multipliers do not fold."
            )

    def _narrower(self) -> Iterator[Remedy]:
        """Fewer bits at products that no II folds."""
        nodes = [name for products in self.lasting.values() for name in products.nodes]
        for bits in NARROW_BITS if nodes else ():
            graph = narrowed(self.problem.graph, nodes, bits)
            problem = None if graph is None else self._rebuilt(graph=graph)
            text = f"Quantize both operands of the products of {_layers(self.lasting.values())} to {bits} bits."
            remedy = self._tried(problem, text)
            if remedy is not None:
                yield remedy
                return

    def hints(self, remedies: tuple[Remedy, ...]) -> Iterator[str]:
        """What is true of networks that are not tried; nothing where the request itself can be changed."""
        problem = self.problem
        if self.load <= 1 and remedies:
            return
        dsps = sum(fpga.budget.dsp for fpga in problem.system.fpgas[: problem.options.fpgas])
        lasting = self.lasting.values()
        total = sum(products.dsps for products in lasting)
        if total > dsps:
            count = sum(products.count for products in lasting)
            yield (
                f"Fewer particles, heads or channels: there is room for {dsps * count // total:,} of these "
                f"{count:,} products."
            )
        fixed = [step for step in problem.steps if not self._has_weights(covered_nodes(step.candidates[0]))]
        if least_load(replace(problem, steps=tuple(fixed))) <= 1:
            yield "Fewer bits or a pruned network need less of everything."
        elif not total > dsps:
            yield "Smaller tensors: what has no weights is too large by itself."

    def _has_weights(self, nodes: tuple[str, ...]) -> bool:
        return any(isinstance(self.problem.graph.by_name[name].op, Linear) for name in nodes)


def _layers(found: Iterable[Products]) -> str:
    return ", ".join(dict.fromkeys(products.source for products in found))


def _known_systems() -> Iterator[System]:
    for name in list_systems():
        try:
            yield load_system(name)
        except ModelError:
            continue  # a file beside the known ones that is no system
