"""The part of the network that one FPGA computes, as a graph of its own: received values become inputs."""

from __future__ import annotations

from metronn.ir.graph import Graph, GraphBuilder
from metronn.ir.ops import Constant, Input, operands
from metronn.plan.design import Design, FpgaDesign
from metronn.plan.kernels.spec import covered_nodes


def entering_values(design: Design, fpga: FpgaDesign) -> tuple[str, ...]:
    """Names of the values that come into an FPGA: the graph's inputs, or what its frame brings."""
    if fpga.receives is None:
        return tuple(node.name for node in design.graph.inputs)
    return tuple(field.value for field in fpga.receives.fields)


def leaving_values(design: Design, fpga: FpgaDesign) -> tuple[tuple[str, str], ...]:
    """(name, value) of what an FPGA puts out: what its frame takes along, or the graph's outputs."""
    if fpga.sends is None:
        return tuple((output.name, output.value) for output in design.graph.outputs)
    return tuple((field.value, field.value) for field in fpga.sends.fields)


def subgraph(design: Design, fpga: FpgaDesign) -> Graph:
    """Return the graph of one FPGA. Its inputs and outputs have the names and types of the values that cross."""
    graph = design.graph
    made = {node for kernel in fpga.kernels for node in covered_nodes(kernel.spec)}
    needed = made | {value for _, value in leaving_values(design, fpga)}
    constants = {
        name
        for node in needed
        for name in operands(graph.by_name[node].op)
        if isinstance(graph.by_name[name].op, Constant)
    }
    constants |= {name for name in needed if isinstance(graph.by_name[name].op, Constant)}
    entering = entering_values(design, fpga)
    builder = GraphBuilder()
    for node in graph.nodes:
        if node.name in entering:
            builder.add(Input(shape=node.type.shape, range=node.type.range), node.name, node.source)
        elif node.name in made or node.name in constants:
            builder.add(node.op, node.name, node.source)
    for name, value in leaving_values(design, fpga):
        builder.output(name, value)
    return builder.build()
