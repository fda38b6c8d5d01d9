"""Pulse trains in SystemVerilog: a wire that is high in given cycles of every event."""

from __future__ import annotations

from collections.abc import Sequence

from metronn.emit.rtl.text import bits_literal
from metronn.plan.kernels.pulse_trains import Nest, counter_bits, nest_of, wait_bits


def train_text(
    name: str,
    start: str,
    cycles: Sequence[int],
    *,
    index: str | None = None,
    reset: str = "rst_i",
    clock: str = "clk_i",
) -> list[str]:
    """Return body lines that declare wire `name`, high in the cycles start + c for c in the rising `cycles`.

    `start` is a wire, high for one cycle per event; events are at least cycles[-1] + 1 cycles apart. A pulse of cycle 0
    is `start` itself, with no register between. `index` names a vector of `counter_bits(len(cycles))` bits to declare
    with the number of the pulse, from 0, to be read while `name` is high. Reset stops a train; it does not stop a
    pulse of cycle 0. Names of everything else begin with `name`. Lines are indented by two.
    """
    if not cycles or cycles[0] < 0 or any(b <= a for a, b in zip(cycles, cycles[1:], strict=False)):
        raise ValueError(f"the cycles of a train rise from 0 or more, got {list(cycles[:8])}")
    if tuple(cycles) == (0,):
        lines = [f"wire {name} = {start};"]
        return _indented([*lines, *([f"wire [0:0] {index} = 1'd0;"] if index else []), ""])
    nest = nest_of(cycles)
    if nest is None:
        return _indented(_rom(name, start, cycles, index, reset, clock))
    return _indented(_nested(name, start, nest, index, reset, clock))


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"  {line}" if line else "" for line in lines]


def _counter(name: str, count: int, last: str) -> tuple[str, str]:
    """Declaration and next value of a counter that moves on with each pulse and starts again after `last`."""
    bits = counter_bits(count)
    moved = f"{name} + {bits}'d1"
    return f"logic [{bits - 1}:0] {name};", moved if count == 1 << bits else f"{last} ? {bits}'d0 : {moved}"


def _nested(name: str, start: str, nest: Nest, index: str | None, reset: str, clock: str) -> list[str]:
    levels = len(nest.levels)
    described = ", ".join(f"{count} every {period}" for count, period in nest.levels) or "once"
    lines = [f"// {name}: from cycle {nest.first}, {described}.", f"logic {name}_due_q;"]
    lines.append(f"wire {name} = {name}_due_q;" if nest.first else f"wire {name} = {start} || {name}_due_q;")
    waits = wait_bits(nest)
    if waits:
        lines.append(f"logic [{waits - 1}:0] {name}_wait_q;")
    clears, moves, ends = [f"{name}_due_q <= 1'b0;"], [], []
    if waits:
        clears.append(f"{name}_wait_q <= {waits}'d0;")
    for k, (count, _) in enumerate(nest.levels):
        counter, bits = f"{name}_count{k}_q", counter_bits(count)
        declared, moved = _counter(counter, count, f"{name}_count{k}_last")
        lines += [declared, f"wire {name}_count{k}_last = {counter} == {bits}'d{count - 1};"]
        ends.append(f"{name}_count{k}_last")
        clears.append(f"{counter} <= {bits}'d0;")
        inner = " && ".join(ends[:k])
        moves.append(f"if ({inner}) {counter} <= {moved};" if k else f"{counter} <= {moved};")
    if index is not None and levels == 1:
        lines.append(f"wire [{counter_bits(nest.pulses) - 1}:0] {index} = {name}_count0_q;")
    elif index is not None and levels == 0:
        lines.append(f"wire [0:0] {index} = 1'd0;")
    elif index is not None:
        declared, moved = _counter(index, nest.pulses, f"({' && '.join(ends)})")
        lines.append(declared)
        clears.append(f"{index} <= {counter_bits(nest.pulses)}'d0;")
        moves.append(f"{index} <= {moved};")
    due, wait = _chosen(ends, [f"1'b{int(gap == 1)}" for gap in nest.gaps], "1'b0"), ""
    if waits:
        wait = _chosen(ends, [f"{waits}'d{gap - 1}" for gap in nest.gaps], f"{waits}'d0")
    lines += ["", f"always_ff @(posedge {clock}) begin", f"  if ({reset}) begin"]
    lines += [f"    {text}" for text in clears]
    if nest.first:
        lines += [f"  end else if ({start}) begin", f"    {name}_due_q <= 1'b{int(nest.first == 1)};"]
        lines += [f"    {name}_wait_q <= {waits}'d{nest.first - 1};"] if waits else []
    if levels:
        lines += [f"  end else if ({name}) begin", f"    {name}_due_q <= {due};"]
        lines += [f"    {name}_wait_q <= {wait};"] if waits else []
        lines += [f"    {text}" for text in moves]
    lines.append("  end else begin")
    if waits:
        lines += [
            f"    {name}_due_q <= {name}_wait_q == {waits}'d1;",
            f"    if ({name}_wait_q != {waits}'d0) {name}_wait_q <= {name}_wait_q - {waits}'d1;",
        ]
    else:
        lines.append(f"    {name}_due_q <= 1'b0;")
    return [*lines, "  end", "end", ""]


def _chosen(ends: Sequence[str], values: Sequence[str], last: str) -> str:
    """Value of the innermost level that is not at its end; `last` when all are."""
    text = last
    for end, value in reversed(list(zip(ends, values, strict=True))):
        if text != value:
            text = f"!{end} ? {value} : {text}"
    return text


def _rom(name: str, start: str, cycles: Sequence[int], index: str | None, reset: str, clock: str) -> list[str]:
    """A counter of cycles reads from a ROM whether the next cycle has a pulse."""
    span = cycles[-1] + 1
    bits = counter_bits(span)
    word = sum(1 << (cycle - 1) for cycle in cycles if cycle)
    first = cycles[0] == 0
    lines = [
        f"// {name}: {len(cycles)} pulses in {span} cycles, in no simple order.",
        f"logic {name}_due_q;",
        f"logic [{bits - 1}:0] {name}_cycle_q;  // rests at the last cycle",
        f"wire  [{bits - 1}:0] {name}_cycle = {start} ? {bits}'d0 : {name}_cycle_q;",
        f"localparam logic [{(1 << bits) - 1}:0] {name.upper()}_NEXT = {bits_literal(word, 1 << bits)};",
        f"wire {name} = {start} || {name}_due_q;" if first else f"wire {name} = {name}_due_q;",
    ]
    moves, clears = [], [f"{name}_due_q <= 1'b0;", f"{name}_cycle_q <= {bits}'d{span - 1};"]
    if index is not None:
        declared, moved = _counter(index, len(cycles), f"({index} == {counter_bits(len(cycles))}'d{len(cycles) - 1})")
        lines.append(declared)
        clears.append(f"{index} <= {counter_bits(len(cycles))}'d0;")
        moves.append(f"if ({name}) {index} <= {moved};")
    at_last = f"{name}_cycle == {bits}'d{span - 1}"
    return [
        *lines,
        "",
        f"always_ff @(posedge {clock}) begin",
        f"  if ({reset}) begin",
        *(f"    {text}" for text in clears),
        "  end else begin",
        f"    {name}_due_q <= {name.upper()}_NEXT[{name}_cycle];",
        f"    {name}_cycle_q <= {at_last} ? {name}_cycle : {name}_cycle + {bits}'d1;",
        *(f"    {text}" for text in moves),
        "  end",
        "end",
        "",
    ]
