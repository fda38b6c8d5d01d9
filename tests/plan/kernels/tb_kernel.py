"""Drive a bench of kernels and compare every promised bit in every cycle."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, RisingEdge


def as_bits(value: object) -> tuple[int, int]:
    """A response as (value, mask of bits that are unknown)."""
    try:
        return int(value), 0  # type: ignore[call-overload]
    except ValueError:
        text = str(value).upper()
        known = "".join(c if c in "01" else "0" for c in text)
        return int(known, 2), int("".join("0" if c in "01" else "1" for c in text), 2)


@cocotb.test()
async def every_beat_at_its_cycle(dut: object) -> None:
    """Inputs change after each rising edge; outputs are compared at the falling edge of the same cycle."""
    plan = json.loads(Path(os.environ["METRONN_STIMULUS"]).read_text())
    dut.rst_i.value = 1
    dut.stimulus_i.value = 0
    cocotb.start_soon(Clock(dut.clk_i, 10, unit="ns").start())
    wrong: dict[str, str] = {}
    for cycle, (stimulus, expected, mask) in enumerate(plan["cycles"]):
        await RisingEdge(dut.clk_i)
        dut.rst_i.value = int(cycle < plan["reset_cycles"])
        dut.stimulus_i.value = int(stimulus, 16)
        await FallingEdge(dut.clk_i)
        promised = int(mask, 16)
        if not promised:
            continue
        found, unknown = as_bits(dut.response_o.value)
        difference = (found ^ int(expected, 16) | unknown) & promised
        if not difference:
            continue
        for name, offset, width, latency, starts in plan["cases"]:
            ones = (1 << width) - 1
            if difference >> offset & ones and name not in wrong:
                event = max(k for k, start in enumerate(starts) if start + latency <= cycle)
                since = cycle - starts[event] - latency
                wrong[name] = (
                    f"{name}: event {event}, cycle {since}: found {found >> offset & ones:x}, "
                    f"allowed {int(expected, 16) >> offset & ones:x}, difference {difference >> offset & ones:x}"
                )
    assert not wrong, "\n".join(wrong.values())
