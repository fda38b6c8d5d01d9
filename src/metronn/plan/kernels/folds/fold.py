"""Folded matrix-vector kernels: how multipliers are shared over an event's cycles, how long it takes.

`FoldOutputs` makes `lanes` outputs a cycle from all inputs, held in a register; `FoldInputs` adds every beat of inputs
into all accumulators. Two narrow products share one multiplier where the ranges and its ports allow it: it takes
`weight_hi * 2**shift + weight_lo` and one input, and sums of `group` such products are split once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from metronn.ir.arrays import Array
from metronn.ir.graph import Graph
from metronn.ir.infer import linear_shifts
from metronn.ir.ops import Linear
from metronn.ir.types import width_bits
from metronn.plan.hardware.timing import StagePath, Timing
from metronn.plan.kernels.spec import FoldInputs, FoldOutputs
from metronn.plan.kernels.uniform import function_key
from metronn.plan.layout import Layout

COUNTED_BEATS = 64
"""A FoldInputs of at most this many beats without gaps counts them itself; others take their beats from a train."""

LOGIC_ROM_BEATS = 64
"""Weights of more beats than this are read from block RAM."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """How weights and inputs meet in a multiplier.

    `ways`: products per multiplier (1 or 2). `shift`: position of the upper weight (0 when ways = 1). `group`: how
    many multiplier results are added before the two sums are split. `weight_bits`: signed width of the packed
    weight; `x_bits`: signed width of an input; `product_bits` and `sum_bits`: signed width of one multiplier result
    and of a group's sum. `in_blocks`: multipliers are DSP blocks, whose registers behind the multiplier and behind the
    adder are both used; without them a block is the slowest thing on the device.
    """

    ways: int
    shift: int
    group: int
    weight_bits: int
    x_bits: int
    product_bits: int
    sum_bits: int
    in_blocks: bool = True

    @property
    def front_stages(self) -> int:
        """Registers before the tree: input and weight, products, and the group sum where groups are larger than 1."""
        return 2 + self.in_blocks + (self.group > 1)

    @property
    def half(self) -> int:
        """What one product of a group has added so that the sum splits without a borrow; 0 where nothing is split.

        With half of 2**shift in it, the bits of a sum above `shift` are the upper sum as it is, and those below are the
        lower one with its sign bit inverted.
        """
        return 1 << (self.shift - 1) if self.ways == 2 else 0

    @property
    def term_bits(self) -> int:
        """Signed width of one tree term: the wider half of a split sum."""
        return max(self.shift, self.sum_bits - self.shift)


def linear_of(graph: Graph, name: str) -> Linear:
    """Return the Linear op of a node."""
    op = graph.by_name[name].op
    assert isinstance(op, Linear)
    return op


def effective_weight(graph: Graph, name: str) -> Array:
    """Integer weights [n_in, n_out] that act on the raw input codes: what shifts an input up is in its weights.

    The shifts are those of the first row; a fold that works on several rows needs them to be the same in all.
    """
    op = linear_of(graph, name)
    x = graph.type_of(op.x)
    shift = linear_shifts(op, x).reshape(-1, op.weight.shape[0])[0]
    if not shift.any():
        return op.weight.array
    return np.asarray([[int(w) << int(s) for w in row] for row, s in zip(op.weight.array, shift, strict=True)])


def signed_bits(lo: int, hi: int) -> int:
    """Bits of a two's complement number that holds [lo, hi] whatever the sign of lo."""
    return width_bits(min(lo, -1), max(hi, 0))


def product_bounds(weight: Array, lo: int, hi: int) -> tuple[int, int]:
    """Bounds of one product of any weight with any input code in [lo, hi]."""
    w_lo, w_hi = min(int(weight.min()), 0), max(int(weight.max()), 0)
    corners = [w * x for w in (w_lo, w_hi) for x in (lo, hi)]
    return min(corners), max(corners)


