"""Calibration events: how many fit in memory, and the values they give, with movement computed when it is read.

A window repeats each pixel once for every position it is seen from: kept for all events, the windows alone would fill
the memory. So the values of windows and rewires are gathered anew for each reader, a few events at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from metronn.emulate.numpy import evaluate
from metronn.ir.arrays import Array
from metronn.ir.graph import Graph, Node
from metronn.ir.ops import Movement, operands
from metronn.model.graph import Floats, RealGraph, RealNode
from metronn.model.reference import evaluate_real

KEPT_ELEMENTS = 1 << 25
"""Values of the float network kept during calibration, over all events and all values but movement: 256 MiB."""
CHUNK_ELEMENTS = 1 << 23
"""Elements of one value gathered at a time."""


def kept_elements(model: RealGraph) -> int:
    """Count the values per event that calibration keeps."""
    return sum(math.prod(node.shape) for node in model.nodes if not isinstance(node.op, Movement))


def affordable_events(model: RealGraph, wanted: int) -> int:
    """Return how many calibration events are used: as many as wanted, but no more than `KEPT_ELEMENTS` allow."""
    return max(1, min(wanted, KEPT_ELEMENTS // max(1, kept_elements(model))))


def chunks(events: int, elements: int) -> Iterator[slice]:
    """Cut events, of so many elements each, into pieces of at most `CHUNK_ELEMENTS`, at least one event each."""
    step = max(1, CHUNK_ELEMENTS // max(1, elements))
    return (slice(start, min(start + step, events)) for start in range(0, events, step))


@dataclass(slots=True)
class RealValues(Mapping[str, Floats]):
    """The floats of every node on the calibration events; those of movement are computed when read."""

    held: dict[str, Floats] = field(default_factory=dict)
    moved: dict[str, RealNode] = field(default_factory=dict)

    def keep(self, node: RealNode, values: Floats) -> None:
        """Take the values of a node."""
        if isinstance(node.op, Movement):
            self.moved[node.name] = node
        else:
            self.held[node.name] = values

    def part(self, name: str, events: slice) -> Floats:
        """Return the values of some events; a constant has one event always."""
        if name in self.held:
            values = self.held[name]
            return values if values.shape[0] == 1 else values[events]
        node = self.moved[name]
        return evaluate_real(node, {x: self.part(x, events) for x in operands(node.op)}, {})

    def __getitem__(self, name: str) -> Floats:
        """Return the values of all events."""
        return self.held[name] if name in self.held else self.part(name, slice(None))

    def __iter__(self) -> Iterator[str]:
        """Iterate over all names."""
        yield from self.held
        yield from self.moved

    def __len__(self) -> int:
        """Return the number of values."""
        return len(self.held) + len(self.moved)


@dataclass(slots=True)
class CodeValues(Mapping[str, Array]):
    """The codes of every node of a growing integer graph; those of movement are computed when read."""

    nodes: dict[str, Node] = field(default_factory=dict)
    held: dict[str, Array] = field(default_factory=dict)

    def add(self, node: Node, inputs: Mapping[str, Array]) -> None:
        """Take a node, whose operands are there, and compute it, in pieces where movement feeds it."""
        self.nodes[node.name] = node
        if isinstance(node.op, Movement):
            return
        sources = tuple(dict.fromkeys(operands(node.op)))
        step = Graph(nodes=(*(self.nodes[x] for x in sources), node), outputs=())
        if all(x in self.held for x in sources):
            self.held[node.name] = evaluate(step, node, self.held, inputs)
            return
        size = max(self.nodes[x].type.size for x in sources)
        pieces = [
            evaluate(step, node, {x: self.part(x, events) for x in sources}, {})
            for events in chunks(max(self.events(x) for x in sources), size)
        ]
        self.held[node.name] = np.concatenate(pieces) if len(pieces) > 1 else pieces[0]

    def events(self, name: str) -> int:
        """Return the number of events a value is there for; 1 when it is constant."""
        if name in self.held:
            return int(self.held[name].shape[0])
        return max(self.events(x) for x in operands(self.nodes[name].op))

    def part(self, name: str, events: slice) -> Array:
        """Return the codes of some events; a constant has one event always."""
        if name in self.held:
            codes = self.held[name]
            return codes if codes.shape[0] == 1 else codes[events]
        node = self.nodes[name]
        sources = tuple(dict.fromkeys(operands(node.op)))
        step = Graph(nodes=(*(self.nodes[x] for x in sources), node), outputs=())
        return evaluate(step, node, {x: self.part(x, events) for x in sources}, {})

    def __getitem__(self, name: str) -> Array:
        """Return the codes of all events."""
        return self.held[name] if name in self.held else self.part(name, slice(None))

    def __iter__(self) -> Iterator[str]:
        """Iterate over all names."""
        return iter(self.nodes)

    def __len__(self) -> int:
        """Return the number of values."""
        return len(self.nodes)
