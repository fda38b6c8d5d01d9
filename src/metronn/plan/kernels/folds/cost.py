"""What folded matrix-vector kernels cost: estimates from the structure that is emitted, as synthesis counts it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from metronn.ir.arrays import Array
from metronn.ir.graph import Graph
from metronn.ir.ops import Add, Multiply
from metronn.ir.types import Range
from metronn.plan.hardware.fabric import Fabric
from metronn.plan.hardware.resources import Resources
from metronn.plan.hardware.timing import Timing
from metronn.plan.kernels.elementwise import expanded, node_dsps, node_luts, rounding_luts
from metronn.plan.kernels.folds.clusters import SLICE_LOADS, clusters_of, copies_of, lanes_of_copy, patterns_of
from metronn.plan.kernels.folds.fold import (
    LOGIC_ROM_BEATS,
    Packing,
    accumulator_bits,
    accumulator_start,
    bias_start,
    counts_beats,
    effective_weight,
    input_slots,
    inputs_front,
    inputs_terms,
    inputs_tree,
    is_negated,
    lane_functions,
    linear_of,
    odd_part,
    outputs_tree,
    packing,
    product_bounds,
    remainder_tree,
    signed_bits,
    signed_digits,
    slice_inputs,
    tree_levels,
    weights_in_block_ram,
)
from metronn.plan.kernels.folds.sites import Kind, Sites, addition_luts, merged
from metronn.plan.kernels.memories import block_parts
from metronn.plan.kernels.pulse_trains import counter_bits, train_resources
from metronn.plan.kernels.spec import FoldInputs, FoldOutputs

Live = npt.NDArray[np.bool_]


def outputs_resources(
    spec: FoldOutputs, graph: Graph, timing: Timing, main: Sites | None, rest: Sites | None
) -> Resources:
    """Estimate from the structure that is emitted, as synthesis counts it: see `_clustered` and `_tree`."""
    pack = packing(graph, spec.linear, timing)
    acc = accumulator_bits(graph, spec.linear)
    x_bits = _input_bits(graph, spec.linear, pack)
    left, right = outputs_tree(spec, graph, timing), remainder_tree(spec, graph, timing)
    lanes = lane_functions(spec, graph)
    total, starts = Resources(), [0]
    if main is not None:
        total += _clustered(main, x_bits, kept=True) + _tree(pack, _lanes(main.group_live(), pack), left, acc, timing)
        total += _offsets(spec, graph, acc, len(left), timing.fabric)
        if spec.beats > 1:
            starts.append(bias_start(pack, left))
        if any(len(groups) > 1 for groups in lanes):
            starts.append(pack.front_stages + len(left))
            total += _counted(spec.beats, copies_of(2 * spec.lanes * _result_bits(graph, spec)))
    if rest is not None:
        total += _clustered(rest, x_bits) + _tree(pack, _lanes(rest.group_live(), pack), right, acc, timing)
        starts.append(accumulator_start(pack.front_stages, right))
        waits = max(0, len(left) - len(right)) if spec.lanes else 0
        summed = _accumulator_luts(timing.fabric) * spec.remainder * acc
        total += _slices(spec, graph, x_bits, timing.fabric) + _first(spec.remainder, acc)
        total += Resources(lut=summed, ff=waits * spec.remainder * acc)
    total += Resources(ff=max(starts))
    return total + _epilogue(spec.linear, spec.epilogue, lanes, graph, timing.fabric)


def inputs_resources(spec: FoldInputs, graph: Graph, timing: Timing, sites: Sites) -> Resources:
    """Estimate from the structure that is emitted, as synthesis counts it: see `_clustered` and `_tree`."""
    pack = packing(graph, spec.linear, timing)
    weight = effective_weight(graph, spec.linear)
    acc = accumulator_bits(graph, spec.linear)
    outputs = weight.shape[1]
    lanes = -(-outputs // pack.ways) * pack.ways
    slots, stored = input_slots(spec, graph, timing), weights_in_block_ram(spec)
    x_bits = _input_bits(graph, spec.linear, pack)
    tree = inputs_tree(spec, graph, timing)
    depth = accumulator_start(inputs_front(spec, graph, timing), tree)
    total = Resources(ff=depth) + _first(lanes, acc)
    if not counts_beats(spec):
        total += train_resources(spec.layout.cycles, timing.fabric) + _first(lanes, acc) + Resources(ff=depth)
    live = np.zeros((lanes, 0), dtype=bool)
    if slots.multiplied:
        total += _clustered(sites, x_bits, stored=stored)
        live = _lanes(sites.group_live(), pack)
    if slots.constant:
        carried = [beat[slot] for slot in slots.constant for beat in spec.layout.beats if slot < len(beat)]
        total += _multiples(weight[carried], graph.type_of(linear_of(graph, spec.linear).x).range, pack, timing)
        total += Resources(ff=len(slots.constant) * x_bits * stored)
        total += _counted(spec.layout.beat_count, 1)
        if pack.group > 1:
            bits = signed_bits(*product_bounds(weight, *_bounds(graph, spec.linear)))
            bits += tree_levels(graph, spec.linear, timing)
            terms = inputs_terms(spec, graph, timing)[1]
            summed = outputs * min(acc, bits)
            total += Resources(lut=(len(slots.constant) - terms) * summed, ff=terms * summed)
    constant = np.ones((lanes, inputs_terms(spec, graph, timing)[1]), dtype=bool)
    total += _tree(pack, np.concatenate([live, constant], axis=1), tree, acc, timing)
    alone = [((output,),) for output in range(outputs)]
    finish = _epilogue(spec.linear, spec.epilogue, alone, graph, timing.fabric)
    return total + Resources(lut=_accumulator_luts(timing.fabric) * outputs * acc) + finish


def _bounds(graph: Graph, name: str) -> tuple[int, int]:
    bounds = graph.type_of(linear_of(graph, name).x).range
    return bounds.lowest, bounds.highest


def _accumulator_luts(fabric: Fabric) -> int:
    """LUTs per bit of one more number in the last sum, an accumulator that starts from the bias.

    Where an adder takes no other logic that is a row of full adders, and a choice.
    """
    return 1 if fabric.adder_takes_logic else 3


def _input_bits(graph: Graph, name: str, pack: Packing) -> int:
    """Bits of an input on the wires: a sign only where there is one."""
    return pack.x_bits - (graph.type_of(linear_of(graph, name).x).range.lowest >= 0)


def _result_bits(graph: Graph, spec: FoldOutputs) -> int:
    return graph.type_of(spec.epilogue[-1] if spec.epilogue else spec.linear).range.width_bits


def _counted(beats: int, copies: int) -> Resources:
    """A phase counter, and registers that are copies of it: a LUT and a flip-flop a bit."""
    bits = counter_bits(beats)
    return Resources(lut=bits, ff=bits * (1 + copies)) if beats > 1 else Resources()


def _first(lanes: int, acc: int) -> Resources:
    """Copies of a bit that acts on accumulators."""
    return Resources(ff=-(-lanes // lanes_of_copy(acc)))


def _clustered(sites: Sites, x_bits: int, *, kept: bool = False, stored: bool = False) -> Resources:
    """Clusters of an array, each by itself: phases, weights, input registers; products and sums as `_array` says.

    A bit of the weights is a LUT and a register, equal ones of a cluster one; nothing where it never changes. A fold
    over more than LOGIC_ROM_BEATS cycles is counted as one over so many, its weights in block RAM (`stored`) with that
    one's output registers. `kept`: the inputs stay for an event, with enables of their own.
    """
    beats, fabric = len(sites.words), sites.fabric
    total = _array(sites)
    for cluster in clusters_of(sites):
        found = cluster.patterns
        used = int(cluster.sites.live.any(axis=0).sum()) * x_bits
        takes = -(-len(cluster.places) // lanes_of_copy(sites.pack.x_bits)) if kept and beats > 1 else 0
        total += Resources(lut=min(1, takes), ff=used * (1 + stored) + takes)
        if stored:
            kept_bits = int((found.bits >= 0).sum())
            blocks = block_parts(1 << (beats - 1).bit_length(), kept_bits, fabric) / 2
            total += _counted(beats, 1) + Resources(bram36=blocks, ff=kept_bits)
        else:
            count = len(found.values)
            total += _counted(beats, 0) if count or kept else Resources()
            total += Resources(lut=count * fabric.rom_luts(min(beats, LOGIC_ROM_BEATS)), ff=count)
    return total


def _slices(spec: FoldOutputs, graph: Graph, x_bits: int, fabric: Fabric) -> Resources:
    """The inputs of a phase, chosen among those that are kept; the phase and the enables of that."""
    if spec.beats == 1:
        return Resources()
    inputs, bits = linear_of(graph, spec.linear).weight.shape[0], slice_inputs(spec, graph) * x_bits
    taken = fabric.mux_inputs - 1  # a multiplexer in a LUT takes so many off what is left to choose from
    muxes = -(-(spec.beats - 1) // taken)
    kept = max(0, inputs * x_bits - bits)
    held = Resources(lut=bits * muxes + 1, ff=kept + -(-inputs // lanes_of_copy(x_bits)))
    return held + _counted(spec.beats, -(-bits // SLICE_LOADS))


def _offsets(spec: FoldOutputs, graph: Graph, acc: int, stages: int, fabric: Fabric) -> Resources:
    """Bias of the main lanes by phase, and the adder that takes it in."""
    bias = linear_of(graph, spec.linear).bias.array[: spec.lanes * spec.beats].reshape(spec.beats, spec.lanes)
    found = patterns_of(bias, acc)
    count = len(found.values)
    summed = (1 if fabric.adder_takes_logic else 2) * spec.lanes * acc
    rom = count * fabric.rom_luts(min(spec.beats, LOGIC_ROM_BEATS))
    return Resources(lut=summed + rom, ff=count if stages > 1 else 0) + _counted(spec.beats, 0)


def _multiples(weight: Array, x: Range, pack: Packing, timing: Timing) -> Resources:
    """Products of a few inputs with all their (constant) weights: equal ones once, each bit that is not sign or zero.

    An odd factor of either sign takes an addition per signed digit beyond its first, of as many bits as the input has:
    that is how far the shifted input and the sum so far overlap. A register each, of odd factors too beside DSP blocks.
    Of the input and of its negation there is a copy for every so many digits.
    """
    lut = ff = 0
    for row in weight:
        products = {int(w) for w in row if w}
        parts = {odd_part(w) for w in products}
        digits = dict.fromkeys((False, True), 0)
        for sign, odd in parts:
            digits[is_negated(sign * odd)] += len(signed_digits(odd))
        copies = sum(copies_of(count) for count in digits.values())
        sums = sum(digits.values()) - len(parts)
        lut, ff = lut + (sums + sum(map(bool, digits.values()))) * x.width_bits, ff + copies * x.width_bits
        if pack.in_blocks:
            ff += sum(x.width_bits + odd.bit_length() for _, odd in parts)
        for w in products:
            low, high = sorted((w * x.lowest, w * x.highest))
            ff += signed_bits(low, high) - (w & -w).bit_length() + 1
    return Resources(lut=lut, ff=ff)


def _array(sites: Sites) -> Resources:
    """Multipliers, product registers and group sums: a LUT per bit of each addition; nothing where nothing is.

    The registers of DSP blocks, and the half that is added in them, are theirs; `block_registers` counts them.
    """
    pack = sites.pack
    count, terms = int(sites.live.sum()), int(sites.group_live().sum())
    grouped = terms * pack.sum_bits if pack.group > 1 else 0
    multipliers = sites.count(Kind.MULTIPLIER)
    lut = sum(sites.shift_luts(int(pair), int(place)) for pair, place in np.argwhere(sites.kinds == int(Kind.SHIFTS)))
    in_blocks = multipliers if pack.in_blocks else 0
    lut += (multipliers - in_blocks) * pack.weight_bits * pack.x_bits
    return Resources(
        lut=lut + addition_luts(sites.live, pack.group, sites.fabric) * pack.sum_bits,
        ff=(count - in_blocks) * pack.product_bits * (1 + pack.in_blocks) + grouped,
        dsp=sites.fabric.dsp_blocks(in_blocks, pack.weight_bits, pack.x_bits) if in_blocks else 0,
    )


def block_registers(sites: Sites) -> int:
    """Bits of the registers in DSP blocks, behind the multiplier and behind the adder, of the products of an array.

    Synthesis without the vendor's packing leaves them outside.
    """
    return 2 * sites.pack.product_bits * sites.count(Kind.MULTIPLIER) if sites.pack.in_blocks else 0


def _lanes(live: Live, pack: Packing) -> Live:
    """Terms of every lane that are something, from those of every pair."""
    return np.repeat(live, pack.ways, axis=0)


def _tree(pack: Packing, live: Live, left: tuple[int, ...], acc: int, timing: Timing) -> Resources:
    """Adder tree over the split terms that are something: a LUT per bit of each addition."""
    lut = ff = 0
    width, levels = pack.term_bits, timing.levels(acc)
    for after in left:
        width = min(acc, width + levels) if after > 1 or len(left) > 1 else acc
        radix = 1 << levels if after > 1 else max(1, live.shape[1])
        summed = merged(live, radix)
        lut += addition_luts(live, radix, timing.fabric) * width
        ff += int(summed.sum()) * width
        live = summed
    return Resources(lut=lut, ff=ff)


def _epilogue(
    linear: str, epilogue: tuple[str, ...], lanes: Sequence[Sequence[Sequence[int]]], graph: Graph, fabric: Fabric
) -> Resources:
    """Clipping, sums and products of the epilogue in every function of every lane, the choice by beat, a register.

    A LUT per result bit chooses between the sum and a bound; bits above are compared, one an input of a LUT but one for
    what comes before. ReLU is the register's reset, and rounding adds a constant, which takes carries only on most
    devices. Where the outputs of a lane have several functions all are there, and a multiplexer behind them.
    """
    if not epilogue:
        return Resources()
    outputs, functions = graph.type_of(linear).size, sum(len(groups) for groups in lanes)
    own, nodes = expanded(graph, epilogue)
    sums = [name for name in nodes if isinstance(own.by_name[name].op, Add | Multiply)]
    lut = functions * sum(node_luts(own, name, fabric) for name in sums) // outputs
    lut += functions * sum(rounding_luts(own, name, fabric) for name in nodes) // outputs
    dsp = -(-functions * sum(node_dsps(own, name, fabric) for name in sums) // outputs)
    acc, out = accumulator_bits(graph, linear), graph.type_of(epilogue[-1]).range.width_bits
    chosen = sum(fabric.mux_luts(len(groups)) for groups in lanes if len(groups) > 1)
    clipped = functions * (out + max(0, acc - out) // (fabric.lut_inputs - 1))
    return Resources(lut=lut + clipped + chosen * out, ff=len(lanes) * out, dsp=dsp)