def packing(graph: Graph, name: str, timing: Timing) -> Packing:
    """Choose two products per multiplier where the exact ranges allow it and it saves DSP blocks, else one.

    Products that are built from LUTs stand alone. Of groups with the fewest DSP blocks the largest is taken.
    """
    weight = effective_weight(graph, name)
    x = graph.type_of(linear_of(graph, name).x)
    lo, hi = x.range.lowest, x.range.highest
    x_bits = signed_bits(lo, hi)
    low, high = product_bounds(weight, lo, hi)
    w_lo, w_hi = min(int(weight.min()), 0), max(int(weight.max()), 0)
    least = timing.fabric.share(signed_bits(w_lo, w_hi), x_bits)
    found: Packing | None = None
    in_blocks = signed_bits(low, high) >= timing.fabric.least_product_bits
    group = timing.radix(1) if in_blocks and weight.shape[1] > 1 else 0
    while group >= 1:
        shift = signed_bits(group * low, group * high)
        packed = signed_bits((w_lo << shift) + w_lo, (w_hi << shift) + w_hi)
        share = timing.fabric.packed_share(packed, x_bits)
        bottom, top = (low << shift) + low, (high << shift) + high
        sum_bits = max(shift + 1, signed_bits(group * bottom, group * top + (1 << (shift - 1))))
        quick = group == 1 or group <= timing.radix(sum_bits, timing.arcs.dsp_ps)
        if quick and share is not None and share / 2 < least:
            least = share / 2
            found = Packing(
                ways=2,
                shift=shift,
                group=group,
                weight_bits=packed,
                x_bits=x_bits,
                product_bits=signed_bits(bottom, top + (1 << (shift - 1))),
                sum_bits=sum_bits,
            )
        group //= 2
    if found is not None:
        return found
    group, begin_ps = timing.radix(1), timing.arcs.dsp_ps * in_blocks
    while group > timing.radix(signed_bits(group * low, group * high), begin_ps):
        group //= 2
    return Packing(
        ways=1,
        shift=0,
        group=group,
        weight_bits=signed_bits(w_lo, w_hi),
        x_bits=x_bits,
        product_bits=signed_bits(low, high),
        sum_bits=signed_bits(group * low, group * high),
        in_blocks=in_blocks,
    )


def accumulator_bits(graph: Graph, name: str) -> int:
    """Signed width of a sum of all products of an output."""
    bounds = graph.type_of(name).range
    return signed_bits(bounds.lowest, bounds.highest)


def tree_levels(graph: Graph, name: str, timing: Timing) -> int:
    """Additions in a row in a stage of the adder trees behind the groups: of sums as wide as the accumulators."""
    return timing.levels(accumulator_bits(graph, name))


