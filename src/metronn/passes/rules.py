"""What holds of a graph at some stage: the properties that passes need and give."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from metronn.ir.graph import Graph
from metronn.ir.ops import Add, Constant, Entry, Linear, Multiply, Padding, Reduce, Requantize, Rewire, Window, operands
from metronn.ir.types import TensorType
from metronn.model.graph import Floats, RealConstant, RealFunction, RealGraph, RealLinear, RealQuantize, RealSoftmax
from metronn.passes.contract import Rule
from metronn.passes.integer.clean import covers
from metronn.passes.real.rewriting import affine_of
from metronn.passes.real.sink_moves import transposed
from metronn.passes.rewriting import moves_nothing


def _dead(graph: Graph | RealGraph) -> Iterator[str]:
    for node in graph.nodes:
        if not isinstance(node.op, Entry) and not graph.uses[node.name] and node.name not in graph.shown_values:
            yield node.name


def _made_of_constants(graph: RealGraph) -> Iterator[str]:
    for node in graph:
        reads = operands(node.op)
        if reads and all(isinstance(graph.by_name[x].op, RealConstant) for x in reads):
            yield node.name


def _neutral_real(graph: RealGraph) -> Iterator[str]:
    for node in graph:
        if isinstance(node.op, Rewire):
            x = node.op.xs[0] if moves_nothing(graph, node.op) else None
        else:
            affine = affine_of(graph, node)
            x = affine[0] if affine is not None and (affine[1] == 1).all() and (affine[2] == 0).all() else None
        if x is not None and not {x, node.name} <= graph.shown_values:
            yield node.name


def _movement_of_movement(graph: RealGraph) -> Iterator[str]:
    for node in graph:
        reader = graph.only_reader(node.name)
        if isinstance(node.op, Rewire) and reader is not None and isinstance(reader.op, Rewire):
            if reader.op.xs.count(node.name) == 1:
                yield reader.name


def _constants_in_a_row(graph: RealGraph) -> Iterator[str]:
    for node in graph.nodes if not graph.quantized else ():
        reader = graph.only_reader(node.name)
        outer = affine_of(graph, reader) if reader is not None else None
        if reader is None or outer is None or outer[0] != node.name or affine_of(graph, node) is None:
            continue
        products = isinstance(node.op, Multiply) and isinstance(reader.op, Multiply)
        sums = isinstance(node.op, Add) and isinstance(reader.op, Add) and bool((outer[1] == 1).all())
        if products or sums:
            yield reader.name


def _order_of(graph: RealGraph, name: str) -> tuple[bool, tuple[int, ...] | None]:
    """Whether a value is all elements of one other in another order, and if a transpose does it, that of the axes."""
    op = graph.by_name[name].op
    if not isinstance(op, Rewire) or len(op.xs) != 1:
        return False, None
    index, shape = op.index.array.ravel(), graph.by_name[op.xs[0]].shape
    places = np.arange(math.prod(shape))
    if np.array_equal(index, places) or not np.array_equal(np.sort(index), places):
        return False, None
    return True, transposed(index.reshape(op.shape), shape)


def _reads_an_order(graph: RealGraph) -> Iterator[str]:
    for node in graph:
        match node.op:
            case RealFunction() | RealQuantize():
                sinks = _order_of(graph, node.op.x)[0]
            case Reduce() | RealSoftmax():
                sinks = _order_of(graph, node.op.x)[1] is not None
            case RealLinear():
                order = _order_of(graph, node.op.x)[1]
                sinks = order is not None and order[-1] == len(order) - 1
            case _:
                sinks = False
        if sinks:
            yield node.name


def _reads_padding(graph: RealGraph) -> Iterator[str]:
    for node in graph:
        op = node.op
        moved = graph.by_name[op.x].op if isinstance(op, Window) and op.padding is Padding.ZERO else None
        if isinstance(op, Window) and isinstance(moved, Rewire):
            held = moved.index.array.reshape(moved.shape) >= 0
            spatial = range(held.ndim - 1 - len(op.kernel), held.ndim - 1)
            if held.any() and any(not held.take(end, axis).any() for axis in spatial for end in (0, -1)):
                yield node.name


def _event_in_another_order(graph: RealGraph) -> Iterator[str]:
    for node in graph:
        moved = graph.by_name[node.op.x].op if isinstance(node.op, RealLinear) else None
        if isinstance(moved, Rewire) and len(moved.shape) == 1:
            total = sum(math.prod(graph.by_name[x].shape) for x in moved.xs)
            if total <= moved.shape[0] and moved.index.ints() != list(range(total)):
                yield node.name


def _of_the_last_axis(constant: Floats, shape: tuple[int, ...]) -> bool:
    full = np.broadcast_to(constant, shape).reshape(-1, shape[-1])
    return bool((full == full[:1]).all())


def _affine_behind_matrix(graph: RealGraph) -> Iterator[str]:
    for node in graph.nodes if not graph.quantized else ():
        reader = graph.only_reader(node.name) if isinstance(node.op, RealLinear) else None
        affine = affine_of(graph, reader) if reader is not None else None
        if reader is not None and affine is not None and affine[0] == node.name:
            if all(_of_the_last_axis(constant, node.shape) for constant in affine[1:]):
                yield reader.name


def _affine_before_matrices(graph: RealGraph) -> Iterator[str]:
    for node in graph.nodes if not graph.quantized else ():
        readers = [graph.by_name[user].op for user in graph.uses[node.name]]
        if not readers or node.name in graph.shown_values or not math.prod(node.shape):
            continue
        affine = affine_of(graph, node) if all(isinstance(op, RealLinear) for op in readers) else None
        if affine is not None and all(_of_the_last_axis(constant, node.shape) for constant in affine[1:]):
            yield node.name


def _neutral_integer(graph: Graph) -> Iterator[str]:
    for node in graph:
        if isinstance(node.op, Rewire) and moves_nothing(graph, node.op):
            yield node.name
        if isinstance(node.op, Requantize) and graph.type_of(node.op.x) == node.type:
            if covers(node.op, node.type):
                yield node.name


def _needless_rounding(graph: Graph) -> Iterator[str]:
    for node in graph:
        inner = graph.by_name[node.op.x].op if isinstance(node.op, Requantize) else None
        if isinstance(inner, Requantize) and covers(inner, graph.type_of(inner.x)):
            yield node.name


def _constant_behind_matrix(graph: Graph) -> Iterator[str]:
    for node in graph:
        reader = graph.only_reader(node.name) if isinstance(node.op, Linear) else None
        if reader is None or not isinstance(reader.op, Add | Multiply) or reader.type.shape != node.type.shape:
            continue
        others = [graph.by_name[x].op for x in operands(reader.op) if x != node.name]
        constant = others[0] if others else None
        if isinstance(constant, Constant) and _taken_over(reader.op, constant, node.type):
            yield reader.name


def _taken_over(op: Add | Multiply, constant: Constant, matrix: TensorType) -> bool:
    if isinstance(op, Multiply):
        return set(constant.values.ints()) <= {1}
    codes = np.broadcast_to(constant.values.array, matrix.shape).reshape(-1, matrix.shape[-1])
    on_the_grid = constant.frac <= min(matrix.range.fracs(matrix.size))
    return not op.subtract and on_the_grid and bool((codes == codes[:1]).all())


def _weights_of_zeros(graph: Graph) -> Iterator[str]:
    for node in graph:
        if not isinstance(node.op, Linear):
            continue
        x = graph.type_of(node.op.x)
        zero = (x.range.lo_array(x.shape) == 0) & (x.range.hi_array(x.shape) == 0)
        if node.op.weight.array[zero.reshape(-1, x.shape[-1]).all(axis=0)].any():
            yield node.name


NO_DEAD_REAL: Rule[RealGraph] = Rule(holds="an output or another node reads every node but inputs", broken=_dead)
NO_DEAD: Rule[Graph] = Rule(holds="an output or another node reads every node but inputs", broken=_dead)
CONSTANTS_COMPUTED: Rule[RealGraph] = Rule(
    holds="every op reads a value that is no constant", broken=_made_of_constants
)
CONSTANTS_MERGED: Rule[RealGraph] = Rule(
    holds="no sum (product) with a constant alone reads another one, but in a quantized network",
    broken=_constants_in_a_row,
)
ORDERS_SUNK: Rule[RealGraph] = Rule(
    holds="no function, quantizer, softmax, reduction or matrix reads elements in another order that it can hand on",
    broken=_reads_an_order,
)
WINDOWS_PAD: Rule[RealGraph] = Rule(
    holds="no window that pads with zeros reads a movement with zeros around", broken=_reads_padding
)
EVENTS_IN_ORDER: Rule[RealGraph] = Rule(
    holds="no matrix reads all elements of an event in another order", broken=_event_in_another_order
)
NO_AFFINE_BEHIND: Rule[RealGraph] = Rule(
    holds="no scale and offset by channel alone reads a matrix, but in a quantized network",
    broken=_affine_behind_matrix,
)
NO_AFFINE_BEFORE: Rule[RealGraph] = Rule(
    holds="no scale and offset by channel is read by matrices alone, but in a quantized network",
    broken=_affine_before_matrices,
)
NO_NEUTRAL_REAL: Rule[RealGraph] = Rule(
    holds="no x + 0, no x * 1 and no movement that keeps shape and order, but between two outputs",
    broken=_neutral_real,
)
MOVEMENTS_MERGED: Rule[RealGraph] = Rule(
    holds="no movement reads another one that it alone reads", broken=_movement_of_movement
)
NO_NEUTRAL: Rule[Graph] = Rule(
    holds="no movement keeps shape and order, no requantization keeps type and codes", broken=_neutral_integer
)
ROUNDED_ONCE: Rule[Graph] = Rule(holds="no requantization reads one that keeps every value", broken=_needless_rounding)
CONSTANTS_TAKEN_OVER: Rule[Graph] = Rule(
    holds="no constant of each column, and no product with 1, alone reads a matrix", broken=_constant_behind_matrix
)
NO_IDLE_WEIGHTS: Rule[Graph] = Rule(holds="weights of inputs that are always 0 are 0", broken=_weights_of_zeros)
