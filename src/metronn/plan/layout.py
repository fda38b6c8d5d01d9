"""Layouts and wire formats: which elements travel together in one clock cycle, and where their bits lie."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from metronn.ir.arrays import fits_int64
from metronn.ir.types import Range, TensorType, width_bits


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """`beats[b]` lists the flat element indices on the wires in cycle first + cycles[b] of an event.

    Every element of the tensor is in exactly one beat. `cycles` starts at 0 and rises; without it the beats follow each
    other cycle by cycle. One beat holding all elements in order is `parallel`.
    """

    beats: tuple[tuple[int, ...], ...]
    cycles: tuple[int, ...] = ()
    digest: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        """Fill in consecutive cycles; reject cycles that do not rise from 0, one for each beat."""
        if not self.cycles:
            object.__setattr__(self, "cycles", tuple(range(len(self.beats))))
        if len(self.cycles) != len(self.beats) or self.cycles[0] != 0:
            raise ValueError(f"{len(self.beats)} beats need as many cycles from 0, got {self.cycles[:8]}")
        if any(b <= a for a, b in zip(self.cycles, self.cycles[1:], strict=False)):
            raise ValueError("the cycles of beats must rise")
        object.__setattr__(self, "digest", hash((self.beats, self.cycles)))

    def __eq__(self, other: object) -> bool:
        """Equal when beats and cycles are."""
        if not isinstance(other, Layout) or self.digest != other.digest:
            return False
        return self is other or (self.beats == other.beats and self.cycles == other.cycles)

    def __hash__(self) -> int:
        """Hash of beats and cycles."""
        return self.digest

    @staticmethod
    def parallel(size: int) -> Layout:
        """All elements in one cycle, in order."""
        return Layout((tuple(range(size)),))

    @staticmethod
    def rows(size: int, width: int, spacing: int = 1) -> Layout:
        """Elements in order, `width` a beat, a beat every `spacing` cycles."""
        beats = tuple(tuple(range(k, min(k + width, size))) for k in range(0, size, width))
        return Layout(beats, tuple(range(0, len(beats) * spacing, spacing)))

    @property
    def is_parallel(self) -> bool:
        """Whether all elements travel in one cycle, in order."""
        return len(self.beats) == 1 and self.beats[0] == tuple(range(len(self.beats[0])))

    @property
    def beat_count(self) -> int:
        """Number of beats."""
        return len(self.beats)

    @property
    def span(self) -> int:
        """Cycles from the first beat to the last, both counted."""
        return self.cycles[-1] + 1

    @property
    def spacing(self) -> int:
        """Fewest cycles from one beat to the next; 0 for a single beat."""
        return min((b - a for a, b in zip(self.cycles, self.cycles[1:], strict=False)), default=0)

    @property
    def slot_count(self) -> int:
        """Elements of the widest beat."""
        return max(len(beat) for beat in self.beats)

    @property
    def size(self) -> int:
        """Number of elements over all beats."""
        return sum(len(beat) for beat in self.beats)

    def describe(self) -> str:
        """Short human form, e.g. `1 beat of 128`, `9 beats of 14..16` or `400 beats of 8 in 1597 cycles`."""
        sizes = sorted({len(beat) for beat in self.beats})
        width = str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]}..{sizes[-1]}"
        during = f" in {self.span} cycles" if self.span != self.beat_count else ""
        return f"{self.beat_count} beat{'s' if self.beat_count > 1 else ''} of {width}{during}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Boxes:
    """A layout whose beats are boxes of the tensor: beat b holds the product of `indices[b][axis]`, in C order.

    `lens` is the shape of a full beat; a beat may be shorter along the first axis of more than one index.
    """

    lens: tuple[int, ...]
    indices: tuple[tuple[tuple[int, ...], ...], ...]


@lru_cache(maxsize=4096)
def boxes(layout: Layout, shape: tuple[int, ...]) -> Boxes | None:
    """Return the layout as boxes of a tensor of `shape`, or None when a beat is no box or the boxes differ."""
    found = []
    known: dict[tuple[int, ...], tuple[tuple[int, ...], ...]] = {}
    for beat in layout.beats:
        base = tuple(k - beat[0] for k in beat)
        start = np.unravel_index(beat[0], shape) if shape else ()
        relative = known.get(base)
        if relative is not None:
            lists = tuple(tuple(int(s) + r for r in rs) for s, rs in zip(start, relative, strict=True))
            if all(min(rs) >= 0 and max(rs) < n for rs, n in zip(lists, shape, strict=True)):
                found.append(lists)
                continue
        axes = np.unravel_index(np.asarray(beat), shape) if shape else ()
        lists = tuple(tuple(dict.fromkeys(int(k) for k in axis)) for axis in axes)
        if math.prod(len(rs) for rs in lists) != len(beat):
            return None
        if shape and not np.array_equal(np.ravel_multi_index(np.ix_(*lists), shape).ravel(), np.asarray(beat)):
            return None
        known[base] = tuple(tuple(r - rs[0] for r in rs) for rs in lists)
        found.append(lists)
    lens = tuple(max(len(lists[axis]) for lists in found) for axis in range(len(shape)))
    first = next((axis for axis, n in enumerate(lens) if n > 1), 0)
    for lists in found:
        if any(len(rs) != lens[axis] for axis, rs in enumerate(lists) if axis != first):
            return None
    return Boxes(lens=lens, indices=tuple(found))


@dataclass(frozen=True, slots=True)
class Slot:
    """Where one slot's bits lie in the flat vector: element `beats[b][slot]` is on [offset +: width] in beat b."""

    offset: int
    width: int
    signed: bool
    lo: int
    hi: int


