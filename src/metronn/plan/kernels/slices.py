"""Kernels run again and again on the beats of a stream: the slice of the graph that one group of beats computes.

A slice is a graph of its own with the same value names, whose tensors hold the elements of one group. Its inputs have
the hull of the ranges that the elements take over the groups, so every kernel of the slice is right for every group.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from metronn.ir.arrays import Array, IntArray, exact_array, object_array
from metronn.ir.graph import Graph, GraphBuilder, Node
from metronn.ir.infer import linear_shifts, reduce_shifts
from metronn.ir.ops import Add, Constant, Extremum, Input, Linear, Multiply, Reduce, Requantize, operands
from metronn.ir.types import Ints, Range, TensorType
from metronn.plan.kernels.folds import fold
from metronn.plan.kernels.spec import (
    Elementwise,
    FoldInputs,
    FoldOutputs,
    MatvecAdders,
    ReduceTree,
    Streamed,
    Table,
    covered_nodes,
)
from metronn.plan.kernels.uniform import function_inputs
from metronn.plan.layout import Boxes, Layout, boxes

Index = npt.NDArray[np.int64]


class NotStreamableError(ValueError):
    """The kernel would differ from group to group; the message says where."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """What a Streamed kernel repeats.

    `graph`: the ops on one group. `starts`: cycle of each group's first beat, counted from the first group's. `output`:
    layout of the result, its cycles counted from the first output beat.
    """

    graph: Graph
    starts: tuple[int, ...]
    output: Layout


def slice_of(spec: Streamed, graph: Graph) -> Slice:
    """Return the slice. Raises NotStreamableError when the groups do not all compute the same function."""
    match spec.inner:
        case MatvecAdders() | FoldOutputs() | FoldInputs():
            return _row_slice(spec, graph)
        case Elementwise() | Table() | ReduceTree():
            return _box_slice(spec, graph)


def stream_inputs(spec: Streamed, graph: Graph) -> tuple[str, ...]:
    """Values the kernel reads, in port order."""
    return function_inputs(graph, covered_nodes(spec))


# Slices of one row: matrix-vector products on the last axis


def rows_of(layout: Layout, width: int) -> Index | None:
    """Rows each beat carries [beat, copy] when every beat is made of as many complete rows of `width`; else None.

    The last beat may carry fewer: its missing rows are -1.
    """
    most = layout.slot_count
    if most % width:
        return None
    rows = np.full((layout.beat_count, most // width), -1, dtype=np.int64)
    column = np.arange(width)
    for number, beat in enumerate(layout.beats):
        if len(beat) % width:
            return None
        block = np.asarray(beat, dtype=np.int64).reshape(-1, width)
        if (block[:, 0] % width).any() or (block != block[:, :1] + column).any():
            return None
        rows[number, : len(block)] = block[:, 0] // width
    return rows


def row_beats(layout: Layout, width: int) -> Layout | None:
    """Beats in which one row travels when each row takes the same few beats one row after the other; else None."""
    count = layout.size // width
    if layout.size % width or layout.beat_count % count or layout.beat_count == count:
        return None
    beats = layout.beat_count // count
    first = np.asarray(layout.beats[0])
    base = int(first[0]) // width * width
    one = tuple(tuple(k - base for k in beat) for beat in layout.beats[:beats])
    relative = layout.cycles[:beats]
    if sorted(k for beat in one for k in beat) != list(range(width)):
        return None
    for start in range(0, layout.beat_count, beats):
        base = min(layout.beats[start]) // width * width
        moved = tuple(tuple(k - base for k in beat) for beat in layout.beats[start : start + beats])
        cycles = tuple(c - layout.cycles[start] for c in layout.cycles[start : start + beats])
        if moved != one or cycles != relative:
            return None
    return Layout(one, relative)


def _row_slice(spec: Streamed, graph: Graph) -> Slice:
    inner, nodes = spec.inner, covered_nodes(spec)
    linear = graph.by_name[nodes[0]].op
    assert isinstance(linear, Linear)
    assert isinstance(inner, MatvecAdders | FoldOutputs | FoldInputs)
    (layout,) = spec.layouts
    n_in, n_out = linear.weight.shape
    if isinstance(inner, FoldInputs):
        if row_beats(layout, n_in) != inner.layout:
            raise NotStreamableError(f"{nodes[0]}: {layout.describe()} does not carry row after row")
        step = inner.layout.beat_count
        rows: Index = np.asarray([[min(beat) // n_in] for beat in layout.beats[::step]])
        starts = layout.cycles[::step]
    else:
        found = rows_of(layout, n_in)
        if found is None or found.shape[1] != spec.copies:
            raise NotStreamableError(f"{nodes[0]}: {layout.describe()} does not carry complete rows")
        rows, starts = found, layout.cycles
        if isinstance(inner, FoldOutputs) and 0 < layout.spacing < inner.beats:
            raise NotStreamableError(f"{nodes[0]}: a row every {layout.spacing} cycles, one takes {inner.beats}")
    builder = GraphBuilder()
    x = graph.type_of(linear.x)
    every = _row_index(rows.ravel(), n_in)
    _same(linear.x, linear_shifts(linear, x), every, "exponents")
    builder.add(Input(shape=(n_in,), range=_hull(x, every, 0)), linear.x, linear.x)
    for name in nodes:
        node = graph.by_name[name]
        _sliced_node(graph, builder, name, _row_index(np.arange(node.type.size // n_out), n_out), 0)
    builder.output(nodes[-1], nodes[-1])
    own = builder.build()
    match inner:
        case MatvecAdders():
            inside = Layout.parallel(n_out)
        case FoldOutputs():
            inside = fold.outputs_layout(inner)
        case FoldInputs():
            inside = Layout.parallel(n_out)
    beats, cycles = [], []
    for start, group in zip(starts, rows.tolist(), strict=True):
        for cycle, beat in zip(inside.cycles, inside.beats, strict=True):
            beats.append(tuple(row * n_out + k for row in group if row >= 0 for k in beat))
            cycles.append(start + cycle)
    return Slice(graph=own, starts=tuple(starts), output=_layout(nodes[-1], beats, cycles))


def _layout(name: str, beats: Sequence[tuple[int, ...]], cycles: Sequence[int]) -> Layout:
    if any(b <= a for a, b in zip(cycles, cycles[1:], strict=False)):
        raise NotStreamableError(f"{name}: a group starts before the one before it has left")
    return Layout(tuple(beats), tuple(cycles))


def _row_index(rows: Index, width: int) -> Index:
    return np.asarray(rows[rows >= 0][:, None] * width + np.arange(width))


# Slices of boxes: element by element, tables, and reductions within a beat


def _box_slice(spec: Streamed, graph: Graph) -> Slice:
    inner, nodes = spec.inner, covered_nodes(spec)
    inputs = stream_inputs(spec, graph)
    cycles = spec.layouts[0].cycles
    if any(layout.cycles != cycles for layout in spec.layouts):
        raise NotStreamableError(f"{nodes[-1]}: its operands come in different cycles")
    full = max(range(len(cycles)), key=lambda k: sum(len(layout.beats[k]) for layout in spec.layouts))
    builder = GraphBuilder()
    found: dict[str, Boxes] = {}
    for name, layout in zip(inputs, spec.layouts, strict=True):
        kind = graph.type_of(name)
        box = boxes(layout, kind.shape)
        if box is None:
            raise NotStreamableError(f"{name}: {layout.describe()} are no boxes of {kind.shape}")
        found[name] = box
        bounds = _hull(kind, _slots(layout), full)
        op = graph.by_name[nodes[0]].op
        if isinstance(op, Reduce):
            _same(name, reduce_shifts(op, kind), _slots(layout), "exponents")
        if isinstance(inner, Table):
            bounds = Range(kind.range.lowest, kind.range.highest, kind.range.frac)
        builder.add(Input(shape=box.lens, range=bounds), name, name)
    for name in nodes:
        found[name] = _result_boxes(graph, name, found)
        shape = graph.type_of(name).shape
        index = [_flat(lists, shape) for lists in found[name].indices]
        _sliced_node(graph, builder, name, _table(index), full, found[name])
    builder.output(nodes[-1], nodes[-1])
    shape = graph.type_of(nodes[-1]).shape
    beats = [tuple(_flat(lists, shape).tolist()) for lists in found[nodes[-1]].indices]
    if len({k for beat in beats for k in beat}) != sum(len(beat) for beat in beats):
        raise NotStreamableError(f"{nodes[-1]}: an element comes in two beats")
    if sum(len(beat) for beat in beats) != graph.type_of(nodes[-1]).size:
        raise NotStreamableError(f"{nodes[-1]}: some of its operands' elements never meet in a beat")
    return Slice(graph=builder.build(), starts=cycles, output=_layout(nodes[-1], beats, cycles))


def _result_boxes(graph: Graph, name: str, found: dict[str, Boxes]) -> Boxes:
    """Boxes of a node's result from those of its operands."""
    node = graph.by_name[name]
    if isinstance(node.op, Reduce):
        box, shape = found[node.op.x], graph.type_of(node.op.x).shape
        for lists in box.indices:
            if any(lists[axis] != tuple(range(shape[axis])) for axis in node.op.axes):
                raise NotStreamableError(f"{name}: reduces over more than one beat")
        keep = [axis for axis in range(len(shape)) if axis not in node.op.axes]
        return Boxes(
            lens=tuple(box.lens[axis] for axis in keep),
            indices=tuple(tuple(lists[axis] for axis in keep) for lists in box.indices),
        )
    rank = len(node.type.shape)
    best: list[list[tuple[int, ...]]] | None = None
    sources = [x for x in operands(node.op) if x in found]
    for x in sources:
        shape = graph.type_of(x).shape
        padded = [[(0,)] * (rank - len(shape)) + list(lists) for lists in found[x].indices]
        if best is None:
            best = padded
            continue
        best = [_joined(name, a, b, node.type.shape) for a, b in zip(best, padded, strict=True)]
    assert best is not None
    for x in sources:
        shape = graph.type_of(x).shape
        for joined, own in zip(best, found[x].indices, strict=True):
            for axis, rs in enumerate(own):
                wanted = joined[axis + rank - len(shape)]
                if shape[axis] > 1 and rs != wanted:
                    raise NotStreamableError(f"{name}: operands carry other elements in a beat")
    lens = tuple(max(len(lists[axis]) for lists in best) for axis in range(rank))
    return Boxes(lens=lens, indices=tuple(tuple(lists) for lists in best))


