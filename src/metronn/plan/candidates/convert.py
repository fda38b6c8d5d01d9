"""From one layout of a value to another: which kernel does it, and when it cannot be done."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np

from metronn.ir.graph import Graph
from metronn.plan.kernels.spec import Gather, KernelSpec, Reorder
from metronn.plan.kernels.waiting.taps import taps_of
from metronn.plan.layout import Layout

MOST_CHOICES = 4096
"""Slots times choices of a Reorder that is not a queue: beyond that its multiplexers are no design."""

QUEUE_CYCLES = 2
"""Cycles a beat stays at least in a queue (write, registered read)."""

_CACHE: OrderedDict[tuple[int, str, Layout, Layout, int], tuple[Graph, KernelSpec | None]] = OrderedDict()


def conversion(graph: Graph, value: str, source: Layout, wanted: Layout, ii_cycles: int = 0) -> KernelSpec | None:
    """Return the kernel that brings the value from one layout into another, or None when there is none."""
    key = (id(graph), value, source, wanted, ii_cycles)
    entry = _CACHE.get(key)
    if entry is not None and entry[0] is graph:
        return entry[1]
    made = _conversion(graph, value, source, wanted, ii_cycles)
    _CACHE[key] = (graph, made)
    if len(_CACHE) > 4096:
        _CACHE.popitem(last=False)
    return made


def _conversion(graph: Graph, value: str, source: Layout, wanted: Layout, period: int) -> KernelSpec | None:
    if source == wanted:
        raise ValueError(f"{value}: is in the wanted layout")
    if wanted.is_parallel:
        return Gather(value=value, layout=source)
    if source.is_parallel and len(graph.type_of(value).shape) == 1:
        return None  # a vector that is there at once is read at once (FoldOutputs)
    offset = _offset(source, wanted)
    if source.beats == wanted.beats:
        return Reorder(value=value, layout=source, output=wanted, offset=offset + QUEUE_CYCLES, period=period)
    spec = Reorder(value=value, layout=source, output=wanted, offset=offset, period=period)
    taps = taps_of(spec, graph)
    if sum(len(some) for some in taps.sources) > MOST_CHOICES:
        return None
    return spec


def _offset(source: Layout, wanted: Layout) -> int:
    """Cycles after the source's first beat at which the wanted layout can begin."""
    arrival, leave = np.zeros(source.size, dtype=np.int64), np.zeros(source.size, dtype=np.int64)
    for cycle, beat in zip(source.cycles, source.beats, strict=True):
        arrival[np.asarray(beat)] = cycle
    for cycle, beat in zip(wanted.cycles, wanted.beats, strict=True):
        leave[np.asarray(beat)] = cycle
    return max(0, int((arrival - leave).max()))
