"""Post-training search of widths: the metric held within its tolerance at the least cost.

1. Uniform widths from the widest down; the narrowest above which every width holds is the start.
2. Rounds. Around the best point so far every knob is moved alone, by +1, -1 and -2 bits. Noise and cost are taken to be
   sums of what the knobs contribute; the points of least cost for a price of noise are found for a range of prices
   (each knob on its own), and the cheapest of them that holds the metric is found by bisection. Knobs whose bits are
   cheap for the noise they take away get wider in the same step: that is the way back from a wrong turn.
3. Polish. Bits are removed one at a time, and one bit is traded for another, while the metric holds.

The tolerance is not given away at once: all this is done with half of it, then with all. A point at the edge of what is
accepted is there by luck, and what surrounds it is not; points inside leave room to trade.

Noise at the outputs ranks; the metric alone accepts. There is no randomness, and what is judged next never depends on
the order in which results arrive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from metronn.errors import InfeasibleError
from metronn.search.evaluate import Evaluation
from metronn.search.space import Point, Space

MOVES = (1, -1, -2)
"""Bits by which a knob is moved alone in a round."""
PRICES = tuple(10.0 ** (k / 8) for k in range(-64, 65))
"""Prices of noise that are tried, relative to cost over noise of the point in the middle."""
PROBES = 4
"""Points judged at a time in a bisection: more would not be narrowed down any faster by few workers."""
WORTHWHILE = 0.002
"""A round that saves a smaller part of the cost is the last."""
ROUNDS = 8
PREFIXES = 6
TRADES = 12
"""Sets of removals, and trades of bits, judged at a time while polishing."""

Judge = Callable[[Sequence[Point]], Sequence[Evaluation]]


class BudgetSpentError(Exception):
    """No more evaluations are allowed; what was found so far is the result. Not for users."""


@dataclass(frozen=True, slots=True)
class Found:
    """A point that holds the metric."""

    point: Point
    evaluation: Evaluation


@dataclass(slots=True, kw_only=True)
class Search:
    """One search in one space. `accepts` says whether a metric is within the tolerance."""

    space: Space
    judge: Judge
    accepts: Callable[[float], bool]
    say: Callable[[str], None]
    judged: dict[Point, Evaluation] = field(default_factory=dict)

    @property
    def accepted(self) -> dict[Point, Evaluation]:
        """The points so far that hold the metric."""
        return {point: result for point, result in self.judged.items() if self.accepts(result.metric)}

    def evaluate(self, points: Sequence[Point]) -> Sequence[Evaluation]:
        """Judge points and remember them."""
        results = self.judge(points)
        self.judged.update(zip(points, results, strict=True))
        return results

    def best(self) -> Found:
        """Return the cheapest point that holds the metric; of equals, the one with the least noise."""
        accepted = self.accepted
        point = min(accepted, key=lambda p: (accepted[p].cost, accepted[p].noise, p))
        return Found(point, accepted[point])

    def uniform(self, narrowest: int, widest: int) -> None:
        """Find the start. Raises InfeasibleError when not even the widest holds the metric."""
        widths = list(range(widest, narrowest - 1, -1))
        results = self.evaluate([self.space.uniform(bits) for bits in widths])
        if not self.accepts(results[0].metric):
            raise InfeasibleError(
                f"search: widths of {widest} bits everywhere do not hold the metric: {results[0].metric:.6g} on the "
                "held-out events.\n  Allow wider ones with --widest, or a larger tolerance."
            )
        held = [bits for bits, result in zip(widths, results, strict=True) if self.accepts(result.metric)]
        self.say(f"uniform widths: {', '.join(str(bits) for bits in held)} bits hold the metric")

    def without_idle(self) -> Space:
        """Return the space without knobs that change nothing: alone at their narrowest, the graph stays the same."""
        widest = tuple(knob.high for knob in self.space.knobs)
        narrow = [(*widest[:i], knob.low, *widest[i + 1 :]) for i, knob in enumerate(self.space.knobs)]
        whole, *alone = self.evaluate([widest, *narrow])
        live = [knob for knob, result in zip(self.space.knobs, alone, strict=True) if result.graph != whole.graph]
        return Space(knobs=tuple(live), settled=self.space.settled)

    def descend(self) -> None:
        """Make rounds, then polish, from the best accepted point."""
        for number in range(1, ROUNDS + 1):
            before = self.best().evaluation.cost
            self._round()
            after = self.best().evaluation.cost
            self.say(f"round {number}: cost {after:,.0f}")
            if after > before * (1 - WORTHWHILE):
                break
        while True:
            before = self.best().evaluation.cost
            self._polish()
            after = self.best().evaluation.cost
            self.say(f"polish: cost {after:,.0f}")
            if after > before * (1 - WORTHWHILE):
                break

    # Rounds

    def _ladder(self, base: Point) -> dict[tuple[int, int], Evaluation]:
        """Judge every knob moved alone; by (knob, bits)."""
        moves = {
            (index, by): point
            for index in range(len(base))
            for by in MOVES
            if (point := self.space.moved(base, index, by)) is not None
        }
        return dict(zip(moves, self.evaluate(list(moves.values())), strict=True))

    def _round(self) -> None:
        best = self.best()
        ladder = self._ladder(best.point)
        path = self._path(best, ladder)
        low, high = -1, len(path)
        while high - low > 1:
            count = min(PROBES, high - low - 1)
            probes = sorted({low + (high - low) * (k + 1) // (count + 1) for k in range(count)} - {low})
            results = self.evaluate([path[k] for k in probes])
            good = [k for k, result in zip(probes, results, strict=True) if self.accepts(result.metric)]
            low = max(good, default=low)
            high = min((k for k in probes if k > low), default=high)

    def _path(self, base: Found, ladder: Mapping[tuple[int, int], Evaluation]) -> list[Point]:
        """Return the points of least cost for a price of noise, the quietest first, that promise to be cheaper."""
        changes = _changes(len(base.point), base.evaluation, ladder)
        unit = base.evaluation.cost / base.evaluation.noise if base.evaluation.noise > 0 else base.evaluation.cost
        found: dict[Point, float] = {}
        for price in sorted(PRICES, reverse=True):
            point = list(base.point)
            cost = 0.0
            for index, options in enumerate(changes):
                by, (_, saved) = min(
                    options.items(), key=lambda item: (item[1][0] * price * unit - item[1][1], -item[0])
                )
                point[index] += by
                cost -= saved
            if cost < 0:
                found.setdefault(tuple(point), cost)
        return [point for point in found if point != base.point]

    # Polish

    def _polish(self) -> None:
        """Remove or trade single bits."""
        best = self.best()
        ladder = self._ladder(best.point)
        cheaper = [
            (result.cost, key)
            for key, result in ladder.items()
            if key[1] < 0 and result.cost < best.evaluation.cost and self.accepts(result.metric)
        ]
        self._remove_together(best.point, [key for _, key in sorted(cheaper)])
        self.evaluate(self._trades(best, ladder))

    def _remove_together(self, base: Point, moves: Iterable[tuple[int, int]]) -> None:
        """Judge the first move, the first two, ... of those that hold the metric alone."""
        point, prefixes = base, []
        touched: set[int] = set()
        for index, by in moves:
            moved = None if index in touched else self.space.moved(point, index, by)
            if moved is not None:
                touched.add(index)
                point = moved
                prefixes.append(point)
        if len(prefixes) > 1:
            picked = sorted({1 + (len(prefixes) - 1) * k // PREFIXES for k in range(1, PREFIXES + 1)})
            self.evaluate([prefixes[k - 1] for k in picked if k > 1] + [prefixes[-1]])

    def _trades(self, base: Found, ladder: Mapping[tuple[int, int], Evaluation]) -> list[Point]:
        """Return points with one knob wider and another narrower that promise less cost, the least noise first."""
        changes = _changes(len(base.point), base.evaluation, ladder)
        promising = []
        for wider, up in enumerate(changes):
            for narrower, down in enumerate(changes):
                if wider == narrower or 1 not in up:
                    continue
                for by in (-1, -2):
                    if by in down and up[1][1] + down[by][1] > 0:
                        noise = up[1][0] + down[by][0]
                        promising.append((noise, wider, narrower, by))
        found = []
        for _, wider, narrower, by in sorted(promising)[:TRADES]:
            point = list(base.point)
            point[wider] += 1
            point[narrower] += by
            found.append(tuple(point))
        return found


def _changes(
    knobs: int, base: Evaluation, ladder: Mapping[tuple[int, int], Evaluation]
) -> list[dict[int, tuple[float, float]]]:
    """Return for each knob, by bits moved, how much noise it adds and how much cost it saves.

    A wider knob never counts as noisier, a narrower one never as quieter: what is measured beyond that is chance.
    """
    changes: list[dict[int, tuple[float, float]]] = [{0: (0.0, 0.0)} for _ in range(knobs)]
    for (index, by), result in ladder.items():
        noise = result.noise - base.noise
        noise = min(noise, 0.0) if by > 0 else max(noise, 0.0)
        changes[index][by] = (noise, base.cost - result.cost)
    return changes
