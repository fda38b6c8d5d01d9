"""Vectors of elements: where each element's bits lie, and the text that reads and writes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from metronn.ir.types import TensorType, width_bits
from metronn.plan.layout import Layout, wire_format


@dataclass(frozen=True, slots=True, kw_only=True)
class Element:
    """The bits [offset +: width] of a vector that hold one element with codes in [lo, hi]."""

    offset: int
    width: int
    lo: int
    hi: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Vector:
    """A named flat vector and its elements, the first lowest."""

    name: str
    elements: tuple[Element, ...]

    @property
    def width(self) -> int:
        """Bits of the vector."""
        last = self.elements[-1]
        return last.offset + last.width

    @property
    def uniform(self) -> bool:
        """Whether all elements have the same width and sign."""
        first = self.elements[0]
        return all(e.width == first.width and (e.lo < 0) == (first.lo < 0) for e in self.elements)

    def read(self, index: int) -> str:
        """Text of one element as a number: signed exactly when its lower bound is negative."""
        element = self.elements[index]
        bits = part(self.name, self.width, element.offset, element.width)
        return f"$signed({bits})" if element.lo < 0 else bits

    def target(self, index: int) -> str:
        """Text of one element as the target of an assignment."""
        element = self.elements[index]
        return part(self.name, self.width, element.offset, element.width)

    def read_at(self, variable: str) -> str:
        """Text of the element a loop variable counts, of a uniform vector, as a number."""
        first = self.elements[0]
        bits = f"{self.name}[{variable}*{first.width} +: {first.width}]"
        return f"$signed({bits})" if first.lo < 0 else bits

    def target_at(self, variable: str) -> str:
        """Text of the element a loop variable counts, of a uniform vector, as the target of an assignment."""
        width = self.elements[0].width
        return f"{self.name}[{variable}*{width} +: {width}]"


def part(name: str, total: int, offset: int, width: int) -> str:
    """Text of the bits [offset +: width] of a vector of `total` bits."""
    return name if (offset, width) == (0, total) else f"{name}[{offset} +: {width}]"


def packed(name: str, bounds: Sequence[tuple[int, int]]) -> Vector:
    """Return a vector of elements with these code bounds, each as wide as it needs."""
    elements, offset = [], 0
    for lo, hi in bounds:
        width = width_bits(lo, hi)
        elements.append(Element(offset=offset, width=width, lo=lo, hi=hi))
        offset += width
    return Vector(name=name, elements=tuple(elements))


def port_vector(name: str, tensor: TensorType) -> Vector:
    """Return the vector of a parallel port."""
    slots = wire_format(tensor, Layout.parallel(tensor.size)).slots
    return Vector(name=name, elements=tuple(Element(offset=s.offset, width=s.width, lo=s.lo, hi=s.hi) for s in slots))
