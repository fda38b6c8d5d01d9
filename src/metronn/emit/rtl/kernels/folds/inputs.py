"""SystemVerilog of FoldInputs: each beat of inputs into all accumulators."""

from __future__ import annotations

from metronn.emit.rtl.kernels.folds.cluster import ClusterModules, Feed, joined_clusters
from metronn.emit.rtl.kernels.folds.common import (
    ModuleText,
    Operand,
    described,
    join_slots,
    part,
    signed_item,
    split_terms,
    sum_of,
    sum_stage,
    uniform_input,
)
from metronn.emit.rtl.kernels.folds.phases import accumulators, chain, phase_bits, phase_counter, replicas
from metronn.emit.rtl.pulse_trains import train_text
from metronn.emit.rtl.scalar import ScalarFunction, scalar_function
from metronn.ir.arrays import Array
from metronn.plan.kernels.folds.clusters import LOADS, copies_of
from metronn.plan.kernels.folds.fold import (
    Packing,
    accumulator_start,
    counts_beats,
    effective_weight,
    is_negated,
    linear_of,
    odd_part,
    product_bounds,
    signed_bits,
    signed_digits,
    weights_in_block_ram,
)
from metronn.plan.kernels.folds.planned import PlannedFoldInputs
from metronn.plan.kernels.uniform import function_key
from metronn.plan.layout import Layout, wire_format


def emit_fold_inputs(kernel: PlannedFoldInputs, module_name: str) -> str:
    """Return the module of the kernel."""
    return _Writer(kernel, module_name).module()


def _multiple_name(position: int, sign: int, odd: int) -> str:
    return f"in_{position}_{'x' if sign > 0 else 'n'}{odd}"


def _signed_sum(terms: list[tuple[str, int]]) -> str:
    """Sum terms with their signs, of which one is positive, pair by pair; a difference begins with the positive one."""
    while len(terms) > 1:
        terms = sorted(terms, key=lambda term: -term[1])
        half = len(terms) // 2
        # The first, which are not negative where any is not, with the last, which are.
        pairs = zip(terms[:half], reversed(terms[len(terms) - half :]), strict=True)
        rest = terms[half : len(terms) - half]
        terms = [(f"({a} {'+' if a_sign == b_sign else '-'} {b})", a_sign) for (a, a_sign), (b, b_sign) in pairs] + rest
    ((text, sign),) = terms
    assert sign > 0, text
    return text


