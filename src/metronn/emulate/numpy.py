"""The NumPy emulator: the definition of what every op means, exact at any width.

Values are integer codes, batched: an array of shape (events, *shape), int64 where the op's range fits, else Python
integers in an object array. Linear ops run in BLAS, float32 or float64, wherever the ranges prove every partial sum
exact there. Events are computed a chunk at a time, so that memory does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import assert_never

import numpy as np

from metronn.emulate.arithmetic import (
    aligned_pair,
    linear,
    reach_of,
    reduce,
    requantize,
    rewire,
    shifted_code_bounds,
    window,
    window_fill,
    window_shifts,
)
from metronn.errors import ModelError
from metronn.ir.arrays import Array, as_dtype_for, fits_int64, same_rank
from metronn.ir.graph import Graph, Node
from metronn.ir.infer import linear_shifts
from metronn.ir.ops import (
    Add,
    Constant,
    Extremum,
    ExtremumKind,
    Input,
    Linear,
    Lookup,
    Multiply,
    Op,
    Reduce,
    Requantize,
    Rewire,
    Window,
    operands,
)
from metronn.ir.types import TensorType

CHUNK_BYTES = 48 * 2**20
"""Memory of the codes held at a time; the temporaries of an op come to a few times that of its result."""
CODE_BYTES, WIDE_CODE_BYTES = 8, 48
"""Memory of a code in an int64 array, and about that of one in an object array."""


def emulate(
    graph: Graph, inputs: Mapping[str, Array], tap: Callable[[Node, Array], None] | None = None
) -> dict[str, Array]:
    """Run integer codes through the graph and return the codes of each output, by output name.

    `inputs` maps each input's name to codes of shape (events, *shape). `tap`, when given, sees every node's codes, all
    events of a node at once. An output that no input reaches has one event. Without `tap` the memory used beside
    inputs and outputs does not depend on the number of events.
    Raises ModelError when an input is missing, has another shape, or a code outside its promised range.
    """
    if tap is not None:
        return _run(graph, inputs, frozenset(), tap)
    codes = {node.name: evaluate(graph, node, {}, inputs) for node in graph.inputs}
    events = max(map(len, codes.values()), default=0)
    fused = fused_windows(graph)
    step = max(1, CHUNK_BYTES // _peak_bytes(graph, fused))
    if events <= step:
        return _run(graph, codes, fused, None, checked=True)
    constant = constant_values(graph)
    results: dict[str, Array] = {}
    for start in range(0, events, step):
        found = _run(graph, _events(codes, events, start, step), fused, None, checked=True)
        for output in graph.outputs:
            part = found[output.name]
            if output.value in constant:
                results[output.name] = part
                continue
            whole = results.setdefault(output.name, np.empty((events, *part.shape[1:]), dtype=part.dtype))
            whole[start : start + step] = part
    return results


def _events(arrays: Mapping[str, Array], events: int, start: int, step: int) -> dict[str, Array]:
    """Some events of every array; those of constants serve all."""
    return {name: a[start : start + step] if len(a) == events else a for name, a in arrays.items()}


def _run(
    graph: Graph,
    inputs: Mapping[str, Array],
    fused: frozenset[str],
    tap: Callable[[Node, Array], None] | None,
    *,
    checked: bool = False,
) -> dict[str, Array]:
    """Compute every node but the windows in `fused`, whose readers take their operand instead."""
    values: dict[str, Array] = {}
    last_use = _last_uses(graph, fused)
    for position, node in enumerate(graph.nodes):
        if checked and isinstance(node.op, Input):
            values[node.name] = inputs[node.name]
        elif node.name not in fused:
            values[node.name] = evaluate(graph, node, values, inputs)
        if tap is not None:
            tap(node, values[node.name])
        for name in last_use.get(position, ()):
            del values[name]
    return {output.name: values[output.value] for output in graph.outputs}


def constant_values(graph: Graph) -> frozenset[str]:
    """Return the values that no input reaches: they have one event, whatever the inputs."""
    constant: set[str] = set()
    for node in graph.nodes:
        if not isinstance(node.op, Input) and all(name in constant for name in operands(node.op)):
            constant.add(node.name)
    return frozenset(constant)


def fused_windows(graph: Graph) -> frozenset[str]:
    """Return the windows that only Linear ops read: nobody needs their copies of the elements."""
    kept = {output.value for output in graph.outputs}
    return frozenset(
        node.name
        for node in graph.nodes
        if isinstance(node.op, Window)
        and node.name not in kept
        and graph.uses[node.name]
        and all(_fuses(graph.type_of(node.op.x), node, graph.by_name[user].op) for user in graph.uses[node.name])
    )


def _fuses(x: TensorType, node: Node, reader: Op) -> bool:
    """Whether the reader of a window can shift and convert x whole: elements that no window picks are no wider."""
    if not isinstance(reader, Linear) or not isinstance(node.op, Window):
        return False
    shifts = linear_shifts(reader, node.type)
    behind = window_shifts(node.op, x, shifts)
    if behind is None:
        return False
    low, high = shifted_code_bounds(x, behind)
    window_low, window_high = shifted_code_bounds(node.type, shifts)
    return window_low <= low and high <= window_high


def _node_bytes(node: Node) -> int:
    wide = not fits_int64(node.type.range.lowest, node.type.range.highest)
    return max(1, node.type.size) * (WIDE_CODE_BYTES if wide else CODE_BYTES)


def _peak_bytes(graph: Graph, fused: frozenset[str]) -> int:
    """Memory of the codes of one event at the node where most are alive, a fused window counted with its reader."""
    last_use = _last_uses(graph, fused)
    alive: dict[str, int] = {}
    peak = 1
    for position, node in enumerate(graph.nodes):
        alive[node.name] = 0 if node.name in fused else _node_bytes(node)
        hidden = sum(_node_bytes(graph.by_name[name]) for name in operands(node.op) if name in fused)
        peak = max(peak, sum(alive.values()) + hidden)
        for name in last_use.get(position, ()):
            del alive[name]
    return peak


def _last_uses(graph: Graph, fused: frozenset[str]) -> dict[int, list[str]]:
    """Where each value that is no output is read last: it can be freed there. A reader of a fused window reads x."""
    kept = {output.value for output in graph.outputs}
    position = {node.name: index for index, node in enumerate(graph.nodes)}
    last: dict[int, list[str]] = {}
    for name, users in graph.uses.items():
        if name in kept or name in fused:
            continue
        readers = [reader for user in users for reader in (graph.uses[user] if user in fused else (user,))]
        last.setdefault(max((position[reader] for reader in readers), default=position[name]), []).append(name)
    return last


def checked_input(node: Node, array: Array) -> Array:
    """Return the codes of an input after checking shape, kind and range."""
    codes = np.asarray(array)
    if codes.dtype.kind not in "iuO":
        raise ModelError(f"input {node.name}: codes are {codes.dtype}, allowed are integers")
    if codes.shape[1:] != node.type.shape:
        raise ModelError(f"input {node.name}: shape per event is {codes.shape[1:]}, allowed is {node.type.shape}")
    lo, hi = node.type.range.lo_array(node.type.shape), node.type.range.hi_array(node.type.shape)
    bad = (codes < lo) | (codes > hi)
    if bad.any():
        where = tuple(int(k) for k in np.argwhere(bad)[0])
        flat = int(np.ravel_multi_index(where[1:], node.type.shape)) if node.type.shape else 0
        element = node.type.range.element(flat)
        raise ModelError(
            f"input {node.name}: event {where[0]}, element {flat} is {codes[where]}, "
            f"allowed is {element.lo} to {element.hi}"
        )
    return as_dtype_for(codes, node.type.range.lowest, node.type.range.highest)


def evaluate(graph: Graph, node: Node, values: Mapping[str, Array], inputs: Mapping[str, Array]) -> Array:
    """Return the codes of one node from the codes of its operands.

    A window that is missing from `values` is taken from the codes of its own operand.
    """
    if isinstance(node.op, Input):
        if node.name not in inputs:
            raise ModelError(f"input {node.name}: no data; found {', '.join(sorted(inputs)) or 'nothing'}")
        return checked_input(node, inputs[node.name])
    names = [name if name in values else graph.by_name[name] for name in operands(node.op)]
    read = {name: values[name] for name in map(_present, names)}
    events = max(map(len, read.values()), default=0)
    size = _node_bytes(node) + sum(_node_bytes(graph.by_name[name]) for name in operands(node.op))
    step = max(1, CHUNK_BYTES // size)
    if events <= step:
        return _compute(graph, node, read)
    result: Array | None = None
    for start in range(0, events, step):
        part = _compute(graph, node, _events(read, events, start, step))
        if result is None:
            result = np.empty((events, *part.shape[1:]), dtype=part.dtype)
        result[start : start + step] = part
    assert result is not None
    return result


def _present(name: str | Node) -> str:
    """Return the value that stands for an operand: itself, or what a fused window reads."""
    if isinstance(name, str):
        return name
    assert isinstance(name.op, Window), f"{name.name} has not been computed"
    return name.op.x


def _compute(graph: Graph, node: Node, values: Mapping[str, Array]) -> Array:
    op = node.op
    match op:
        case Input():
            return values[node.name]
        case Constant():
            return op.values.array[np.newaxis]
        case Rewire():
            return rewire(op, [values[x] for x in op.xs], node.type)
        case Window():
            return window(op, values[op.x], window_fill(op, graph.type_of(op.x)))
        case Linear():
            return linear(graph, op, values, node.type)
        case Add():
            x, y = aligned_pair(graph, op.x, op.y, values, node.type)
            return x - y if op.subtract else x + y
        case Multiply():
            bounds = reach_of(node.type, graph.type_of(op.x), graph.type_of(op.y))
            x, y = same_rank(values[op.x], values[op.y])
            return as_dtype_for(x, *bounds) * as_dtype_for(y, *bounds)
        case Extremum():
            x, y = aligned_pair(graph, op.x, op.y, values, node.type)
            return np.maximum(x, y) if op.kind is ExtremumKind.MAX else np.minimum(x, y)
        case Reduce():
            return reduce(op, values[op.x], graph.type_of(op.x), node.type)
        case Requantize():
            return requantize(op, values[op.x], graph.type_of(op.x), node.type)
        case Lookup():
            codes = values[op.x] - graph.type_of(op.x).range.lowest
            return op.table.array[codes.astype(np.intp)]
        case _:
            assert_never(op)