def _joined(
    name: str, a: list[tuple[int, ...]], b: list[tuple[int, ...]], shape: tuple[int, ...]
) -> list[tuple[int, ...]]:
    joined = []
    for x, y in zip(a, b, strict=True):
        if x != y and x != (0,) and y != (0,):
            raise NotStreamableError(f"{name}: operands carry other elements of shape {shape} in a beat")
        joined.append(y if x == (0,) else x)
    return joined


def _flat(lists: Sequence[tuple[int, ...]], shape: tuple[int, ...]) -> Index:
    if not shape:
        return np.zeros(1, dtype=np.int64)
    return np.asarray(np.ravel_multi_index(np.ix_(*lists), shape)).ravel()


def _table(rows: Sequence[Index]) -> Index:
    """Rows of unequal length as one array; what a row lacks is taken from the first full one."""
    most = max(len(row) for row in rows)
    full = next(row for row in rows if len(row) == most)
    return np.asarray([np.concatenate([row, full[len(row) :]]) for row in rows])


def _slots(layout: Layout) -> Index:
    return _table([np.asarray(beat) for beat in layout.beats])


# One node of a slice


def _hull(kind: TensorType, index: Index, full: int) -> Range:
    """Range of each slot over the groups, `index` [group, slot], with the exponents it has in group `full`.

    What the ops do with codes depends on how far apart exponents are, not on what they are: `_alike` compares that.
    """
    r = kind.range

    def chosen(values: Ints) -> Array:
        return np.asarray(values, dtype=object)[index]

    return Range(
        tuple(int(v) for v in chosen(r.lo).min(axis=0)) if isinstance(r.lo, tuple) else r.lo,
        tuple(int(v) for v in chosen(r.hi).max(axis=0)) if isinstance(r.hi, tuple) else r.hi,
        tuple(int(v) for v in chosen(r.frac)[full]) if isinstance(r.frac, tuple) else r.frac,
    )


