"""Graphs: nodes in topological order, each with its op, its type and the layer it came from."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property

from metronn.ir.infer import infer
from metronn.ir.names import comment_name, encodable, free_name, sanitized
from metronn.ir.network import Network
from metronn.ir.ops import Op, operands
from metronn.ir.types import TensorType

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One value: its name, the op that makes it, its type, and the source layer it came from."""

    name: str
    op: Op
    type: TensorType
    source: str

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the value."""
        return self.type.shape

    @property
    def comment(self) -> str:
        """The source layer's name as it stands in comments of emitted code."""
        return comment_name(self.source)


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """A result of the graph: its name, an identifier, and the value it shows.

    `source` is the framework's name of it, empty where that is the same.
    """

    name: str
    value: str
    source: str = ""

    @property
    def shown(self) -> str:
        """The framework's name, which users see."""
        return self.source or self.name


@dataclass(frozen=True, kw_only=True)
class Graph(Network[Node]):
    """An integer network. Nodes are in topological order; names are unique."""

    outputs: tuple[Output, ...]

    @cached_property
    def shown_values(self) -> frozenset[str]:
        """The values that the outputs show."""
        return frozenset(output.value for output in self.outputs)

    def type_of(self, name: str) -> TensorType:
        """Type of a value by name."""
        return self.by_name[name].type


@dataclass(slots=True)
class GraphBuilder:
    """Builds a Graph node by node, inferring each type. `add` returns the name of the new value."""

    nodes: list[Node] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    types: dict[str, TensorType] = field(default_factory=dict)

    def add(self, op: Op, name: str, source: str = "") -> str:
        """Append a node; a taken name gets the first free suffix `_2`, `_3`, ... Returns the name used."""
        unique = free_name(name, self.types)
        node_type = infer(op, [self.types[x] for x in operands(op)])
        self.nodes.append(Node(name=unique, op=op, type=node_type, source=encodable(source or name)))
        self.types[unique] = node_type
        return unique

    def output(self, name: str, value: str, source: str = "") -> None:
        """Declare a result; `source` is the framework's name of it."""
        identifier, shown = sanitized(name), encodable(source)
        self.outputs.append(Output(name=identifier, value=value, source="" if shown == identifier else shown))

    def build(self) -> Graph:
        """Return the finished graph."""
        return Graph(nodes=tuple(self.nodes), outputs=tuple(self.outputs))
