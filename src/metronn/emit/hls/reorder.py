"""Where each slot of each beat comes from when a stream changes its beats, as `metronn/reorder.hpp` reads it."""

from __future__ import annotations

import numpy as np

from metronn.emit.hls.index import Members
from metronn.ir.graph import Graph
from metronn.ir.ops import Padding, Window
from metronn.plan.kernels.spec import Reorder, WindowBuffer
from metronn.plan.kernels.waiting.taps import element_map, input_layouts_of
from metronn.plan.layout import Layout


def describe_reorder(members: Members, spec: WindowBuffer | Reorder, graph: Graph) -> int:
    """Add the configuration of `reorder_beats`; return its steps: the plan's cycles in which a beat comes or leaves."""
    names, index = element_map(spec, graph)
    layouts, output = input_layouts_of(spec), spec.output
    leaves = np.asarray(output.cycles) + spec.offset
    busy = np.unique(np.concatenate([leaves, *(np.asarray(layout.cycles) for layout in layouts)]))
    total = sum(graph.type_of(x).size for x in names)
    number, slot, port = (np.zeros(total, dtype=np.int64) for _ in range(3))
    start = first_slot = 0
    for p, (name, layout) in enumerate(zip(names, layouts, strict=True)):
        for b, beat in enumerate(layout.beats):
            where = np.asarray(beat) + start
            number[where], slot[where], port[where] = b, np.arange(len(beat)) + first_slot, p
        start += graph.type_of(name).size
        first_slot += layout.slot_count
    elements, known = element_matrix(output)
    source = np.where(known, index[elements], -1)
    held = source >= 0
    safe = np.maximum(source, 0)
    read = np.stack([np.searchsorted(np.asarray(layout.cycles), leaves, side="right") for layout in layouts])
    age = np.where(held, read[port[safe], np.arange(len(leaves))[:, None]] - 1 - number[safe], 0)
    for key, value in {
        "beats": output.beat_count, "steps": len(busy), "streams": len(layouts), "slots": first_slot,
        "depth": int(age.max()) + 1,
    }.items():  # fmt: skip
        members.constant(key, value)
    members.choice("count", [[layout.beat_count] for layout in layouts])
    members.choice("comes", [np.searchsorted(busy, layout.cycles).tolist() for layout in layouts], "b")
    members.vector("stream_of", [p for p, layout in enumerate(layouts) for _ in range(layout.slot_count)], "k")
    members.vector("due", np.searchsorted(busy, leaves).tolist())
    members.layout(output)
    members.matrix("slot", np.where(held, slot[safe], -1), known)
    members.matrix("age", age, held)
    return len(busy)


def element_matrix(
    layout: Layout,
) -> tuple[np.ndarray[tuple[int, int], np.dtype[np.int64]], np.ndarray[tuple[int, int], np.dtype[np.bool_]]]:
    """Element in each slot of each beat, and which slots are filled."""
    elements = np.zeros((layout.beat_count, layout.slot_count), dtype=np.int64)
    known = np.zeros(elements.shape, dtype=bool)
    for number, beat in enumerate(layout.beats):
        elements[number, : len(beat)] = beat
        known[number, : len(beat)] = True
    return elements, known


def fill_code(spec: WindowBuffer | Reorder, graph: Graph) -> int:
    """Integer code of what stands where nothing does."""
    op = graph.by_name[spec.node].op if isinstance(spec, WindowBuffer) else None
    if isinstance(op, Window) and op.padding is Padding.LOWEST:
        return graph.type_of(op.x).range.lowest
    return 0
