"""Arithmetic between constants is done once, here; sums and products with constants in a row become one."""

from __future__ import annotations

from dataclasses import replace

from metronn.ir.names import free_name
from metronn.ir.ops import Add, Multiply, operands
from metronn.model.graph import RealConstant, RealGraph, RealInput, RealNode
from metronn.model.reference import run_reference
from metronn.passes.real.rewriting import affine_of, frozen, with_new_nodes
from metronn.passes.rewriting import rebuilt


def fold_constants(graph: RealGraph) -> RealGraph:
    """Replace what no input reaches by constants, then merge neighbouring sums and products with constants.

    A quantized network keeps neighbours apart: its constants are combined exactly, by the exact lowering.
    """
    graph = _evaluate(graph)
    while not graph.quantized and (merged := _merge_one(graph)) is not None:
        graph = _evaluate(merged)
    return graph


def _evaluate(graph: RealGraph) -> RealGraph:
    constant: set[str] = set()
    for node in graph.nodes:
        if not isinstance(node.op, RealInput) and all(x in constant for x in operands(node.op)):
            constant.add(node.name)
    targets = [node for node in graph.nodes if node.name in constant and not isinstance(node.op, RealConstant)]
    if not targets:
        return graph
    part = RealGraph(
        nodes=tuple(node for node in graph.nodes if node.name in constant),
        outputs=tuple((node.name, node.name) for node in targets),
    )
    values = run_reference(part, {})
    return rebuilt(graph, {node.name: RealConstant(values=frozen(values[node.name][0])) for node in targets})


def _merge_one(graph: RealGraph) -> RealGraph | None:
    """Merge the first pair found: (x + a) + b or (x * a) * b, the inner value read nowhere else."""
    for node in graph.nodes:
        outer = affine_of(graph, node)
        if outer is None:
            continue
        inner_node = graph.by_name[outer[0]]
        inner = affine_of(graph, inner_node)
        if inner is None or graph.only_reader(inner_node.name) is not node:
            continue
        both = (inner_node.op, node.op)
        if all(isinstance(op, Multiply) for op in both):
            values, product = inner[1] * outer[1], True
        elif all(isinstance(op, Add) for op in both) and (outer[1] == 1).all():
            values, product = inner[2] + outer[2], False
        else:
            continue
        name = free_name(f"{node.name}.merged", graph.by_name)
        constant = RealNode(
            name=name, op=RealConstant(values=frozen(values)), shape=values.shape, source=inner_node.source
        )
        op: Add | Multiply
        if product:
            op = Multiply(x=inner[0], y=name)
        elif (inner[1] == 1).all():
            op = Add(x=inner[0], y=name)
        else:
            op = Add(x=name, y=inner[0], subtract=True)
        grown = with_new_nodes(graph, {inner_node.name: (constant,)})
        others = tuple((tensor, value) for tensor, value in grown.tensors if value != inner_node.name)
        grown = replace(grown, tensors=others)  # the inner value is gone, its name is the outer value's now
        kept = replace(inner_node, op=op)
        return rebuilt(grown, {inner_node.name: kept.op}, {node.name: inner_node.name}, {node.name})
    return None
