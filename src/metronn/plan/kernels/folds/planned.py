"""Folded matrix-vector kernels as planned: trees, multipliers, cost, each worked out once."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from metronn.ir.graph import Graph
from metronn.plan.hardware.resources import Resources
from metronn.plan.hardware.timing import StagePath, Timing, slower
from metronn.plan.kernels.elementwise import chain, expanded
from metronn.plan.kernels.folds import fold
from metronn.plan.kernels.folds.cost import block_registers, inputs_resources, outputs_resources
from metronn.plan.kernels.folds.lanes import (
    NONE,
    Index,
    inputs_of_slice,
    inputs_of_slots,
    lane_of,
    outputs_of_lanes,
)
from metronn.plan.kernels.folds.sites import Sites, input_sites, main_sites, remainder_sites
from metronn.plan.kernels.planned import Inputs, PlannedKernel
from metronn.plan.kernels.spec import FoldInputs, FoldOutputs
from metronn.plan.layout import Layout


def fold_path(
    pack: fold.Packing, levels: int, spec: FoldOutputs | FoldInputs, graph: Graph, timing: Timing
) -> StagePath:
    """Return the slowest of the stages that both folds have."""
    arcs, acc = timing.arcs, fold.accumulator_bits(graph, spec.linear)
    group = (pack.group - 1).bit_length()
    found = [
        StagePath(
            what=f"sum of a group, {pack.sum_bits} bits, {group} in a row",
            ps=arcs.dsp_ps * pack.in_blocks + group * timing.sum(pack.sum_bits).ps,
        ),
        StagePath(what=f"sum of {acc} bits, {levels} in a row", ps=levels * timing.sum(acc).ps),
    ]
    if pack.in_blocks:
        found.append(StagePath(what="DSP block with all its registers", ps=arcs.dsp_period_ps - arcs.overhead_ps))
    else:
        rows = (min(pack.weight_bits, pack.x_bits) - 1).bit_length()
        found.append(
            StagePath(what=f"product of {pack.product_bits} bits", ps=max(1, rows) * timing.sum(pack.product_bits).ps)
        )
    if isinstance(spec, FoldInputs) and (once := fold.input_slots(spec, graph, timing).constant):
        found.append(fold.constant_path(once, spec, graph, timing))
    if spec.epilogue:
        own, nodes = expanded(graph, spec.epilogue)
        found.append(StagePath(what=f"epilogue {', '.join(nodes)}", ps=chain(own, nodes, timing).whole_ps))
    return slower(found)


class PlannedFoldOutputs(PlannedKernel[FoldOutputs]):
    """A matrix folded over its outputs."""

    kind = "matvec_fold_outputs"

    @property
    def tree_levels(self) -> int:
        """Additions in a row in a stage of the adder trees."""
        return fold.tree_levels(self.graph, self.spec.linear, self.timing)

    @property
    def slowest(self) -> StagePath:
        """The slowest of multipliers, group sums, trees, and epilogue."""
        return fold_path(self.packing, self.tree_levels, self.spec, self.graph, self.timing)

    @cached_property
    def packing(self) -> fold.Packing:
        """How weights and inputs meet in a multiplier."""
        return fold.packing(self.graph, self.spec.linear, self.timing)

    @cached_property
    def main_sites(self) -> Sites | None:
        """Multipliers of the main lanes, where there are any."""
        return main_sites(self.spec, self.graph, self.timing) if self.spec.lanes else None

    @cached_property
    def remainder_sites(self) -> Sites | None:
        """Multipliers of the outputs beyond the lanes, where there are any."""
        return remainder_sites(self.spec, self.graph, self.timing) if self.spec.remainder else None

    @cached_property
    def main_tree(self) -> tuple[int, ...]:
        """Terms after each summing stage of the main lanes; none without lanes."""
        return fold.outputs_tree(self.spec, self.graph, self.timing) if self.spec.lanes else ()

    @cached_property
    def remainder_tree(self) -> tuple[int, ...]:
        """Terms after each summing stage of the remainder block; none without one."""
        return fold.remainder_tree(self.spec, self.graph, self.timing) if self.spec.remainder else ()

    @property
    def depth(self) -> int:
        """Cycles from a phase of the fold to its result on the wires: input, products, group, tree, epilogue."""
        trees = max(len(self.main_tree), len(self.remainder_tree))
        return self.packing.front_stages + trees + bool(self.spec.epilogue)

    @property
    def latency_cycles(self) -> int:
        """Cycles from start to the first output beat."""
        return self.depth + (0 if self.spec.lanes else self.spec.beats - 1)

    @cached_property
    def resources(self) -> Resources:
        """Estimate from the structure that is emitted."""
        return outputs_resources(self.spec, self.graph, self.timing, self.main_sites, self.remainder_sites)

    @property
    def block_registers(self) -> int:
        """Bits of the registers that are in DSP blocks."""
        return sum(block_registers(sites) for sites in (self.main_sites, self.remainder_sites) if sites is not None)

    @property
    def inputs(self) -> Inputs:
        """The vector, in parallel."""
        value = fold.linear_of(self.graph, self.spec.linear).x
        return ((value, Layout.parallel(self.graph.type_of(value).size)),)

    @cached_property
    def output(self) -> Layout:
        """`lanes` outputs a beat, the remainder in the last; one beat without lanes."""
        return fold.outputs_layout(self.spec)

    @property
    def cycles_per_event(self) -> int:
        """The beats it takes."""
        return self.spec.beats

    @property
    def multipliers(self) -> int:
        """Main lanes times inputs, remainder pairs times the slice."""
        spec, pack = self.spec, self.packing
        inputs = fold.linear_of(self.graph, spec.linear).weight.shape[0]
        rest = -(-spec.remainder // pack.ways) * fold.slice_inputs(spec, self.graph)
        return spec.lanes // pack.ways * inputs + rest

    @cached_property
    def groups(self) -> Index:
        """Number of the multiplier that each weight [n_in, n_out] goes through: main lanes first, input by input."""
        spec, ways = self.spec, self.packing.ways
        n_in, n_out = fold.linear_of(self.graph, spec.linear).weight.shape
        pairs, main = spec.lanes // ways, spec.lanes * spec.beats
        lanes = lane_of(outputs_of_lanes(spec.lanes, spec.beats), main)
        shared = np.arange(n_in)[:, None] * pairs + lanes // ways
        index = inputs_of_slice(n_in, spec.beats)
        rest = n_in * pairs + np.arange(n_out - main) // ways * index.shape[1] + lane_of(index, n_in)[:, None]
        return np.concatenate([shared, rest], axis=1)


class PlannedFoldInputs(PlannedKernel[FoldInputs]):
    """A matrix folded over its inputs."""

    kind = "matvec_fold_inputs"

    @property
    def tree_levels(self) -> int:
        """Additions in a row in a stage of the adder trees."""
        return fold.tree_levels(self.graph, self.spec.linear, self.timing)

    @property
    def slowest(self) -> StagePath:
        """The slowest of multipliers, group sums, trees, and epilogue."""
        return fold_path(self.packing, self.tree_levels, self.spec, self.graph, self.timing)

    @cached_property
    def packing(self) -> fold.Packing:
        """How weights and inputs meet in a multiplier."""
        return fold.packing(self.graph, self.spec.linear, self.timing)

    @cached_property
    def slots(self) -> fold.InputSlots:
        """Which slots get multipliers, and which constant multiples."""
        return fold.input_slots(self.spec, self.graph, self.timing)

    @cached_property
    def sites(self) -> Sites:
        """Multipliers of the slots that carry elements in several beats."""
        return input_sites(self.spec, self.graph, self.timing)

    @cached_property
    def terms(self) -> tuple[int, int]:
        """Terms per accumulator and cycle after the group stage: from multipliers, from constant multiples."""
        return fold.inputs_terms(self.spec, self.graph, self.timing)

    @cached_property
    def tree(self) -> tuple[int, ...]:
        """Terms after each summing stage; the accumulator enters in the last."""
        return fold.inputs_tree(self.spec, self.graph, self.timing)

    @property
    def front(self) -> int:
        """Registers before the tree: those of the packing, and the output register of weights in block RAM."""
        return self.packing.front_stages + fold.weights_in_block_ram(self.spec)

    @property
    def latency_cycles(self) -> int:
        """Cycles from start (the first input beat) to the output, which comes behind the last beat."""
        return self.spec.layout.span - 1 + self.front + len(self.tree) + bool(self.spec.epilogue)

    @cached_property
    def resources(self) -> Resources:
        """Estimate from the structure that is emitted."""
        return inputs_resources(self.spec, self.graph, self.timing, self.sites)

    @property
    def block_registers(self) -> int:
        """Bits of the registers that are in DSP blocks."""
        return block_registers(self.sites)

    @property
    def inputs(self) -> Inputs:
        """The vector, in its beats."""
        return ((fold.linear_of(self.graph, self.spec.linear).x, self.spec.layout),)

    @property
    def output(self) -> Layout:
        """All outputs in one beat."""
        return Layout.parallel(self.graph.type_of(self.spec.linear).size)

    @property
    def cycles_per_event(self) -> int:
        """The span of the beats."""
        return self.spec.layout.span

    @property
    def multipliers(self) -> int:
        """Multiplied slots times output pairs."""
        outputs = fold.linear_of(self.graph, self.spec.linear).weight.shape[1]
        return len(self.slots.multiplied) * -(-outputs // self.packing.ways)

    @cached_property
    def groups(self) -> Index:
        """Number of the multiplier that each weight [n_in, n_out] goes through, NONE for constant multiples."""
        n_in, n_out = fold.linear_of(self.graph, self.spec.linear).weight.shape
        slots = inputs_of_slots(self.spec.layout)[:, list(self.slots.multiplied)]
        positions, ways = lane_of(slots, n_in)[:, None], self.packing.ways
        return np.where(positions >= 0, positions * -(-n_out // ways) + np.arange(n_out) // ways, NONE)