def _same(name: str, values: Array, index: Index, what: str) -> None:
    """Raise NotStreamableError when values [element] differ from group to group."""
    chosen = values.ravel()[index]
    if (chosen != chosen[:1]).any():
        raise NotStreamableError(f"{name}: its {what} differ from beat to beat")


def _alike(graph: Graph, node: Node, index: Index) -> None:
    """Raise NotStreamableError when a node of an elementwise kernel or epilogue does not do the same in all groups."""
    op, kind = node.op, node.type
    if isinstance(op, Requantize):
        if op.out.element_count is not None:
            for bounds in (op.out.los(kind.size), op.out.his(kind.size)):
                _same(node.name, object_array(bounds, kind.shape), index, "bounds")
        _same(node.name, _raised(graph.type_of(op.x), kind), index, "exponents")
    if not isinstance(op, Add | Multiply | Extremum):
        return
    for operand in operands(op):
        made, shift = graph.by_name[operand].op, _raised(graph.type_of(operand), kind)
        if isinstance(op, Multiply):
            shift = np.zeros((), dtype=np.int64)
        if isinstance(made, Constant):
            codes = made.values.array
            if shift.any():
                codes = codes.astype(object) * np.frompyfunc(lambda bits: 1 << int(bits), 1, 1)(shift)
            _same(node.name, np.broadcast_to(codes, kind.shape), index, "constants")
        elif shift.any():
            _same(node.name, shift, index, "exponents")


