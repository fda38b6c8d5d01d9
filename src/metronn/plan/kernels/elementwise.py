"""Elementwise kernels: which stage of the pipeline each op is in, how long the pipeline is, what it costs.

An op takes time (`node_logic`): Add, and rounding other than TRN, an addition; Extremum and saturation a comparison and
a choice; rounding and saturation are scheduled apart. Wrapping, truncation and products with powers of two are wires.
Any other Multiply takes one whole stage after a register, and one made of DSP blocks a second register behind it: those
of a block in front of the multiplier, behind it and behind the adder.
A stage holds what fits the clock and ends in a register.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from metronn.ir.graph import Graph, Node, Output
from metronn.ir.infer import infer, round_shift
from metronn.ir.ops import (
    Add,
    Constant,
    Extremum,
    Input,
    Multiply,
    Overflow,
    Requantize,
    Rounding,
    operands,
)
from metronn.ir.types import Range, TensorType
from metronn.plan.hardware.fabric import Fabric
from metronn.plan.hardware.resources import Resources
from metronn.plan.hardware.timing import Span, StagePath, Timing, slower
from metronn.plan.kernels.planned import Inputs, PlannedKernel
from metronn.plan.kernels.spec import Elementwise
from metronn.plan.kernels.uniform import function_inputs
from metronn.plan.layout import Layout


@dataclass(frozen=True, slots=True)
class Place:
    """When a value is there: in which stage it is computed, and how long after its beginning.

    A value with `ready_ps` 0 in stage s comes from the register before stage s, or needs no logic.
    """

    stage: int
    ready_ps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What happens between two registers.

    `results`: for each value registered at the end of the stage, the nodes computed for it in the stage (in order,
    itself last; none when the value is only passed on) and the values they read from the register before.
    """

    results: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """An elementwise pipeline: the ops as scheduled (rounding and saturation apart), when, and its stages."""

    graph: Graph
    nodes: tuple[str, ...]
    inputs: tuple[str, ...]
    places: Mapping[str, Place]
    stages: tuple[Stage, ...]


def expanded(graph: Graph, nodes: Sequence[str]) -> tuple[Graph, tuple[str, ...]]:
    """Return a graph of the nodes alone, and their names, with rounding and overflow of a Requantize as two nodes.

    The split is exact: the rounded value keeps every code it can have, and the second Requantize only brings it into
    range. Values from outside become inputs of the new graph.
    """
    made: list[Node] = []
    for name in function_inputs(graph, nodes):
        node = graph.by_name[name]
        made.append(replace(node, op=Input(shape=node.type.shape, range=node.type.range)))
    constants = dict.fromkeys(x for name in nodes for x in operands(graph.by_name[name].op))
    made += [graph.by_name[x] for x in constants if isinstance(graph.by_name[x].op, Constant)]
    names: list[str] = []
    for name in nodes:
        node = graph.by_name[name]
        if isinstance(node.op, Requantize) and _rounds(graph, node.op) and _clips(graph, node.op):
            rounded = _rounded(graph, node, node.op)
            made.append(rounded)
            names.append(rounded.name)
            node = replace(node, op=replace(node.op, x=rounded.name, rounding=Rounding.TRN))
        made.append(node)
        names.append(name)
    return Graph(nodes=tuple(made), outputs=(Output(name="y", value=nodes[-1]),)), tuple(names)


def _rounded(graph: Graph, node: Node, op: Requantize) -> Node:
    """Return the node that only rounds: its target range holds every rounded code."""
    x = graph.type_of(op.x)
    lows, highs, fracs = [], [], op.out.fracs(x.size)
    for lo, hi, frac, kept in zip(x.range.los(x.size), x.range.his(x.size), x.range.fracs(x.size), fracs, strict=True):
        lows.append(round_shift(lo, frac - kept, op.rounding))
        highs.append(round_shift(hi, frac - kept, op.rounding))
    exact = Requantize(x=op.x, out=Range(tuple(lows), tuple(highs), fracs), rounding=op.rounding, overflow=Overflow.SAT)
    return Node(name=f"{node.name}.rounded", op=exact, type=infer(exact, [x]), source=node.source)


