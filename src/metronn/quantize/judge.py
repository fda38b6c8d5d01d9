"""How much of an output's signal is left in fixed point: by element, by event, or as decisions that stayed the same.

One ratio over everything hides losses: a loud element hides a quiet one, an offset counts as signal, one huge event
outweighs all others. So every element is judged against its own variation, and every event for itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from metronn.errors import ModelError
from metronn.ir.arrays import Array
from metronn.model.graph import Floats

OUTLYING = 0.005
"""Share of the events, at least one, that an element is judged without: those farthest from its median."""
WORST = 0.99
"""The 1 % worst events are those above this quantile of the events' noise."""
RESOLUTION = 2.0**-15
"""Step of a signed 16-bit code, relative to what it reaches."""
CONSTANT = 100
"""An element whose standard deviation is below so many of these steps counts as constant."""
FEWEST = 8
"""With fewer events the variation of an element cannot be told: all elements are judged by the power of the whole."""
NAMED = 8
"""So many constant elements are named; all are counted."""
DECISIONS = 256
"""An output of whole numbers is one of decisions when none is larger than this: classes, signs, flags."""
FEW_DECISIONS = 20
"""From so many events on, one decision that differs is never too many."""
FAR_OUT = 9.0
"""An event farther from the median than three standard deviations is judged by its own distance."""
PROBABILITY = 0.01
"""A probability counts as varying by this at least: what is rarer is rare."""
TINY = 1e-300
LEAST_DB = -300.0
"""What a ratio is when there is no signal at all."""
CHUNK = 1 << 20
"""Values looked at together."""

