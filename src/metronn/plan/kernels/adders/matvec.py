"""The kernel MatvecAdders: one Linear as pipelined adder graphs, then its bias and epilogue, output by output.

Sums are placed as early as the time of a stage allows; a bias other than 0, or a negation, is one more; the epilogue
follows at once as in an elementwise pipeline. Latency is the number of stages; every output leaves through the register
at the end of the last one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from metronn.ir.arrays import Array, exact_array, object_array
from metronn.ir.graph import Graph
from metronn.ir.infer import infer, linear_shifts
from metronn.ir.ops import Constant, Linear, Requantize, operands
from metronn.ir.types import Range, TensorType
from metronn.plan.hardware.resources import Resources
from metronn.plan.hardware.timing import StagePath, Timing
from metronn.plan.kernels.adder_graph import NOTHING, AdderGraph, AdderOutput, Bounds, nonzero_digits
from metronn.plan.kernels.adders.constants import with_constants
from metronn.plan.kernels.adders.solver import solve
from metronn.plan.kernels.adders.tails import Tail, tail_of
from metronn.plan.kernels.elementwise import Place, expanded, node_dsps, node_logic, node_luts, place_nodes
from metronn.plan.kernels.netlist import Affine, Cell, ConstantCell, EpilogueCell, Keep, Netlist, NetlistBuilder, Sum
from metronn.plan.kernels.planned import Inputs, PlannedKernel
from metronn.plan.kernels.spec import MatvecAdders
from metronn.plan.kernels.uniform import function_inputs
from metronn.plan.layout import Layout

CANDIDATE_DIGITS = 6000
"""Nonzero signed digits of a matrix up to which unrolling is always tried beside folds."""
LARGEST_CANDIDATE_DIGITS = 24_000
"""Up to here unrolling is tried where folds cost more: solving takes up to a minute there, synthesis several."""


def linear_op(spec: MatvecAdders, graph: Graph) -> Linear:
    """Return the Linear op of the kernel."""
    op = graph.by_name[spec.linear].op
    assert isinstance(op, Linear)
    return op


def is_candidate(spec: MatvecAdders, graph: Graph, most: int = CANDIDATE_DIGITS) -> bool:
    """Whether the kernel can be built: at most so many digits, a lone input."""
    op = linear_op(spec, graph)
    rows = row_count(spec, graph)
    if any(name != spec.linear for name in _epilogue_inputs(spec, graph)):
        return False
    return rows * nonzero_digits(op.weight.array) <= most


def _epilogue_inputs(spec: MatvecAdders, graph: Graph) -> tuple[str, ...]:
    return function_inputs(graph, spec.epilogue) if spec.epilogue else ()


def row_matrix(
    spec: MatvecAdders, graph: Graph, row: int
) -> tuple[Array, tuple[tuple[int, int], ...], tuple[int, ...]]:
    """What one row (all leading axes) computes: a matrix on its input codes, those codes' bounds, and a bias.

    An input that has one code only is part of the bias; its weights are 0. So are those of an output of which, behind
    the epilogue, one code only is left.
    """
    op = linear_op(spec, graph)
    x = graph.type_of(op.x)
    count = op.weight.shape[0]
    part = slice(row * count, (row + 1) * count)
    shifts = linear_shifts(op, x).ravel()[part].tolist()
    weight = op.weight.array.copy()
    if any(shifts):
        scale = object_array((1 << shift for shift in shifts), (count, 1))
        weight = exact_array(weight.astype(object) * scale)
    bounds = tuple(zip(x.range.los(x.size)[part], x.range.his(x.size)[part], strict=True))
    bias = op.bias.ints()
    for k, (lo, hi) in enumerate(bounds):
        if lo == hi:
            bias = [b + lo * int(w) for b, w in zip(bias, weight[k], strict=True)]
            weight[k] = 0
    last = graph.type_of((spec.linear, *spec.epilogue)[-1]).range
    results = slice(row * len(bias), (row + 1) * len(bias))
    size = row_count(spec, graph) * len(bias)
    for column, (lo, hi) in enumerate(zip(last.los(size)[results], last.his(size)[results], strict=True)):
        if lo == hi and spec.epilogue:
            weight[:, column] = 0
    return weight, bounds, tuple(bias)


def row_count(spec: MatvecAdders, graph: Graph) -> int:
    """Return how many times the matrix is applied: once for each vector along the last axis."""
    op = linear_op(spec, graph)
    return graph.type_of(op.x).size // op.weight.shape[0]


def _plan(spec: MatvecAdders, graph: Graph, timing: Timing) -> tuple[Netlist, Graph]:
    if any(name != spec.linear for name in _epilogue_inputs(spec, graph)):
        raise ValueError(f"{spec.linear}: the epilogue reads {_epilogue_inputs(spec, graph)}, allowed is {spec.linear}")
    own, nodes = expanded(graph, spec.epilogue) if spec.epilogue else (graph, ())
    parts = _Parts(spec, graph, own, nodes, timing)
    builder = NetlistBuilder(timing)
    results = []
    for row in range(row_count(spec, graph)):
        weight, bounds, _ = row_matrix(spec, graph, row)
        found = solve(weight, bounds)
        if len(found) > 1:
            found = (min(found, key=lambda adders: parts.cost(adders, bounds, row)),)
        results += parts.add(builder, found[0], bounds, row)
    return builder.build(results), own


@dataclass(frozen=True, slots=True)
class _Parts:
    """One kernel and what its cells are made from: the expanded epilogue and the timing rules."""

    spec: MatvecAdders
    graph: Graph
    own: Graph
    nodes: tuple[str, ...]
    timing: Timing

    def cost(self, adders: AdderGraph, bounds: Bounds, row: int) -> tuple[int, int, int]:
        """Stages, LUTs and registers of one row alone."""
        builder = NetlistBuilder(self.timing)
        netlist = builder.build(self.add(builder, adders, bounds, row))
        return netlist.stage_count, netlist.adder_bits(), netlist.register_bits()

    def add(self, builder: NetlistBuilder, adders: AdderGraph, bounds: Bounds, row: int) -> list[int]:
        """Add the cells of one row and return those of its results."""
        biases = row_matrix(self.spec, self.graph, row)[2]
        first = row * len(biases)
        reach = adders.bounds(bounds)
        tails = [
            self.tail(output, reach, first + column, bias)
            for column, (output, bias) in enumerate(zip(adders.outputs, biases, strict=True))
        ]
        wanted = [bias + (tail.offset if tail else 0) for bias, tail in zip(biases, tails, strict=True)]
        made, rests = with_constants(adders, wanted, bounds)
        values = _adder_cells(builder, made, bounds, row)
        results = []
        for column, (rest, tail, bias) in enumerate(zip(rests, tails, wanted, strict=True)):
            element = first + column
            only = self.only_code(element)
            if only is not None:
                results.append(builder.place(f"y_{element}", ConstantCell(value=only), (only, only), 0, 0))
                continue
            output = made.outputs[column]
            cell = _with_bias(builder, output, values, bias if output.value == NOTHING else rest, element)
            results.append(self.end(builder, cell, tail, element))
        return results

    def only_code(self, element: int) -> int | None:
        """Return the code of an output that, behind the epilogue, has one only."""
        kind = self.graph.type_of((self.spec.linear, *self.spec.epilogue)[-1]).range.element(element)
        return kind.lowest if kind.lowest == kind.highest and self.spec.epilogue else None

    def tail(self, output: AdderOutput, reach: Bounds, element: int, bias: int) -> Tail | None:
        """Return the tail of one output, where its epilogue is one; `reach`: bounds of all values."""
        low, high = (0, 0) if output.value == NOTHING else reach[output.value]
        ends = sorted(bias + _scaled(-v if output.negative else v, output.shift) for v in (low, high))
        return tail_of(self.graph, self.spec.epilogue, self.spec.linear, element, (ends[0], ends[1]))

    def end(self, builder: NetlistBuilder, cell: int, tail: Tail | None, element: int) -> int:
        """Add what follows the sum of one output and return the result's cell."""
        if tail is None:
            return _epilogue(builder, self.own, self.nodes, self.spec.linear, element, cell, self.timing)
        name = f"{_short(self.nodes[-1])}_{element}"
        keep = Keep(cell=cell, shift=tail.shift, ramp=tail.ramp)
        return builder.add(name, keep, (tail.lo, tail.hi))


