"""A search with its journal and its workers, and what comes out of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from metronn.quantize.journal import Journal
from metronn.quantize.search import BudgetSpentError, Search
from metronn.quantize.search_evaluate import Evaluation, Evaluator
from metronn.quantize.search_space import KnobKind, Layers, Point, Space, channel_space, key_of
from metronn.quantize.search_workers import Workers


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of a search: widths in bits, and evaluations, those found in the journal included."""

    narrowest: int = 2
    widest: int = 12
    evaluations: int = 2000
    per_channel: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a search is: evaluations so far (`known` of them from the journal), and the least cost that holds."""

    evaluations: int
    known: int
    best_cost: float | None
    best_metric: float | None


@dataclass(slots=True, kw_only=True)
class Recorder:
    """Judges widths: known ones from the journal, new ones by the workers, each written down as soon as it is there."""

    evaluator: Evaluator
    workers: Workers
    journal: Journal
    limit: int
    tolerance: float
    show: Callable[[Progress], None]
    seen: dict[str, Evaluation] = field(default_factory=dict)
    known: int = 0
    best: Evaluation | None = None

    def judge(self, several: Sequence[Layers]) -> list[Evaluation]:
        """Judge widths. Raises BudgetSpentError when that takes more evaluations than allowed."""
        keys = [key_of(layers) for layers in several]
        missing: dict[str, Layers] = {}
        for key, layers in zip(keys, several, strict=True):
            if key in self.seen or key in missing:
                continue
            found = self.journal.get(key)
            if found is None:
                missing[key] = layers
            else:
                self.known += 1
                self._take(key, Evaluation.from_json(found))
        if len(self.seen) + len(missing) > self.limit:
            raise BudgetSpentError
        names = list(missing)
        for index, result in self.workers.run(list(missing.values())):
            self.journal.put(names[index], result.to_json())
            self._take(names[index], result)
        return [self.seen[key] for key in keys]

    def _take(self, key: str, result: Evaluation) -> None:
        self.seen[key] = result
        holds = self.evaluator.loss(result.metric) <= self.tolerance
        if holds and (self.best is None or result.cost < self.best.cost):
            self.best = result
        best = self.best
        self.show(
            Progress(
                evaluations=len(self.seen),
                known=self.known,
                best_cost=None if best is None else best.cost,
                best_metric=None if best is None else best.metric,
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """Widths that hold the metric on the held-out events, cheapest first; `given` is the request as it stood."""

    given: Evaluation
    uniform: Evaluation
    uniform_bits: int
    found: tuple[tuple[Layers, Evaluation], ...]
    evaluations: int
    known: int
    cut: bool


def run_search(space: Space, recorder: Recorder, limits: Limits, say: Callable[[str], None]) -> SearchResult:
    """Search layer by layer, then channel by channel if asked to.

    Raises InfeasibleError when not even the widest widths hold the metric.
    """

    def accepts(metric: float) -> bool:
        return recorder.evaluator.loss(metric) <= recorder.tolerance

    def judge_in(some: Space) -> Callable[[Sequence[Point]], Sequence[Evaluation]]:
        return lambda points: recorder.judge([some.layers(point) for point in points])

    found: dict[str, tuple[Layers, Evaluation]] = {}

    def collect(some: Search) -> None:
        for point, evaluation in some.accepted.items():
            layers = some.space.layers(point)
            found.setdefault(key_of(layers), (layers, evaluation))

    given = recorder.judge([{}])[0]
    cut = False
    first = Search(space=space, judge=judge_in(space), accepts=accepts, say=say)
    first.uniform(limits.narrowest, limits.widest)
    uniform = first.best()
    live = first.without_idle()
    collect(first)
    bits = uniform.point[0]
    first = Search(space=live, judge=judge_in(live), accepts=accepts, say=say)
    first.evaluate([live.uniform(bits)])
    if accepts(given.metric):
        found[key_of({})] = ({}, given)
    second: Search | None = None
    try:
        first.descend()
        if limits.per_channel:
            best = first.best()
            searched = {knob.layer for knob in live.knobs if knob.kind is KnobKind.WEIGHT}
            channels = {name: bits for name, bits in best.evaluation.channels.items() if name in searched}
            finer = channel_space(live.layers(best.point), channels, limits.narrowest)
            second = Search(space=finer, judge=judge_in(finer), accepts=accepts, say=say)
            second.evaluate([(0,) * len(finer.knobs)])
            if second.accepted:
                second.descend()
    except BudgetSpentError:
        cut = True
    collect(first)
    if second is not None:
        collect(second)
    ordered = sorted(found.items(), key=lambda item: (item[1][1].cost, item[1][1].noise, item[0]))
    return SearchResult(
        given=given,
        uniform=uniform.evaluation,
        uniform_bits=bits,
        found=tuple(value for _, value in ordered),
        evaluations=len(recorder.seen),
        known=recorder.known,
        cut=cut,
    )
