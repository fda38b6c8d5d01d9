"""What graphs of integers and of real numbers have in common: nodes in topological order, and who reads what."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, Protocol, TypeVar

from metronn.ir.ops import AnyOp, Entry, operands


class AnyNode(Protocol):
    """One value of a graph."""

    @property
    def name(self) -> str:
        """The value's name."""

    @property
    def op(self) -> AnyOp:
        """The op that makes it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape, without the batch axis."""

    @property
    def source(self) -> str:
        """The framework's name of the layer it came from."""


NodeT = TypeVar("NodeT", bound=AnyNode)


@dataclass(frozen=True, kw_only=True)
class Network(Generic[NodeT]):
    """Nodes in topological order, of unique names."""

    nodes: tuple[NodeT, ...]

    @property
    @abstractmethod
    def shown_values(self) -> frozenset[str]:
        """The values that the outputs show."""

    @cached_property
    def by_name(self) -> Mapping[str, NodeT]:
        """Nodes by the name of the value they make."""
        return {node.name: node for node in self.nodes}

    @cached_property
    def inputs(self) -> tuple[NodeT, ...]:
        """The input nodes, in order."""
        return tuple(node for node in self.nodes if isinstance(node.op, Entry))

    @cached_property
    def input_names(self) -> Mapping[str, str]:
        """The framework's names of the inputs, by the names of their nodes."""
        return {node.name: node.source for node in self.inputs}

    @cached_property
    def uses(self) -> Mapping[str, tuple[str, ...]]:
        """For each value, the names of the nodes that read it (in node order, without repeats)."""
        readers: dict[str, list[str]] = {node.name: [] for node in self.nodes}
        for node in self.nodes:
            for name in dict.fromkeys(operands(node.op)):
                readers[name].append(node.name)
        return {name: tuple(users) for name, users in readers.items()}

    def only_reader(self, name: str) -> NodeT | None:
        """Return the node that is all there is to read a value; None where there are several, or an output shows it."""
        users = self.uses[name]
        return self.by_name[users[0]] if len(users) == 1 and name not in self.shown_values else None

    def __iter__(self) -> Iterator[NodeT]:
        """Iterate over the nodes in topological order."""
        return iter(self.nodes)
