"""The kernel MatvecAdders: one Linear as pipelined adder graphs, then its bias and epilogue, output by output.

Sums are placed as early as `timing.levels_per_stage` allows; a bias other than 0, or a negation, is one more level; the
epilogue follows at once as in an elementwise pipeline. Latency is the number of stages; every output leaves through the
register at the end of the last one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from metronn.ir.arrays import Array
from metronn.ir.graph import Graph
from metronn.ir.infer import infer
from metronn.ir.ops import Constant, Linear, Requantize, operands
from metronn.ir.types import Range, TensorType
from metronn.plan.kernels.adder_graph import EXACT_WEIGHT_BITS, AdderGraph, nonzero_digits, solve
from metronn.plan.kernels.elementwise import Place, expanded, node_dsps, node_luts, place_nodes
from metronn.plan.kernels.netlist import Affine, Call, Cell, Fixed, Netlist, NetlistBuilder, Sum
from metronn.plan.kernels.spec import MatvecAdders
from metronn.plan.kernels.uniform import function_inputs
from metronn.plan.layout import Layout
from metronn.plan.resources import Resources
from metronn.plan.timing import Timing

CANDIDATE_DIGITS = 6000
"""Nonzero signed digits of a matrix above which unrolling is not tried: solving and synthesis take minutes there."""


def linear_op(spec: MatvecAdders, graph: Graph) -> Linear:
    """Return the Linear op of the kernel."""
    op = graph.by_name[spec.linear].op
    assert isinstance(op, Linear)
    return op


def is_candidate(spec: MatvecAdders, graph: Graph) -> bool:
    """Whether the kernel can be built in seconds: few enough digits, weights exact in the solver, a lone input."""
    op = linear_op(spec, graph)
    rows = graph.type_of(op.x).size // op.weight.shape[0]
    low, high = op.weight.bounds()
    if max(abs(low), abs(high)) << _spread(graph, op.x) >= 1 << EXACT_WEIGHT_BITS:
        return False
    if any(name != spec.linear for name in _epilogue_inputs(spec, graph)):
        return False
    return rows * nonzero_digits(op.weight.array) <= CANDIDATE_DIGITS


def _spread(graph: Graph, name: str) -> int:
    fracs = graph.type_of(name).range.fracs(graph.type_of(name).size)
    return max(fracs) - min(fracs)


def _epilogue_inputs(spec: MatvecAdders, graph: Graph) -> tuple[str, ...]:
    return function_inputs(graph, spec.epilogue) if spec.epilogue else ()


def row_matrix(
    spec: MatvecAdders, graph: Graph, row: int
) -> tuple[Array, tuple[tuple[int, int], ...], tuple[int, ...]]:
    """What one row (all leading axes) computes: a matrix on its input codes, those codes' bounds, and a bias.

    An input that has one code only is part of the bias; its weights are 0.
    """
    op = linear_op(spec, graph)
    x = graph.type_of(op.x)
    count = op.weight.shape[0]
    part = slice(row * count, (row + 1) * count)
    fracs = x.range.fracs(x.size)[part]
    scale = [1 << (x.range.max_frac - frac) for frac in fracs]
    rows = [[int(w) * s for w in line] for line, s in zip(op.weight.array, scale, strict=True)]
    weight = np.array(rows, dtype=object)
    bounds = tuple(zip(x.range.los(x.size)[part], x.range.his(x.size)[part], strict=True))
    bias = op.bias.ints()
    for k, (lo, hi) in enumerate(bounds):
        if lo == hi:
            bias = [b + lo * int(w) for b, w in zip(bias, weight[k], strict=True)]
            weight[k] = 0
    return weight, bounds, tuple(bias)


def adder_graphs(spec: MatvecAdders, graph: Graph) -> tuple[AdderGraph, ...]:
    """Return the solved adder graph of each row. Raises ToolError when the solver is missing."""
    op = linear_op(spec, graph)
    rows = graph.type_of(op.x).size // op.weight.shape[0]
    return tuple(solve(*row_matrix(spec, graph, row)[:2]) for row in range(rows))


@lru_cache(maxsize=512)
def _planned(spec: MatvecAdders, graph: _ById, timing: Timing) -> tuple[Netlist, Graph]:
    return _plan(spec, graph.graph, timing)


class _ById:
    """A graph as a cache key: itself, not its content."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def __hash__(self) -> int:
        return id(self.graph)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ById) and other.graph is self.graph


def matvec_netlist(spec: MatvecAdders, graph: Graph, timing: Timing) -> tuple[Netlist, Graph]:
    """Return the pipelined netlist and the graph its calls name (the epilogue, rounding and saturation apart)."""
    return _planned(spec, _ById(graph), timing)


