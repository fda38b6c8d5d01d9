"""Layouts and wire formats: which elements travel together in one clock cycle, and where their bits lie."""

from __future__ import annotations

from dataclasses import dataclass

from metronn.ir.types import Range, TensorType, width_bits


@dataclass(frozen=True, slots=True)
class Layout:
    """`beats[b]` lists the flat element indices on the wires in cycle first + b of an event.

    Every element of the tensor is in exactly one beat. One beat holding all elements in order is `parallel`.
    """

    beats: tuple[tuple[int, ...], ...]

    @staticmethod
    def parallel(size: int) -> Layout:
        """All elements in one cycle, in order."""
        return Layout((tuple(range(size)),))

    @property
    def is_parallel(self) -> bool:
        """Whether all elements travel in one cycle, in order."""
        return len(self.beats) == 1 and self.beats[0] == tuple(range(len(self.beats[0])))

    @property
    def beat_count(self) -> int:
        """Cycles from the first beat to the last, both counted."""
        return len(self.beats)

    @property
    def slot_count(self) -> int:
        """Elements of the widest beat."""
        return max(len(beat) for beat in self.beats)

    @property
    def size(self) -> int:
        """Number of elements over all beats."""
        return sum(len(beat) for beat in self.beats)

    def describe(self) -> str:
        """Short human form, e.g. `1 beat of 128` or `9 beats of 14..16`."""
        sizes = sorted({len(beat) for beat in self.beats})
        width = str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]}..{sizes[-1]}"
        return f"{self.beat_count} beat{'s' if self.beat_count > 1 else ''} of {width}"


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
    los, his = tensor.range.los(tensor.size), tensor.range.his(tensor.size)
    slots: list[Slot] = []
    offset = 0
    for slot in range(layout.slot_count):
        carried = [beat[slot] for beat in layout.beats if slot < len(beat)]
        lo, hi = min(los[k] for k in carried), max(his[k] for k in carried)
        width = width_bits(lo, hi)
        slots.append(Slot(offset=offset, width=width, signed=lo < 0, lo=lo, hi=hi))
        offset += width
    return WireFormat(tuple(slots))


def hull(tensor: TensorType) -> Range:
    """Return one range with the largest exponent that covers the codes of all elements (one frac needed)."""
    return Range(tensor.range.lowest, tensor.range.highest, tensor.range.max_frac)