Element = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """One output on the events that judge it; ratios in dB, larger is better, None where nothing differs.

    `sqnr_db` and `max_error` are those of all values together. `element_db` is that of the worst element, without the
    0.5 % of events where the float answer is farthest from its median: its error is relative to what is usual for it
    (`Typical`), so that few huge events do not hide the loss of the others. An element that hardly varies (`CONSTANT`)
    is judged by its mean square, and listed in `constants`, the first `NAMED` of `constant_count`. Probabilities,
    answers within [0, 1], count as varying by 1/100 at least. The noise of an event is the mean over elements of the
    relative squared error; `median_db` is that of the median event (or relative to the events' own answers, where that
    is worse), `worst_db` that of the event at the 99th percentile, and `worst_event` (position among all events given)
    the noisiest of all, with its worst element there.

    `decision`: float and fixed answers are small whole numbers: an argmax, a sign, a threshold. A ratio
    says nothing there; `differing` events count. `excluded` events were not looked at.
    """

    events: int
    excluded: int
    sqnr_db: float | None
    max_error: float
    element_db: float | None
    element: Element
    median_db: float | None
    worst_db: float | None
    worst_event: int
    worst_event_db: float | None
    worst_element: Element
    worst_float: float
    worst_fixed: float
    constant_count: int
    constants: tuple[Element, ...]
    decision: bool
    differing: int

    def lost(self, min_db: float) -> bool:
        """Whether everything together, the worst element, the median event or the worst 1 % keep less than `min_db`.

        Of decisions, a share of 10**(-min_db / 10) may differ: 1 % for 20 dB.
        """
        if self.decision:
            allowed = max(allowed_share(min_db) * self.events, 1 if self.events >= FEW_DECISIONS else 0)
            return self.differing > allowed
        return self.least_db is not None and self.least_db < min_db

    @property
    def least_db(self) -> float | None:
        """The smallest of the ratios that judge."""
        ratios = (self.sqnr_db, self.element_db, self.median_db, self.worst_db)
        return min((ratio for ratio in ratios if ratio is not None), default=None)

    def words(self) -> str:
        """Return the signal in a few words for a line of text."""
        if self.decision:
            return f"{100 * self.differing / self.events:.3g} % of the decisions differ" if self.differing else "exact"
        if self.sqnr_db is None:
            return "exact"
        return (
            f"{self.sqnr_db:.1f} dB (worst 1 % of events {decibels(self.worst_db)}, "
            f"{element_name(self.element)} {decibels(self.element_db)})"
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain data; every number is finite."""
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Signal | None:
        """Read what `to_json` wrote, among other keys or as JSON gives it back; None when it is not all there."""
        names = Signal.__dataclass_fields__
        if not all(name in data for name in names):
            return None
        values = {name: data[name] for name in names}
        for name in ("element", "worst_element"):
            values[name] = tuple(values[name])
        values["constants"] = tuple(tuple(element) for element in values["constants"])
        return Signal(**values)


def allowed_share(min_db: float) -> float:
    """Return the share of decisions that may differ."""
    return float(min(1.0, 10.0 ** (-max(min_db, 0.0) / 10)))


def decibels(value: float | None) -> str:
    """Return a ratio in words."""
    return "exact" if value is None else f"{value:.1f} dB"


def element_name(element: Element) -> str:
    """Return an element in words: `element 3`, `element (1, 2)`, or `the one element` of a scalar."""
    if not element:
        return "the one element"
    return f"element {element[0]}" if len(element) == 1 else f"element {element}"


def judge(name: str, reference: Floats, fixed: Floats, excluded: Array | None = None) -> Signal:
    """Judge fixed answers by float answers, both of shape (events, *shape), in the model's units.

    `excluded` masks events that do not count, such as outliers that saturate by decision; when it masks all, none is
    left out. Raises ModelError that names the output when a float answer is NaN or infinite.
    """
    shape = reference.shape[1:]
    total = len(reference)
    positions = np.arange(total)
    if excluded is not None and not excluded.all():
        positions = np.flatnonzero(~excluded)
    # A slice or nothing instead of an index where possible: large outputs are not copied.
    rows = slice(None) if len(positions) == total else positions
    r = np.asarray(reference, dtype=np.float64).reshape(total, -1)[rows]
    f = np.asarray(fixed, dtype=np.float64).reshape(total, -1)[rows]
    bad = ~np.isfinite(r)
    if bad.any():
        event = int(positions[int(np.argwhere(bad)[0][0])])
        raise ModelError(
            f"output {name}: the float network gives {int(bad.sum())} NaN or infinite values on the events that judge "
            f"it, the first in event {event}"
        )
    # Powers of two change no ratio, and keep squares of any unit within float64.
    reach = max(float(np.abs(r).max(initial=0.0)), float(np.abs(f).max(initial=0.0)))
    scale = math.ldexp(1.0, min(1000, -math.frexp(reach)[1])) if reach else 1.0
    noise = _noise(r, f, scale)
    event = int(noise.event.argmax())
    different = (r != f).any(axis=1)
    equal = not different.any()
    element = int(noise.element.argmax())
    constants = np.flatnonzero(noise.constant)
    return Signal(
        events=len(r),
        excluded=total - len(r),
        sqnr_db=None if equal else _ratio(float(noise.event_power.sum()), float(noise.event_noise.sum()), exact=False),
        max_error=float(np.abs(r - f).max(initial=0.0)),
        element_db=_ratio(1.0, float(noise.element[element])),
        element=_position(element, shape),
        median_db=_ratio(1.0, noise.median),
        worst_db=_ratio(1.0, float(np.quantile(noise.event, WORST, method="lower"))),
        worst_event=int(positions[event]),
        worst_event_db=_ratio(1.0, float(noise.event[event])),
        worst_element=_position(int(noise.worst[event]), shape),
        worst_float=float(r[event, noise.worst[event]]),
        worst_fixed=float(f[event, noise.worst[event]]),
        constant_count=len(constants),
        constants=tuple(_position(int(k), shape) for k in constants[:NAMED]),
        decision=_decides(r, f),
        differing=int(different.sum()),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Typical:
    """What is usual for each element: its `median`, and the `power` of its variation over most events.

    An event's error counts relative to `power`, or to a ninth of the square of the event's own distance from the median
    where that is more: events far out are judged by what they are, and do not hide what the others lose. `reach` is
    how far the usual events reach; elements in `constant` hardly vary.
    """

    median: Floats
    power: Floats
    constant: Array
    reach: Floats

    def noise(self, values: Floats, error: Floats) -> Floats:
        """Return the squared errors of values (elements, events) relative to what counts."""
        counts = np.square(values - self.median[:, np.newaxis])
        counts /= FAR_OUT
        np.maximum(counts, np.maximum(self.power, TINY)[:, np.newaxis], out=counts)
        return np.asarray(np.square(error) / counts)

    def kept(self, values: Floats) -> Array:
        """Return which events of values (elements, events) are not the 0.5 % farthest from their median."""
        return _near(values, self.median)


def typical(values: Floats) -> Typical:
    """Return what is usual for the elements of (elements, events).

    Power is the variance without the 0.5 % of events farthest from the median, or that of a normal distribution with
    the same quartiles (or 5 % and 95 % quantiles) where that is less. An element that hardly varies (`CONSTANT`) has
    its mean square. With fewer than 8 events it is the mean square of all elements.
    """
    elements, events = values.shape
    if events < FEWEST:
        power = np.full(elements, float(np.square(values).mean()) if values.size else 0.0)
        constant = np.zeros(elements, dtype=np.bool_)
        return Typical(median=np.zeros(elements), power=power, constant=constant, reach=np.abs(values).max(axis=1))
    low, first, median, third, high = np.quantile(values, (0.05, 0.25, 0.5, 0.75, 0.95), axis=1)
    kept = _near(values, median)
    number = kept.sum(axis=1)
    mean = (values * kept).sum(axis=1) / number
    variance = (np.square(values - mean[:, np.newaxis]) * kept).sum(axis=1) / number
    square = (np.square(values) * kept).sum(axis=1) / number
    reach = (np.abs(values) * kept).max(axis=1)
    inner, outer = np.square((third - first) / 1.349), np.square((high - low) / 3.29)
    usual = np.where(inner > 0, inner, np.where(outer > 0, outer, variance))
    floor = np.square(CONSTANT * RESOLUTION * reach)
    constant = variance <= floor
    power = np.maximum(np.where(constant, square, np.minimum(variance, usual)), floor)
    return Typical(median=median, power=power, constant=np.asarray(constant), reach=reach)


def _near(values: Floats, median: Floats) -> Array:
    events = values.shape[1]
    if events < FEWEST:
        return np.ones(values.shape, dtype=np.bool_)
    far = np.abs(values - median[:, np.newaxis])
    last = events - math.ceil(OUTLYING * events) - 1
    return np.asarray(far <= np.partition(far, last, axis=1)[:, last, np.newaxis])


def usual_of_all(values: Floats) -> Typical:
    """Return what is usual for all elements of an output, (elements, events), beside each other.

    Probabilities, within [0, 1] and above 1/2 in some event, count as varying by 1/100 at least; what is below 2**-20
    of the largest element is nothing.
    """
    parts = [typical(values[some]) for some in _chunks(*values.shape)]
    median, power, constant, reach = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("median", "power", "constant", "reach")
    )
    least = float(reach.max(initial=0.0)) * 2.0**-20
    return Typical(median=median, power=np.maximum(power, least**2), constant=constant, reach=reach)


def are_probabilities(values: Floats) -> bool:
    """Whether all values lie within [0, 1], and some above 1/2."""
    return values.size > 0 and float(values.min()) >= 0 and 0.5 < float(values.max()) <= 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Noise:
    """Noise by element and by event, relative to what counts; power and noise of events, in a power of two as unit."""

    element: Floats
    constant: Array
    event: Floats
    worst: Array
    event_power: Floats
    event_noise: Floats

    @property
    def median(self) -> float:
        """Noise of the median event, relative to what is usual or to the event's own answers, whichever is more."""
        own = self.event_noise / np.maximum(self.event_power, TINY)
        return max(float(np.median(self.event)), float(np.median(own)))


def _chunks(elements: int, events: int) -> list[slice]:
    step = max(1, CHUNK // max(1, events))
    return [slice(start, min(start + step, elements)) for start in range(0, elements, step)]


def _noise(r: Floats, f: Floats, scale: float) -> _Noise:
    """Measure; an element's noise leaves out the 0.5 % of events where the float answer is farthest from its median."""
    events, count = r.shape
    # An element's events side by side in memory: several times faster than strides over them.
    x = np.ascontiguousarray(r.T) * scale
    usual = usual_of_all(x)
    least = (PROBABILITY * scale) ** 2 if are_probabilities(r) else 0.0
    element, event_power, event_noise = np.zeros(count), np.zeros(events), np.zeros(events)
    event, largest, worst = np.zeros(events), np.full(events, -1.0), np.zeros(events, dtype=np.int64)
    for some in _chunks(count, events):
        error = x[some] - np.ascontiguousarray(f[:, some].T) * scale
        event_power += np.square(x[some]).sum(axis=0)
        event_noise += np.square(error).sum(axis=0)
        own = Typical(
            median=usual.median[some],
            power=np.maximum(usual.power[some], least),
            constant=usual.constant[some],
            reach=usual.reach[some],
        )
        relative = own.noise(x[some], error)
        event += relative.sum(axis=0)
        at = relative.argmax(axis=0)
        here = relative[at, np.arange(events)]
        worst = np.where(here > largest, at + some.start, worst)
        largest = np.maximum(largest, here)
        kept = own.kept(x[some])
        element[some] = (relative * kept).sum(axis=1) / kept.sum(axis=1)
    return _Noise(
        element=element,
        constant=usual.constant,
        event=event / max(1, count),
        worst=worst,
        event_power=event_power,
        event_noise=event_noise,
    )


def _ratio(power: float, noise: float, *, exact: bool | None = None) -> float | None:
    if noise == 0 if exact is None else exact:
        return None
    return max(10 * math.log10(max(power, TINY) / max(noise, TINY)), LEAST_DB)


def _position(element: int, shape: tuple[int, ...]) -> Element:
    return tuple(int(n) for n in np.unravel_index(element, shape)) if shape else ()


def _decides(r: Floats, f: Floats) -> bool:
    return all(bool((x == np.rint(x)).all()) and float(np.abs(x).max(initial=0.0)) <= DECISIONS for x in (r, f))
