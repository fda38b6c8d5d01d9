"""A search with its journal and its workers, and what comes out of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from metronn.search.evaluate import Evaluation, Evaluator
from metronn.search.journal import Journal
from metronn.search.options import SearchOptions
from metronn.search.space import KnobKind, Layers, Point, Space, channel_space, key_of
from metronn.search.widths import BudgetSpentError, Search
from metronn.search.workers import Workers

SHARES = (0.5, 1.0)
"""Shares of the tolerance with which a search is done, one after the other."""
CHEAPEST = 3
"""So many widths are returned for each share."""
SAFER = 8
"""So many more, of less noise at more cost each: those held out are few, and what they accept may fail on all."""


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

    def accepts(self, metric: float, share: float = 1.0) -> bool:
        """Tell whether a metric is within this share of the tolerance."""
        return self.evaluator.loss(metric) <= share * self.tolerance

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
        if self.accepts(result.metric) and (self.best is None or result.cost < self.best.cost):
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
    """What a search found; `given` is the request as it stood, `uniform` the narrowest width for all that holds.

    `found` are widths that hold the metric on the held-out events: the cheapest with all of the tolerance first, then
    the cheapest with less of it, and so on; then some of less and less noise, to those of the least.
    """

    given: Evaluation
    uniform: Evaluation
    uniform_bits: int
    found: tuple[tuple[Layers, Evaluation], ...]
    evaluations: int
    known: int
    cut: bool


def run_search(space: Space, recorder: Recorder, options: SearchOptions, say: Callable[[str], None]) -> SearchResult:
    """Search layer by layer, then channel by channel if asked to.

    Raises InfeasibleError when not even the widest widths hold the metric.
    """
    run = _Run(recorder=recorder, options=options, say=say)
    given = recorder.judge([{}])[0]
    run.found[key_of({})] = ({}, given)
    cut = False
    try:
        uniform, bits, live = run.start(space)
        for share in SHARES:
            run.descend(live, share, [live.uniform(bits)])
        if options.per_channel:
            finer = run.channels(live)
            for share in SHARES:
                run.descend(finer, share, [(level,) * len(finer.knobs) for level in (0, 1)])
    except BudgetSpentError:
        cut = True
    return SearchResult(
        given=given,
        uniform=uniform,
        uniform_bits=bits,
        found=run.ordered(),
        evaluations=len(recorder.seen),
        known=recorder.known,
        cut=cut,
    )


@dataclass(slots=True, kw_only=True)
class _Run:
    """Spaces searched so far; `found` holds everything judged, by its key."""

    recorder: Recorder
    options: SearchOptions
    say: Callable[[str], None]
    searches: dict[int, Search] = field(default_factory=dict)
    found: dict[str, tuple[Layers, Evaluation]] = field(default_factory=dict)

    def _search(self, space: Space) -> Search:
        """Return the search of a space, the one already begun if there is one."""

        def judge(points: Sequence[Point]) -> Sequence[Evaluation]:
            layers = [space.layers(point) for point in points]
            results = self.recorder.judge(layers)
            self.found.update({key_of(x): (x, result) for x, result in zip(layers, results, strict=True)})
            return results

        made = Search(space=space, judge=judge, accepts=self.recorder.accepts, say=self.say)
        return self.searches.setdefault(id(space), made)

    def start(self, space: Space) -> tuple[Evaluation, int, Space]:
        """Return the narrowest uniform width that holds the metric, its evaluation, and the knobs that do something."""
        search = self._search(space)
        search.uniform(self.options.narrowest, self.options.widest)
        best = search.best()
        live = search.without_idle()
        again = self._search(live)
        again.evaluate([live.uniform(bits) for bits in range(self.options.widest, self.options.narrowest - 1, -1)])
        return best.evaluation, best.point[0], live

    def descend(self, space: Space, share: float, starts: Sequence[Point]) -> None:
        """Search with a share of the tolerance; from the best there is, or not at all where nothing holds."""
        search = self._search(space)
        search.accepts = lambda metric: self.recorder.accepts(metric, share)
        search.evaluate(starts)
        if search.accepted:
            self.say(f"with {share:.0%} of the tolerance: cost {search.best().evaluation.cost:,.0f}")
            search.descend()

    def channels(self, space: Space) -> Space:
        """Return the knobs of channels around the best widths of layers."""
        best = self._search(space).best()
        searched = {knob.layer for knob in space.knobs if knob.kind is KnobKind.WEIGHT}
        channels = {name: bits for name, bits in best.evaluation.channels.items() if name in searched}
        return channel_space(space.layers(best.point), channels, self.options.narrowest)

    def ordered(self) -> tuple[tuple[Layers, Evaluation], ...]:
        """Return the cheapest widths that hold the metric, for each share of the tolerance, then safer ones."""
        cheapest = sorted(self.found.items(), key=lambda item: (item[1][1].cost, item[1][1].noise, item[0]))
        picked: dict[str, tuple[Layers, Evaluation]] = {}
        graphs: set[str] = set()
        for share in (*reversed(SHARES), 0.0):
            several = [
                (key, value)
                for key, value in cheapest
                if self.recorder.accepts(value[1].metric, share) and value[1].graph not in graphs
            ]
            picked.update(several[:CHEAPEST])
            graphs.update(value[1].graph for _, value in several[:CHEAPEST])
        least = min((value[1].noise for value in picked.values()), default=0.0)
        safer: list[tuple[str, tuple[Layers, Evaluation]]] = []
        for key, value in cheapest:
            if key not in picked and self.recorder.accepts(value[1].metric) and value[1].noise < least:
                safer.append((key, value))
                least = value[1].noise
        places = dict.fromkeys(round(k * (len(safer) - 1) / SAFER) for k in range(1, SAFER + 1)) if safer else {}
        picked.update(safer[place] for place in places)
        return tuple(picked.values())