def sum_stages(terms: int, extra: int, radix: int) -> tuple[int, ...]:
    """Terms left after each register stage that sums `terms` values, the last stage adding `extra` more and leaving 1.

    Every stage sums at most `radix` values into one; the last one sums what is left plus the extra terms.
    """
    left: list[int] = []
    room = max(1, radix - extra)
    while terms > room:
        terms = -(-terms // radix)
        left.append(terms)
    return (*left, 1)


def fold_outputs_spec(graph: Graph, name: str, epilogue: tuple[str, ...], beats: int, timing: Timing) -> FoldOutputs:
    """Divide a layer's outputs over `beats` cycles so that no multiplier idles."""
    pack = packing(graph, name, timing)
    outputs = linear_of(graph, name).weight.shape[1]
    lanes = pack.ways * (outputs // (pack.ways * beats))
    return FoldOutputs(linear=name, epilogue=epilogue, lanes=lanes, beats=beats, remainder=outputs - lanes * beats)


def slice_inputs(spec: FoldOutputs, graph: Graph) -> int:
    """Inputs the remainder block takes each cycle."""
    return -(-linear_of(graph, spec.linear).weight.shape[0] // spec.beats)


def outputs_tree(spec: FoldOutputs, graph: Graph, timing: Timing) -> tuple[int, ...]:
    """Terms after each summing stage of the main lanes; the bias enters in the last."""
    pack = packing(graph, spec.linear, timing)
    terms = -(-linear_of(graph, spec.linear).weight.shape[0] // pack.group)
    return sum_stages(terms, 1, 1 << tree_levels(graph, spec.linear, timing))


def remainder_tree(spec: FoldOutputs, graph: Graph, timing: Timing) -> tuple[int, ...]:
    """Terms after each summing stage of the remainder block; the accumulator enters in the last."""
    pack = packing(graph, spec.linear, timing)
    return sum_stages(-(-slice_inputs(spec, graph) // pack.group), 1, 1 << tree_levels(graph, spec.linear, timing))


def bias_start(pack: Packing, tree: tuple[int, ...]) -> int:
    """Cycles after the start in which a FoldOutputs reads the bias of its first phase, to add it in the last stage."""
    return pack.front_stages + len(tree) - (2 if len(tree) > 1 else 1)


def accumulator_start(front: int, tree: tuple[int, ...]) -> int:
    """Cycles after the start in which it is registered once more, for accumulators to begin with the bias."""
    return front + len(tree) - 2


def outputs_layout(spec: FoldOutputs) -> Layout:
    """Beat b carries outputs b*lanes .. b*lanes+lanes-1, the last beat the remainder too; one beat if lanes = 0."""
    count = spec.lanes * spec.beats + spec.remainder
    if not spec.lanes:
        return Layout.parallel(count)
    beats = [tuple(range(b * spec.lanes, (b + 1) * spec.lanes)) for b in range(spec.beats)]
    beats[-1] += tuple(range(spec.lanes * spec.beats, count))
    return Layout(tuple(beats))


def lane_functions(spec: FoldOutputs, graph: Graph) -> tuple[tuple[tuple[int, ...], ...], ...]:
    """For every lane, its outputs in groups of one epilogue function each; main lanes first, then the remainder.

    An output of a main lane is made in beat output // lanes. Lanes of one group need no choice by beat.
    """
    main = range(spec.lanes * spec.beats)
    lanes = [list(main[lane :: spec.lanes]) for lane in range(spec.lanes)]
    lanes += [[main.stop + rest] for rest in range(spec.remainder)]
    found = []
    for outputs in lanes:
        groups: dict[tuple[object, ...], list[int]] = {}
        for output in outputs:
            groups.setdefault(function_key(graph, spec.epilogue, output), []).append(output)
        found.append(tuple(tuple(group) for group in groups.values()))
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSlots:
    """Which slots of the input beats get multipliers, and which are used once only and get constant multiples."""

    multiplied: tuple[int, ...]
    constant: tuple[int, ...]


@lru_cache(maxsize=256)
def _slots_by_use(layout: Layout) -> InputSlots:
    uses = [sum(1 for beat in layout.beats if slot < len(beat)) for slot in range(layout.slot_count)]
    return InputSlots(
        multiplied=tuple(slot for slot, count in enumerate(uses) if count > 1),
        constant=tuple(slot for slot, count in enumerate(uses) if count == 1),
    )


def signed_digits(value: int) -> list[tuple[int, int]]:
    """Return the canonical signed digits of a positive integer as (sign, shift), lowest first."""
    digits, shift = [], 0
    while value:
        if value & 1:
            digit = 2 - (value & 3)
            digits.append((digit, shift))
            value -= digit
        value >>= 1
        shift += 1
    return digits


def odd_part(weight: int) -> tuple[int, int]:
    """Sign of a weight that is not 0, and what is left of it without factors of two."""
    return (1 if weight > 0 else -1), abs(weight) // (weight & -weight)


def is_negated(weight: int) -> bool:
    """Whether no signed digit of a multiple counts up: it is made from the negated input."""
    sign, odd = odd_part(weight)
    return all(sign * digit < 0 for digit, _ in signed_digits(odd))


def constant_path(slots: Sequence[int], spec: FoldInputs, graph: Graph, timing: Timing) -> StagePath:
    """The slowest stage of slots whose weights are constants.

    One chooses the beat and negates, behind it the digits of a multiple are added pair by pair.
    """
    weight, x = effective_weight(graph, spec.linear), graph.type_of(linear_of(graph, spec.linear).x).range
    carried = [beat[slot] for slot in slots for beat in spec.layout.beats if slot < len(beat)]
    weights = {int(w) for row in weight[carried] for w in row if w}
    levels = max((len(signed_digits(odd_part(w)[1])) - 1).bit_length() for w in weights) if weights else 0
    bits = signed_bits(*product_bounds(weight, x.lowest, x.highest))
    chosen = timing.luts(1).whole_ps + any(is_negated(w) for w in weights) * timing.sum(bits).ps
    ps = max(levels * timing.sum(bits).ps, chosen)
    return StagePath(what=f"constant multiple of {bits} bits, {levels} additions in a row", ps=ps)


def input_slots(spec: FoldInputs, graph: Graph, timing: Timing) -> InputSlots:
    """A slot that carries an element in one beat only has constant weights: shifts and adds are cheaper there.

    Where a stage does not hold those, all slots get multipliers.
    """
    found = _slots_by_use(spec.layout)
    if not found.constant or constant_path(found.constant, spec, graph, timing).ps <= timing.logic_ps:
        return found
    return InputSlots(multiplied=tuple(range(spec.layout.slot_count)), constant=())


def inputs_terms(spec: FoldInputs, graph: Graph, timing: Timing) -> tuple[int, int]:
    """Terms per accumulator and cycle after the group stage: from multipliers, from constant multiples."""
    pack = packing(graph, spec.linear, timing)
    slots = input_slots(spec, graph, timing)
    summed = 1 if pack.group == 1 else 1 << tree_levels(graph, spec.linear, timing)
    constant = -(-len(slots.constant) // summed)
    return -(-len(slots.multiplied) // pack.group), constant


def inputs_tree(spec: FoldInputs, graph: Graph, timing: Timing) -> tuple[int, ...]:
    """Terms after each summing stage; the accumulator enters in the last."""
    terms = sum(inputs_terms(spec, graph, timing))
    return sum_stages(terms, 1, 1 << tree_levels(graph, spec.linear, timing))


def counts_beats(spec: FoldInputs) -> bool:
    """Whether the beats come in few consecutive cycles, so that a counter from start tells them."""
    return spec.layout.span == spec.layout.beat_count <= COUNTED_BEATS


def weights_in_block_ram(spec: FoldInputs) -> bool:
    """Whether the weights are too many beats for LUTs."""
    return spec.layout.beat_count > LOGIC_ROM_BEATS


def inputs_front(spec: FoldInputs, graph: Graph, timing: Timing) -> int:
    """Registers before the tree: those of the packing, and the output register of weights in block RAM."""
    return packing(graph, spec.linear, timing).front_stages + weights_in_block_ram(spec)
