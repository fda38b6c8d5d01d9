"""Steps: the graph cut into groups of ops that one kernel makes, and the kernels each group could become."""

from __future__ import annotations

from dataclasses import dataclass

from metronn.ir.graph import Graph, Node
from metronn.ir.ops import (
    Add,
    Constant,
    Extremum,
    Input,
    Linear,
    Lookup,
    Multiply,
    Reduce,
    Requantize,
    Rewire,
    operands,
)
from metronn.plan.kernels import adders
from metronn.plan.kernels.fold import fold_outputs_spec, linear_of, outputs_layout
from metronn.plan.kernels.model import cycles_per_event
from metronn.plan.kernels.spec import (
    Elementwise,
    FoldInputs,
    FoldOutputs,
    KernelSpec,
    MatvecAdders,
    ReduceTree,
    Table,
    Wiring,
    covered_nodes,
    result_value,
)
from metronn.plan.kernels.uniform import is_uniform
from metronn.plan.layout import Layout
from metronn.plan.options import Fold, PlanOptions
from metronn.plan.timing import Timing


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A group of ops, the value it makes, the values it reads, and the kernels that could make it."""

    value: str
    source: str
    inputs: tuple[str, ...]
    candidates: tuple[KernelSpec, ...]


def steps(graph: Graph, ii_cycles: int, timing: Timing, options: PlanOptions) -> tuple[Step, ...]:
    """Cut the graph into steps in topological order. Every op but Input and Constant is in exactly one."""
    taken: set[str] = set()
    found: dict[str, Step] = {}
    for node in graph.nodes:
        if node.name in taken or isinstance(node.op, Input | Constant):
            continue
        step = _step(graph, node, ii_cycles, timing, options, found)
        found[step.value] = step
        taken.update(covered_nodes(step.candidates[0]))
    return tuple(found.values())


def _step(
    graph: Graph, node: Node, ii_cycles: int, timing: Timing, options: PlanOptions, before: dict[str, Step]
) -> Step:
    match node.op:
        case Linear():
            return _matvec_step(graph, node, ii_cycles, timing, options, before)
        case Add() | Multiply() | Extremum() | Requantize():
            group = grow(graph, node.name, (Add, Multiply, Extremum, Requantize))
            return _plain(graph, node, Elementwise(nodes=group))
        case Lookup():
            return _plain(graph, node, Table(lookup=node.name))
        case Reduce():
            return _plain(graph, node, ReduceTree(reduce=node.name))
        case Rewire():
            return _plain(graph, node, Wiring(rewire=node.name))
        case _:
            raise AssertionError(f"{node.name}: inputs and constants are no steps")


def _plain(graph: Graph, node: Node, spec: KernelSpec) -> Step:
    return Step(
        value=result_value(spec),
        source=node.source,
        inputs=external_inputs(graph, covered_nodes(spec)),
        candidates=(spec,),
    )


def external_inputs(graph: Graph, nodes: tuple[str, ...]) -> tuple[str, ...]:
    """Values the nodes read that they do not make and that are no constants, in order of first use."""
    inside = set(nodes)
    names = dict.fromkeys(
        name
        for node in nodes
        for name in operands(graph.by_name[node].op)
        if name not in inside and not isinstance(graph.by_name[name].op, Constant)
    )
    return tuple(names)


def grow(graph: Graph, first: str, kinds: tuple[type, ...]) -> tuple[str, ...]:
    """Follow a value through elementwise ops of one shape: the longest group that shows only its last value outside.

    An op joins when it works element by element (is one of `kinds`) and reads only constants and the group's values.
    """
    shape = graph.type_of(first).shape
    group = [first]
    position = {node.name: index for index, node in enumerate(graph.nodes)}
    for node in graph.nodes[position[first] + 1 :]:
        reads = operands(node.op)
        if not isinstance(node.op, kinds) or node.type.shape != shape or not any(name in group for name in reads):
            continue
        if all(name in group or isinstance(graph.by_name[name].op, Constant) for name in reads):
            group.append(node.name)
    shown = {output.value for output in graph.outputs}
    for length in range(len(group), 1, -1):
        inside = set(group[:length])
        hidden = group[: length - 1]
        if all(name not in shown and set(graph.uses[name]) <= inside for name in hidden):
            return tuple(group[:length])
    return (first,)


def _matvec_step(
    graph: Graph, node: Node, ii_cycles: int, timing: Timing, options: PlanOptions, before: dict[str, Step]
) -> Step:
    epilogue = grow(graph, node.name, (Extremum, Requantize))[1:]
    if epilogue and not is_uniform(graph, epilogue):
        epilogue = ()
    op = linear_of(graph, node.name)
    found: list[KernelSpec] = []
    unrolled = MatvecAdders(linear=node.name, epilogue=epilogue)
    if ii_cycles == 1 or adders.is_candidate(unrolled, graph):
        found.append(unrolled)
    if ii_cycles > 1 and len(graph.type_of(op.x).shape) == 1:
        for beats in _fold_lengths(ii_cycles, options):
            found.append(fold_outputs_spec(graph, node.name, epilogue, beats, timing))
        producer = before.get(op.x)
        layouts: dict[Layout, None] = {}
        for candidate in producer.candidates if producer else ():
            if isinstance(candidate, FoldOutputs) and candidate.lanes:
                layouts[outputs_layout(candidate)] = None
        found.extend(FoldInputs(linear=node.name, epilogue=epilogue, layout=layout) for layout in layouts)
    found = [spec for spec in dict.fromkeys(found) if cycles_per_event(spec) <= ii_cycles]
    value = result_value(found[0]) if found else node.name
    return Step(value=value, source=node.source, inputs=(op.x,), candidates=tuple(found) or (unrolled,))


def _fold_lengths(ii_cycles: int, options: PlanOptions) -> tuple[int, ...]:
    """Beats a fold may take: all of the II, or shorter ones too when multipliers may be spent on latency."""
    if options.fold is Fold.FULL:
        return (ii_cycles,)
    return tuple(dict.fromkeys(max(2, -(-ii_cycles // share)) for share in (1, 2, 3, 4)))