@dataclass(frozen=True, slots=True)
class WireFormat:
    """The flat vector that carries a layout: slot 0 lowest. A slot is as wide as the widest element it ever carries."""

    slots: tuple[Slot, ...]

    @property
    def width(self) -> int:
        """Bits of the whole vector."""
        last = self.slots[-1]
        return last.offset + last.width

    @property
    def uniform(self) -> bool:
        """Whether all slots have the same width and sign."""
        first = self.slots[0]
        return all(slot.width == first.width and slot.signed == first.signed for slot in self.slots)


def wire_format(tensor: TensorType, layout: Layout) -> WireFormat:
    """Return the wire format of a tensor in a layout.

    A slot's bounds are the hull of the elements it carries over the beats; the slot is signed when its lower bound
    is negative. In the parallel layout each element has exactly the width of its own range.
    """
    slots: list[Slot] = []
    offset = 0
    for lo, hi in _slot_bounds(tensor, layout):
        width = width_bits(lo, hi)
        slots.append(Slot(offset=offset, width=width, signed=lo < 0, lo=lo, hi=hi))
        offset += width
    return WireFormat(tuple(slots))


def _slot_bounds(tensor: TensorType, layout: Layout) -> list[tuple[int, int]]:
    """Lowest and highest code of each slot over the beats."""
    lo, hi = tensor.range.lo, tensor.range.hi
    if isinstance(lo, int) and isinstance(hi, int):
        return [(lo, hi)] * layout.slot_count
    los, his = tensor.range.los(tensor.size), tensor.range.his(tensor.size)
    if fits_int64(tensor.range.lowest, tensor.range.highest) and len({len(beat) for beat in layout.beats}) == 1:
        index = np.asarray(layout.beats)
        lowest, highest = np.asarray(los)[index].min(axis=0), np.asarray(his)[index].max(axis=0)
        return list(zip(lowest.tolist(), highest.tolist(), strict=True))
    lows, highs = [los[k] for k in layout.beats[0]], [his[k] for k in layout.beats[0]]
    for beat in layout.beats[1:]:
        own_lows, own_highs = [los[k] for k in beat], [his[k] for k in beat]
        more = len(lows)
        lows = [*map(min, lows, own_lows), *own_lows[more:], *lows[len(beat) :]]
        highs = [*map(max, highs, own_highs), *own_highs[more:], *highs[len(beat) :]]
    return list(zip(lows, highs, strict=True))


def hull(tensor: TensorType) -> Range:
    """Return one range with the largest exponent that covers the codes of all elements (one frac needed)."""
    return Range(tensor.range.lowest, tensor.range.highest, tensor.range.max_frac)
