"""SystemVerilog of FoldOutputs: a few outputs each cycle, from all inputs held in a register."""

from __future__ import annotations

from metronn.emit.rtl.kernels.folds.cluster import ClusterModules, Feed, joined_clusters
from metronn.emit.rtl.kernels.folds.common import (
    ModuleText,
    Operand,
    described,
    join_slots,
    part,
    signed_part,
    split_terms,
    sum_of,
    sum_stage,
    uniform_input,
)
from metronn.emit.rtl.kernels.folds.phases import (
    accumulators,
    by_phase,
    chain,
    phase_bits,
    phase_counter,
    replicas,
)
from metronn.emit.rtl.scalar import ScalarFunction, scalar_function
from metronn.ir.arrays import Array
from metronn.plan.kernels.folds.clusters import SLICE_LOADS, lanes_of_copy, patterns_of
from metronn.plan.kernels.folds.fold import (
    Packing,
    accumulator_start,
    bias_start,
    effective_weight,
    lane_functions,
    linear_of,
    outputs_layout,
    signed_bits,
    slice_inputs,
)
from metronn.plan.kernels.folds.planned import PlannedFoldOutputs
from metronn.plan.kernels.folds.sites import Sites
from metronn.plan.kernels.uniform import function_key
from metronn.plan.layout import Layout, WireFormat, wire_format


def emit_fold_outputs(kernel: PlannedFoldOutputs, module_name: str) -> str:
    """Return the module of the kernel."""
    return _Writer(kernel, module_name).module()


