"""WindowBuffer and Reorder in SystemVerilog: delay lines, and a choice of what they hold for each beat."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from metronn.emit.rtl.kernels.waiting.lines import PulseNames, cell_name, flag_rom, line_text
from metronn.emit.rtl.slots import part
from metronn.emit.rtl.text import bits_literal, module_text
from metronn.ir.graph import Graph
from metronn.plan.kernels.pulse_trains import counter_bits
from metronn.plan.kernels.spec import Reorder, WindowBuffer
from metronn.plan.kernels.waiting.choices import Bit, Column
from metronn.plan.kernels.waiting.lines import WIRE
from metronn.plan.kernels.waiting.window_buffer import Held, Memory, PlannedReorder, PlannedWindowBuffer
from metronn.plan.layout import Slot, WireFormat, wire_format


class _Reader:
    """Text of what cells and ports hold, and which of their bits nobody reads."""

    def __init__(self, memory: Memory, ports: Sequence[WireFormat], widths: dict[tuple[int, int], int]) -> None:
        self._ports, self._widths = ports, widths
        self._totals: dict[str, int] = {f"x{k}_i": port.width for k, port in enumerate(ports)}
        self._places: dict[tuple[int, int], int] = {}  # line, slot: offset of the lane
        for number, line in enumerate(memory.lines):
            offset = 0
            for slot in line.slots:
                self._places[number, slot] = offset
                offset += widths[line.operand, slot]
            for cell in range(len(line.cells)):
                self._totals[cell_name(f"line{number}", cell)] = line.width
        self._read: dict[str, set[tuple[int, int]]] = {name: set() for name in self._totals}

    def input_of(self, memory: Memory, number: int) -> str:
        """What a line takes from its port: all its slots, the first lowest."""
        line = memory.lines[number]
        texts: list[str] = []
        runs: list[tuple[int, int]] = []
        for slot in line.slots:
            offset, width = self._ports[line.operand].slots[slot].offset, self._widths[line.operand, slot]
            if runs and sum(runs[-1]) == offset:
                runs[-1] = (runs[-1][0], runs[-1][1] + width)
            else:
                runs.append((offset, width))
        for offset, width in reversed(runs):
            texts.append(self._bits(f"x{line.operand}_i", offset, width))
        return texts[0] if len(texts) == 1 else f"{{{', '.join(texts)}}}"

    def read(self, held: Held, width: int) -> str:
        """What an output slot of `width` bits takes: the low bits, or the number with its sign in front."""
        slot = self._ports[held.operand].slots[held.slot]
        have = self._widths[held.operand, held.slot]
        if held.cell == WIRE:
            name, offset = f"x{held.operand}_i", slot.offset
        else:
            name, offset = cell_name(f"line{held.line}", held.cell), self._places[held.line, held.slot]
        if width <= have:
            return self._bits(name, offset, width)
        bits = self._bits(name, offset, have)
        more = width - have
        sign = part(name, self._totals[name], offset + have - 1, 1)
        return f"{{{{{more}{{{sign}}}}}, {bits}}}" if slot.signed else f"{{{more}'d0, {bits}}}"

    def whole(self, name: str) -> None:
        """Note that a vector is read as a whole."""
        self._read[name].add((0, self._totals[name]))

    def _bits(self, name: str, offset: int, width: int) -> str:
        self._read[name].add((offset, width))
        return part(name, self._totals[name], offset, width)

    def unread(self) -> list[str]:
        """Parts of ports and cells that nothing reads."""
        found = []
        for name, total in self._totals.items():
            end = 0
            for offset, width in [*sorted(self._read[name]), (total, 0)]:
                if offset > end:
                    found.append(part(name, total, end, offset - end))
                end = max(end, offset + width)
        return found


def emit_window_buffer(kernel: PlannedWindowBuffer | PlannedReorder, module_name: str) -> str:
    """Return the module of the kernel: ports clk_i, rst_i, start_i, x0_i, ..., y_o."""
    spec, graph, memory, inputs = kernel.spec, kernel.graph, kernel.memory, kernel.inputs
    value = kernel.result
    ports = [wire_format(graph.type_of(name), layout) for name, layout in inputs]
    out = wire_format(graph.type_of(value), spec.output)
    reader = _Reader(memory, ports, kernel.lane_widths)
    pulses = PulseNames(memory.pulses)
    body = pulses.text()
    for number, line in enumerate(memory.lines):
        name = f"line{number}"
        body.append(f"  wire [{line.width - 1}:0] {cell_name(name, WIRE)} = {reader.input_of(memory, number)};")
        body += line_text(name, line.cells, line.width, pulses)
        for cell in line.cells:
            source = getattr(cell, "source", WIRE)
            if source != WIRE:
                reader.whole(cell_name(name, source))
    body += _choice_text(memory, pulses)
    target = "data_q" if memory.chooses else "y_o"
    assigned = [
        (part(target, out.width, slot.offset, slot.width), _chosen(memory, reader, slot, held, column))
        for slot, held, column in zip(out.slots, memory.sources, memory.choices.columns, strict=True)
    ]
    body += _output(memory, assigned, out.width)
    joined = "\n".join(body)
    idle = [port for port in ("clk_i", "rst_i", "start_i") if port not in joined]
    carried = ", ".join(f"{name} in {layout.describe()}" for name, layout in inputs)
    return module_text(
        name=module_name,
        contract=[
            f"{value}{_source(spec, graph)}: {spec.output.describe()}, from {carried}.",
            f"Latency {kernel.latency_cycles} cycles; events {memory.period} cycles apart or more.",
            f"{kernel.buffer_bits} bits wait in {len(memory.lines)} delay lines.",
        ],
        ports=[(f"x{k}_i", port.width) for k, port in enumerate(ports)],
        output=("y_o", out.width),
        body=body,
        unused=[*idle, *reader.unread()],
    )


def _source(spec: WindowBuffer | Reorder, graph: Graph) -> str:
    return f" ({graph.by_name[spec.node].comment})" if isinstance(spec, WindowBuffer) else ""


def _output(memory: Memory, assigned: Iterable[tuple[str, str]], width: int) -> list[str]:
    if not memory.chooses:
        return [f"  assign {place} = {text};" for place, text in assigned]
    return [
        f"  logic [{width - 1}:0] data_q;",
        "  always_ff @(posedge clk_i) begin",
        *(f"    {place} <= {text};" for place, text in assigned),
        "  end",
        "  assign y_o = data_q;",
    ]


def _chosen(memory: Memory, reader: _Reader, slot: Slot, sources: Sequence[Held], column: Column) -> str:
    """Text of what an output slot takes."""
    fill = bits_literal(memory.fill, slot.width)
    if not sources:
        return fill
    text = _mux([reader.read(held, slot.width) for held in sources], [f"choice[{k}]" for k in column.pick])
    return text if column.keep is None else f"choice[{column.keep}] ? {text} : {fill}"


def _mux(texts: Sequence[str], bits: Sequence[str]) -> str:
    """Text of the one of `texts` whose number `bits` hold, the lowest bit first."""
    if len(texts) == 1:
        return texts[0]
    top = (len(texts) - 1).bit_length() - 1
    low, high = texts[: 1 << top], texts[1 << top :]
    return f"({bits[top]} ? {_mux(high, bits)} : {_mux(low, bits)})"


def _choice_text(memory: Memory, pulses: PulseNames) -> list[str]:
    """Counters of the beats, and the bits of the choice they decide."""
    choices = memory.choices
    if memory.beat is None:
        return []
    beat, rows, columns = pulses.of(memory.beat), choices.rows, choices.columns_count
    lines, clears, moves = [], [], []
    last = ""
    for name, count in (("column", columns), ("row", rows)):
        if count == 1:
            continue
        bits = counter_bits(count)
        lines.append(f"  logic [{bits - 1}:0] {name}_q;")
        clears.append(f"      {name}_q <= {bits}'d0;")
        end = f"{name}_q == {bits}'d{count - 1}"
        moves.append(f"      {f'if ({last}) ' if last else ''}{name}_q <= {end} ? {bits}'d0 : {name}_q + {bits}'d1;")
        last = end
    roms: dict[tuple[str, tuple[bool, ...]], str] = {}
    texts = [_bit_text(bit, rows, columns, roms) for bit in choices.bits]
    for (_, flags), name in roms.items():
        lines += flag_rom(name, flags, "")[0]
    made = texts[0] if len(texts) == 1 else f"{{{', '.join(reversed(texts))}}}"
    width = len(texts)
    lines += [
        "  always_ff @(posedge clk_i) begin",
        "    if (rst_i) begin",
        *clears,
        f"    end else if ({beat}) begin",
        *moves,
        "    end",
        "  end",
    ]
    if memory.ahead:
        lines += [
            f"  logic [{width - 1}:0] choice;",
            f"  always_ff @(posedge clk_i) if ({beat}) choice <= {made};",
            "",
        ]
    else:
        lines += [f"  wire [{width - 1}:0] choice = {made};", ""]
    return lines


def _bit_text(bit: Bit, rows: int, columns: int, roms: dict[tuple[str, tuple[bool, ...]], str]) -> str:
    """Text of a bit; the ROMs it reads are added to `roms` (index, flags: name)."""
    parts: list[tuple[str, tuple[bool, ...]]] = []
    if bit.rows:
        parts.append(("row_q", bit.rows))
    if bit.columns and len(bit.columns) == columns:
        parts.append(("column_q", bit.columns))
    elif bit.columns:
        room = 1 << counter_bits(columns)
        every = (flag for row in range(rows) for flag in _row(bit.columns, row, columns, room))
        parts.append(("{row_q, column_q}", tuple(every)))
    texts = []
    for index, flags in parts:
        kind = {"row_q": "Row", "column_q": "Column"}.get(index, "Beat")
        name = roms.setdefault((index, flags), f"{kind}{len(roms)}")
        texts.append(f"{name}[{index}]")
    return texts[0] if len(texts) == 1 else f"({(' && ' if bit.both else ' || ').join(texts)})"


def _row(flags: Sequence[bool], row: int, columns: int, room: int) -> list[bool]:
    own = list(flags[row * columns : (row + 1) * columns])
    return own + [False] * (room - columns)
