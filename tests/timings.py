"""Timings of tests: stages that hold so many additions, whatever their width."""

from __future__ import annotations

from metronn.plan.hardware.arcs import Arcs
from metronn.plan.hardware.fabric import Fabric
from metronn.plan.hardware.timing import Timing

ADDITION_PS = 1000


def level_timing(fabric: Fabric, levels: int = 2, net_ps: int = 0) -> Timing:
    """Rules of stages that hold `levels` additions in a row; LUTs and their nets take `net_ps`, registers nothing."""
    arcs = Arcs(
        net_ps=net_ps,
        wide_net_ps=0,
        carry_entry_ps=ADDITION_PS - net_ps,
        carry_ps=0,
        dsp_ps=0,
        dsp_bare_ps=ADDITION_PS,
        dsp_period_ps=ADDITION_PS,
        block_ram_ps=0,
        block_ram_bare_ps=ADDITION_PS,
        overhead_ps=0,
    )
    return Timing(period_ps=levels * ADDITION_PS, arcs=arcs, fabric=fabric)
