"""Reductions over a stream in SystemVerilog: a tree for each lane, and accumulators that take turns."""

from __future__ import annotations

from metronn.emit.rtl.pulse_trains import train_text
from metronn.emit.rtl.slots import Vector, part, port_vector
from metronn.emit.rtl.text import below, module_text, signed_literal, signed_width
from metronn.ir.ops import ReduceKind
from metronn.plan.kernels.reduce_serial import (
    Lane,
    PlannedReduceSerial,
    Term,
    lane_levels,
    lane_stages,
    reduce_op,
    stage_widths,
)
from metronn.plan.layout import WireFormat, wire_format


def emit_reduce_serial(kernel: PlannedReduceSerial, module_name: str) -> str:
    """Return the module of the kernel: ports clk_i, rst_i, start_i, x0_i, y_o; one event per `span` cycles."""
    return _Writer(kernel).module(module_name)


class _Writer:
    """Writes one kernel, lane by lane."""

    def __init__(self, kernel: PlannedReduceSerial) -> None:
        """Collect what the parts share."""
        spec, graph = kernel.spec, kernel.graph
        self.kernel, self.spec, self.graph, self.timing = kernel, spec, graph, kernel.timing
        self.kind = reduce_op(spec, graph).kind
        self.wires: WireFormat = wire_format(graph.type_of(reduce_op(spec, graph).x), spec.layout)
        self.out: Vector = port_vector("y_o", graph.type_of(spec.reduce))
        self.body: list[str] = []
        self.idle = ["clk_i", "rst_i", "start_i", "x0_i"]
        self.pulses: dict[tuple[int, ...], str] = {}
        self.waited: dict[tuple[str, int], str] = {}

    def module(self, name: str) -> str:
        """Return the module's text."""
        spec = self.spec
        for number, beats in enumerate(self.kernel.pulse_sets):
            self.pulses[beats] = f"beats_{number}"
            self.body += train_text(f"beats_{number}", "start_i", [spec.layout.cycles[beat] for beat in beats])
        for number, lane in enumerate(self.kernel.lanes):
            self._lane(number, lane)
        return module_text(
            name=name,
            contract=[
                f"{spec.reduce} ({self.graph.by_name[spec.reduce].comment}): {self.kind.value} of {spec.layout.size} "
                f"elements that arrive in {spec.layout.describe()}, into {self.graph.type_of(spec.reduce).size}.",
                f"Latency {self.kernel.latency_cycles} cycles; y_o holds the results for one cycle.",
            ],
            ports=[("x0_i", self.wires.width)],
            output=("y_o", self.out.width),
            body=self.body,
            unused=self.idle,
        )

    def _late(self, pulse: str, cycles: int) -> str:
        """Name of a pulse some cycles later; declares what is not there yet."""
        if not cycles:
            return pulse
        if (pulse, cycles) not in self.waited:
            before, name = self._late(pulse, cycles - 1), f"{pulse}_{cycles}_q"
            self.waited[pulse, cycles] = name
            self.body += [f"  logic {name};", f"  always_ff @(posedge clk_i) {name} <= rst_i ? 1'b0 : {before};"]
        return self.waited[pulse, cycles]

    def _lane(self, number: int, lane: Lane) -> None:
        """Write tree, accumulators and results of a lane."""
        own = (self.spec, self.graph, lane, self.timing)
        stages, widths, radix = lane_stages(*own), stage_widths(*own), 1 << lane_levels(*own)
        named = ", ".join(str(r) for r in lane.results[:8]) + (", ..." if len(lane.results) > 8 else "")
        enable = self._late(self.pulses[lane.beats], len(stages) - 1)
        first = self._late(self.pulses[lane.first_beats], len(stages) - 1)
        self.body += ["", f"  // Results {named}."]
        names = [self._term(number, k, lane, term, widths[0]) for k, term in enumerate(lane.terms)]
        for stage, (left, width) in enumerate(zip(stages[:-1], widths[1:], strict=True), start=1):
            targets = [f"sum_{number}_{stage}_{k}" for k in range(left)]
            joined = [
                self._joined(f"best_{number}_{stage}_{k}", names[k * radix : (k + 1) * radix], widths[stage - 1], width)
                for k in range(left)
            ]
            self.body += [f"  logic signed [{width - 1}:0] {', '.join(targets)};", "  always_ff @(posedge clk_i) begin"]
            self.body += [f"    {target} <= {text};" for target, text in zip(targets, joined, strict=True)]
            self.body.append("  end")
            names = targets
        self._accumulate(number, lane, names, widths[-1], enable, first)

    def _term(self, number: int, k: int, lane: Lane, term: Term, width: int) -> str:
        """Declare one term of a beat as a signed wire."""
        slot = self.wires.slots[term.slot]
        bits = part("x0_i", self.wires.width, slot.offset, slot.width)
        pieces = ([] if slot.signed else ["1'b0"]) + [bits] + ([f"{term.shift}'d0"] if term.shift else [])
        have = slot.width + (not slot.signed) + term.shift
        value = f"$signed({{{', '.join(pieces)}}})" if len(pieces) > 1 else f"$signed({bits})"
        if have != width:
            value = f"{width}'({value})"
        if term.beats is not None:
            value = f"{self.pulses[term.beats]} ? {value} : {width}'({self._neutral(lane)})"
        name = f"term_{number}_{k}"
        self.body.append(f"  wire signed [{width - 1}:0] {name} = {value};")
        self.idle.append(name)
        return name

    def _neutral(self, lane: Lane) -> str:
        """Literal that changes no result of the lane."""
        value = {ReduceKind.SUM: 0, ReduceKind.MAX: lane.lo, ReduceKind.MIN: lane.hi}[self.kind]
        return signed_literal(value, signed_width(value, value))

    def _joined(self, name: str, terms: list[str], width: int, target: int) -> str:
        """Text that joins terms of `width` bits into one of `target` bits."""
        if self.kind is ReduceKind.SUM:
            return " + ".join(term if width == target else f"{target}'({term})" for term in terms)
        left, level = list(terms), 0
        while len(left) > 1:
            left, level = self._paired(f"{name}_{level}", left, width), level + 1
        return left[0]

    def _paired(self, name: str, terms: list[str], width: int) -> list[str]:
        """Wires `name`_k with the choices among neighbours of `width` bits; an odd one waits."""
        chosen = []
        for k, (a, b) in enumerate(zip(terms[0::2], terms[1::2], strict=False)):
            chosen.append(f"{name}_{k}")
            better, other = (a, b) if self.kind is ReduceKind.MIN else (b, a)
            choice = f"({below(a, b, width)}) ? {better} : {other}"
            self.body.append(f"  wire signed [{width - 1}:0] {chosen[-1]} = {choice};")
        return chosen + terms[len(terms) // 2 * 2 :]

    def _accumulate(self, number: int, lane: Lane, names: list[str], width: int, enable: str, first: str) -> None:
        """The terms left into the accumulator whose turn it is; accumulator k has the result of k turns ago."""
        bits, count = lane.width, len(lane.results)
        total = self.kind is ReduceKind.SUM
        wide = bits if total else max(width, signed_width(lane.lo, lane.hi))
        oldest = part(f"acc_{number}_q", bits * count, bits * (count - 1), bits)
        held = f"$signed({oldest})" if lane.lo < 0 or total else f"$signed({{1'b0, {oldest}}})"
        base, value = f"base_{number}", f"next_{number}"
        terms = [name if width == wide else f"{wide}'({name})" for name in names]
        if signed_width(lane.lo, lane.hi) != wide and not total:
            held = f"{wide}'({held})"
        self.body.append(f"  logic [{bits * count - 1}:0] acc_{number}_q;")
        if total:
            start = f"{first} ? {wide}'({self._neutral(lane)}) : {held}"
        else:  # the LUT that chooses takes the first beat in too
            term, terms = terms[0], self._paired(f"pair_{number}", terms[1:], wide)
            worse = (held, term) if self.kind is ReduceKind.MAX else (term, held)
            start = f"({first} || {below(*worse, wide)}) ? {term} : {held}"
        self.body += [
            f"  wire signed [{wide - 1}:0] {base} = {start};",
        ]
        joined = self._joined(f"best_{number}", [base, *terms], wide, wide)
        self.body.append(f"  wire signed [{wide - 1}:0] {value} = {joined};")
        moved = f"{value}[{bits - 1}:0]"
        if count > 1:
            moved = f"{{acc_{number}_q[{bits * (count - 1) - 1}:0], {moved}}}"
        self.body.append(f"  always_ff @(posedge clk_i) if ({enable}) acc_{number}_q <= {moved};")
        self.idle.append(value)
        source = f"acc_{number}_q"
        for k in range(self.kernel.depth - len(lane_stages(self.spec, self.graph, lane, self.timing))):
            late = f"late_{number}_{k}_q"
            self.body += [
                f"  logic [{bits * count - 1}:0] {late};",
                f"  always_ff @(posedge clk_i) {late} <= {source};",
            ]
            source = late
        self.idle.append(source)
        for turn, result in enumerate(lane.results):
            taken = part(source, bits * count, bits * (count - 1 - turn), self.out.elements[result].width)
            self.body.append(f"  assign {self.out.target(result)} = {taken};")
