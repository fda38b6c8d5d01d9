"""Images in time: what a layout is when its pixels come row by row, in steps that are the same everywhere."""

from __future__ import annotations

from dataclasses import dataclass

from metronn.plan.layout import Layout, boxes


@dataclass(frozen=True, slots=True, kw_only=True)
class Raster:
    """An image in time: pixel block j of row r, part s, arrives at sum(r * row_cycles) + j * block_cycles + parts[s].

    `lead`: number of axes before the last spatial one; `width`: pixels of a block; `blocks`: blocks of a row; `parts`:
    cycle and channels of each part of a block.
    """

    row_cycles: tuple[int, ...]
    block_cycles: int
    width: int
    blocks: int
    parts: tuple[tuple[int, tuple[int, ...]], ...]


def raster_of(layout: Layout, shape: tuple[int, ...]) -> Raster | None:
    """Return the layout of an image (*rows, columns, channels) as a raster, or None when it is none."""
    box = boxes(layout, shape) if len(shape) >= 2 else None
    if box is None or any(n != 1 for n in box.lens[:-2]):
        return None
    columns, width = shape[-2], box.lens[-2]
    blocks = -(-columns // width)
    where: dict[tuple[int, ...], list[tuple[int, tuple[int, ...]]]] = {}
    for lists, cycle in zip(box.indices, layout.cycles, strict=True):
        first = lists[-2][0]
        wanted = tuple(range(first, min(first + width, columns)))
        if first % width or lists[-2] != wanted:
            return None
        where.setdefault((*(rs[0] for rs in lists[:-2]), first // width), []).append((cycle, lists[-1]))
    origin = where.get((0,) * (len(shape) - 1))
    if origin is None or origin[0][0] != 0:
        return None
    parts = tuple(origin)
    steps = []
    for axis, n in enumerate((*shape[:-2], blocks)):
        unit = tuple(int(a == axis) for a in range(len(shape) - 1))
        if n > 1 and unit not in where:
            return None
        steps.append(where[unit][0][0] if n > 1 else 0)
    for place, found in where.items():
        base = sum(k * step for k, step in zip(place, steps, strict=True))
        if found != [(base + cycle, channels) for cycle, channels in parts]:
            return None
    return Raster(row_cycles=tuple(steps[:-1]), block_cycles=steps[-1], width=width, blocks=blocks, parts=parts)
