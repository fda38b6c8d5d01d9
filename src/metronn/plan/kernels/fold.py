"""Folded matrix-vector kernels: how multipliers are shared over an event's cycles, how long it takes, what it costs.

`FoldOutputs` makes `lanes` outputs a cycle from all inputs, held in a register; `FoldInputs` adds one beat of inputs a
cycle into all accumulators. Two narrow products share one DSP where the ranges allow it: the multiplier takes
`weight_hi * 2**shift + weight_lo` and one input, and sums of `group` such products are split once.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from metronn.ir.arrays import Array
from metronn.ir.graph import Graph
from metronn.ir.ops import Add, Linear, Multiply
from metronn.ir.types import Range, width_bits
from metronn.plan.kernels.elementwise import expanded, node_dsps, node_luts
from metronn.plan.kernels.spec import FoldInputs, FoldOutputs
from metronn.plan.layout import Layout
from metronn.plan.resources import Resources
from metronn.plan.timing import Timing

DSP_WIDE_BITS = 27
DSP_NARROW_BITS = 18
"""Signed multiplier ports of a DSP48E2 (AMD UG579)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """How weights and inputs meet in a multiplier.

    `ways`: products per multiplier (1 or 2). `shift`: position of the upper weight (0 when ways = 1). `group`: how
    many multiplier results are added before the two sums are split. `weight_bits`: signed width of the packed
    weight; `x_bits`: signed width of an input; `product_bits` and `sum_bits`: signed width of one multiplier result
    and of a group's sum.
    """

    ways: int
    shift: int
    group: int
    weight_bits: int
    x_bits: int
    product_bits: int
    sum_bits: int

    @property
    def front_stages(self) -> int:
        """Registers before the tree: input and weight, product, and the group sum where groups are larger than 1."""
        return 2 + (self.group > 1)

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
    """Integer weights [n_in, n_out] that act on the raw input codes: inputs of a smaller frac are scaled here."""
    op = linear_of(graph, name)
    x = graph.type_of(op.x)
    shift = x.range.max_frac - x.range.frac_array(x.shape)[: op.weight.shape[0]]
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
    """Choose two products per multiplier where the exact ranges allow it, else one."""
    weight = effective_weight(graph, name)
    x = graph.type_of(linear_of(graph, name).x)
    lo, hi = x.range.lowest, x.range.highest
    x_bits = signed_bits(lo, hi)
    low, high = product_bounds(weight, lo, hi)
    w_lo, w_hi = min(int(weight.min()), 0), max(int(weight.max()), 0)
    group = timing.radix
    while group >= 1:
        shift = signed_bits(group * low, group * high)
        packed = signed_bits((w_lo << shift) + w_lo, (w_hi << shift) + w_hi)
        if packed <= DSP_WIDE_BITS and x_bits <= DSP_NARROW_BITS and weight.shape[1] > 1:
            least, most = (low << shift) + low, (high << shift) + high
            return Packing(
                ways=2,
                shift=shift,
                group=group,
                weight_bits=packed,
                x_bits=x_bits,
                product_bits=signed_bits(least, most),
                sum_bits=max(shift + 1, signed_bits(group * least, group * most)),
            )
        group //= 2
    group = timing.radix
    return Packing(
        ways=1,
        shift=0,
        group=group,
        weight_bits=signed_bits(w_lo, w_hi),
        x_bits=x_bits,
        product_bits=signed_bits(low, high),
        sum_bits=signed_bits(group * low, group * high),
    )


