"""Products of two variables, as attention has them: no weights, so nothing that could be folded over the II.

A fold takes one matrix through few multipliers by changing their weights from cycle to cycle. A product of two
activations is made where both are: with all elements there at once, every one takes a multiplier of its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from metronn.ir.graph import Graph, GraphBuilder
from metronn.ir.infer import TypeRuleError
from metronn.ir.names import free_name
from metronn.ir.ops import Constant, Multiply, Overflow, Requantize, Rounding, operands
from metronn.ir.types import Range
from metronn.plan.figures import estimated_figures
from metronn.plan.kernels.elementwise import is_product
from metronn.plan.kernels.spec import covered_nodes
from metronn.plan.solve import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Products:
    """The products of one step: its layer, the nodes, how many products they are, and the fewest DSP blocks."""

    source: str
    nodes: tuple[str, ...]
    count: int
    dsps: int


def products_of(problem: Problem) -> dict[str, Products]:
    """Return the products of every step that has some, by the step's value."""
    found = {}
    for step in problem.steps:
        nodes = tuple(name for name in covered_nodes(step.candidates[0]) if is_variable_product(problem.graph, name))
        if nodes:
            costs = [estimated_figures(problem.kernels.of(spec)).cost for spec in step.candidates]
            found[step.value] = Products(
                source=step.source,
                nodes=nodes,
                count=sum(problem.graph.type_of(name).size for name in nodes),
                dsps=min(cost.dsp for cost in costs),
            )
    return found


def is_variable_product(graph: Graph, name: str) -> bool:
    """Whether a node multiplies two values of which none is a constant."""
    op = graph.by_name[name].op
    constant = any(isinstance(graph.by_name[x].op, Constant) for x in operands(op))
    return isinstance(op, Multiply) and not constant and is_product(graph, name)


def narrowed(graph: Graph, nodes: Sequence[str], bits: int) -> Graph | None:
    """Return the graph whose products `nodes` have operands of at most so many signed bits, rounded and saturated.

    None where nothing gets narrower, or where what follows does not take the other ranges.
    """
    builder, narrow = GraphBuilder(), dict[str, str]()
    try:
        for node in graph.nodes:
            op = node.op
            if isinstance(op, Multiply) and node.name in nodes:
                for operand in operands(op):
                    out = _narrow(builder.types[operand].range, bits)
                    if operand not in narrow and out is not None:
                        rounded = Requantize(x=operand, out=out, rounding=Rounding.RND, overflow=Overflow.SAT)
                        name = free_name(f"{operand}.narrow", graph.by_name)
                        narrow[operand] = builder.add(rounded, name, node.source)
                op = dataclasses.replace(op, x=narrow.get(op.x, op.x), y=narrow.get(op.y, op.y))
            builder.add(op, node.name, node.source)
    except TypeRuleError:
        return None
    for output in graph.outputs:
        builder.output(output.name, output.value, output.source)
    return builder.build() if narrow else None


def _narrow(kind: Range, bits: int) -> Range | None:
    """Return the range without its lowest bits; None where it is narrow enough, or has several fracs."""
    width = kind.width_bits + (kind.lowest >= 0)
    drop = width - bits
    if drop <= 0 or not isinstance(kind.frac, int):
        return None
    return Range(kind.lowest >> drop, kind.highest >> drop, kind.frac - drop)
