"""Which kernels of a design do not keep its clock, and which clock they would keep."""

from __future__ import annotations

from metronn.plan.design import Design
from metronn.plan.hardware.timing import StagePath
from metronn.toml_tables import plain

MOST_SHOWN = 3


def too_slow(design: Design) -> str | None:
    """Return the message that no plan keeps the clock, with kernels, paths and the clock that would do; None if all do.

    Where kernels can be cut into more stages, planning has done so: what is left is single pieces of logic.
    """
    timing = design.timing
    slow: dict[str, StagePath] = {}
    for kernel in (kernel for fpga in design.fpgas for kernel in fpga.kernels):
        planned = design.planned(kernel)
        path = planned.slowest
        if path.ps > timing.logic_ps:
            source = design.graph.by_name[planned.result].source
            slow[source] = max(slow.get(source, path), path, key=lambda some: some.ps)
    if not slow:
        return None
    system = design.system
    grades = dict.fromkeys(f"{fpga.device.name}, speed grade {fpga.device.speed_grade}" for fpga in system.fpgas)
    worst = sorted(slow, key=lambda source: -slow[source].ps)
    have = f"{max(timing.logic_ps, 0) / 1000:.2f}"
    lines = [
        f"no plan for system {system.name} at {plain(system.clock_mhz)} MHz on {' and '.join(grades)}:",
        *(f"  {source}: {slow[source]} of {have}." for source in worst[:MOST_SHOWN]),
    ]
    if len(worst) > MOST_SHOWN:
        lines.append(f"  {len(worst) - MOST_SHOWN} more layers are too slow.")
    clock = int(1e6 / (slow[worst[0]].ps + timing.arcs.overhead_ps))
    lines.append(f"  A clock of {clock} MHz would do (--clock-mhz), or a faster speed grade.")
    return "\n".join(lines)
