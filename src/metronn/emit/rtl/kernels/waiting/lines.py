"""Delay lines in SystemVerilog: pulses, registers, shift registers and memories."""

from __future__ import annotations

from collections.abc import Sequence

from metronn.emit.rtl.pulse_trains import train_text
from metronn.emit.rtl.text import bits_literal
from metronn.plan.kernels.pulse_trains import counter_bits
from metronn.plan.kernels.waiting.lines import WIRE, Cell, Register, Ring, Shift, Store
from metronn.plan.kernels.waiting.pulses import Pulse, PulsePlan, Shifted


class PulseNames:
    """Wires of the pulses of one module."""

    def __init__(self, plan: PulsePlan) -> None:
        """Number the trains, and the pulses chosen from them, as the plan lists them."""
        self._plan = plan
        self._trains = {train.at: f"pulse{k}" for k, train in enumerate(plan.trains)}
        self._chosen = {pulse: f"chosen{k}" for k, pulse in enumerate(plan.chosen)}

    def of(self, pulse: Pulse) -> str:
        """Wire that is high with the pulse."""
        return self._chosen[pulse] if pulse.of else self._trains[pulse.at]

    def number(self, at: tuple[int, ...]) -> str:
        """Vector with the number of the current pulse of a train."""
        return f"{self._trains[at]}_number"

    def text(self) -> list[str]:
        """Body lines that declare and make all pulses."""
        lines: list[str] = []
        for start in self._plan.starts:
            lines += train_text(_start(start.cycles), _start(start.source), (start.cycles - start.source,))
        for train in self._plan.trains:
            name = self._trains[train.at]
            if isinstance(train, Shifted):
                lines += _shifted(name, self._trains[train.source], train.cycles)
            else:
                index = f"{name}_number" if train.index else None
                lines += train_text(name, _start(train.start), train.cycles, index=index)
        for pulse, name in self._chosen.items():
            members = set(pulse.at)
            flags = [cycle in members for cycle in pulse.of]
            rom, picked = flag_rom(f"{name.capitalize()}Of", flags, self.number(pulse.of))
            lines += [*rom, f"  wire {name} = {self._trains[pulse.of]} && {picked};", ""]
        return lines


def _start(cycles: int) -> str:
    return f"start{cycles}" if cycles else "start_i"


def _shifted(name: str, source: str, cycles: int) -> list[str]:
    if cycles == 1:
        return [
            f"  logic {name};",
            f"  always_ff @(posedge clk_i) {name} <= rst_i ? 1'b0 : {source};",
            "",
        ]
    return [
        f"  logic [{cycles - 1}:0] {name}_q;",
        f"  always_ff @(posedge clk_i) {name}_q <= rst_i ? {cycles}'d0 : {{{name}_q[{cycles - 2}:0], {source}}};",
        f"  wire {name} = {name}_q[{cycles - 1}];",
        "",
    ]


def flag_rom(name: str, flags: Sequence[bool], index: str) -> tuple[list[str], str]:
    """Return the lines that declare a ROM of bits, and the text of the bit of number `index`."""
    size = 1 << counter_bits(len(flags))
    word = sum(1 << k for k, flag in enumerate(flags) if flag)
    return [f"  localparam logic [{size - 1}:0] {name} = {bits_literal(word, size)};"], f"{name}[{index}]"


def cell_name(line: str, cell: int) -> str:
    """Name of the vector that shows a cell's content."""
    return f"{line}_x" if cell == WIRE else f"{line}_{cell}_q"


def line_text(line: str, cells: Sequence[Cell], width: int, pulses: PulseNames) -> list[str]:
    """Return body lines that declare the cells of a line, whose input is the vector `cell_name(line, WIRE)`."""
    text: list[str] = []
    for number, cell in enumerate(cells):
        name = cell_name(line, number)
        match cell:
            case Register(source=source, enable=enable):
                condition = f"if ({pulses.of(enable)}) " if enable else ""
                text += [
                    f"  logic [{width - 1}:0] {name};",
                    f"  always_ff @(posedge clk_i) {condition}{name} <= {cell_name(line, source)};",
                    "",
                ]
            case Shift(source=source, cycles=cycles):
                text += _shift(name, cell_name(line, source), cycles, width)
            case Ring(source=source):
                text += _ring(cell, f"{line}_{number}", cell_name(line, source), width, pulses)
            case Store():
                text += _store(cell, f"{line}_{number}", cell_name(line, WIRE), width, pulses)
    return text


def _shift(name: str, source: str, cycles: int, width: int) -> list[str]:
    if cycles == 1:
        return [f"  logic [{width - 1}:0] {name};", f"  always_ff @(posedge clk_i) {name} <= {source};", ""]
    total = width * cycles
    stages = f"{name.removesuffix('_q')}_stages_q"
    return [
        f"  logic [{total - 1}:0] {stages};  // {cycles} cycles, the youngest in the lowest bits",
        f"  always_ff @(posedge clk_i) {stages} <= {{{stages}[{total - width - 1}:0], {source}}};",
        f"  wire [{width - 1}:0] {name} = {stages}[{total - width} +: {width}];",
        "",
    ]


