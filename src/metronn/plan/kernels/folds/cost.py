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
from metronn.plan.kernels.folds.fold import (
    LOGIC_ROM_BEATS,
    Packing,
    accumulator_bits,
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
from metronn.plan.kernels.pulse_trains import train_resources
from metronn.plan.kernels.spec import FoldInputs, FoldOutputs

Live = npt.NDArray[np.bool_]


def outputs_resources(
    spec: FoldOutputs, graph: Graph, timing: Timing, main: Sites | None, rest: Sites | None
) -> Resources:
    """Estimate from the structure that is emitted, as synthesis counts it: see `_array`, `_selected` and `_tree`."""
    pack = packing(graph, spec.linear, timing)
    weight = effective_weight(graph, spec.linear)
    acc = accumulator_bits(graph, spec.linear)
    inputs = weight.shape[0]
    x_bits = pack.x_bits - (graph.type_of(linear_of(graph, spec.linear).x).range.lowest >= 0)
    total = Resources(ff=inputs * x_bits)
    words: list[Array] = []
    if main is not None:
        words.append(main.codes)
        tree = outputs_tree(spec, graph, timing)
        total += _array(main) + _tree(pack, _lanes(main.group_live(), pack), tree, acc, timing)
        total += _offsets(spec, graph, acc, len(tree), timing.fabric)
    if rest is not None:
        count = slice_inputs(spec, graph)
        words.append(rest.codes)
        tree = remainder_tree(spec, graph, timing)
        total += _array(rest) + _tree(pack, _lanes(rest.group_live(), pack), tree, acc, timing)
        waits = max(0, len(outputs_tree(spec, graph, timing)) - len(tree)) if spec.lanes else 0
        taken = timing.fabric.mux_inputs - 1  # a multiplexer in a LUT takes so many off what is left to choose from
        muxes = -(-(spec.beats - 1) // taken)
        slices = count * x_bits
        summed = _accumulator_luts(timing.fabric) * spec.remainder * acc
        total += Resources(lut=slices * muxes + summed, ff=slices + waits * spec.remainder * acc)
    total += _selected(words, pack.weight_bits, timing.fabric)
    return total + _epilogue(spec.linear, spec.epilogue, lane_functions(spec, graph), graph, timing.fabric)


def inputs_resources(spec: FoldInputs, graph: Graph, timing: Timing, sites: Sites) -> Resources:
    """Estimate from the structure that is emitted, as synthesis counts it: see `_array`, `_selected` and `_tree`."""
    pack = packing(graph, spec.linear, timing)
    weight = effective_weight(graph, spec.linear)
    acc = accumulator_bits(graph, spec.linear)
    outputs = weight.shape[1]
    pairs = -(-outputs // pack.ways)
    lanes = pairs * pack.ways
    slots = input_slots(spec, graph, timing)
    x_bits = pack.x_bits - (graph.type_of(linear_of(graph, spec.linear).x).range.lowest >= 0)
    total = Resources(ff=spec.layout.slot_count * x_bits * (1 + weights_in_block_ram(spec)))
    if not counts_beats(spec):
        stages = inputs_front(spec, graph, timing) + len(inputs_tree(spec, graph, timing)) - 1
        total += train_resources(spec.layout.cycles, timing.fabric, index=True) + Resources(ff=2 * stages)
    live = np.zeros((lanes, 0), dtype=bool)
    if slots.multiplied:
        total += _array(sites)
        words = sites.codes.reshape(len(sites.codes), -1)
        if weights_in_block_ram(spec):
            total += _stored(words, pack.weight_bits, timing.fabric)
        else:
            total += _selected([words], pack.weight_bits, timing.fabric)
        live = _lanes(sites.group_live(), pack)
    if slots.constant:
        carried = [beat[slot] for slot in slots.constant for beat in spec.layout.beats if slot < len(beat)]
        total += _multiples(weight[carried], graph.type_of(linear_of(graph, spec.linear).x).range)
        total += Resources(ff=len(slots.constant) * x_bits * pack.in_blocks)
        if pack.group > 1:
            bits = signed_bits(*product_bounds(weight, *_bounds(graph, spec.linear)))
            bits += tree_levels(graph, spec.linear, timing)
            terms = inputs_terms(spec, graph, timing)[1]
            summed = outputs * min(acc, bits)
            total += Resources(lut=(len(slots.constant) - terms) * summed, ff=terms * summed)
    constant = np.ones((lanes, inputs_terms(spec, graph, timing)[1]), dtype=bool)
    total += _tree(pack, np.concatenate([live, constant], axis=1), inputs_tree(spec, graph, timing), acc, timing)
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


def _selected(words: list[Array], bits: int, fabric: Fabric) -> Resources:
    """Registers loaded by phase, and a ROM before each: bits that agree in all phases are one.

    With `beats` phases there are at most 2**beats different ones; bits that never change cost nothing. A fold over more
    than LOGIC_ROM_BEATS cycles is counted as one over so many.
    """
    columns = _columns(np.concatenate([some.reshape(len(some), -1) for some in words], axis=1), bits)
    different = len(np.unique(np.packbits(columns, axis=1), axis=0)) if len(columns) else 0
    beats = min(len(words[0]), LOGIC_ROM_BEATS)
    return Resources(lut=different * fabric.rom_luts(beats), ff=different)


def _columns(words: Array, bits: int) -> npt.NDArray[np.uint8]:
    """Bits of words [beat, word] that change: [bit of a word, beat]."""
    planes = [((words >> bit) & 1).astype(np.uint8) for bit in range(bits)]
    columns = np.concatenate(planes, axis=1).T
    return np.asarray(columns[(columns != columns[:, :1]).any(axis=1)])


def _stored(words: Array, bits: int, fabric: Fabric) -> Resources:
    """Weights [beat, word] in block RAM with its output register: bits that never change are not stored."""
    kept = len(_columns(words, bits))
    return Resources(bram36=block_parts(1 << (len(words) - 1).bit_length(), kept, fabric) / 2, ff=kept)


def _offsets(spec: FoldOutputs, graph: Graph, acc: int, stages: int, fabric: Fabric) -> Resources:
    """Bias of the main lanes by phase, and the adder that takes it in."""
    bias = linear_of(graph, spec.linear).bias.array[: spec.lanes * spec.beats].reshape(spec.beats, spec.lanes)
    selected = _selected([bias], acc, fabric).lut
    summed = (1 if fabric.adder_takes_logic else 2) * spec.lanes * acc
    return Resources(lut=summed + selected, ff=selected if stages > 1 else 0)


def _multiples(weight: Array, x: Range) -> Resources:
    """Products of a few inputs with all their (constant) weights: equal ones once, each bit that is not sign or zero.

    An odd factor of either sign takes an addition per signed digit beyond its first, of as many bits as the input has:
    that is how far the shifted input and the sum so far overlap. A register each.
    """
    lut = ff = 0
    for row in weight:
        products = {int(w) for w in row if w}
        negated = any(is_negated(w) for w in products)
        digits = sum(len(signed_digits(odd)) - 1 for _, odd in {odd_part(w) for w in products})
        lut, ff = lut + (digits + negated) * x.width_bits, ff + negated * x.width_bits
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