class _Writer:
    """Writes one kernel, part by part."""

    def __init__(self, kernel: PlannedFoldInputs, name: str) -> None:
        """Collect what the parts share."""
        spec, graph = kernel.spec, kernel.graph
        self.kernel, self.spec, self.graph, self.timing = kernel, spec, graph, kernel.timing
        self.op = linear_of(graph, spec.linear)
        self.pack: Packing = kernel.packing
        self.weight: Array = effective_weight(graph, spec.linear)
        self.outputs = self.weight.shape[1]
        self.pairs = -(-self.outputs // self.pack.ways)
        self.lanes = self.pairs * self.pack.ways
        self.slots = kernel.slots
        self.x_type = graph.type_of(self.op.x)
        self.x_wires = wire_format(self.x_type, spec.layout)
        out_type = graph.type_of(kernel.result)
        self.y_wires = wire_format(out_type, Layout.parallel(out_type.size))
        bounds = graph.type_of(spec.linear).range
        self.acc_bits = signed_bits(bounds.lowest, bounds.highest)
        self.tree, self.front = kernel.tree, kernel.front
        self.beats = spec.layout.beat_count
        self.modules = ClusterModules(name)
        latency = kernel.latency_cycles
        self.text = ModuleText(
            name,
            (
                f"{spec.linear}: {self.outputs} outputs from {self.weight.shape[0]} inputs that arrive in "
                f"{spec.layout.describe()}.",
                f"All outputs together {latency} cycles after start_i, for one cycle.",
            ),
            self.x_wires.width,
            self.y_wires.width,
        )

    def module(self) -> str:
        """Return the module's text."""
        text = self.text
        x = uniform_input(text, self.x_wires, self.pack)
        depth = accumulator_start(self.front, self.tree)
        chain(text, "start_q", "start_i", depth)
        if not counts_beats(self.spec):
            text.lines += train_text("beat", "start_i", self.spec.layout.cycles)
            chain(text, "beat_q", "beat", depth)
        multiplied, constant = self.kernel.terms
        parts: list[tuple[str, int, int]] = []
        if multiplied:
            parts.append(("multiplied_term", multiplied, self._multiplied(x)))
        if constant:
            parts.append(("constant_term", constant, self._constant(x)))
        self._accumulate(parts)
        self._finish()
        return text.text() + self.modules.text()

    def _element(self, beat: int, slot: int) -> int | None:
        elements = self.spec.layout.beats[beat]
        return elements[slot] if slot < len(elements) else None

    def _multiplied(self, x: Operand) -> int:
        """Slots used in several beats: multipliers with weights selected by phase. Returns the width of a term."""
        text, slots, sites = self.text, self.slots.multiplied, self.kernel.sites
        text.add(f"// {len(slots)} slots: {described(sites)}, {self.pack.ways} outputs each.")
        inputs = "x_in"
        if slots != tuple(range(len(slots))):
            inputs = "x_multiplied"
            parts = [part("x_in", str(slot), x.bits) for slot in reversed(slots)]
            text.add(f"wire [{len(slots) * x.bits - 1}:0] {inputs} = {{{', '.join(parts)}}};")
        steps = not counts_beats(self.spec)
        source, terms, bits = joined_clusters(
            text,
            self.modules,
            "multiplied",
            sites,
            x,
            inputs,
            "beat" if steps else "start_i",
            Feed.EACH,
            steps=steps,
            block=weights_in_block_ram(self.spec),
        )
        return split_terms(text, source, "multiplied", self.pairs, terms, self.pack, bits)

    def _constant(self, x: Operand) -> int:
        """Slots used in one beat: constant multiples from shifts and adds, zero in all other beats.

        Beside DSP blocks, which take two cycles, sums of a few signed digits have a register of their own.
        """
        text, slots = self.text, self.slots.constant
        low, high = product_bounds(self.weight, self.x_type.range.lowest, self.x_type.range.highest)
        bits, phase_width = signed_bits(low, high), phase_bits(self.beats)
        source = self._constant_phase(x)
        statements: list[str] = []
        multiple = "constant_term" if self.pack.group == 1 else "multiple"
        for position, slot in enumerate(slots):
            beat = next(b for b in range(self.beats) if self._element(b, slot) is not None)
            element = self._element(beat, slot)
            assert element is not None
            active = f"now_{position}"
            text.unused.append(active)  # where all weights of the slot are 0
            text.add(
                f"// Slot {slot} carries input {element} in beat {beat} only: its weights are constants.",
                f"wire {active} = phase == {phase_width}'d{beat};" if self.beats > 1 else f"wire {active} = 1'b1;",
            )
            weights = [int(w) for w in self.weight[element]]
            value = f"{bits}'({x.multiplicand(source, str(slot))})"
            statements += self._multiples(position, bits, active, value, weights)
            for output in range(self.lanes):
                weight = weights[output] if output < self.outputs else 0
                at = output * len(slots) + position
                statements.append(f"{multiple}[{at}] <= {self._multiple(position, weight, bits)};")
        text.array(multiple, bits, self.lanes * len(slots))
        text.clocked(*statements)
        if self.pack.group == 1:
            return bits
        width = min(self.acc_bits, bits + self.kernel.tree_levels)
        sum_stage(text, multiple, "constant_term", self.lanes, len(slots), 1 << self.kernel.tree_levels, width)
        return width

    def _constant_phase(self, x: Operand) -> str:
        """Declare `phase`, that of the inputs in the vector whose name is returned, a cycle before they are summed."""
        text, bits = self.text, len(self.x_wires.slots) * x.bits
        steps, stored = not counts_beats(self.spec), weights_in_block_ram(self.spec)
        if self.beats > 1:
            start = "beat" if steps else "start_i"
            phase_counter(text, "phase", self.beats, f"{start}_q[1]" if stored else start, 0, steps=steps)
            text.add(f"wire [{phase_bits(self.beats) - 1}:0] phase = phase_q;", "")
        if not stored:
            return "x_in"
        text.add(f"logic [{bits - 1}:0] x_1_q;")
        text.clocked("x_1_q <= x_in;")
        text.unused.append("x_1_q")
        return "x_1_q"

    def _multiples(self, position: int, bits: int, active: str, value: str, weights: list[int]) -> list[str]:
        """Declare every odd multiple of one input that the weights need, of either sign: no negation behind a sum.

        `value`: the input, taken where `active` is high. `LOADS` digits share a copy of it. Return what is clocked.
        """
        made: list[tuple[str, str]] = []
        used = {"in": 0, "neg": 0}
        for sign, odd in sorted({odd_part(weight) for weight in weights if weight}):
            negated = is_negated(sign * odd)
            source, counts = "neg" if negated else "in", -sign if negated else sign
            terms: list[tuple[str, int]] = []
            for digit, shift in signed_digits(odd):
                copy = f"$signed({part(f'{source}_{position}', str(used[source] // LOADS), bits)})"
                terms.append((f"({copy} <<< {shift})" if shift else copy, counts * digit))
                used[source] += 1
            made.append((_multiple_name(position, sign, odd), _signed_sum(terms)))
        for source, digits in used.items():
            if digits:
                signed = f"-({value})" if source == "neg" else value
                taken = f"{active} ? {signed} : {bits}'sd0"
                replicas(self.text, f"{source}_{position}", taken, copies_of(digits), bits)
        kind = "logic" if self.pack.in_blocks else "wire"
        for name, text in made:
            self.text.add(f"{kind} signed [{bits - 1}:0] {name}{';' if self.pack.in_blocks else f' = {text};'}")
        return [f"{name} <= {text};" for name, text in made] if self.pack.in_blocks else []

    @staticmethod
    def _multiple(position: int, weight: int, bits: int) -> str:
        if not weight:
            return f"{bits}'d0"
        shift = (abs(weight) & -abs(weight)).bit_length() - 1
        name = _multiple_name(position, *odd_part(weight))
        return f"({name} <<< {shift})" if shift else name

    def _accumulate(self, parts: list[tuple[str, int, int]]) -> None:
        """Sum the terms of a beat, then add them to the accumulators, which start from the bias in the first beat."""
        text, acc = self.text, self.acc_bits
        width = max(bits for _, _, bits in parts)
        terms = sum(count for _, count, _ in parts)
        source = "term"
        text.array("term", width, self.lanes * terms)
        text.add("always_comb", f"  for (int l = 0; l < {self.lanes}; l++) begin")
        offset = 0
        for array, count, _ in parts:
            for k in range(count):
                text.add(f"    term[l*{terms}+{offset + k}] = {signed_item(array, f'l*{count}+{k}', width)};")
            offset += count
        text.add("  end", "")
        for stage in range(1, len(self.tree)):
            grown = min(acc, width + self.kernel.tree_levels)
            terms = sum_stage(text, source, f"sum_{stage}", self.lanes, terms, 1 << self.kernel.tree_levels, grown)
            source, width = f"sum_{stage}", grown
        bias = self.op.bias.ints() + [0] * (self.lanes - self.outputs)
        depth = accumulator_start(self.front, self.tree)
        beat = "" if counts_beats(self.spec) else f"beat_q[{depth}]"
        accumulators(text, "acc", f"start_q[{depth}]", bias, acc, sum_of(source, f"l*{terms}", range(terms), acc), beat)

    def _finish(self) -> None:
        """Apply each output's epilogue and join the output slots."""
        text, acc, spec = self.text, self.acc_bits, self.spec
        text.unused.append("acc")
        if not spec.epilogue:
            text.add(
                *join_slots(self.y_wires, [f"acc[{o * acc} +: {s.width}]" for o, s in enumerate(self.y_wires.slots)])
            )
            return
        bounds = self.graph.type_of(spec.linear).range
        argument_bounds = {spec.linear: (bounds.lowest, bounds.highest)}
        functions: dict[tuple[object, ...], ScalarFunction] = {}
        statements, sources, offset = [], [], 0
        for output in range(self.outputs):
            key = function_key(self.graph, spec.epilogue, output)
            function = functions.get(key)
            if function is None:
                name = f"epilogue_{len(functions)}"
                function = scalar_function(name, self.graph, spec.epilogue, output, argument_bounds)
                functions[key] = function
                text.add(*(line[2:] if line.startswith("  ") else line for line in function.text.splitlines()), "")
            bits, taken = function.result_width, function.arguments[0].width
            statements.append(f"y_q[{offset} +: {bits}] <= {function.name}(acc[{output * acc} +: {taken}]);")
            sources.append(f"y_q[{offset} +: {self.y_wires.slots[output].width}]")
            offset += bits
        if len(functions) == 1:
            (same,) = functions.values()
            bits, taken = same.result_width, same.arguments[0].width
            loop = f"for (int l = 0; l < {self.outputs}; l++)"
            statements = [loop, f"  {part('y_q', 'l', bits)} <= {same.name}(acc[l*{acc} +: {taken}]);"]
        text.add(f"logic [{offset - 1}:0] y_q;")
        text.unused.append("y_q")
        text.clocked(*statements)
        text.add(*join_slots(self.y_wires, sources))
