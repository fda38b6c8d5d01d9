"""From one layout of a value to another: which kernel does it, and when it cannot be done."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from metronn.plan.kernels.kernels import Kernels
from metronn.plan.kernels.spec import Gather, Reorder
from metronn.plan.kernels.waiting.gather import PlannedGather
from metronn.plan.kernels.waiting.window_buffer import PlannedReorder
from metronn.plan.layout import Layout

MOST_CHOICES = 4096
"""Slots times choices of a Reorder that is not a queue: beyond that its multiplexers are no design."""

QUEUE_CYCLES = 2
"""Cycles a beat stays at least in a queue (write, registered read)."""


def conversion(
    kernels: Kernels, value: str, source: Layout, wanted: Layout, ii_cycles: int = 0
) -> PlannedGather | PlannedReorder | None:
    """Return the kernel that brings the value from one layout into another, or None when there is none."""
    if source == wanted:
        raise ValueError(f"{value}: is in the wanted layout")
    if wanted.is_parallel:
        return kernels.of(Gather(value=value, layout=source))
    if source.is_parallel and len(kernels.graph.type_of(value).shape) == 1:
        return None  # a vector that is there at once is read at once (FoldOutputs)
    queued = QUEUE_CYCLES if source.beats == wanted.beats else 0
    offset = _offset(source, wanted) + queued
    made = kernels.of(Reorder(value=value, layout=source, output=wanted, offset=offset, period=ii_cycles))
    if not queued and sum(len(some) for some in made.taps.sources) > MOST_CHOICES:
        return None
    return made


@lru_cache(maxsize=4096)
def _offset(source: Layout, wanted: Layout) -> int:
    """Cycles after the source's first beat at which the wanted layout can begin."""
    arrival, leave = np.zeros(source.size, dtype=np.int64), np.zeros(source.size, dtype=np.int64)
    for cycle, beat in zip(source.cycles, source.beats, strict=True):
        arrival[np.asarray(beat)] = cycle
    for cycle, beat in zip(wanted.cycles, wanted.beats, strict=True):
        leave[np.asarray(beat)] = cycle
    return max(0, int((arrival - leave).max()))
