"""The event line in SystemVerilog: one pulse per event, delayed to every cycle in which something starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from metronn.plan.kernels.folds.clusters import LOADS

SHORT_GAP = 16
"""Between pulses closer than this the event line is flip-flops; a longer way is a counter or a shift register."""

FEW_COUNTERS = 4
"""So many counters in a row, each with one event on its way, are less than a shift register."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventLine:
    """Text that delays a pulse to several cycles: `at[c]` is high c cycles after it; `nets` is all that it declares."""

    lines: tuple[str, ...]
    at: Mapping[int, str]
    nets: tuple[str, ...]


def event_line(name: str, source: str, taps: Sequence[int], distance: int) -> EventLine:
    """Return the line for a pulse `source` that comes at least `distance` cycles apart, and its rising `taps`."""
    lines: list[str] = []
    at: dict[int, str] = {}
    nets = []
    before = 0
    for group in _groups(taps, distance):
        first, length = group[0], group[-1] - group[0]
        vector, start = f"{name}_{first}", f"{name}_{first}_start"
        nets.append(vector)
        if first == 0:
            start = source
        else:
            lines += [
                f"  wire {start};",
                "  mnn_pulse_delay #(",
                f"    .Cycles({first - before}),",
                f"    .Distance({distance})",
                f"  ) u_{vector} (",
                "    .clk_i,",
                "    .rst_i,",
                f"    .pulse_i({at[before]}),",
                f"    .pulse_o({start})",
                "  );",
            ]
        if length:
            lines += [
                f"  (* max_fanout = {LOADS} *) logic [{length}:1] {vector}_q;",
                f"  wire  [{length}:0] {vector} = {{{vector}_q, {start}}};",
                "  always_ff @(posedge clk_i) begin",
                f"    {vector}_q <= rst_i ? {length}'d0 : {vector}[{length - 1}:0];",
                "  end",
            ]
        else:
            lines.append(f"  wire  [0:0] {vector} = {start};")
        at.update({tap: f"{vector}[{tap - first}]" for tap in group})
        before = group[-1]
    return EventLine(lines=tuple(lines), at=at, nets=tuple(nets))


def _groups(taps: Sequence[int], distance: int) -> list[list[int]]:
    """Part the taps where the way is long; put taps between where counters in a row bridge it."""
    groups: list[list[int]] = [[0]]
    for tap in taps:
        if tap - groups[-1][-1] > SHORT_GAP and SHORT_GAP < distance:
            while distance < tap - groups[-1][-1] <= FEW_COUNTERS * distance:
                groups.append([groups[-1][-1] + distance])
        if tap - groups[-1][-1] > SHORT_GAP:
            groups.append([tap])
        elif tap > groups[-1][-1]:
            groups[-1].append(tap)
    return groups
