"""Layouts in time: how an image comes in, and the same value spread evenly, joined, or split into parts."""

from __future__ import annotations

import math
from functools import lru_cache

from metronn.plan.layout import Layout
from metronn.plan.raster import Raster, raster_of


def raster_layout(shape: tuple[int, ...], ii_cycles: int) -> Layout | None:
    """Return the layout in which an image (*rows, columns, channels) arrives in raster order over the II, evenly.

    A beat holds as few neighbouring pixels of one row as still fit the II, a divisor of the columns where possible.
    None when not even one row a cycle fits, or when everything is one beat anyway.
    """
    if len(shape) < 2 or ii_cycles < 2:
        return None
    rows, columns, channels = math.prod(shape[:-2]), shape[-2], shape[-1]
    fitting = [width for width in range(1, columns + 1) if rows * -(-columns // width) <= ii_cycles]
    if not fitting or rows * columns == 1:
        return None
    width = next((w for w in fitting if columns % w == 0), fitting[0])
    blocks = -(-columns // width)
    if rows * blocks == 1:
        return None
    beats = []
    for row in range(rows):
        for block in range(blocks):
            first = (row * columns + block * width) * channels
            last = (row * columns + min(columns, (block + 1) * width)) * channels
            beats.append(tuple(range(first, last)))
    spacing = ii_cycles // len(beats)
    return Layout(tuple(beats), tuple(spacing * k for k in range(len(beats))))


def _period(raster: Raster, rows: int, ii_cycles: int) -> int:
    """Cycles a row may take: until the next one begins."""
    steps = [step for step in raster.row_cycles if step]
    return min(steps) if steps else ii_cycles // max(rows, 1)


@lru_cache(maxsize=512)
def evenly(layout: Layout, shape: tuple[int, ...], ii_cycles: int) -> Layout | None:
    """Return the same beats with the blocks of each row, and the parts of each block, spread over the row's time.

    None when the layout is no raster, or spread as evenly already.
    """
    raster = raster_of(layout, shape)
    if raster is None:
        return None
    rows = _places(raster, shape)
    room = min(_period(raster, math.prod(shape[:-2]), ii_cycles), ii_cycles - rows[-1][1])
    step = max(1, room // raster.blocks)
    parts = len(raster.parts)
    spread = max(1, step // parts)
    if raster.blocks > 1 and step < raster.block_cycles:
        return None
    cycles: list[int] = []
    for place, cycle in rows:
        cycles.extend(cycle + place * step + spread * k for k in range(parts))
    made = tuple(cycles)
    if made == layout.cycles or any(b <= a for a, b in zip(made, made[1:], strict=False)):
        return None
    return Layout(layout.beats, made)


def _places(raster: Raster, shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """Block number and cycle of the row's begin, for every block in order."""
    found = [(0, 0)]
    for n, step in zip(shape[:-2], raster.row_cycles, strict=True):
        found = [(0, cycle + k * step) for _, cycle in found for k in range(n)]
    return [(block, cycle) for _, cycle in found for block in range(raster.blocks)]


@lru_cache(maxsize=512)
def whole_blocks(layout: Layout, shape: tuple[int, ...]) -> Layout | None:
    """Return the layout in which the parts of each block leave together, with the last of them; None if they do."""
    raster = raster_of(layout, shape)
    if raster is None or len(raster.parts) == 1:
        return None
    count = len(raster.parts)
    beats = []
    for start in range(0, layout.beat_count, count):
        beats.append(tuple(sorted(k for beat in layout.beats[start : start + count] for k in beat)))
    return Layout(tuple(beats), layout.cycles[::count])


@lru_cache(maxsize=512)
def split_beats(layout: Layout, ii_cycles: int) -> Layout | None:
    """Return the layout with each beat cut into as many equal parts as there are cycles until the next; None if none.

    For a vector whose elements meet other weights in every beat: fewer at a time need fewer multipliers.
    """
    gaps = [b - a for a, b in zip(layout.cycles, layout.cycles[1:], strict=False)]
    gap = min([*gaps, max(1, ii_cycles - layout.cycles[-1])])
    most = layout.slot_count
    count = min(gap, most)
    if count < 2:
        return None
    width = -(-most // count)
    count = -(-most // width)
    step = gap // count
    beats, cycles = [], []
    for cycle, beat in zip(layout.cycles, layout.beats, strict=True):
        for part in range(0, len(beat), width):
            beats.append(beat[part : part + width])
            cycles.append(cycle + step * (part // width))
    return Layout(tuple(beats), tuple(cycles))
