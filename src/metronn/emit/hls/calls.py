"""How a graph becomes a C++ function: names, ports, the calls, and how calls share a dataflow process."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from metronn.emit.hls.files import TopPort
from metronn.emit.hls.names import Names, identifier
from metronn.emit.hls.ops import FOLDED, HlsDirective, LibraryCall, kernel_of
from metronn.ir.graph import Graph
from metronn.ir.ops import Input, Linear


@dataclass(frozen=True, slots=True)
class TopCall:
    """What the top calls at once: one kernel, or a chain of small ones in a function of its own.

    `values` are made here, the last of them is the result; `sources` come from outside. `function` is empty where the
    kernel is called directly.
    """

    values: tuple[str, ...]
    sources: tuple[str, ...]
    function: str = ""


@dataclass(frozen=True, slots=True)
class TopCalls:
    """The graph as the top sees it.

    `direct` maps a value that only an output shows to its port. `dataflow` says that the calls are processes that run
    side by side, as folded kernels need; else the top is one pipeline.
    """

    names: Names
    kernels: Mapping[str, LibraryCall]
    steps: tuple[TopCall, ...]
    inputs: tuple[TopPort, ...]
    outputs: tuple[TopPort, ...]
    direct: Mapping[str, str]
    dataflow: bool

    def array(self, value: str) -> str:
        """Name of the array that holds a value where it is made."""
        return self.direct.get(value, self.names[value])


def lay_out(graph: Graph, reserved: Iterable[str], directives: Mapping[str, HlsDirective]) -> TopCalls:
    """Decide which values are made, what they are called, which go straight to a port, and which share a process."""
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
            kernel = kernel_of(graph, node, names[node.name], directives.get(node.name))
            if kernel is not None:
                kernels[node.name] = kernel
                needed.update(kernel.sources)
    kernels = dict(reversed(kernels.items()))
    dataflow = any(directive.kernel in FOLDED for directive in directives.values())
    return TopCalls(
        names=names,
        kernels=kernels,
        steps=_steps(graph, kernels, names, set(shown), dataflow),
        inputs=tuple(TopPort(names[n.name], n.name, n.type) for n in graph.inputs),
        outputs=tuple(TopPort(names[f"out:{o.name}"], o.name, graph.type_of(o.value)) for o in graph.outputs),
        direct=direct,
        dataflow=dataflow,
    )


def _steps(
    graph: Graph, kernels: dict[str, LibraryCall], names: Names, shown: set[str], dataflow: bool
) -> tuple[TopCall, ...]:
    """Without dataflow one step per kernel. With it, a chain of element-by-element kernels is one process.

    A value joins the process of its reader when that is its only one; so nothing but a process's result leaves it.
    """
    if not dataflow:
        return tuple(TopCall((value,), tuple(dict.fromkeys(kernel.sources))) for value, kernel in kernels.items())
    readers: dict[str, list[str]] = {value: [] for value in kernels}
    for value, kernel in kernels.items():
        for source in dict.fromkeys(kernel.sources):
            readers.setdefault(source, []).append(value)
    small = {value for value in kernels if not isinstance(graph.by_name[value].op, Linear)}
    root: dict[str, str] = {}
    for value in reversed(kernels):
        root[value] = value
        if value in small and value not in shown and len(readers[value]) == 1 and readers[value][0] in small:
            root[value] = root[readers[value][0]]
    steps = []
    for value in kernels:
        if root[value] != value:
            continue
        members = tuple(member for member in kernels if root[member] == value)
        outside = dict.fromkeys(s for member in members for s in kernels[member].sources if s not in members)
        function = names.claim(f"step:{value}", f"{names[value]}_step") if value in small else ""
        steps.append(TopCall(members, tuple(outside), function))
    return tuple(steps)
