"""Formats per channel: where scales differ, each channel gets a binary exponent of its own.

A power of two in front of a channel is a label, not logic: the matrix that reads the channel takes the codes as they
are (`Linear.input_frac`). So inputs of different units, and channels that reach differently far, cost nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from metronn.ir.moves import element_index
from metronn.ir.ops import Add, Extremum, Movement, Multiply, Rewire, Window, operands
from metronn.ir.types import Range
from metronn.model.graph import Floats, RealGraph, RealLinear, RealNode
from metronn.quantize.calibrated.fixed import CLIPPED_BITS, covering_frac, exact_grid
from metronn.quantize.options import Calibration

Fracs = npt.NDArray[np.int64]

WASTED_BITS = 3
"""A channel that leaves more of its bits unused than this gets a format of its own."""
MAX_GROUPS = 64
"""An axis of more entries than this counts positions, not features, where there are other axes."""
EVENTS_AHEAD = 1e5
"""So many events are thought of when an automatic input is to cover more than calibration saw."""
LEAST_HEADROOM, MOST_HEADROOM = 2.0, 32.0
MOST_BEYOND = 8.0
"""Results of other events reach at most so many times as far as those of calibration."""
HEAVY, FARTHER = 3.0, 30.0
"""Tails of an index below HEAVY are heavy: results are to hold what FARTHER times as many events reach."""
GAIN = 10.0
"""Formats per channel are taken where they leave less than 1/GAIN of the noise of one format.