def _rounds(graph: Graph, op: Requantize) -> bool:
    """Whether some element needs an addition to round: never for TRN, nor where no bit is dropped."""
    x = graph.type_of(op.x)
    pairs = zip(x.range.fracs(x.size), op.out.fracs(x.size), strict=True)
    drops = any(frac > kept for frac, kept in pairs)
    return drops and op.rounding is not Rounding.TRN and not (op.rounding is Rounding.TRN_ZERO and x.range.lowest >= 0)


def _clips(graph: Graph, op: Requantize) -> bool:
    """Whether some element needs a comparison with the bounds: never for WRAP, nor where every code fits."""
    if op.overflow is Overflow.WRAP:
        return False
    x = graph.type_of(op.x)
    fields = (x.range.los, x.range.his, x.range.fracs, op.out.los, op.out.his, op.out.fracs)
    for lo, hi, frac, out_lo, out_hi, kept in set(zip(*(f(x.size) for f in fields), strict=True)):
        if round_shift(lo, frac - kept, op.rounding) < out_lo or round_shift(hi, frac - kept, op.rounding) > out_hi:
            return True
    return False


def _power_of_two(graph: Graph, name: str) -> bool:
    op = graph.by_name[name].op
    return isinstance(op, Constant) and all(v >= 0 and v & (v - 1) == 0 for v in op.values.ints())


def is_product(graph: Graph, name: str) -> bool:
    """Whether the node is a Multiply that needs a multiplier (no operand is a power of two or zero)."""
    op = graph.by_name[name].op
    return isinstance(op, Multiply) and not (_power_of_two(graph, op.x) or _power_of_two(graph, op.y))


def node_logic(graph: Graph, name: str, timing: Timing) -> Span:
    """What a node of an expanded graph takes; a product without the registers it is scheduled with."""
    node = graph.by_name[name]
    op, width = node.op, max(node.type.element_widths())
    match op:
        case Add():
            return timing.sum(width)
        case Extremum():
            if any(_is_zero(graph, x) for x in operands(op)):
                return timing.luts(1)  # by the sign
            return timing.pick(max(max(graph.type_of(x).element_widths()) for x in operands(op)))
        case Multiply():
            return _product(graph, op, timing) if is_product(graph, name) else Span(ps=0)
        case Requantize():
            taken = max(graph.type_of(op.x).element_widths())
            if _rounds(graph, op):
                return timing.sum(taken)
            return _clip(graph, op, taken, timing) if _clips(graph, op) else Span(ps=0)
        case _:
            raise ValueError(f"{name}: {type(op).__name__} is not an elementwise op")


def _is_zero(graph: Graph, name: str) -> bool:
    op = graph.by_name[name].op
    return isinstance(op, Constant) and not any(op.values.ints())


def _clip(graph: Graph, op: Requantize, taken: int, timing: Timing) -> Span:
    """Saturation: whether bits above agree, or where bounds are no powers of two two comparisons, and a choice."""
    ends = zip(op.out.los(size := graph.type_of(op.x).size), op.out.his(size), strict=True)
    if all((hi + 1) & hi == 0 and lo in (0, -hi - 1) for lo, hi in set(ends)):
        above = timing.function(max(2, taken - min(op.out.width_bits, taken) + 1))
        return Span(ps=above.ps + timing.arcs.net_ps, end_ps=timing.arcs.net_ps)
    return timing.pick(taken)


def _product(graph: Graph, op: Multiply, timing: Timing) -> Span:
    """A product: of LUTs rows of partial products and their sums, else through a DSP block between its registers."""
    pairs = _products(graph, op)
    narrow = [(min(pair), sum(pair)) for pair in pairs if _of_luts(*pair, timing.fabric)]
    if len(narrow) < len(pairs):
        return Span(ps=timing.arcs.dsp_bare_ps)
    sums = ((rows - 1).bit_length() * timing.sum(bits).ps for rows, bits in narrow)
    return timing.luts(1) if not narrow else Span(ps=max(timing.luts(1).whole_ps, *sums))


