"""Reductions as pipelined trees: sum, max or min of the elements along axes, one binary tree per result."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from metronn.ir.graph import Graph
from metronn.ir.infer import reduce_shifts
from metronn.ir.ops import Reduce, ReduceKind
from metronn.plan.hardware.resources import Resources
from metronn.plan.hardware.timing import StagePath, Timing
from metronn.plan.kernels.netlist import Affine, Netlist, NetlistBuilder, Pick, Sum
from metronn.plan.kernels.planned import Inputs, PlannedKernel
from metronn.plan.kernels.spec import ReduceTree
from metronn.plan.layout import Layout


def reduce_op(spec: ReduceTree, graph: Graph) -> Reduce:
    """Return the op of the kernel."""
    op = graph.by_name[spec.reduce].op
    assert isinstance(op, Reduce)
    return op


def terms(spec: ReduceTree, graph: Graph) -> tuple[tuple[int, ...], ...]:
    """Flat indices of the input elements behind each result element."""
    op = reduce_op(spec, graph)
    shape = graph.type_of(op.x).shape
    flat = np.arange(graph.type_of(op.x).size).reshape(shape)
    kept = [axis for axis in range(len(shape)) if axis not in op.axes]
    rows = flat.transpose(*kept, *op.axes).reshape(graph.type_of(spec.reduce).size, -1)
    return tuple(tuple(int(k) for k in row) for row in rows)


def _trees(spec: ReduceTree, graph: Graph, timing: Timing) -> Netlist:
    """Return the trees: neighbours meet level by level, an odd one waits."""
    op = reduce_op(spec, graph)
    x = graph.type_of(op.x)
    los, his, shifts = x.range.los(x.size), x.range.his(x.size), reduce_shifts(op, x).ravel().tolist()
    builder = NetlistBuilder(timing)
    results = []
    for number, row in enumerate(terms(spec, graph)):
        level = [(builder.source(0, k, (los[k], his[k])), shifts[k]) for k in row]
        depth = 0
        while len(level) > 1:
            depth += 1
            pairs = list(zip(level[0::2], level[1::2], strict=False))
            joined = [(_join(builder, op.kind, f"t{number}_{depth}_{k}", *pair), 0) for k, pair in enumerate(pairs)]
            level = joined + level[2 * len(pairs) :]
        cell, shift = level[0]
        if shift:
            alone = builder.cells[cell]
            bounds = (alone.lo << shift, alone.hi << shift)
            cell = builder.add(f"t{number}", Affine(cell=cell, shift=shift, negative=False, offset=0), bounds)
        results.append(cell)
    return builder.build(results)


def _join(builder: NetlistBuilder, kind: ReduceKind, name: str, left: tuple[int, int], right: tuple[int, int]) -> int:
    """Add the cell that sums or picks two terms, each a cell and the bits it is shifted up."""
    (a, a_shift), (b, b_shift) = left, right
    a_lo, a_hi = builder.cells[a].lo << a_shift, builder.cells[a].hi << a_shift
    b_lo, b_hi = builder.cells[b].lo << b_shift, builder.cells[b].hi << b_shift
    if kind is ReduceKind.SUM:
        sum_op = Sum(left=a, right=b, left_shift=a_shift, right_shift=b_shift)
        return builder.add(name, sum_op, (a_lo + b_lo, a_hi + b_hi))
    largest = kind is ReduceKind.MAX
    choose = max if largest else min
    pick = Pick(left=a, right=b, left_shift=a_shift, right_shift=b_shift, largest=largest)
    return builder.add(name, pick, (choose(a_lo, b_lo), choose(a_hi, b_hi)))


class PlannedReduceTree(PlannedKernel[ReduceTree]):
    """A pipelined tree for each result."""

    kind = "reduce"
    cycles_per_event = 1
    multipliers = 0

    @cached_property
    def netlist(self) -> Netlist:
        """All trees."""
        return _trees(self.spec, self.graph, self.timing)

    @property
    def latency_cycles(self) -> int:
        """Register stages of the tree, at least 1."""
        return self.netlist.stage_count

    @property
    def slowest(self) -> StagePath:
        """That of the netlist."""
        return self.netlist.slowest

    @cached_property
    def resources(self) -> Resources:
        """LUTs of the adders or comparators, flip-flops of the stages."""
        return self.netlist.resources(self.timing.fabric)

    @property
    def inputs(self) -> Inputs:
        """The operand, in parallel."""
        x = reduce_op(self.spec, self.graph).x
        return ((x, Layout.parallel(self.graph.type_of(x).size)),)

    @property
    def output(self) -> Layout:
        """All elements in one beat."""
        return Layout.parallel(self.graph.type_of(self.spec.reduce).size)
