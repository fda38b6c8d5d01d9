"""Constants added by the additions of an adder graph that are there anyway: biases, halves of rounding.

An addition in a carry chain has a carry into its lowest bit, whose sense is free: a + b + 1 is a - ~b, a - b - 1 is
a + ~b, inverters are part of the same LUTs. Where the second operand is shifted up by k bits the carry goes in k bits
higher; where the first operand of a difference is shifted up by k bits, its k zero bits may be any constant. Additions
that are made for one output alone can therefore carry bits of its bias. What they cannot carry is added to the
narrowest value on the way to the output that leaves the number of levels as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from metronn.ir.types import width_bits
from metronn.plan.kernels.adder_graph import NOTHING, Adder, AdderGraph, AdderOutput, Bounds, adder_luts

MOST_STATES = 4096
"""Rests of one bias that are followed at a time."""


@dataclass(frozen=True, slots=True)
class _Slot:
    """An adder of one output alone: the output holds its value times sign * 2**shift."""

    adder: int
    sign: int
    shift: int


def free_offsets(adder: Adder) -> tuple[int, int, int]:
    """Return first, last and step of the constants an addition takes in without another LUT; 0 is among them."""
    if adder.right == NOTHING or (adder.left_shift and adder.right_shift):
        return (0, 0, 1)
    if not adder.subtract:
        step = 1 << max(adder.left_shift, adder.right_shift)
        return (0, step, step)
    if adder.left_shift:
        return (-1, (1 << adder.left_shift) - 1, 1)
    step = 1 << adder.right_shift
    return (-step, 0, step)


def with_constants(graph: AdderGraph, biases: Sequence[int], bounds: Bounds) -> tuple[AdderGraph, tuple[int, ...]]:
    """Return a graph of the same matrix that adds as much of the biases as it can, and what is left of them.

    `bounds` are those of the inputs. Outputs that were negative are turned positive where that is free: an addition
    of one output alone that is, or holds, a difference.
    """
    work = _Work(graph.inputs, list(graph.adders), list(graph.outputs), graph.bounds(bounds))
    rest = [work.absorb(column, bias) for column, bias in enumerate(biases)]
    made = work.graph()
    for output, bias, left, start in zip(made.outputs, biases, rest, _constants(made), strict=True):
        assert output.value == NOTHING or start + left == bias, "an adder graph adds another constant than its bias"
    return made, tuple(rest)


def _constants(graph: AdderGraph) -> list[int]:
    """Return the constant in every output."""
    values = graph.constants()
    found = []
    for output in graph.outputs:
        code = 0 if output.value == NOTHING else values[output.value]
        scaled = code << output.shift if output.shift >= 0 else code >> -output.shift
        assert scaled << max(0, -output.shift) == code << max(0, output.shift), "a constant between two codes"
        found.append(-scaled if output.negative else scaled)
    return found


@dataclass(slots=True)
class _Work:
    """A graph while it is being changed; values keep their numbers, new ones come last.

    `reach`: bounds of every value before constants; `uses`: adders and outputs that read it.
    """

    inputs: int
    adders: list[Adder]
    outputs: list[AdderOutput]
    reach: list[tuple[int, int]]
    uses: list[int] = field(init=False)

    def __post_init__(self) -> None:
        """Count who reads each value."""
        self.uses = [0] * (self.inputs + len(self.adders))
        for adder in self.adders:
            for value in (adder.left, adder.right):
                self.uses[value] += value != NOTHING
        for output in self.outputs:
            self.uses[output.value] += output.value != NOTHING

    def graph(self) -> AdderGraph:
        """Return the graph, its adders after what they read."""
        place = {value: value for value in range(NOTHING, self.inputs)}
        made: list[Adder] = []
        for index in sorted(range(len(self.adders)), key=self._levels().__getitem__):
            adder = self.adders[index]
            place[self.inputs + index] = self.inputs + len(made)
            made.append(replace(adder, left=place[adder.left], right=place[adder.right]))
        return AdderGraph(self.inputs, tuple(made), tuple(replace(o, value=place[o.value]) for o in self.outputs))

    def _levels(self) -> list[int]:
        """Levels of every adder; new ones may stand behind those that read them."""
        known: dict[int, int] = {}

        def level(value: int) -> int:
            if value < self.inputs:
                return 0
            if value not in known:
                adder = self.adders[value - self.inputs]
                known[value] = 1 + max(level(adder.left), level(adder.right))
            return known[value]

        return [level(self.inputs + index) for index in range(len(self.adders))]

    def _private(self, value: int) -> bool:
        return value >= self.inputs and self.uses[value] == 1

    def negate(self, value: int) -> bool:
        """Turn a private addition into its negative where that is free; tell whether it was."""
        if not self._private(value):
            return False
        adder = self.adders[value - self.inputs]
        swapped = replace(
            adder, left=adder.right, right=adder.left, left_shift=adder.right_shift, right_shift=adder.left_shift
        )
        if adder.right == NOTHING or adder.offset:
            return False
        if adder.subtract:
            made = swapped
        elif self.negate(adder.left):
            made = replace(adder, subtract=True)
        elif self.negate(adder.right):
            made = replace(swapped, subtract=True)
        else:
            return False
        self.adders[value - self.inputs] = made
        return True

    def absorb(self, column: int, bias: int) -> int:
        """Add what is possible of one output's bias; return the rest."""
        output = self.outputs[column]
        if not self._private(output.value) or output.shift < 0:
            return bias
        if output.negative and self.negate(output.value):
            output = self.outputs[column] = replace(output, negative=False)
        if not bias:
            return 0
        sign = -1 if output.negative else 1
        slots = sorted(self._slots(output.value, sign, output.shift), key=lambda slot: self._step(slot))
        rest, chosen = self._spread(slots, bias)
        for slot, offset in chosen:
            self.adders[slot.adder] = replace(self.adders[slot.adder], offset=offset)
        return self._on_an_edge(column, slots, rest) if rest else 0

    def _slots(self, value: int, sign: int, shift: int) -> Iterator[_Slot]:
        adder = self.adders[value - self.inputs]
        yield _Slot(value - self.inputs, sign, shift)
        if self._private(adder.left):
            yield from self._slots(adder.left, sign, shift + adder.left_shift)
        if self._private(adder.right):
            yield from self._slots(adder.right, -sign if adder.subtract else sign, shift + adder.right_shift)

    def _step(self, slot: _Slot) -> int:
        return free_offsets(self.adders[slot.adder])[2] << slot.shift

    def _spread(self, slots: Sequence[_Slot], bias: int) -> tuple[int, tuple[tuple[_Slot, int], ...]]:
        """Choose constants for the slots, lowest bits first; return the rest, as coarse as can be, and the choice."""
        states: dict[int, tuple[tuple[_Slot, int], ...]] = {bias: ()}
        best = bias
        known = dict(states)
        for number, slot in enumerate(slots):
            following: dict[int, tuple[tuple[_Slot, int], ...]] = {}
            for rest, chosen in states.items():
                for offset in self._choices(slot, rest):
                    left = rest - (slot.sign * offset << slot.shift)
                    following.setdefault(left, (*chosen, (slot, offset)) if offset else chosen)
            for left, chosen in following.items():
                known.setdefault(left, chosen)
                best = min(best, left, key=_coarseness)
            if best == 0:
                break
            next_step = self._step(slots[number + 1]) if number + 1 < len(slots) else 1
            alive = [left for left in following if left % next_step == 0]
            states = {left: following[left] for left in sorted(alive, key=abs)[:MOST_STATES]}
        return best, known[best]

    def _choices(self, slot: _Slot, rest: int) -> tuple[int, ...]:
        """Constants worth trying: none, the carry, and those that clear the bits of the rest the slot reaches."""
        first, last, step = free_offsets(self.adders[slot.adder])
        if step > 1 or last - first == step:
            return (0, first or last)
        if first == last:
            return (0,)
        exact = (slot.sign * rest >> slot.shift) % (last + 1)
        return tuple(dict.fromkeys((0, exact, first)))

    def _on_an_edge(self, column: int, slots: Sequence[_Slot], rest: int) -> int:
        """Add the rest to a value on the way to the output, where it costs least; return what is left (0 or all)."""
        output = self.outputs[column]
        levels = [0] * self.inputs + self._levels()
        found: list[tuple[bool, int, int, int, int]] = []
        for slot in slots:
            adder = self.adders[slot.adder]
            for side, value in enumerate((adder.left, adder.right)):
                shift = slot.shift + (adder.right_shift if side else adder.left_shift)
                sign = -slot.sign if side and adder.subtract else slot.sign
                if value != NOTHING and rest % (1 << shift) == 0:
                    deepens = levels[value] + 1 >= levels[self.inputs + slot.adder]
                    offset = sign * rest >> shift
                    found.append((deepens, self._luts(value, offset), slot.adder, side, offset))
        if rest % (1 << output.shift) == 0:
            offset = (-rest if output.negative else rest) >> output.shift
            found.append((True, self._luts(output.value, offset), NOTHING, 0, offset))
        if not found:
            return rest
        _, _, at, side, offset = min(found)
        if at == NOTHING:
            self.outputs[column] = replace(output, value=self._added(output.value, offset))
        elif side:
            self.adders[at] = replace(self.adders[at], right=self._added(self.adders[at].right, offset))
        else:
            self.adders[at] = replace(self.adders[at], left=self._added(self.adders[at].left, offset))
        return 0

    def _luts(self, value: int, offset: int) -> int:
        low, high = self.reach[value]
        adder = Adder(value, NOTHING, 0, 0, subtract=False, offset=offset)
        return adder_luts(adder, width_bits(low + offset, high + offset))

    def _added(self, value: int, offset: int) -> int:
        """Append value + offset, read in the place of one use of the value; return its number."""
        low, high = self.reach[value]
        self.adders.append(Adder(value, NOTHING, 0, 0, subtract=False, offset=offset))
        self.uses.append(1)
        self.reach.append((low + offset, high + offset))
        return self.inputs + len(self.adders) - 1


def _coarseness(rest: int) -> tuple[bool, int, int]:
    """Sort key of what is left of a bias: nothing first, then the one with most zeros below, then the smallest."""
    return (rest != 0, -((rest & -rest).bit_length()), abs(rest))
