"""The multipliers of a fold, one by one: which weights each sees over an event, and what it is made of.

A site is one input slot and one pair of lanes (one lane where products are not packed): over the beats of an event it
multiplies one input by one weight, or by two packed ones, after the other; `folds.lanes` says by which.

A site whose weights are all 0 is nothing: no multiplier, no term in the sums. A site whose weights are all 0 or plus or
minus a power of two is made of LUTs, which choose among the input's shifts by the beat, where they are fewer than the
LUTs a DSP block counts as.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from metronn.ir.arrays import Array
from metronn.ir.graph import Graph
from metronn.plan.hardware.fabric import Fabric
from metronn.plan.hardware.timing import Timing
from metronn.plan.kernels.folds.fold import Packing, effective_weight, input_slots, packing
from metronn.plan.kernels.folds.lanes import inputs_of_slice, inputs_of_slots, outputs_of_lanes, taken
from metronn.plan.kernels.spec import FoldInputs, FoldOutputs

DSP_LUTS = 100
"""LUTs that a DSP block counts as: `metronn.plan.estimate` tells where the number is from."""


class Kind(enum.IntEnum):
    """What a site is made of."""

    NOTHING = 0
    SHIFTS = 1
    MULTIPLIER = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneShifts:
    """What one lane of a SHIFTS site chooses among: `shifts` of the input, 0 if `zero`, negated in some or all beats.

    Its code: 0 for zero, 1 + the place in `shifts` (from 0 without zero), and above those `bits` bits the sign.
    """

    shifts: tuple[int, ...]
    zero: bool
    some_negative: bool
    all_negative: bool

    @property
    def bits(self) -> int:
        """Bits that choose a shift."""
        return (len(self.shifts) + self.zero - 1).bit_length()

    @property
    def code_bits(self) -> int:
        """Bits of the code."""
        return self.bits + (self.some_negative and not self.all_negative)

    def code(self, weight: int) -> int:
        """Return the code of a weight."""
        if not weight:
            return 0
        place = self.shifts.index(abs(weight).bit_length() - 1) + self.zero
        return place + ((weight < 0 and not self.all_negative) << self.bits)

    def luts(self, x_bits: int, fabric: Fabric) -> int:
        """LUTs: a bit chooses among two shifts and negates in one LUT; another takes what a multiplexer has beside."""
        if not self.shifts:
            return 0
        if len(self.shifts) == 1 and not self.some_negative:
            return x_bits if self.zero else 0
        width = x_bits + max(self.shifts) - min(self.shifts) + self.some_negative
        return width * (1 + -(-max(0, len(self.shifts) - 2) // (fabric.mux_inputs - 1)))


def lane_shifts(weights: Array) -> LaneShifts:
    """Return how a lane chooses, whose weights (one a beat) are 0 or plus or minus powers of two."""
    values = [int(w) for w in weights]
    signs = {w < 0 for w in values if w}
    return LaneShifts(
        shifts=tuple(sorted({abs(w).bit_length() - 1 for w in values if w})),
        zero=0 in values,
        some_negative=True in signs,
        all_negative=signs == {True},
    )


@dataclass(frozen=True)
class Sites:
    """All sites of an array of multipliers: `words` [beat, pair, way, input], the integer weights."""

    words: Array
    pack: Packing
    fabric: Fabric

    @property
    def shape(self) -> tuple[int, int]:
        """Pairs and inputs."""
        return int(self.words.shape[1]), int(self.words.shape[3])

    @cached_property
    def kinds(self) -> npt.NDArray[np.int64]:
        """Kind of every site, [pair, input]."""
        live = (self.words != 0).any(axis=(0, 2))
        size = np.abs(self.words)
        plain = ((size & (size - 1)) == 0).all(axis=(0, 2))
        kinds = np.where(live, int(Kind.MULTIPLIER), int(Kind.NOTHING))
        for pair, place in np.argwhere(live & plain):
            code_bits = sum(lane.code_bits for lane in self.lanes(int(pair), int(place)))
            if self.shift_luts(int(pair), int(place)) < DSP_LUTS and code_bits <= self.pack.weight_bits:
                kinds[pair, place] = int(Kind.SHIFTS)
        return kinds

    def lanes(self, pair: int, place: int) -> tuple[LaneShifts, ...]:
        """Return how each lane of a SHIFTS site chooses."""
        return tuple(lane_shifts(self.words[:, pair, way, place]) for way in range(self.words.shape[2]))

    def shift_luts(self, pair: int, place: int) -> int:
        """LUTs of a SHIFTS site: those of its lanes, and the sum of two packed ones."""
        lanes = self.lanes(pair, place)
        joined = len(lanes) == 2 and all(lane.shifts for lane in lanes)
        luts = sum(lane.luts(self.pack.x_bits, self.fabric) for lane in lanes)
        return luts + joined * (self.pack.product_bits - self.pack.shift)

    def count(self, kind: Kind) -> int:
        """Return how many sites are of a kind."""
        return int((self.kinds == int(kind)).sum())

    @cached_property
    def live(self) -> npt.NDArray[np.bool_]:
        """Which sites are something, [pair, input]."""
        return np.asarray(self.kinds != int(Kind.NOTHING))

    @cached_property
    def codes(self) -> Array:
        """What the weight register of every site holds, [beat, pair, input]: a packed weight, or codes of shifts."""
        if self.words.shape[2] == 2:
            packed = (self.words[:, :, 1] << self.pack.shift) + self.words[:, :, 0]
        else:
            packed = np.array(self.words[:, :, 0])
        for pair, place in np.argwhere(self.kinds == int(Kind.SHIFTS)):
            at = 0
            packed[:, pair, place] = 0
            for way, lane in enumerate(self.lanes(int(pair), int(place))):
                for beat in range(len(packed)):
                    packed[beat, pair, place] += lane.code(int(self.words[beat, pair, way, place])) << at
                at += lane.code_bits
        return packed

    def group_live(self) -> npt.NDArray[np.bool_]:
        """Which sums of groups are something, [pair, group]."""
        return merged(self.live, self.pack.group)


def merged(live: npt.NDArray[np.bool_], radix: int) -> npt.NDArray[np.bool_]:
    """Return which sums of `radix` neighbours along the last axis hold something."""
    count = -(-live.shape[1] // radix)
    padded = np.zeros((live.shape[0], count * radix), dtype=bool)
    padded[:, : live.shape[1]] = live
    return np.asarray(padded.reshape(live.shape[0], count, radix).any(axis=2))


def addition_luts(live: npt.NDArray[np.bool_], radix: int, fabric: Fabric) -> int:
    """LUTs per bit of the sums of `radix` neighbours along the last axis: one for each addition.

    Where an adder takes no other logic, two numbers are added by it, and each further one by a row of full adders
    before it, two LUTs a bit.
    """
    summed = merged(live, radix)
    additions = int(live.sum() - summed.sum())
    if fabric.adder_takes_logic:
        return additions
    count = -(-live.shape[1] // radix)
    padded = np.zeros((live.shape[0], count * radix), dtype=np.int64)
    padded[:, : live.shape[1]] = live
    return 2 * additions - int((padded.reshape(live.shape[0], count, radix).sum(axis=2) > 1).sum())


def _paired(rows: Array, pack: Packing) -> Array:
    """Weights [beat, output, input] as [beat, pair, way, input], padded with outputs of zeros."""
    beats, outputs, inputs = rows.shape
    pairs = -(-outputs // pack.ways)
    padded = np.zeros((beats, pairs * pack.ways, inputs), dtype=rows.dtype)
    padded[:, :outputs] = rows
    return padded.reshape(beats, pairs, pack.ways, inputs)


def main_sites(spec: FoldOutputs, graph: Graph, timing: Timing) -> Sites:
    """Return the multipliers of the main lanes of a FoldOutputs."""
    pack, weight = packing(graph, spec.linear, timing), effective_weight(graph, spec.linear)
    return Sites(_paired(taken(weight.T, outputs_of_lanes(spec.lanes, spec.beats)), pack), pack, timing.fabric)


def remainder_sites(spec: FoldOutputs, graph: Graph, timing: Timing) -> Sites:
    """Return the multipliers of the outputs beyond the lanes of a FoldOutputs."""
    pack, weight = packing(graph, spec.linear, timing), effective_weight(graph, spec.linear)
    rows = taken(weight[:, spec.lanes * spec.beats :], inputs_of_slice(weight.shape[0], spec.beats))
    return Sites(_paired(rows.swapaxes(1, 2), pack), pack, timing.fabric)


def input_sites(spec: FoldInputs, graph: Graph, timing: Timing) -> Sites:
    """Return the multipliers of a FoldInputs: those of the slots that carry elements in several beats."""
    pack, weight = packing(graph, spec.linear, timing), effective_weight(graph, spec.linear)
    rows = taken(weight, inputs_of_slots(spec.layout)[:, list(input_slots(spec, graph, timing).multiplied)])
    return Sites(_paired(rows.swapaxes(1, 2), pack), pack, timing.fabric)