def chain(graph: Graph, nodes: Sequence[str], timing: Timing) -> Span:
    """What nodes of an expanded graph take one behind the other without a register between them."""
    ready, end = dict.fromkeys(nodes, 0), 0
    for name in nodes:
        logic = node_logic(graph, name, timing)
        reads = [x for x in operands(graph.by_name[name].op) if x in ready]
        ready[name] = logic.ps + max((ready[x] - _taken_in(graph, name, x, timing) for x in reads), default=0)
        end = logic.end_ps or end * (not logic.ps)
    return Span(ps=max(ready.values(), default=0), end_ps=end)


def _taken_in(graph: Graph, name: str, operand: str, timing: Timing) -> int:
    """Return what of an operand's time is no more where a node follows at once: an adder's LUTs take a ReLU in."""
    node, ramp = graph.by_name[name].op, graph.by_name[operand].op
    adds = isinstance(node, Add) or (isinstance(node, Requantize) and _rounds(graph, node))
    zero = isinstance(ramp, Extremum) and any(_is_zero(graph, x) for x in operands(ramp))
    return timing.arcs.net_ps if adds and zero and timing.fabric.adder_takes_logic else 0


def place_nodes(graph: Graph, nodes: Sequence[str], timing: Timing, given: Mapping[str, Place]) -> dict[str, Place]:
    """Place every node of an expanded graph as early as its operands (at the places `given`) and the rules allow."""
    places = dict(given)
    for name in nodes:
        reads = [x for x in operands(graph.by_name[name].op) if x in places]
        sources = [_available(graph, name, x, places[x], timing) for x in reads]
        stage = max((place.stage for place in sources), default=0)
        ready = max((place.ready_ps for place in sources if place.stage == stage), default=0)
        if is_product(graph, name):
            places[name] = Place(stage + 1, max(timing.stage_ps, _stage_ps(graph, name, timing)))
            continue
        logic = node_logic(graph, name, timing)
        if ready and logic.whole_ps and not timing.fits(ready, logic):
            stage, ready = stage + 1, 0
        places[name] = Place(stage, ready + logic.ps)
    return {name: places[name] for name in nodes}


def _stage_ps(graph: Graph, name: str, timing: Timing) -> int:
    """What a product takes of a stage of its own: one of DSP blocks their clock period."""
    if _in_blocks(graph, name, timing.fabric):
        return timing.arcs.dsp_period_ps - timing.arcs.overhead_ps
    return node_logic(graph, name, timing).whole_ps


def _available(graph: Graph, name: str, operand: str, place: Place, timing: Timing) -> Place:
    """Return when an operand can be read: products of DSP blocks have a register behind that of their stage."""
    if _in_blocks(graph, operand, timing.fabric):
        return Place(place.stage + 1, 0)
    return Place(place.stage, max(0, place.ready_ps - _taken_in(graph, name, operand, timing)))


def _last_stage(graph: Graph, name: str, place: Place, timing: Timing) -> int:
    return place.stage + _in_blocks(graph, name, timing.fabric)


def _in_blocks(graph: Graph, name: str, fabric: Fabric) -> bool:
    op = graph.by_name[name].op
    return isinstance(op, Multiply) and is_product(graph, name) and node_dsps(graph, name, fabric) > 0


