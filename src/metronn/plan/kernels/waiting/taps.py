"""Elements waiting for their beat: which slot of which input, how many cycles ago, makes each slot of an output beat.

Sliding windows, strides, padding, crops, splits into more beats and joins of several streams are all this: every slot
of the output is, in every beat, an input slot as it was a number of cycles before, or the padding. Where the number is
the same in all beats the slot is a tap of a delay line; where it is not, the beat chooses among a few taps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from metronn.ir.graph import Graph
from metronn.ir.moves import composed
from metronn.ir.ops import Constant, Padding, Rewire, Window
from metronn.ir.windows import window_index
from metronn.plan.kernels.slices import NotStreamableError
from metronn.plan.kernels.spec import Reorder, WindowBuffer
from metronn.plan.layout import Layout
from metronn.plan.raster import raster_of as raster_of  # the template of windows in HLS reads it from here

Index = npt.NDArray[np.int64]

PADDING, UNUSED = -1, -2
"""In `Taps.select`: the slot holds the padding in this beat; the slot is not used in this beat."""


@dataclass(frozen=True, slots=True)
class Tap:
    """Slot `slot` of input `operand` (port number), `delay` cycles before the output beat."""

    operand: int
    slot: int
    delay: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Taps:
    """`sources[slot]`: the different taps of an output slot. `select[beat, slot]`: which of them, PADDING or UNUSED.

    `fill`: integer code of the padding.
    """

    sources: tuple[tuple[Tap, ...], ...]
    select: Index
    fill: int

    @property
    def chooses(self) -> bool:
        """Whether any slot holds different things in different beats: a register follows the choice."""
        padded, held = (self.select == PADDING).any(axis=0), (self.select >= 0).any(axis=0)
        return bool((padded & held).any()) or any(len(taps) > 1 for taps in self.sources)


def element_map(spec: WindowBuffer | Reorder, graph: Graph) -> tuple[tuple[str, ...], Index]:
    """Operands in port order, and for each output element the element of the joined operands it holds, or -1."""
    if isinstance(spec, Reorder):
        return (spec.value,), np.arange(graph.type_of(spec.value).size)
    return _moved(spec.node, graph)


def _moved(node: str, graph: Graph) -> tuple[tuple[str, ...], Index]:
    """Return what `element_map` says of a window or a movement."""
    op = graph.by_name[node].op
    if isinstance(op, Window):
        return (op.x,), window_index(op, graph.type_of(op.x).shape).ravel()
    assert isinstance(op, Rewire)
    if any(isinstance(graph.by_name[x].op, Constant) for x in op.xs):
        raise NotStreamableError(f"{node}: joins constants")
    names = tuple(dict.fromkeys(op.xs))
    starts = dict(zip(names, np.cumsum([0, *(graph.type_of(x).size for x in names)]).tolist(), strict=False))
    parts = [np.arange(graph.type_of(x).size) + starts[x] for x in op.xs]
    return names, composed(op.index.array.ravel(), parts)


def input_names(spec: WindowBuffer | Reorder, graph: Graph) -> tuple[str, ...]:
    """Values the kernel reads, in port order."""
    return element_map(spec, graph)[0]


def input_layouts_of(spec: WindowBuffer | Reorder) -> tuple[Layout, ...]:
    """Layouts of the inputs, in port order."""
    return (spec.layout,) if isinstance(spec, Reorder) else spec.layouts


def taps_of(spec: WindowBuffer | Reorder, graph: Graph) -> Taps:
    """Return the taps. Raises NotStreamableError when an element would leave before it came."""
    names, index = element_map(spec, graph)
    sizes = [graph.type_of(x).size for x in names]
    arrival, slot, operand = (np.full(sum(sizes), -1, dtype=np.int64) for _ in range(3))
    start = 0
    for port, (layout, size) in enumerate(zip(input_layouts_of(spec), sizes, strict=True)):
        for cycle, beat in zip(layout.cycles, layout.beats, strict=True):
            where = np.asarray(beat) + start
            arrival[where], slot[where], operand[where] = cycle, np.arange(len(beat)), port
        start += size
    if isinstance(spec, WindowBuffer) and (arrival < 0).any():
        used = index[index >= 0]
        if (arrival[used] < 0).any():
            raise NotStreamableError(f"{spec.node}: reads elements that its input does not carry")
    layout = spec.output
    beats, slots = layout.beat_count, layout.slot_count
    source = np.full((beats, slots), UNUSED, dtype=np.int64)
    for number, beat in enumerate(layout.beats):
        source[number, : len(beat)] = index[np.asarray(beat)]
    leaves = spec.offset + np.asarray(layout.cycles)[:, None]
    held = source >= 0
    safe = np.where(held, source, 0)
    delay = np.where(held, leaves - arrival[safe], 0)
    if (delay < 0).any():
        raise NotStreamableError(f"{graph_value(spec)}: an element would leave {-int(delay.min())} cycles too early")
    width = int(delay.max(initial=0)) + 1
    most = max(layout.slot_count for layout in input_layouts_of(spec))
    code = np.where(held, (operand[safe] * most + slot[safe]) * width + delay, source)
    sources, select = [], np.where(held, 0, source)
    for column in range(slots):
        found = dict.fromkeys(code[held[:, column], column].tolist())
        position = {value: number for number, value in enumerate(found)}
        sources.append(tuple(_tap(value, most, width) for value in found))
        if len(found) > 1:
            rows = np.flatnonzero(held[:, column])
            select[rows, column] = [position[value] for value in code[rows, column].tolist()]
    select.flags.writeable = False
    return Taps(sources=tuple(sources), select=select, fill=_fill(spec, graph))


def _tap(code: int, slots: int, width: int) -> Tap:
    place, delay = divmod(code, width)
    operand, slot = divmod(place, slots)
    return Tap(operand, slot, delay)


def _fill(spec: WindowBuffer | Reorder, graph: Graph) -> int:
    op = graph.by_name[spec.node].op if isinstance(spec, WindowBuffer) else None
    if isinstance(op, Window) and op.padding is Padding.LOWEST:
        return graph.type_of(op.x).range.lowest
    return 0


def graph_value(spec: WindowBuffer | Reorder) -> str:
    """Name of the value the kernel makes."""
    return spec.value if isinstance(spec, Reorder) else spec.node


# Natural output layouts


def window_output(op: Window, shape: tuple[int, ...], layout: Layout) -> tuple[Layout, int] | None:
    """Layout in which the windows over a raster leave as soon as each is complete, and the cycle of the first one.

    Each block of the input makes one block of windows (none between strides); parts of the channels stay parts.
    """
    raster = raster_of(layout, shape)
    rank = len(op.kernel)
    if raster is None:
        return None
    stride, columns = op.strides[-1], window_columns(op, shape)
    single = raster.width == 1 and raster.blocks > 1
    if not single and raster.width % stride:
        return None
    width = 1 if single else raster.width // stride
    lead = len(shape) - rank - 1
    reach = [(k - 1) * d - b for k, d, b in zip(op.kernel, op.dilations, op.before, strict=True)]
    row_shape = tuple(_windows(op, shape, axis) for axis in range(rank - 1))
    channels, positions = shape[-1], int(np.prod(op.kernel))
    full = (*shape[:lead], *row_shape, columns, positions * channels)
    found: list[tuple[int, tuple[int, ...]]] = []
    for rows in np.ndindex(*shape[:lead], *row_shape):
        nominal = [*rows[:lead], *(r * op.strides[a] + reach[a] for a, r in enumerate(rows[lead:]))]
        base = sum(r * step for r, step in zip(nominal, raster.row_cycles, strict=True))
        for block in range(-(-columns // width)):
            newest = (block * width + width - 1) * stride + reach[-1]
            time = base + (newest // raster.width) * raster.block_cycles
            if raster.blocks == 1:
                time = base
            kept = np.arange(block * width, min(columns, (block + 1) * width))
            for cycle, part in raster.parts:
                last = (np.arange(positions)[:, None] * channels + np.asarray(part)).ravel()
                lists = [*([r] for r in rows), kept, last]
                beat = np.ravel_multi_index(np.ix_(*lists), full).ravel()
                found.append((time + cycle, tuple(beat.tolist())))
    found.sort(key=lambda entry: entry[0])
    times = [time for time, _ in found]
    if len(set(times)) != len(times):
        return None
    offset = max(0, times[0])
    return Layout(tuple(beat for _, beat in found), tuple(t - times[0] for t in times)), offset


def window_columns(op: Window, shape: tuple[int, ...]) -> int:
    """Windows along the last spatial axis."""
    return _windows(op, shape, len(op.kernel) - 1)


def _windows(op: Window, shape: tuple[int, ...], axis: int) -> int:
    n = shape[len(shape) - 1 - len(op.kernel) + axis]
    room = n + op.before[axis] + op.after[axis] - op.dilations[axis] * (op.kernel[axis] - 1) - 1
    return room // op.strides[axis] + 1


def rewire_output(node: str, graph: Graph, layouts: Sequence[Layout]) -> tuple[Layout, int] | None:
    """Layout in which every element leaves with the beat it came in, and the cycle of the first one; None if mixed.

    All operands come in the same cycles. Zeros leave with the element before them (the first with the one after).
    """
    try:
        names, index = _moved(node, graph)
    except NotStreamableError:
        return None
    cycles = layouts[0].cycles
    if any(layout.cycles != cycles for layout in layouts):
        return None
    beat_of = np.full(sum(graph.type_of(x).size for x in names), -1, dtype=np.int64)
    start = 0
    for name, layout in zip(names, layouts, strict=True):
        for number, beat in enumerate(layout.beats):
            beat_of[np.asarray(beat) + start] = number
        start += graph.type_of(name).size
    made = np.where(index >= 0, beat_of[np.maximum(index, 0)], -1)
    known = np.flatnonzero(made >= 0)
    if not known.size:
        return None
    nearest = known[np.maximum(np.searchsorted(known, np.arange(made.size), side="right") - 1, 0)]
    made = made[nearest]
    order = np.argsort(made, kind="stable")
    used, firsts = np.unique(made[order], return_index=True)
    groups = np.split(order, firsts[1:])
    beats = tuple(tuple(int(k) for k in group) for group in groups)
    times = [cycles[number] for number in used]
    return Layout(beats, tuple(t - times[0] for t in times)), times[0]
