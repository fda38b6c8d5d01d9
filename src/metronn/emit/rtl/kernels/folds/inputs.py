"""SystemVerilog of FoldInputs: each beat of inputs into all accumulators."""

from __future__ import annotations

from metronn.emit.rtl.kernels.folds.common import (
    ModuleText,
    Operand,
    described,
    join_slots,
    literal,
    part,
    phase_bits,
    phase_counter,
    products,
    signed_part,
    split_terms,
    sum_of,
    sum_stage,
    uniform_input,
    weight_rom,
    words,
)
from metronn.emit.rtl.pulse_trains import train_text
from metronn.emit.rtl.scalar import ScalarFunction, scalar_function
from metronn.ir.arrays import Array
from metronn.plan.kernels.folds.fold import (
    Packing,
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
        last = self.front + len(self.tree) + self.beats - 1
        if counts_beats(self.spec):
            phase_counter(text, self.beats, 1, last)
        else:
            self._train()
        bits = len(self.x_wires.slots) * x.bits
        if weights_in_block_ram(self.spec):
            text.add(f"logic [{bits - 1}:0] x_1_q;", f"logic [{bits - 1}:0] x_q;")
            text.clocked("x_1_q <= x_in;", "x_q <= x_1_q;")
        else:
            text.add(f"logic [{bits - 1}:0] x_q;")
            text.clocked("x_q <= x_in;")
        multiplied, constant = self.kernel.terms
        parts: list[tuple[str, int, int]] = []
        if multiplied:
            parts.append(("multiplied_term", multiplied, self._multiplied(x)))
        if constant:
            parts.append(("constant_term", constant, self._constant(x)))
        self._accumulate(parts)
        self._finish(f"start_q[{last}]" if counts_beats(self.spec) else "")
        return text.text()

    def _train(self) -> None:
        """Declare `phase` from a train, its copies beside x_q, and pulses `start_q`, `beat_q` by cycles passed."""
        text, bits = self.text, phase_bits(self.beats)
        text.lines += train_text("beat", "start_i", self.spec.layout.cycles, index="phase")
        depth = self.front + len(self.tree) - 1
        copies = 1 + weights_in_block_ram(self.spec) if self.slots.constant else 0
        for k in range(1, copies + 1):
            text.add(f"logic [{bits - 1}:0] phase_{k}_q;")
        text.add(f"logic [{depth}:1] start_q, beat_q;")
        text.unused += ["phase", "start_q", "beat_q"]
        text.clocked(
            *(f"phase_{k}_q <= {f'phase_{k - 1}_q' if k > 1 else 'phase'};" for k in range(1, copies + 1)),
            f"start_q <= rst_i ? {depth}'d0 : {{start_q[{depth - 1}:1], start_i}};",
            f"beat_q <= rst_i ? {depth}'d0 : {{beat_q[{depth - 1}:1], beat}};",
        )

    def _element(self, beat: int, slot: int) -> int | None:
        elements = self.spec.layout.beats[beat]
        return elements[slot] if slot < len(elements) else None

    def _multiplied(self, x: Operand) -> int:
        """Slots used in several beats: multipliers with weights selected by phase. Returns the width of a term."""
        text, pack, slots = self.text, self.pack, self.slots.multiplied
        sites = self.kernel.sites
        text.add(f"// {len(slots)} slots: {described(sites)}, {pack.ways} outputs each.")
        weight_rom(text, "weight", words(sites), pack.weight_bits, block=weights_in_block_ram(self.spec))
        products(text, "product", sites, x, "x_q", "weight")
        terms, source, bits = len(slots), "product", pack.product_bits
        if pack.group > 1:
            terms = sum_stage(text, source, "group", self.pairs, terms, pack.group, pack.product_bits, pack.sum_bits)
            source, bits = "group", pack.sum_bits
        return split_terms(text, source, "multiplied", self.pairs, terms, pack, bits)

    def _constant(self, x: Operand) -> int:
        """Slots used in one beat: constant multiples from shifts and adds, zero in all other beats.

        Beside DSP blocks, which take two cycles, the choice of the beat has a register of its own.
        """
        text, slots = self.text, self.slots.constant
        low, high = product_bounds(self.weight, self.x_type.range.lowest, self.x_type.range.highest)
        bits, phase_width = signed_bits(low, high), phase_bits(self.beats)
        phase = "phase_2_q" if weights_in_block_ram(self.spec) else "phase_1_q"
        statements: list[str] = []
        for position, slot in enumerate(slots):
            beat = next(b for b in range(self.beats) if self._element(b, slot) is not None)
            element = self._element(beat, slot)
            assert element is not None
            active = f"now_{position}"
            text.add(
                f"// Slot {slot} carries input {element} in beat {beat} only: its weights are constants.",
                f"wire {active} = {phase} == {phase_width}'d{beat};" if self.beats > 1 else f"wire {active} = 1'b1;",
            )
            chosen = f"{active} ? {bits}'({x.multiplicand('x_q', str(slot))}) : {bits}'sd0"
            if self.pack.in_blocks:
                text.add(f"logic signed [{bits - 1}:0] in_{position};")
                text.clocked(f"in_{position} <= {chosen};")
            else:
                text.add(f"wire signed [{bits - 1}:0] in_{position} = {chosen};")
            text.unused.append(f"in_{position}")
            weights = [int(w) for w in self.weight[element]]
            if any(w and is_negated(w) for w in weights):
                negative = f"{active} ? -({bits}'({x.multiplicand('x_q', str(slot))})) : {bits}'sd0"
                if self.pack.in_blocks:
                    text.add(f"logic signed [{bits - 1}:0] neg_{position};")
                    text.clocked(f"neg_{position} <= {negative};")
                else:
                    text.add(f"wire signed [{bits - 1}:0] neg_{position} = {negative};")
                text.unused.append(f"neg_{position}")
            self._multiples(position, bits, weights)
            for output in range(self.lanes):
                weight = int(self.weight[element, output]) if output < self.outputs else 0
                target = part("multiple", str(output * len(slots) + position), bits)
                statements.append(f"{target} <= {self._multiple(position, weight, bits)};")
        text.add("", f"logic [{self.lanes * len(slots) * bits - 1}:0] multiple;")
        text.clocked(*statements)
        if self.pack.group == 1:
            text.add(f"wire [{self.lanes * len(slots) * bits - 1}:0] constant_term = multiple;", "")
            return bits
        width = min(self.acc_bits, bits + self.kernel.tree_levels)
        sum_stage(text, "multiple", "constant_term", self.lanes, len(slots), 1 << self.kernel.tree_levels, bits, width)
        return width

    def _multiples(self, position: int, bits: int, weights: list[int]) -> None:
        """Declare every odd multiple of one input that the weights need, of either sign: no negation behind a sum."""
        for sign, odd in sorted({odd_part(weight) for weight in weights if weight}):
            negated = is_negated(sign * odd)
            x, counts = f"{'neg' if negated else 'in'}_{position}", -sign if negated else sign
            terms = [(f"({x} <<< {shift})" if shift else x, counts * digit) for digit, shift in signed_digits(odd)]
            name = _multiple_name(position, sign, odd)
            self.text.add(f"wire signed [{bits - 1}:0] {name} = {_signed_sum(terms)};")

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
        text.add(
            f"logic [{self.lanes * terms * width - 1}:0] term;",
            "always_comb",
            f"  for (int l = 0; l < {self.lanes}; l++) begin",
        )
        offset = 0
        for vector, count, bits in parts:
            for k in range(count):
                target = part("term", f"l*{terms}+{offset + k}", width)
                text.add(f"    {target} = {signed_part(vector, f'l*{count}+{k}', bits, width)};")
            offset += count
        text.add("  end", "")
        for stage in range(1, len(self.tree)):
            grown = min(acc, width + self.kernel.tree_levels)
            terms = sum_stage(
                text, source, f"sum_{stage}", self.lanes, terms, 1 << self.kernel.tree_levels, width, grown
            )
            source, width = f"sum_{stage}", grown
        bias = self.op.bias.ints() + [0] * (self.lanes - self.outputs)
        first = f"start_q[{self.front + len(self.tree) - 1}]"
        value = f"{part('base', 'l', acc)} + {sum_of(source, f'l*{terms}', range(terms), width, acc)}"
        text.add(
            "// Accumulators: bias and the first beat's sum, then every further beat.",
            f"logic [{self.lanes * acc - 1}:0] acc;",
            f"wire  [{self.lanes * acc - 1}:0] base = {first} ? {literal(bias, acc)} : acc;",
        )
        update = [f"for (int l = 0; l < {self.lanes}; l++)", f"  {part('acc', 'l', acc)} <= {value};"]
        if not counts_beats(self.spec):
            update = [f"if (beat_q[{self.front + len(self.tree) - 1}])", *(f"  {line}" for line in update)]
        text.clocked(*update)

    def _finish(self, last: str) -> None:
        """Apply each output's epilogue, when `last` is high (always if empty), and join the output slots."""
        text, acc, spec = self.text, self.acc_bits, self.spec
        text.unused += ["acc", "x_q"]
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
        text.clocked(*([f"if ({last}) begin", *(f"  {s}" for s in statements), "end"] if last else statements))
        text.add(*join_slots(self.y_wires, sources))