def _plan(spec: MatvecAdders, graph: Graph, timing: Timing) -> tuple[Netlist, Graph]:
    if any(name != spec.linear for name in _epilogue_inputs(spec, graph)):
        raise ValueError(f"{spec.linear}: the epilogue reads {_epilogue_inputs(spec, graph)}, allowed is {spec.linear}")
    own, nodes = expanded(graph, spec.epilogue) if spec.epilogue else (graph, ())
    builder = NetlistBuilder(timing.levels_per_stage)
    results = []
    for row, adders in enumerate(adder_graphs(spec, graph)):
        _, bounds, biases = row_matrix(spec, graph, row)
        values = _adder_cells(builder, adders, bounds, row)
        for column, bias in enumerate(biases):
            element = row * len(adders.outputs) + column
            cell = _with_bias(builder, adders, values, column, bias, element)
            results.append(_epilogue(builder, own, nodes, spec.linear, element, cell, timing))
    return builder.build(results), own


def _adder_cells(builder: NetlistBuilder, adders: AdderGraph, bounds: Sequence[tuple[int, int]], row: int) -> list[int]:
    """Add the live inputs and all sums; return the cell of every value, -1 where an input is dead.

    Bounds are exact: those of the sum's linear form over independent inputs.
    """
    live = {k for adder in adders.adders for k in (adder.left, adder.right)} | {o.value for o in adders.outputs}
    forms = adders.forms()
    cells = [builder.source(0, row * adders.inputs + k, bounds[k]) if k in live else -1 for k in range(adders.inputs)]
    for index, adder in enumerate(adders.adders):
        form = forms[adders.inputs + index]
        ends = [sorted((c * bounds[k][0], c * bounds[k][1])) for k, c in form.items()]
        total = (sum(low for low, _ in ends), sum(high for _, high in ends))
        op = Sum(
            left=cells[adder.left],
            right=cells[adder.right],
            left_shift=adder.left_shift,
            right_shift=adder.right_shift,
            subtract=adder.subtract,
        )
        cells.append(builder.add(f"r{row}_a{index}", op, total, 1))
    return cells


def _with_bias(
    builder: NetlistBuilder, adders: AdderGraph, values: Sequence[int], column: int, bias: int, element: int
) -> int:
    """Add bias and sign of one output and return its cell, in the codes of the Linear."""
    output = adders.outputs[column]
    name = f"sum_{element}"
    if output.value < 0:
        return builder.place(name, Fixed(value=bias), (bias, bias), 0, 0)
    cell = builder.cells[values[output.value]]
    if output.shift == 0 and bias == 0 and not output.negative:
        return values[output.value]
    ends = [v << output.shift if output.shift >= 0 else _exact_shift(v, -output.shift) for v in (cell.lo, cell.hi)]
    low, high = sorted(bias + (-v if output.negative else v) for v in ends)
    op = Affine(cell=values[output.value], shift=output.shift, negative=output.negative, offset=bias)
    return builder.add(name, op, (low, high), int(bool(bias or output.negative)))


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
    places = place_nodes(own, nodes, timing, {linear: Place(start.stage, start.level)})
    kept = [name for name in nodes if name == nodes[-1] or _read_later(own, nodes, places, name)]
    bounds = _element_bounds(own, nodes, linear, element, start)
    cells = {linear: cell}
    for name in kept:
        cone = _cone(own, places, name, set(kept) - {name})
        reads = tuple((value, cells[value]) for value in function_inputs(own, cone))
        call = Call(nodes=cone, element=element, reads=reads)
        place = places[name]
        cells[name] = builder.place(f"{_short(name)}_{element}", call, bounds[name], place.stage, place.level)
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


def latency_cycles(spec: MatvecAdders, graph: Graph, timing: Timing) -> int:
    """Cycles from the inputs on the wires to the outputs on the wires: the stages of the netlist, at least 1."""
    return matvec_netlist(spec, graph, timing)[0].stage_count


def resources(spec: MatvecAdders, graph: Graph, timing: Timing) -> Resources:
    """LUTs of adders and epilogue, flip-flops of every registered bit, DSP blocks of epilogue products."""
    netlist, own = matvec_netlist(spec, graph, timing)
    nodes = expanded(graph, spec.epilogue)[1] if spec.epilogue else ()
    logic = Resources(lut=sum(node_luts(own, n) for n in nodes), dsp=sum(node_dsps(own, n) for n in nodes))
    return netlist.resources() + logic


def input_layouts(spec: MatvecAdders, graph: Graph) -> tuple[tuple[str, Layout], ...]:
    """The vector, in parallel."""
    x = linear_op(spec, graph).x
    return ((x, Layout.parallel(graph.type_of(x).size)),)


def output_layout(spec: MatvecAdders, graph: Graph) -> Layout:
    """All outputs in one beat."""
    return Layout.parallel(graph.type_of((spec.linear, *spec.epilogue)[-1]).size)
