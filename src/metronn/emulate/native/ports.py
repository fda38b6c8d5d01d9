"""Inputs and outputs of a compiled emulator: names, types, and how their codes travel."""

from __future__ import annotations

from dataclasses import dataclass

from metronn.emulate.native.types import IntType, port_type
from metronn.ir.graph import Graph
from metronn.ir.types import TensorType


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """An input or output at the API: its name, type and the integer type its codes travel in.

    `shown` is the framework's name of it, which need not be an identifier.
    """

    name: str
    shown: str
    value: str
    type: TensorType
    code: IntType


def input_ports(graph: Graph) -> tuple[Port, ...]:
    """Ports of the inputs, in node order."""
    return tuple(port_of(node.name, node.name, node.type, node.source) for node in graph.inputs)


def output_ports(graph: Graph) -> tuple[Port, ...]:
    """Ports of the outputs, in the graph's order."""
    return tuple(port_of(o.name, o.value, graph.type_of(o.value), o.shown) for o in graph.outputs)


def port_of(name: str, value: str, t: TensorType, shown: str) -> Port:
    """Return the port of a value that code knows as `name` and the framework as `shown`."""
    return Port(name=name, shown=shown, value=value, type=t, code=port_type(t.range.lowest, t.range.highest))