def sum_stages(terms: int, extra: int, timing: Timing) -> tuple[int, ...]:
    """Terms left after each register stage that sums `terms` values, the last stage adding `extra` more and leaving 1.

    Every stage sums at most `radix` values into one; the last one sums what is left plus the extra terms.
    """
    left: list[int] = []
    room = max(1, timing.radix - extra)
    while terms > room:
        terms = -(-terms // timing.radix)
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
    """Terms after each summing stage of the main lanes; bias (with the borrow count) enters in the last."""
    pack = packing(graph, spec.linear, timing)
    return sum_stages(-(-linear_of(graph, spec.linear).weight.shape[0] // pack.group), 1, timing)


def remainder_tree(spec: FoldOutputs, graph: Graph, timing: Timing) -> tuple[int, ...]:
    """Terms after each summing stage of the remainder block; accumulator and borrow count enter in the last."""
    pack = packing(graph, spec.linear, timing)
    return sum_stages(-(-slice_inputs(spec, graph) // pack.group), pack.ways, timing)


def outputs_depth(spec: FoldOutputs, graph: Graph, timing: Timing) -> int:
    """Cycles from a phase of the fold to its result on the wires: input, product, group, tree, epilogue registers."""
    main = len(outputs_tree(spec, graph, timing)) if spec.lanes else 0
    rest = len(remainder_tree(spec, graph, timing)) if spec.remainder else 0
    return packing(graph, spec.linear, timing).front_stages + max(main, rest) + bool(spec.epilogue)


def outputs_latency(spec: FoldOutputs, graph: Graph, timing: Timing) -> int:
    """Cycles from start to the first output beat."""
    return outputs_depth(spec, graph, timing) + (0 if spec.lanes else spec.beats - 1)


def outputs_layout(spec: FoldOutputs) -> Layout:
    """Beat b carries outputs b*lanes .. b*lanes+lanes-1, the last beat the remainder too; one beat if lanes = 0."""
    count = spec.lanes * spec.beats + spec.remainder
    if not spec.lanes:
        return Layout.parallel(count)
    beats = [tuple(range(b * spec.lanes, (b + 1) * spec.lanes)) for b in range(spec.beats)]
    beats[-1] += tuple(range(spec.lanes * spec.beats, count))
    return Layout(tuple(beats))


def outputs_multipliers(spec: FoldOutputs, graph: Graph, timing: Timing) -> int:
    """Multipliers of the kernel: main lanes times inputs, remainder pairs times the slice."""
    pack = packing(graph, spec.linear, timing)
    inputs = linear_of(graph, spec.linear).weight.shape[0]
    return spec.lanes // pack.ways * inputs + -(-spec.remainder // pack.ways) * slice_inputs(spec, graph)


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSlots:
    """Which slots of the input beats get multipliers, and which are used once only and get constant multiples."""

    multiplied: tuple[int, ...]
    constant: tuple[int, ...]


def input_slots(layout: Layout) -> InputSlots:
    """A slot that carries an element in one beat only has constant weights: shifts and adds are cheaper there."""
    uses = [sum(1 for beat in layout.beats if slot < len(beat)) for slot in range(layout.slot_count)]
    return InputSlots(
        multiplied=tuple(slot for slot, count in enumerate(uses) if count > 1),
        constant=tuple(slot for slot, count in enumerate(uses) if count == 1),
    )


def inputs_terms(spec: FoldInputs, graph: Graph, timing: Timing) -> tuple[int, int]:
    """Terms per accumulator and cycle after the group stage: from multipliers, from constant multiples."""
    pack = packing(graph, spec.linear, timing)
    slots = input_slots(spec.layout)
    constant = len(slots.constant) if pack.group == 1 else -(-len(slots.constant) // timing.radix)
    return -(-len(slots.multiplied) // pack.group), constant


def inputs_tree(spec: FoldInputs, graph: Graph, timing: Timing) -> tuple[int, ...]:
    """Terms after each summing stage; accumulator and borrow count enter in the last."""
    pack = packing(graph, spec.linear, timing)
    return sum_stages(sum(inputs_terms(spec, graph, timing)), pack.ways, timing)


def inputs_depth(spec: FoldInputs, graph: Graph, timing: Timing) -> int:
    """Cycles from the last input beat to the result on the wires."""
    front = packing(graph, spec.linear, timing).front_stages
    return front + len(inputs_tree(spec, graph, timing)) + bool(spec.epilogue)


def inputs_latency(spec: FoldInputs, graph: Graph, timing: Timing) -> int:
    """Cycles from start (the first input beat) to the output."""
    return spec.layout.beat_count - 1 + inputs_depth(spec, graph, timing)


def inputs_multipliers(spec: FoldInputs, graph: Graph, timing: Timing) -> int:
    """Multipliers of the kernel: multiplied slots times output pairs."""
    pack = packing(graph, spec.linear, timing)
    outputs = linear_of(graph, spec.linear).weight.shape[1]
    return len(input_slots(spec.layout).multiplied) * -(-outputs // pack.ways)


def outputs_resources(spec: FoldOutputs, graph: Graph, timing: Timing) -> Resources:
    """Estimate from the structure that is emitted, as synthesis counts it: see `_array`, `_selected` and `_tree`."""
    pack = packing(graph, spec.linear, timing)
    weight = effective_weight(graph, spec.linear)
    acc = _accumulator_bits(graph, spec.linear)
    inputs = weight.shape[0]
    x_bits = pack.x_bits - (graph.type_of(linear_of(graph, spec.linear).x).range.lowest >= 0)
    total = Resources(ff=inputs * x_bits)
    words: list[Array] = []
    if spec.lanes:
        main = weight.T[: spec.lanes * spec.beats].reshape(spec.beats, spec.lanes, inputs)
        words.append(_packed(main, pack))
        terms, tree = -(-inputs // pack.group), outputs_tree(spec, graph, timing)
        total += _array(pack, spec.lanes // pack.ways, inputs, pack.group)
        total += _tree(pack, spec.lanes, terms, tree, acc, timing)
        total += _offsets(spec, graph, pack, acc, len(tree))
    if spec.remainder:
        pairs, count = -(-spec.remainder // pack.ways), slice_inputs(spec, graph)
        lanes = pairs * pack.ways
        rest = np.zeros((lanes, count * spec.beats), dtype=weight.dtype)
        rest[: spec.remainder, :inputs] = weight.T[spec.lanes * spec.beats :]
        words.append(_packed(rest.reshape(lanes, spec.beats, count).swapaxes(0, 1), pack))
        tree = remainder_tree(spec, graph, timing)
        total += _array(pack, pairs, count, pack.group)
        total += _tree(pack, lanes, -(-count // pack.group), tree, acc, timing)
        waits = max(0, len(outputs_tree(spec, graph, timing)) - len(tree)) if spec.lanes else 0
        muxes = -(-(spec.beats - 1) // 3)  # a LUT chooses one of four; each takes three off what is left
        slices = count * x_bits
        total += Resources(lut=slices * muxes + spec.remainder * acc, ff=slices + waits * spec.remainder * acc)
    total += _selected(words, pack.weight_bits)
    return total + _epilogue(spec.linear, spec.epilogue, spec.lanes + spec.remainder, graph)


def inputs_resources(spec: FoldInputs, graph: Graph, timing: Timing) -> Resources:
    """Estimate from the structure that is emitted, as synthesis counts it: see `_array`, `_selected` and `_tree`."""
    pack = packing(graph, spec.linear, timing)
    weight = effective_weight(graph, spec.linear)
    acc = _accumulator_bits(graph, spec.linear)
    outputs = weight.shape[1]
    pairs = -(-outputs // pack.ways)
    lanes = pairs * pack.ways
    slots = input_slots(spec.layout)
    x_bits = pack.x_bits - (graph.type_of(linear_of(graph, spec.linear).x).range.lowest >= 0)
    total = Resources(ff=spec.layout.slot_count * x_bits)
    if slots.multiplied:
        phases = np.zeros((spec.layout.beat_count, lanes, len(slots.multiplied)), dtype=weight.dtype)
        for beat, elements in enumerate(spec.layout.beats):
            for position, slot in enumerate(slots.multiplied):
                if slot < len(elements):
                    phases[beat, :outputs, position] = weight[elements[slot]]
        total += _array(pack, pairs, len(slots.multiplied), pack.group)
        total += _selected([_packed(phases, pack)], pack.weight_bits)
    if slots.constant:
        carried = [beat[slot] for slot in slots.constant for beat in spec.layout.beats if slot < len(beat)]
        total += _multiples(weight[carried], graph.type_of(linear_of(graph, spec.linear).x).range)
        if pack.group > 1:
            bits = signed_bits(*product_bounds(weight, *_bounds(graph, spec.linear))) + timing.levels_per_stage
            terms = inputs_terms(spec, graph, timing)[1]
            summed = outputs * min(acc, bits)
            total += Resources(lut=(len(slots.constant) - terms) * summed, ff=terms * summed)
    terms = sum(inputs_terms(spec, graph, timing))
    total += _tree(pack, lanes, terms, inputs_tree(spec, graph, timing), acc, timing)
    return total + Resources(lut=outputs * acc) + _epilogue(spec.linear, spec.epilogue, outputs, graph)


def _bounds(graph: Graph, name: str) -> tuple[int, int]:
    bounds = graph.type_of(linear_of(graph, name).x).range
    return bounds.lowest, bounds.highest


def _accumulator_bits(graph: Graph, name: str) -> int:
    bounds = graph.type_of(name).range
    return signed_bits(bounds.lowest, bounds.highest)


def _packed(phases: Array, pack: Packing) -> Array:
    """Weights [beat, lane, input] as multipliers take them: [beat, word]."""
    if pack.ways == 2:
        phases = (phases[:, 1::2] << pack.shift) + phases[:, 0::2]
    return phases.reshape(len(phases), -1)


def _selected(words: list[Array], bits: int) -> Resources:
    """Registers loaded by phase, and a LUT before each: bits that agree in all phases are one.

    With `beats` phases there are at most 2**beats different ones; bits that never change cost nothing.
    """
    phases = np.concatenate(words, axis=1)
    planes = [((phases >> bit) & 1).astype(np.uint8) for bit in range(bits)]
    columns = np.concatenate(planes, axis=1).T  # [bit of a weight, beat]
    columns = columns[(columns != columns[:, :1]).any(axis=1)]
    different = len(np.unique(np.packbits(columns, axis=1), axis=0)) if len(columns) else 0
    return Resources(lut=different, ff=different)


def _offsets(spec: FoldOutputs, graph: Graph, pack: Packing, acc: int, stages: int) -> Resources:
    """Bias of the main lanes by phase, the borrows added to every second one, and the adder that takes them in."""
    bias = linear_of(graph, spec.linear).bias.array[: spec.lanes * spec.beats].reshape(spec.beats, spec.lanes)
    selected = _selected([bias], acc).lut
    added = spec.lanes // 2 * acc if pack.ways == 2 else 0
    return Resources(lut=spec.lanes * acc + selected + added, ff=(selected + added) if stages > 1 else 0)


def _multiples(weight: Array, x: Range) -> Resources:
    """Products of a few inputs with all their (constant) weights: equal ones once, each bit that is not sign or zero.

    An odd factor takes an addition per signed digit beyond its first, of as many bits as the input has: that is how
    far the shifted input and the sum so far overlap. A negation where others read the sum too; a register each.
    """
    lut = ff = 0
    for row in weight:
        products = {int(w) for w in row if w}
        readers = Counter(abs(w) // (w & -w) for w in products)
        lut += sum((3 * odd ^ odd).bit_count() - 1 for odd in readers) * x.width_bits
        for w in products:
            low, high = sorted((w * x.lowest, w * x.highest))
            bits = signed_bits(low, high) - (w & -w).bit_length() + 1
            odd = abs(w) // (w & -w)
            lut, ff = lut + bits * (w < 0 and (odd == 1 or readers[odd] > 1)), ff + bits
    return Resources(lut=lut, ff=ff)


def _array(pack: Packing, pairs: int, inputs: int, group: int) -> Resources:
    """Multipliers, their product registers and group sums: a LUT per bit of each addition.

    Yosys leaves product registers outside the DSP blocks, where the estimate counts them; vendor tools move them in.
    """
    count, terms = pairs * inputs, pairs * -(-inputs // group)
    grouped = terms * pack.sum_bits if group > 1 else 0
    return Resources(lut=(count - terms) * pack.sum_bits, ff=count * pack.product_bits + grouped, dsp=count)


def _tree(pack: Packing, lanes: int, terms: int, left: tuple[int, ...], acc: int, timing: Timing) -> Resources:
    """Adder tree over the split terms, with the borrow counters: a LUT per bit of each addition."""
    lut = ff = 0
    width = pack.term_bits
    before = terms
    for after in left:
        width = min(acc, width + timing.levels_per_stage) if after > 1 or len(left) > 1 else acc
        lut += lanes * (before - after) * width
        ff += lanes * after * width
        before = after
    borrows = lanes // 2 * terms if pack.ways == 2 else 0
    return Resources(lut=lut + borrows, ff=ff + (borrows // max(1, terms) * terms.bit_length() if len(left) > 1 else 0))


def _epilogue(linear: str, epilogue: tuple[str, ...], lanes: int, graph: Graph) -> Resources:
    """Clipping, sums and products of the epilogue on `lanes` lanes, and its register.

    A LUT per result bit chooses between the sum and a bound; bits above are compared, five a LUT. ReLU is the
    register's reset, and rounding adds a constant, which takes carries only.
    """
    if not epilogue:
        return Resources()
    outputs = graph.type_of(linear).size
    own, nodes = expanded(graph, epilogue)
    sums = [name for name in nodes if isinstance(own.by_name[name].op, Add | Multiply)]
    lut = lanes * sum(node_luts(own, name) for name in sums) // outputs
    dsp = -(-lanes * sum(node_dsps(own, name) for name in sums) // outputs)
    acc, out = _accumulator_bits(graph, linear), graph.type_of(epilogue[-1]).range.width_bits
    return Resources(lut=lut + lanes * (out + max(0, acc - out) // 5), ff=lanes * out, dsp=dsp)