class _Writer:
    """Writes one kernel, part by part."""

    def __init__(self, kernel: PlannedFoldOutputs, name: str) -> None:
        """Collect what the parts share."""
        spec, graph = kernel.spec, kernel.graph
        self.kernel, self.spec, self.graph, self.timing = kernel, spec, graph, kernel.timing
        self.op = linear_of(graph, spec.linear)
        self.pack: Packing = kernel.packing
        self.weight: Array = effective_weight(graph, spec.linear)
        self.bias = self.op.bias.ints()
        self.inputs, self.outputs = self.weight.shape
        self.x_type = graph.type_of(self.op.x)
        self.x_wires = wire_format(self.x_type, Layout.parallel(self.x_type.size))
        out_type = graph.type_of(kernel.result)
        self.y_wires: WireFormat = wire_format(out_type, outputs_layout(spec))
        linear_range = graph.type_of(spec.linear).range
        self.acc_lo, self.acc_hi = linear_range.lowest, linear_range.highest
        self.acc_bits = signed_bits(self.acc_lo, self.acc_hi)
        self.lanes = lane_functions(spec, graph)
        self.chooses = any(len(groups) > 1 for groups in self.lanes)
        self.depth = kernel.depth
        latency = kernel.latency_cycles
        self.main_tree = kernel.main_tree
        self.rest_tree = kernel.remainder_tree
        self.modules = ClusterModules(name)
        self.text = ModuleText(
            name,
            (
                f"{spec.linear}: {self.outputs} outputs from {self.inputs} inputs over {spec.beats} cycles.",
                f"Each cycle {spec.lanes} outputs from all inputs; {spec.remainder} more outputs from a slice of the "
                f"inputs a cycle.",
                f"First output beat {latency} cycles after start_i, {outputs_layout(spec).describe()}.",
            ),
            self.x_wires.width,
            self.y_wires.width,
        )

    def module(self) -> str:
        """Return the module's text."""
        spec, text = self.spec, self.text
        x = uniform_input(text, self.x_wires, self.pack)
        chain(text, "start_q", "start_i", self._last_start())
        functions = self._functions()
        sources: list[str] = []
        if self.kernel.main_sites is not None:
            self._main(x, self.kernel.main_sites)
            sources += self._finish("main", functions, range(spec.lanes))
        if self.kernel.remainder_sites is not None:
            self._rest(x, self.kernel.remainder_sites)
            sources += self._finish("rest", functions, range(spec.lanes, spec.lanes + spec.remainder))
        text.add(*join_slots(self.y_wires, sources))
        return text.text() + self.modules.text()

    def _last_start(self) -> int:
        """Cycles after the start in which it is last needed: for a bias, the choice of an epilogue, an accumulator."""
        front, needed = self.pack.front_stages, [0]
        if self.spec.lanes and self.spec.beats > 1:
            needed.append(bias_start(self.pack, self.main_tree))
            needed.append((front + len(self.main_tree)) * self.chooses)
        if self.spec.remainder:
            needed.append(accumulator_start(front, self.rest_tree))
        return max(needed)

    def _functions(self) -> list[ScalarFunction]:
        """Return the epilogue's function of every output; outputs whose codes are treated alike share one."""
        if not self.spec.epilogue:
            return []
        bounds = {self.spec.linear: (self.acc_lo, self.acc_hi)}
        keys = [function_key(self.graph, self.spec.epilogue, output) for output in range(self.outputs)]
        several = len(set(keys)) > 1
        made: dict[object, ScalarFunction] = {}
        for output, key in enumerate(keys):
            if key not in made:
                name = f"epilogue_{len(made)}" if several else "epilogue"
                made[key] = scalar_function(name, self.graph, self.spec.epilogue, output, bounds)
                lines = made[key].text.splitlines()
                self.text.add(*(line[2:] if line.startswith("  ") else line for line in lines), "")
        return [made[key] for key in keys]

    def _main(self, x: Operand, sites: Sites) -> None:
        """All inputs into `lanes` outputs a cycle."""
        spec, text, pack = self.spec, self.text, self.pack
        text.add(f"// Main lanes: {described(sites)}, {pack.ways} outputs each.")
        terms, width = self._group("main", sites, x, "x_in", Feed.KEPT)
        self._offsets()
        source = "main_term"
        for stage in range(1, len(self.main_tree)):
            grown = min(self.acc_bits, width + self.kernel.tree_levels)
            target = f"main_sum_{stage}"
            terms = sum_stage(text, source, target, spec.lanes, terms, 1 << self.kernel.tree_levels, grown)
            source, width = target, grown
        acc = self.acc_bits
        text.add("// Accumulated sums of the main lanes, bias included.", f"logic [{spec.lanes * acc - 1}:0] main_acc;")
        value = sum_of(source, f"l*{terms}", range(terms), acc)
        text.clocked(
            f"for (int l = 0; l < {spec.lanes}; l++)",
            f"  {part('main_acc', 'l', acc)} <= {value} + {signed_part('main_offset', 'l', acc, acc)};",
        )

    def _group(self, prefix: str, sites: Sites, x: Operand, inputs: str, feed: Feed) -> tuple[int, int]:
        """Sum groups of products in clusters, then split packed sums. Returns (terms per lane, their width)."""
        source, terms, bits = joined_clusters(self.text, self.modules, prefix, sites, x, inputs, "start_i", feed)
        return terms, split_terms(self.text, source, prefix, sites.shape[0], terms, self.pack, bits)

    def _offsets(self) -> None:
        """Bias of each lane, registered before the last tree stage."""
        spec, text, acc = self.spec, self.text, self.acc_bits
        bias = self.op.bias.array[: spec.lanes * spec.beats].reshape(spec.beats, spec.lanes)
        found = patterns_of(bias, acc)
        if spec.beats > 1:
            phase_counter(
                text,
                "bias_phase",
                spec.beats,
                f"start_q[{bias_start(self.pack, self.main_tree)}]",
                0,
            )
        text.add(f"logic [{spec.lanes * acc - 1}:0] main_offset;")
        by_phase(text, "main_offset", found, "bias_phase_q", clocked=len(self.main_tree) > 1 and spec.beats > 1)

    def _rest(self, x: Operand, sites: Sites) -> None:
        """A slice of the inputs each cycle into the outputs beyond lanes * beats."""
        spec, text, pack, acc = self.spec, self.text, self.pack, self.acc_bits
        count, pairs = slice_inputs(spec, self.graph), -(-spec.remainder // pack.ways)
        lanes = pairs * pack.ways
        text.add(f"// Remaining outputs: {count} inputs a cycle, summed over the fold; {described(sites)}.")
        self._slices(x, count)
        terms, width = self._group("rest", sites, x, "slice", Feed.EACH)
        source = "rest_term"
        for stage in range(1, len(self.rest_tree)):
            grown = min(acc, width + self.kernel.tree_levels)
            target = f"rest_sum_{stage}"
            terms = sum_stage(text, source, target, lanes, terms, 1 << self.kernel.tree_levels, grown)
            source, width = target, grown
        self._accumulate(lanes, terms, width, source)

    def _slices(self, x: Operand, count: int) -> None:
        """Declare `slice`, the inputs of the phase: those of phase 0 from the wires, others kept from there."""
        text, beats, bits, total = self.text, self.spec.beats, count * x.bits, self.inputs * x.bits
        text.unused.append("slice")  # clusters leave out what meets weights of 0 alone
        if beats == 1:
            text.add(f"wire [{bits - 1}:0] slice = x_in;", "")
            return
        selector, each = phase_bits(beats), SLICE_LOADS
        phase_counter(text, "slice_phase", beats, "start_i", -(-bits // each))
        taken = lanes_of_copy(x.bits)
        replicas(text, "slice_take", f"slice_phase_d == {selector}'d0", -(-self.inputs // taken))
        text.add("// The event's inputs, kept for the phases that take them.", f"logic [{total - 1}:0] x_q;")
        text.clocked(
            f"for (int k = 0; k < {self.inputs}; k++)",
            f"  if (slice_take[k / {taken}]) {part('x_q', 'k', x.bits)} <= {part('x_in', 'k', x.bits)};",
        )
        text.add(f"logic [{bits - 1}:0] slice;")
        for copy, low in enumerate(range(0, bits, each)):
            width = min(each, bits - low)
            arms = []
            for beat in range(beats):
                at = beat * bits + low
                there = min(width, max(0, total - at))
                arms.append(f"{width}'({'x_q' if beat else 'x_in'}[{at} +: {there}])" if there else f"{width}'d0")
            target = f"slice[{low} +: {width}]"
            text.add(
                "always_comb",
                f"  unique case ({part('slice_phase', str(copy), selector)})",
                *(f"    {selector}'d{beat}: {target} = {arm};" for beat, arm in enumerate(arms[:-1])),
                f"    default: {target} = {arms[-1]};",
                "  endcase",
                "",
            )
        text.unused.append("x_q")

    def _accumulate(self, lanes: int, terms: int, width: int, source: str) -> None:
        """Add the slice's sum to the accumulator, which starts from the bias in the first cycle of an event."""
        text, acc, stages = self.text, self.acc_bits, len(self.rest_tree)
        bias = self.bias[self.spec.lanes * self.spec.beats :] + [0] * (lanes - self.spec.remainder)
        first = f"start_q[{accumulator_start(self.pack.front_stages, self.rest_tree)}]"
        accumulators(text, "rest_sum", first, bias, acc, sum_of(source, f"l*{terms}", range(terms), acc))
        acc_bits = self.spec.remainder * acc
        waits = (len(self.main_tree) - stages) if self.spec.lanes else 0
        held = "rest_sum"
        for k in range(max(0, waits)):
            text.add(f"logic [{lanes * acc - 1}:0] rest_wait_{k};")
            text.clocked(f"rest_wait_{k} <= {held};")
            held = f"rest_wait_{k}"
        text.add(f"wire [{acc_bits - 1}:0] rest_acc = {held}[{acc_bits - 1}:0];", "")
        text.unused += ["rest_sum", held]

    def _finish(self, prefix: str, functions: list[ScalarFunction], slots: range) -> list[str]:
        """Apply the epilogue to every lane and return one expression per slot."""
        text, acc, vector = self.text, self.acc_bits, f"{prefix}_acc"
        bits, lanes = acc, len(slots)
        if functions:
            signed = any(f.result_signed for f in functions)
            bits = max(f.result_width + (signed and not f.result_signed) for f in functions)
            text.add(f"logic [{lanes * bits - 1}:0] {prefix}_y;")
            text.clocked(*self._applied(prefix, functions, slots, bits))
            vector = f"{prefix}_y"
        text.unused += dict.fromkeys([f"{prefix}_acc", vector])
        sources = []
        for lane, slot in enumerate(slots):
            width = self.y_wires.slots[slot].width
            sources.append(f"{vector}[{lane * bits} +: {width}]")
        return sources

    def _applied(self, prefix: str, functions: list[ScalarFunction], slots: range, bits: int) -> list[str]:
        """Return the statements that register the epilogue of every lane; where its outputs differ, by the beat."""
        acc, taken = self.acc_bits, functions[0].arguments[0].width
        if len({function.name for function in functions}) == 1:
            return [
                f"for (int l = 0; l < {len(slots)}; l++)",
                f"  {part(f'{prefix}_y', 'l', bits)} <= {functions[0].name}({prefix}_acc[l*{acc} +: {taken}]);",
            ]
        statements, selector = [], phase_bits(self.spec.beats)
        each = lanes_of_copy(2 * bits)
        if any(len(self.lanes[slot]) > 1 for slot in slots):
            start = f"start_q[{self.pack.front_stages + len(self.main_tree)}]"
            phase_counter(self.text, "epilogue_phase", self.spec.beats, start, -(-len(slots) // each))
        for lane, slot in enumerate(slots):
            target, groups = part(f"{prefix}_y", str(lane), bits), self.lanes[slot]
            made = [
                f"{target} <= {bits}'({functions[g[0]].name}({prefix}_acc[{lane * acc} +: {taken}]));" for g in groups
            ]
            if len(groups) == 1:
                statements += made
                continue
            statements.append(f"case ({part('epilogue_phase', str(lane // each), selector)})")
            for group, statement in zip(groups[1:], made[1:], strict=True):
                beats = ", ".join(f"{selector}'d{output // self.spec.lanes}" for output in group)
                statements.append(f"  {beats}: {statement}")
            statements += [f"  default: {made[0]}", "endcase"]
        return statements
