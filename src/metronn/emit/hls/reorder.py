"""Where each slot of each beat comes from when a stream changes its beats, as `metronn/reorder.hpp` reads it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from metronn.emit.hls.index import Members
from metronn.ir.graph import Graph
from metronn.ir.ops import Padding, Window
from metronn.plan.kernels.spec import Reorder, WindowBuffer
from metronn.plan.kernels.waiting.taps import element_map, input_layouts_of
from metronn.plan.layout import Layout

Index = npt.NDArray[np.int64]


MOST_REGISTERS = 4096
"""Elements that are kept in registers at most: what the tool partitions completely."""


@dataclass(frozen=True, kw_only=True)
class ReorderForm:
    """Which beats are read and leave in which step, and where every slot of the result comes from.

    `busy`: cycles of the plan in which a beat comes or leaves, a step each. `port_slots`: slots of each stream's
    beats. `slot` and `age` [beat, slot]: the slot read, counted over all streams, -1 for the padding, and how many
    beats of its stream have been read since.
    """

    layouts: tuple[Layout, ...]
    output: Layout
    busy: Index
    leaves: Index
    slot: Index
    age: Index
    filled: npt.NDArray[np.bool_]

    @property
    def steps(self) -> int:
        """Iterations per event."""
        return len(self.busy)

    @property
    def tail(self) -> int:
        """Iterations after the last one that reads a beat of the stream that ends first."""
        last = min(layout.cycles[-1] for layout in self.layouts)
        return int((self.busy > last).sum())

    @property
    def slots(self) -> int:
        """Slots of all streams together."""
        return sum(layout.slot_count for layout in self.layouts)

    @property
    def depth(self) -> int:
        """Beats of each stream that are kept."""
        return int(self.age.max()) + 1

    @cached_property
    def reads(self) -> tuple[Index, Index]:
        """Which ages of each slot are read for each beat, and which of them every slot of the result takes.

        The first is [beat, read, slot]: a slot that is read at several places has as many reads in that beat. The
        second is [beat, slot of the result].
        """
        used = self.filled & (self.slot >= 0)
        ages: list[dict[int, list[int]]] = []
        taken = np.zeros_like(self.age)
        for b, s in zip(*np.nonzero(used), strict=True):
            while len(ages) <= b:
                ages.append({})
            of_slot = ages[b].setdefault(int(self.slot[b, s]), [])
            if int(self.age[b, s]) not in of_slot:
                of_slot.append(int(self.age[b, s]))
            taken[b, s] = of_slot.index(int(self.age[b, s]))
        most = max((len(found) for beat in ages for found in beat.values()), default=1)
        table = np.zeros((len(self.age), most, self.slots), dtype=np.int64)
        for b, beat in enumerate(ages):
            for slot, found in beat.items():
                table[b, : len(found), slot] = found
        return table, taken

    @property
    def copies(self) -> int:
        """Places at which a slot is read in a step, at most: a memory for each."""
        return int(self.reads[0].shape[1])

    @property
    def in_memory(self) -> bool:
        """Whether what is kept is read at one place a slot and step at most, and is more than two beats."""
        return self.depth > 2 and (self.copies == 1 or self.slots * self.depth > MOST_REGISTERS)

    @property
    def function(self) -> str:
        """Template of the library."""
        return "remember_beats" if self.in_memory else "reorder_beats"

    def describe(self, members: Members) -> None:
        """Add the configuration."""
        depth = 1 << (self.depth - 1).bit_length() if self.in_memory else self.depth
        places, taken = self.reads
        kept = taken * self.slots + self.slot if self.in_memory else self.slot * self.depth + self.age
        kinds = np.where(self.slot >= 0, kept, -1)
        found = [np.unique(column[known]) for column, known in zip(kinds.T, self.filled.T, strict=True)]
        most = max(map(len, found))
        choice, choices = np.zeros_like(kinds), np.full((len(found), most), -1, dtype=np.int64)
        for s, different in enumerate(found):
            choices[s, : len(different)] = different
            choice[:, s] = np.searchsorted(different, kinds[:, s])
        values = {"steps": self.steps, "streams": len(self.layouts), "slots": self.slots, "depth": depth, "most": most}
        if self.in_memory:
            values["copies"] = self.copies
        for name, value in values.items():
            members.constant(name, value)
        members.flags("takes", [np.isin(self.busy, layout.cycles) for layout in self.layouts], "step")
        members.flag("leaves", np.isin(self.busy, self.leaves), "step")
        members.vector("number", self._numbers(), "step")
        members.vector("choices", [len(different) for different in found], "s")
        here = np.ones(choices.shape, dtype=bool)
        origin = choices if self.in_memory else np.where(choices >= 0, choices // self.depth, -1)
        members.matrix("from", origin, here)
        if self.in_memory:
            streams = [p for p, layout in enumerate(self.layouts) for _ in range(layout.slot_count)]
            members.vector("stream_of", streams * self.copies, "k")
            ages = places.reshape(len(places), -1)
            members.matrix("age", ages, np.ones(ages.shape, dtype=bool))
        else:
            members.matrix("ago", np.where(choices >= 0, choices % self.depth, 0), here)
        members.matrix("choice", choice, self.filled)

    def _numbers(self) -> list[int]:
        """Beat that leaves in each step; where none does, what makes the numbers follow a rule."""
        steps = np.searchsorted(self.busy, self.leaves)
        if (np.diff(steps) == 1).all():
            return [step - int(steps[0]) for step in range(self.steps)]
        return [min(int(b), len(steps) - 1) for b in np.searchsorted(steps, np.arange(self.steps))]


def reorder_form(spec: WindowBuffer | Reorder, graph: Graph) -> ReorderForm:
    """Return what is read and leaves when; steps are the plan's cycles in which a beat does."""
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
    return ReorderForm(
        layouts=tuple(layouts),
        output=output,
        busy=busy,
        leaves=leaves,
        slot=np.where(held, slot[safe], -1),
        age=age,
        filled=known,
    )


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