They are labels in unrolled matrices. In folds a multiplier serves several channels: unlike shifts behind it, or unlike
steps in front of it, take logic and cycles there.
"""


def reach(values: Floats) -> Floats:
    """Return the largest magnitude of each channel (the last axis)."""
    return np.asarray(np.abs(values.reshape(-1, values.shape[-1])).max(axis=0))


def covering_fracs(lows: Floats, highs: Floats, bits: int, *, signed: bool) -> Fracs:
    """Return the covering frac of each channel; one that is 0 throughout gets the least of the others."""
    fracs = np.array(
        [covering_frac(float(lo), float(hi), bits, signed=signed) for lo, hi in zip(lows, highs, strict=True)],
        dtype=np.int64,
    )
    live = (lows != 0) | (highs != 0)
    return np.where(live, fracs, fracs[live].min() if live.any() else fracs.max())


def feature_axis(shape: tuple[int, ...], values: Floats, bits: int) -> int | None:
    """Return the axis of `shape` whose entries need formats of their own: the last or the first one, or None.

    `values` have shape (events, *shape). An axis is taken where one format for all would leave some entry more than
    WASTED_BITS of its bits unused; of both, the one whose entries differ more.
    """
    best, most = None, WASTED_BITS
    for axis in dict.fromkeys((len(shape) - 1, 0)):
        if not shape or (len(shape) > 1 and shape[axis] > MAX_GROUPS):
            continue
        rows = np.moveaxis(values, axis + 1, -1).reshape(-1, shape[axis])
        fracs = covering_fracs(rows.min(axis=0), rows.max(axis=0), bits, signed=True)
        spread = int(fracs.max() - fracs.min())
        if spread > most:
            best, most = axis, spread
    return best


def spread_over(entries: list[Range], axis: int, shape: tuple[int, ...]) -> Range:
    """Return the range of a tensor whose elements have the formats of the entries along an axis."""
    place = np.broadcast_to(
        np.arange(shape[axis]).reshape([-1 if a == axis else 1 for a in range(len(shape))]), shape
    ).ravel()
    return Range(
        tuple(entries[k].lowest for k in place),
        tuple(entries[k].highest for k in place),
        tuple(entries[k].max_frac for k in place),
    )


def automatic_input(shape: tuple[int, ...], values: Floats, bits: int) -> Range:
    """Return the range of an input, (events, *shape), per feature where scales differ.

    The exact grid of the values where `bits` hold it, else `bits` that cover more than was seen: twice, or as far as
    100,000 events may reach by the tail of the values.
    """
    grid = exact_grid(values, bits)
    if grid is not None:
        return grid

    def one(part: Floats) -> Range:
        return exact_grid(part, bits) or covering(headroom(part) * part, bits)

    return _by_feature(shape, values, bits, one)


def headroom(values: Floats) -> float:
    """Return how much farther than these values other events may reach, as a factor."""
    reached = float(max(EVENTS_AHEAD / values.size, 1.0) ** (1 / tail_index(values)))
    return min(max(reached, LEAST_HEADROOM), MOST_HEADROOM)


def covering_input(shape: tuple[int, ...], values: Floats, bits: int) -> Range:
    """Return the range of an input, (events, *shape): `bits` that cover it, per feature where scales differ."""
    return _by_feature(shape, values, bits, lambda part: covering(part, bits))


def _by_feature(shape: tuple[int, ...], values: Floats, bits: int, one: Callable[[Floats], Range]) -> Range:
    axis = feature_axis(shape, values, bits)
    if axis is None:
        return one(values)
    features = np.moveaxis(values, axis + 1, 0)
    common = min(one(part).max_frac for part in features if part.any())
    return spread_over([one(part) if part.any() else Range.fixed(bits, common) for part in features], axis, shape)


def covering(values: Floats, bits: int, *, signed: bool | None = None) -> Range:
    """Return the full range of `bits` that covers the values; signed (None) where some are negative."""
    lo, hi = float(values.min()), float(values.max())
    signed = lo < 0 if signed is None else signed
    return Range.fixed(bits, covering_frac(lo, hi, bits, signed=signed), signed=signed)


def channel_noise(values: Floats, fracs: Fracs | int, bits: int, *, signed: bool) -> Floats:
    """Return the mean squared error of each channel (last axis) when rounded half up and saturated at these fracs."""
    full = Range.fixed(bits, 0, signed=signed)
    codes = np.ldexp(values, fracs)
    codes += 0.5
    np.floor(codes, out=codes)
    np.clip(codes, full.lowest, full.highest, out=codes)
    error = np.ldexp(codes, -np.asarray(fracs)) - values
    np.square(error, out=error)
    return np.asarray(error.reshape(-1, values.shape[-1]).mean(axis=0))


def activation_fracs(
    values: Floats,
    bits: int,
    *,
    signed: bool,
    method: Calibration,
    percentile: float,
    importance: Floats,
    codes: Fracs,
) -> Fracs | int:
    """Return the frac of a result's codes: one for all, or one for each channel where that leaves much less noise.

    Noise is the squared error of rounding and saturation, weighed by the `importance` of each channel (last axis): what
    its readers make of it. `codes` are the fracs of the channels before: where they differ, fracs that drop the same
    number of bits in every channel come first.
    """
    rows = with_tails(values.reshape(-1, values.shape[-1]) if values.ndim > 1 else values.reshape(-1, 1))

    def noise(fracs: Fracs | int) -> float:
        return float(importance @ channel_noise(rows, fracs, bits, signed=signed))

    one = _common_frac(rows, bits, signed=signed, method=method, percentile=percentile, importance=importance)
    own = _own_fracs(rows, bits, signed=signed, method=method, percentile=percentile)
    best: Fracs | int = one
    if int(codes.max() - codes.min()):
        first = int((own - codes).min())
        last = int((own - codes).max()) if method is Calibration.MSE else first
        following = [codes + drop for drop in range(first, last + 1)]
        best = min(following, key=noise)
        if noise(best) > GAIN * noise(one):
            best = one
    if int(own.max() - own.min()) > 1 and noise(best) > GAIN * noise(own):
        return own
    return best


def tail_index(values: Floats) -> float:
    """Return how steeply the magnitudes of values end: the exponent of a power law; large is steep.

    Of n values the largest and the k-th largest, k about n/20, differ by a factor k**(1/index) in a power law. Values
    that are 0 but for few say nothing: they count as steep.
    """
    sizes = np.abs(values).ravel()
    rank = min(len(sizes), max(10, len(sizes) // 20))
    largest, other = float(sizes.max()), float(np.partition(sizes, len(sizes) - rank)[len(sizes) - rank])
    return math.log(max(rank, 2)) / math.log(largest / other) if 0 < other < largest else math.inf


def with_tails(rows: Floats) -> Floats:
    """Return rows (events, channels) and two more: what other events reach to, where each channel ends.

    Of n events the largest is exceeded by one of n others: by 1/(2 ln n) of itself where tails are those of a normal
    distribution, by 1/(a - 1) where they follow a power law of index a; heavy tails are taken farther.
    """
    index = tail_index(rows)
    beyond = 1 + max(0.5 / math.log(max(len(rows), 3)), 1 / max(index - 1, 1 / MOST_BEYOND))
    if index < HEAVY:
        beyond = max(beyond, min(FARTHER ** min(1 / index, 1.0), MOST_BEYOND))
    return np.concatenate([rows, [rows.min(axis=0) * beyond, rows.max(axis=0) * beyond]])


def _own_fracs(rows: Floats, bits: int, *, signed: bool, method: Calibration, percentile: float) -> Fracs:
    """Return the frac that suits each channel best in the way `method` says."""
    first = covering_fracs(rows.min(axis=0), rows.max(axis=0), bits, signed=signed)
    match method:
        case Calibration.MAX:
            return first
        case Calibration.PERCENTILE:
            reached = np.percentile(np.abs(rows), percentile, axis=0)
            within = covering_fracs(-reached if signed else np.zeros_like(reached), reached, bits, signed=signed)
            return np.maximum(first, within)
        case Calibration.MSE:
            own, least = first, np.full(len(first), np.inf)
            for more in range(CLIPPED_BITS + 1):
                noise = channel_noise(rows, first + more, bits, signed=signed)
                own = np.where(noise < least, first + more, own)
                least = np.minimum(noise, least)
            return own


def _common_frac(
    rows: Floats, bits: int, *, signed: bool, method: Calibration, percentile: float, importance: Floats
) -> int:
    first = covering_frac(float(rows.min()), float(rows.max()), bits, signed=signed)
    match method:
        case Calibration.MAX:
            return first
        case Calibration.PERCENTILE:
            reached = float(np.percentile(np.abs(rows), percentile))
            within = covering_frac(-reached if signed else 0.0, reached, bits, signed=signed) if reached > 0 else first
            return max(first, within)
        case Calibration.MSE:
            tried = range(first, first + CLIPPED_BITS + 1)
            return min(tried, key=lambda f: float(importance @ channel_noise(rows, f, bits, signed=signed)))


def importance(
    graph: RealGraph, values: Mapping[str, Floats], constants: Mapping[str, Floats], node: RealNode
) -> Floats:
    """Return how much noise in each channel (last axis) of a value counts for its readers, 1 on average.

    For a matrix, directly or behind movement, ReLUs and constants, it is the sum of the squared weights of the channel,
    each relative to the power of the result it goes to. Other readers take all channels alike.
    """
    weights = _element_importance(graph, values, constants, node)
    channels = weights.reshape(-1, node.shape[-1]).mean(axis=0) if node.shape else weights.reshape(1)
    mean = float(channels.mean())
    return channels / mean if mean > 0 else np.ones_like(channels)


def _element_importance(
    graph: RealGraph, values: Mapping[str, Floats], constants: Mapping[str, Floats], node: RealNode
) -> Floats:
    total = np.zeros(node.shape)
    readers = graph.uses[node.name]
    for user in readers:
        reader = graph.by_name[user]
        part = np.ones(node.shape)
        match reader.op:
            case RealLinear():
                power = np.square(values[user].reshape(-1, reader.shape[-1])).mean(axis=0)
                gains = np.square(reader.op.weight.array) @ np.where(power > 0, 1 / np.where(power > 0, power, 1), 0.0)
                part = np.broadcast_to(gains, node.shape)
            case Rewire() | Window():
                index = _index(reader.op, graph, node)
                behind = _element_importance(graph, values, constants, reader).ravel()
                counted = np.bincount(index[index >= 0], behind[index >= 0], minlength=math.prod(node.shape))
                part = counted.astype(np.float64).reshape(node.shape)
            case Add() | Extremum() | Multiply():
                other = reader.op.y if reader.op.x == node.name else reader.op.x
                if other in constants and reader.shape == node.shape:
                    part = _element_importance(graph, values, constants, reader)
                    if isinstance(reader.op, Multiply):
                        part = part * np.square(constants[other])
            case _:
                pass
        mean = float(part.mean())
        total += part / mean if mean > 0 else np.ones(node.shape)
    return total if readers else np.ones(node.shape)


def _index(op: Movement, graph: RealGraph, node: RealNode) -> npt.NDArray[np.int64]:
    """Return for each element behind a movement the element of the node that it is, or -1."""
    shapes = [graph.by_name[x].shape for x in operands(op)]
    index = element_index(op, shapes).ravel().astype(np.int64)
    own = np.full(index.shape, -1, dtype=np.int64)
    start = 0
    for x, shape in zip(operands(op), shapes, strict=True):
        count = math.prod(shape)
        if x == node.name:
            inside = (index >= start) & (index < start + count)
            own = np.where(inside, index - start, own)
        start += count
    return own