def _raised(x: TensorType, out: TensorType) -> Array:
    """Fraction bits that a result has more than its operand, for each element of the result."""
    if isinstance(x.range.frac, int) and isinstance(out.range.frac, int):
        return np.full(out.shape, out.range.frac - x.range.frac, dtype=np.int64)
    return np.asarray(out.range.frac_array(out.shape) - x.range.frac_array(x.shape), dtype=np.int64)


def _sliced_node(
    graph: Graph, builder: GraphBuilder, name: str, index: Index, full: int, box: Boxes | None = None
) -> None:
    """Add the node, and the constants it reads, to the slice; `index` [group, slot] are its elements in each group.

    Constants and targets are those of group `full`, which lacks no slot.
    """
    node = graph.by_name[name]
    shape = box.lens if box is not None else (index.shape[1],)
    op = node.op
    _alike(graph, node, index)
    renamed: dict[str, str] = {}
    for operand in operands(op):
        made = graph.by_name[operand].op
        if not isinstance(made, Constant) or operand in renamed:
            continue
        codes = np.broadcast_to(made.values.array, node.type.shape).ravel()[index[full]].reshape(shape)
        if made.values.array.size == 1:
            codes = made.values.array.reshape(())
        constant = Constant(values=IntArray.of(exact_array(codes)), frac=made.frac)
        renamed[operand] = builder.add(constant, operand, graph.by_name[operand].source)
    if isinstance(op, Requantize) and op.out.element_count is not None:
        fields = (op.out.los, op.out.his, op.out.fracs)
        first = [tuple(int(values(node.type.size)[k]) for k in index[full]) for values in fields]
        op = dataclasses.replace(op, out=Range(*first))
    if renamed and isinstance(op, Add | Multiply | Extremum):
        op = dataclasses.replace(op, x=renamed.get(op.x, op.x), y=renamed.get(op.y, op.y))
    used = builder.add(op, name, node.source)
    if used != name:
        raise AssertionError(f"{name} became {used} in its slice")
