"""The C++ of one graph while it grows: where values live, tables, what is worked out beforehand, kernel calls."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from metronn.emulate.native.layout import BLOCK_EVENTS, Arena
from metronn.emulate.native.types import IntType, storage_type, type_for, wrapped
from metronn.ir.graph import Graph, Node
from metronn.ir.types import TensorType

SHIFT = IntType(32)
MOST_PLACES = 8
"""Nested loops at most in a map given by strides."""
SMALL_TABLE = 64
"""Tables up to this size are written down as they are."""


def storage(t: TensorType) -> IntType:
    """Type that a value's codes have in memory."""
    return storage_type(t.range.lowest, t.range.highest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a value is: the offset in the arena, the type, and whether only a tile of it is there."""

    offset: int
    kind: IntType
    tile: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """The loop over tiles that a kernel call is in: positions, elements of each, positions of a tile."""

    positions: int
    elements: int
    step: int | None

    @property
    def span(self) -> tuple[str, str]:
        """First position and the one behind the last, in C++."""
        return ("begin", "end") if self.step else ("0", str(self.positions))

    @property
    def element_span(self) -> tuple[str, str]:
        """First element and the one behind the last, in C++."""
        if not self.step:
            return "0", str(self.positions * self.elements)
        return (self.scaled("begin"), self.scaled("end"))

    def scaled(self, position: str) -> str:
        """Element of a position, in C++."""
        return position if self.elements == 1 else f"{position} * {self.elements}"


@dataclass(slots=True)
class Emission:
    """Everything that the kernel calls of a graph refer to, and the calls of the step being emitted."""

    graph: Graph
    aliases: dict[str, str]
    arena: Arena = field(default_factory=Arena)
    tables: list[str] = field(default_factory=list)
    shared: list[str] = field(default_factory=list)
    scratch: list[str] = field(default_factory=list)
    prepare: list[str] = field(default_factory=list)
    statements: list[str] = field(default_factory=list)
    places: dict[str, Place] = field(default_factory=dict)
    identifiers: dict[str, str] = field(default_factory=dict)
    loop: Loop = field(default_factory=lambda: Loop(positions=1, elements=1, step=None))

    def __post_init__(self) -> None:
        """Give every value a C++ identifier that keeps its name readable."""
        for index, node in enumerate(self.graph.nodes):
            self.identifiers[node.name] = re.sub(r"[^A-Za-z0-9]+", "_", f"v{index}_{node.name}").rstrip("_")

    def place(self, node: Node, tile_elements: int | None = None) -> None:
        """Reserve memory for a value, or for a tile of so many of its elements."""
        if tile_elements is None:
            kind, size = storage(node.type), node.type.size
        else:
            kind, size = type_for(node.type.range.lowest, node.type.range.highest), tile_elements
        offset = self.arena.take(size * BLOCK_EVENTS * kind.size_bytes)
        self.places[node.name] = Place(offset=offset, kind=kind, tile=tile_elements is not None)

    def of(self, name: str) -> Place:
        """Where a value is, under any of its names."""
        return self.places[self.aliases.get(name, name)]

    def pointer(self, name: str) -> str:
        """C++ expression of a pointer to a value that is whole."""
        place = self.of(name)
        return f"metronn::at<{place.kind.cpp}>(arena, {place.offset})"

    def rows(self, name: str) -> str:
        """C++ expression of a value's rows, whole or the tile that is there."""
        place = self.of(name)
        if place.tile:
            return f"metronn::tile<{place.kind.cpp}>(arena, {place.offset}, {self.loop.element_span[0]})"
        return f"metronn::whole<{place.kind.cpp}>(arena, {place.offset})"

    def table(self, node: Node, what: str, values: Sequence[int], kind: IntType, cpp: str = "") -> str:
        """Add a table of integers and return its name."""
        name = f"{self.identifiers[node.name]}_{what}"
        body = wrapped(kind.literals(values))
        self.tables.append(f"const {cpp or kind.cpp} {name}[{len(values)}] = {{\n{body}\n}};")
        return name

    def share(self, node: Node, what: str, cpp: str, value: str) -> str:
        """Add something worked out before the first block; returns the C++ expression of it."""
        name = f"{self.identifiers[node.name]}_{what}"
        self.shared.append(f"  const {cpp} {name}{value};")
        return f"shared.{name}"

    def per_element(self, node: Node, what: str, values: Sequence[int], kind: IntType) -> str:
        """C++ expression of a parameter given for each element: a table unless all are equal."""
        if all(value == values[0] for value in values):
            return f"{{nullptr, {kind.literal(values[0])}}}"
        period = _period(values)
        table = self.table(node, what, values[:period], kind)
        if period < len(values):
            value = f" = metronn::repeated({table}, {period}, {len(values)})"
            table = self.share(node, f"every_{what}", f"std::vector<{kind.cpp}>", value) + ".data()"
        return f"{{{table}, {kind.literal(0)}}}"

    def element_map(self, node: Node, what: str, values: npt.NDArray[np.int64]) -> str:
        """C++ expression of a map from elements to source elements."""
        if np.array_equal(values, np.arange(values.size)):
            return "{nullptr, 1}"
        if not values.any():
            return "{nullptr, 0}"
        regular = None if values.size <= SMALL_TABLE else _regular(values)
        if regular is None:
            ints = [int(value) for value in values]
            return f"{{{self.table(node, what, ints, type_for(0), 'std::uint32_t')}, 0}}"
        places, strides = (", ".join(map(str, numbers)) for numbers in regular)
        value = f" = metronn::strided({{{places}}}, {{{strides}}}, {int(values[0])})"
        return f"{{{self.share(node, what, 'std::vector<std::uint32_t>', value)}.data(), 0}}"

    def call(self, kernel: str, template: Sequence[str], arguments: Sequence[str]) -> None:
        """Append a kernel call."""
        parameters = f"<{', '.join(template)}>" if template else ""
        indent = "    " if self.loop.step else "  "
        self.statements.append(f"{indent}metronn::{kernel}{parameters}(\n{wrapped(arguments, indent + '    ')[:-1]});")


def _period(values: Sequence[int]) -> int:
    """Return the smallest divisor of the length after which the values repeat."""
    size = len(values)
    whole = list(values)
    for period in range(1, size // 2 + 1):
        if size % period == 0 and whole[period] == whole[0] and whole[period:] == whole[:-period]:
            return period
    return size


def _regular(values: npt.NDArray[np.int64]) -> tuple[list[int], list[int]] | None:
    """Return places and strides of nested loops that count through the values, outermost first, if there are any."""
    places: list[int] = []
    strides: list[int] = []
    rest = values.astype(np.int64)
    while rest.size > 1:
        stride = int(rest[1] - rest[0])
        breaks = np.flatnonzero(np.diff(rest) != stride)
        length = int(breaks[0]) + 1 if breaks.size else rest.size
        if rest.size % length or len(places) == MOST_PLACES:
            return None
        grid = rest.reshape(-1, length)
        if (grid != grid[:, :1] + stride * np.arange(length)).any():
            return None
        places.insert(0, length)
        strides.insert(0, stride)
        rest = grid[:, 0]
    return places, strides
