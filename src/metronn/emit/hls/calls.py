"""How a graph becomes one C++ function: names, ports, and a call for each value."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from metronn.emit.hls.files import TopPort
from metronn.emit.hls.names import Names, identifier
from metronn.emit.hls.ops import LibraryCall, kernel_of
from metronn.ir.graph import Graph
from metronn.ir.ops import Input


@dataclass(frozen=True, slots=True)
class TopCalls:
    """The graph as the top sees it: its calls in order, by the value each makes.

    `direct` maps a value that only an output shows to its port.
    """

    names: Names
    kernels: Mapping[str, LibraryCall]
    inputs: tuple[TopPort, ...]
    outputs: tuple[TopPort, ...]
    direct: Mapping[str, str]

    def array(self, value: str) -> str:
        """Name of the array that holds a value where it is made."""
        return self.direct.get(value, self.names[value])


def lay_out(
    graph: Graph, reserved: Iterable[str], unrolled: Callable[[str, Names], LibraryCall | None] | None = None
) -> TopCalls:
    """Decide which values are made, what they are called, and which go straight to a port.

    `unrolled` returns the call of a function of the project's own that makes a value, or None.
    """
    names = Names(reserved)
    shown = [output.value for output in graph.outputs]
    direct: dict[str, str] = {}
    for output in graph.outputs:
        port = names.claim(f"out:{output.name}", output.name)
        node = graph.by_name[output.value]
        if not isinstance(node.op, Input) and not graph.uses[node.name] and shown.count(node.name) == 1:
            direct[node.name] = port
            if identifier(node.name) == port:
                names.alias(node.name, port)
    for node in graph.nodes:
        names.claim(node.name, node.name)
    kernels: dict[str, LibraryCall] = {}
    needed = set(shown)
    for node in reversed(graph.nodes):
        if node.name in needed:
            own = unrolled(node.name, names) if unrolled else None
            kernel = own or kernel_of(graph, node, names[node.name])
            if kernel is not None:
                kernels[node.name] = kernel
                needed.update(kernel.sources)
    return TopCalls(
        names=names,
        kernels=dict(reversed(kernels.items())),
        inputs=tuple(TopPort(names[n.name], n.name, n.type) for n in graph.inputs),
        outputs=tuple(TopPort(names[f"out:{o.name}"], o.name, graph.type_of(o.value)) for o in graph.outputs),
        direct=direct,
    )