def _memory(name: str, words: int, width: int, *, block: bool) -> list[str]:
    """Declare a memory and what its words go through: of block RAM, its output register too."""
    style = "block" if block else "distributed"
    registers = f"{name}_early_q, {name}_q" if block else f"{name}_q"
    return [
        f'  (* ram_style = "{style}" *) logic [{width - 1}:0] {name}_memory [0:{words - 1}];',
        f"  logic [{width - 1}:0] {registers};",
    ]


def _taken(name: str, condition: str, place: str, *, block: bool) -> list[str]:
    """Take the word at a place out of a memory."""
    if not block:
        return [f"    {condition}{name}_q <= {name}_memory[{place}];"]
    return [f"    {condition}{name}_early_q <= {name}_memory[{place}];", f"    {name}_q <= {name}_early_q;"]


def _next(name: str, count: int) -> str:
    """Text of a counter's next value, below `count`."""
    bits = counter_bits(count)
    moved = f"{name} + {bits}'d1"
    return moved if count == 1 << bits else f"{name} == {bits}'d{count - 1} ? {bits}'d0 : {moved}"


def _ring(cell: Ring, name: str, source: str, width: int, pulses: PulseNames) -> list[str]:
    bits, depth = counter_bits(cell.depth), cell.depth
    write = f"if ({pulses.of(cell.push)}) " if cell.push else ""
    read = f"if ({pulses.of(cell.pop)}) " if cell.pop else ""
    put = f"{name}_put_q" if cell.push else f"{name}_word_q"
    take = f"{name}_take_q" if cell.pop else put
    pointers = list(dict.fromkeys([put, take]))
    moves = [f"{write}{put} <= {_next(put, depth)};"]
    moves += [f"{read}{take} <= {_next(take, depth)};"] if take != put else []
    return [
        *_memory(name, depth, width, block=cell.block),
        f"  logic [{bits - 1}:0] {', '.join(pointers)};",
        "  always_ff @(posedge clk_i) begin",
        *_taken(name, read, take, block=cell.block),
        f"    {write}{name}_memory[{put}] <= {source};",
        "    if (rst_i) begin",
        *(f"      {pointer} <= {bits}'d0;" for pointer in pointers),
        "    end else begin",
        *(f"      {move}" for move in moves),
        "    end",
        "  end",
        "",
    ]


def _store(cell: Store, name: str, source: str, width: int, pulses: PulseNames) -> list[str]:
    bits = counter_bits(cell.entries)
    push, pop = pulses.of(cell.push), pulses.of(cell.pop)
    entered, left = pulses.number(cell.push.at), pulses.number(cell.pop.at)
    lines = _memory(name, cell.banks * (1 << bits), width, block=cell.block)
    word = left
    if cell.words != tuple(range(len(cell.words))):
        step = (bits - 1).bit_length()
        slots = 1 << counter_bits(len(cell.words))
        table = sum(word << (number << step) for number, word in enumerate(cell.words))
        lines.append(
            f"  localparam logic [{(slots << step) - 1}:0] {name}_Words = {bits_literal(table, slots << step)};"
        )
        place = f"{{{left}, {step}'d0}}" if step else left
        lines.append(f"  wire [{bits - 1}:0] {name}_word = {name}_Words[{place} +: {bits}];")
        word = f"{name}_word"
    put, take = entered, word
    events: list[str] = []
    if cell.banks > 1:
        banks = counter_bits(cell.banks)
        put, take = f"{{{name}_put_q, {entered}}}", f"{{{name}_take_q, {word}}}"
        lines.append(f"  logic [{banks - 1}:0] {name}_put_q, {name}_take_q;  // the number of the event")
        events = [
            "    if (rst_i) begin",
            f"      {name}_put_q <= {banks}'d0;",
            f"      {name}_take_q <= {banks}'d0;",
            "    end else begin",
            f"      if ({push} && {_last(entered, len(cell.push.at))}) {name}_put_q <= {name}_put_q + {banks}'d1;",
            f"      if ({pop} && {_last(left, len(cell.pop.at))}) {name}_take_q <= {name}_take_q + {banks}'d1;",
            "    end",
        ]
    return [
        *lines,
        "  always_ff @(posedge clk_i) begin",
        f"    if ({push}) {name}_memory[{put}] <= {source};",
        *_taken(name, f"if ({pop}) ", take, block=cell.block),
        *events,
        "  end",
        "",
    ]


def _last(number: str, count: int) -> str:
    return f"{number} == {counter_bits(count)}'d{count - 1}"