def _adder_cells(builder: NetlistBuilder, adders: AdderGraph, bounds: Bounds, row: int) -> list[int]:
    """Add the live inputs and all sums; return the cell of every value, -1 where an input is dead.

    Bounds are exact: those of the sum's linear form over independent inputs.
    """
    live = Counter(k for adder in adders.adders for k in (adder.left, adder.right))
    live.update(output.value for output in adders.outputs)
    reach = adders.bounds(bounds)
    cells = [
        builder.source(0, row * adders.inputs + k, bounds[k], live[k]) if k in live else -1
        for k in range(adders.inputs)
    ]
    for index, adder in enumerate(adders.adders):
        op: Sum | Affine
        if adder.right == NOTHING:
            op = Affine(cell=cells[adder.left], shift=adder.left_shift, negative=False, offset=adder.offset)
        else:
            op = Sum(
                left=cells[adder.left],
                right=cells[adder.right],
                left_shift=adder.left_shift,
                right_shift=adder.right_shift,
                subtract=adder.subtract,
                offset=adder.offset,
            )
        cells.append(builder.add(f"r{row}_a{index}", op, reach[adders.inputs + index]))
        builder.loads[cells[-1]] = live[adders.inputs + index]
    return cells


def _with_bias(builder: NetlistBuilder, output: AdderOutput, values: Sequence[int], bias: int, element: int) -> int:
    """Add what is left of the bias, and the sign, to one output and return its cell, in the codes of the Linear."""
    name = f"sum_{element}"
    if output.value == NOTHING:
        return builder.place(name, ConstantCell(value=bias), (bias, bias), 0, 0)
    cell = builder.cells[values[output.value]]
    if output.shift == 0 and bias == 0 and not output.negative:
        return values[output.value]
    ends = [_scaled(v, output.shift) for v in (cell.lo, cell.hi)]
    low, high = sorted(bias + (-v if output.negative else v) for v in ends)
    op = Affine(cell=values[output.value], shift=output.shift, negative=output.negative, offset=bias)
    return builder.add(name, op, (low, high))