def _pipeline(spec: Elementwise, graph: Graph, timing: Timing) -> Pipeline:
    """Return the pipeline of the kernel: at least one stage, a register at the end of each."""
    own, nodes = expanded(graph, spec.nodes)
    nodes = _live(own, nodes)
    inputs = function_inputs(graph, spec.nodes)
    if not inputs:
        raise ValueError(f"{spec.nodes[-1]}: all operands are constants; fold them before planning")
    places = place_nodes(own, nodes, timing, {name: Place(0, 0) for name in inputs})
    last = max(_last_stage(own, name, place, timing) for name, place in places.items())
    made_in = {**dict.fromkeys(inputs, -1), **{name: place.stage for name, place in places.items()}}
    needed_until = dict.fromkeys((*inputs, *nodes), -1)
    for name in nodes:
        for operand in operands(own.by_name[name].op):
            if operand in made_in and made_in[operand] < places[name].stage:
                needed_until[operand] = max(needed_until[operand], places[name].stage - 1)
    needed_until[nodes[-1]] = last
    stages = []
    for stage in range(last + 1):
        results = []
        for name in (*inputs, *nodes):
            if made_in[name] <= stage <= needed_until[name]:
                cone = _cone(own, name, places, stage) if made_in[name] == stage else ()
                results.append((name, cone, function_inputs(own, cone) if cone else (name,)))
        stages.append(Stage(results=tuple(results)))
    return Pipeline(graph=own, nodes=nodes, inputs=inputs, places=places, stages=tuple(stages))


def _live(graph: Graph, nodes: Sequence[str]) -> tuple[str, ...]:
    """Nodes the last one depends on, in order, itself last."""
    wanted = {nodes[-1]}
    for name in reversed(nodes):
        if name in wanted:
            wanted |= set(operands(graph.by_name[name].op))
    return tuple(name for name in nodes if name in wanted)


def _cone(graph: Graph, name: str, places: Mapping[str, Place], stage: int) -> tuple[str, ...]:
    """Nodes of `stage` that the value depends on, in order, itself last."""
    wanted, queue = {name}, [name]
    while queue:
        for operand in operands(graph.by_name[queue.pop()].op):
            if operand in places and places[operand].stage == stage and operand not in wanted:
                wanted.add(operand)
                queue.append(operand)
    return tuple(node for node in places if node in wanted)


def node_luts(graph: Graph, name: str, fabric: Fabric) -> int:
    """LUTs of a node over all its elements: per bit of an adder 1, of a selection 2 (compared and chosen)."""
    node = graph.by_name[name]
    widths = node.type.element_widths()
    match node.op:
        case Add():
            return max(1, sum(widths) - len(widths) - _idle_bits(graph, node.op))
        case Extremum():
            # With a constant, the selection merges with the logic behind it.
            constant = any(isinstance(graph.by_name[x].op, Constant) for x in operands(node.op))
            return math.ceil(sum(widths) / 2) if constant else 2 * sum(widths)
        case Multiply():
            return _product_luts(graph, node.op, fabric) if is_product(graph, name) else 0
        case Requantize():
            # Where rounding is carries only, behind a sum it makes that a sum of three.
            three = _rounds(graph, node.op) and isinstance(graph.by_name[node.op.x].op, Add)
            adds = sum(widths) if three and fabric.adder_takes_logic else rounding_luts(graph, name, fabric)
            return adds + sum(widths) * int(_clips(graph, node.op))
        case Input() | Constant():
            return 0
        case _:
            raise ValueError(f"{name}: {type(node.op).__name__} is not an elementwise op")


def rounding_luts(graph: Graph, name: str, fabric: Fabric) -> int:
    """LUTs of adding the constant that rounds, over all elements of a node: none where that is carries only."""
    node = graph.by_name[name]
    if fabric.adder_takes_logic or not isinstance(node.op, Requantize) or not _rounds(graph, node.op):
        return 0
    return sum(node.type.element_widths())


def _idle_bits(graph: Graph, op: Add) -> int:
    """Lowest bits of all sums that are the first operand's alone: the second has fewer fraction bits."""
    x, y = graph.type_of(op.x), graph.type_of(op.y)
    more = x.range.frac_array(x.shape) - y.range.frac_array(y.shape)
    return int((np.maximum(more, 0) if op.subtract else np.abs(more)).sum())


def _products(graph: Graph, op: Multiply) -> Counter[tuple[int, int]]:
    """How many products there are of each pair of signed widths; powers of two are wires."""
    x, y = graph.type_of(op.x), graph.type_of(op.y)
    shape = infer(op, [x, y]).shape
    wide = [np.broadcast_to(_signed_widths(kind), shape).ravel().tolist() for kind in (x, y)]
    wired = np.broadcast_to(_wires(graph, op.x), shape) | np.broadcast_to(_wires(graph, op.y), shape)
    pairs = zip(*wide, wired.ravel().tolist(), strict=True)
    return Counter((x_bits, y_bits) for x_bits, y_bits, wire in pairs if not wire)


