"""Ops of a graph one after another as calls of the library, for a function of the project's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from metronn.emit.hls.calls import TopCalls
from metronn.emit.hls.names import Names
from metronn.emit.hls.ops import LibraryCall, kernel_of
from metronn.emit.hls.top import kernel_call
from metronn.emit.hls.values import type_line
from metronn.ir.graph import Graph, Node
from metronn.ir.ops import Constant


@dataclass(slots=True)
class Chain:
    """The calls, and what they need of the project.

    `lines`: statements and pragmas. `inner`: the calls by C++ name. `types`: definitions of the types of values in
    between, by C++ name. `names`: library function by node.
    """

    lines: list[str] = field(default_factory=list)
    inner: dict[str, tuple[Node, LibraryCall]] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    @property
    def headers(self) -> set[str]:
        """Headers of the library."""
        return {made.header for _, made in self.inner.values()}


def chain_of(graph: Graph, nodes: Sequence[str], arrays: Mapping[str, str], names: Names, owner: str) -> Chain:
    """Return the calls that make the last of `nodes` in the array that `arrays` names for it.

    `arrays`: where the values that enter, and the result, are; values in between get arrays of their own. Constants
    that the ops read are loaded under names that belong to `owner`.
    """
    local = Names()
    for value in (*arrays, *nodes):
        local.alias(value, names[value])
    kernels: dict[str, LibraryCall] = {}
    for node in nodes:
        made = kernel_of(graph, graph.by_name[node], local[node])
        assert made is not None, f"{node}: an input in a chain of ops"
        for source in made.sources:
            if isinstance(graph.by_name[source].op, Constant) and source not in kernels:
                local.alias(source, names.claim(f"{owner}:{source}", source))
                load = kernel_of(graph, graph.by_name[source], local[source])
                assert load is not None, f"{source}: a constant without values"
                kernels[source] = load
        kernels[node] = made
    result = nodes[-1]
    calls = TopCalls(names=local, kernels=kernels, inputs=(), outputs=(), direct={result: arrays[result]})
    where = {**{value: local[value] for value in kernels}, **arrays}
    chain = Chain()
    for value, made in kernels.items():
        name = local[value]
        if value != result:
            chain.lines.append(f"  {name}_t {name}[{graph.type_of(value).size}];")
            chain.lines.append(f"#pragma HLS ARRAY_PARTITION variable = {name} type = complete")
            chain.types[name] = type_line(name, graph.type_of(value), graph.by_name[value].source)
        chain.lines += kernel_call(graph, calls, value, where)
        chain.inner[name] = (graph.by_name[value], made)
        chain.names[value] = made.function
        if made.aligned_type:
            chain.types[f"{name}_aligned"] = f"typedef {made.aligned_type} {name}_aligned_t;\n"
    return chain