def _scaled(value: int, shift: int) -> int:
    return value << shift if shift >= 0 else _exact_shift(value, -shift)


def _exact_shift(value: int, bits: int) -> int:
    assert value % (1 << bits) == 0, "an adder graph drops bits that are not zero"
    return value >> bits


def _epilogue(
    builder: NetlistBuilder, own: Graph, nodes: Sequence[str], linear: str, element: int, cell: int, timing: Timing
) -> int:
    """Add the calls of one output: one per node that is read in a later stage or is the result."""
    if not nodes:
        return cell
    start = builder.cells[cell]
    places = place_nodes(own, nodes, timing, {linear: Place(start.stage, start.ready_ps)})
    kept = [name for name in nodes if name == nodes[-1] or _read_later(own, nodes, places, name)]
    bounds = _element_bounds(own, nodes, linear, element, start)
    cells = {linear: cell}
    for name in kept:
        cone = _cone(own, places, name, set(kept) - {name})
        reads = tuple((value, cells[value]) for value in function_inputs(own, cone))
        call = EpilogueCell(nodes=cone, element=element, reads=reads)
        place = places[name]
        end = node_logic(own, name, timing).end_ps
        cells[name] = builder.place(f"{_short(name)}_{element}", call, bounds[name], place.stage, place.ready_ps, end)
    return cells[nodes[-1]]


def _short(name: str) -> str:
    return name.replace(".", "_")


def _read_later(own: Graph, nodes: Sequence[str], places: dict[str, Place], name: str) -> bool:
    return any(name in operands(own.by_name[n].op) and places[n].stage > places[name].stage for n in nodes)


def _cone(own: Graph, places: dict[str, Place], name: str, stop: set[str]) -> tuple[str, ...]:
    """Nodes that make `name`, in order, itself last, up to the values in `stop`."""
    wanted, queue = {name}, [name]
    while queue:
        for operand in operands(own.by_name[queue.pop()].op):
            if operand in places and operand not in wanted and operand not in stop:
                wanted.add(operand)
                queue.append(operand)
    return tuple(node for node in places if node in wanted)


def _element_bounds(
    own: Graph, nodes: Sequence[str], linear: str, element: int, start: Cell
) -> dict[str, tuple[int, int]]:
    """Exact code bounds of every epilogue value of one output element."""
    kind = own.type_of(nodes[-1])
    frac = own.type_of(linear).range.element(element).max_frac
    types = {linear: TensorType((), Range(start.lo, start.hi, frac))}
    for name in nodes:
        op = own.by_name[name].op
        for operand in operands(op):
            made_by = own.by_name[operand].op
            if isinstance(made_by, Constant):
                code = int(np.broadcast_to(made_by.values.array, kind.shape).ravel()[element])
                types[operand] = TensorType((), Range(code, code, made_by.frac))
        if isinstance(op, Requantize):
            op = Requantize(x=op.x, out=op.out.element(element), rounding=op.rounding, overflow=op.overflow)
        types[name] = infer(op, [types[x] for x in operands(op)])
    return {name: (t.range.lowest, t.range.highest) for name, t in types.items()}


class PlannedAdders(PlannedKernel[MatvecAdders]):
    """A constant matrix as pipelined adder graphs."""

    kind = "matvec_adders"
    cycles_per_event = 1
    multipliers = 0

    @cached_property
    def structure(self) -> tuple[Netlist, Graph]:
        """The pipelined netlist and the graph its calls name (the epilogue, rounding and saturation apart)."""
        return _plan(self.spec, self.graph, self.timing)

    @property
    def latency_cycles(self) -> int:
        """Cycles from the inputs to the outputs, each on the wires: the stages of the netlist, at least 1."""
        return self.structure[0].stage_count

    @property
    def slowest(self) -> StagePath:
        """That of the netlist; solves the adder graphs."""
        return self.structure[0].slowest

    @cached_property
    def resources(self) -> Resources:
        """LUTs of adders and epilogue, flip-flops of every registered bit, DSP blocks of epilogue products."""
        (netlist, own), fabric = self.structure, self.timing.fabric
        calls = Counter(node for cell in netlist.cells if isinstance(cell.op, EpilogueCell) for node in cell.op.nodes)
        size = self.graph.type_of(self.spec.linear).size
        luts = sum(math.ceil(node_luts(own, node, fabric) * count / size) for node, count in calls.items())
        dsps = sum(math.ceil(node_dsps(own, node, fabric) * count / size) for node, count in calls.items())
        return netlist.resources(fabric) + Resources(lut=luts, dsp=dsps)

    @property
    def inputs(self) -> Inputs:
        """The vector, in parallel."""
        x = linear_op(self.spec, self.graph).x
        return ((x, Layout.parallel(self.graph.type_of(x).size)),)

    @property
    def output(self) -> Layout:
        """All outputs in one beat."""
        return Layout.parallel(self.graph.type_of(self.result).size)