def _signed_widths(kind: TensorType) -> npt.NDArray[np.int64]:
    lows = kind.range.los(kind.size)
    widths = [bits + (lo >= 0) for bits, lo in zip(kind.element_widths(), lows, strict=True)]
    return np.asarray(widths, dtype=np.int64).reshape(kind.shape)


def _wires(graph: Graph, name: str) -> npt.NDArray[np.bool_]:
    """Which elements are constants that make a product wires."""
    op, shape = graph.by_name[name].op, graph.type_of(name).shape
    if not isinstance(op, Constant):
        return np.zeros(shape, dtype=bool)
    return np.asarray([v >= 0 and v & (v - 1) == 0 for v in op.values.ints()]).reshape(shape)


def _product_luts(graph: Graph, op: Multiply, fabric: Fabric) -> int:
    products = _products(graph, op)
    return sum(count * x * y for (x, y), count in products.items() if _of_luts(x, y, fabric))


def _of_luts(x_bits: int, y_bits: int, fabric: Fabric) -> bool:
    """Whether a product of signed operands is made of LUTs: a narrow one, or by one bit, which is 0 or -1."""
    return x_bits + y_bits < fabric.least_product_bits or min(x_bits, y_bits) == 1


def node_dsps(graph: Graph, name: str, fabric: Fabric) -> int:
    """DSP blocks of a node over all its elements."""
    op = graph.by_name[name].op
    if not isinstance(op, Multiply) or not is_product(graph, name):
        return 0
    products = _products(graph, op)
    return sum(fabric.dsp_blocks(count, x, y) for (x, y), count in products.items() if not _of_luts(x, y, fabric))


class PlannedElementwise(PlannedKernel[Elementwise]):
    """Ops element by element in one pipeline."""

    kind = "elementwise"
    cycles_per_event = 1
    multipliers = 0

    @cached_property
    def pipeline(self) -> Pipeline:
        """At least one stage, a register at the end of each."""
        return _pipeline(self.spec, self.graph, self.timing)

    @property
    def slowest(self) -> StagePath:
        """The slowest of the stages, named by the op it ends at."""
        own, timing = self.pipeline.graph, self.timing
        found = [StagePath(what="register to register", ps=timing.arcs.net_ps)]
        for name, place in self.pipeline.places.items():
            kind = type(own.by_name[name].op).__name__
            ps = place.ready_ps + node_logic(own, name, timing).end_ps
            if is_product(own, name):
                ps = _stage_ps(own, name, timing)
            found.append(StagePath(what=f"{kind} of {max(own.type_of(name).element_widths())} bits", ps=ps))
        return slower(found)

    @property
    def latency_cycles(self) -> int:
        """The stages of the pipeline."""
        return len(self.pipeline.stages)

    @cached_property
    def resources(self) -> Resources:
        """LUTs of every op, DSP blocks of every product, flip-flops of every registered bit."""
        plan, fabric = self.pipeline, self.timing.fabric
        luts = sum(node_luts(plan.graph, name, fabric) for name in plan.nodes)
        dsps = sum(node_dsps(plan.graph, name, fabric) for name in plan.nodes)
        bits = sum(plan.graph.type_of(name).total_bits for stage in plan.stages for name, _, _ in stage.results)
        return Resources(lut=luts, ff=bits, dsp=dsps)

    @property
    def inputs(self) -> Inputs:
        """Every value from outside, in parallel, in order of first use."""
        names = function_inputs(self.graph, self.spec.nodes)
        return tuple((x, Layout.parallel(self.graph.type_of(x).size)) for x in names)

    @property
    def output(self) -> Layout:
        """All elements in one beat."""
        return Layout.parallel(self.graph.type_of(self.spec.nodes[-1]).size)
