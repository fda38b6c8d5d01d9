"""Rung 6, static: what can be known of the emitted files without running them, a verdict for each kind of check.

- SystemVerilog: slang has no diagnostic.
- Paths: no path of a synthesised module is slower than the clock, by the budget of `metronn.verify.paths`.
- DSP registers: every block has all of its registers.
- Planned and counted: a remark, never a failure; estimates are no promise of a kernel.
- HLS C++: `metronn.verify.hls_static`, and clang++ where it is installed.
- HLS scripts: under a Tcl shell, with kept and missed promises.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from metronn.cache import scratch_base
from metronn.errors import ToolError
from metronn.plan.design import Design
from metronn.verify.dsp_registers import dsp_findings
from metronn.verify.hls_static import check_build
from metronn.verify.hls_tools import clang, clang_findings, script_findings, tclsh
from metronn.verify.kernel_netlists import (
    BAND,
    DEFAULT_EFFORT,
    Measured,
    Unit,
    chosen,
    measure,
    outside,
    units_of,
)
from metronn.verify.slang import diagnostics, slang_version
from metronn.verify.synthesis import yosys
from metronn.verify.verdict import LEFT_OUT, STATIC_RUNG, Status, Verdict

NAMES = ("SystemVerilog", "paths", "DSP registers", "planned and counted", "HLS C++", "HLS scripts")
"""What each verdict of the rung is about."""
SHOWN = 3
"""Findings that a verdict's words name; the others are counted, and all are in its record."""
MOST_FINDINGS = 200
Log = Callable[[str], None]


def static_verdicts(folder: Path, design: Design, *, full: bool = False, log: Log = lambda _: None) -> list[Verdict]:
    """Run the static checks of a build and return their verdicts, in the order of NAMES.

    `full` synthesises every kernel, which may take many minutes. A check whose tool is missing is not run.
    """
    log("rung 6: static checks")
    return [
        _checked("SystemVerilog", lambda: _systemverilog(folder)),
        *_netlists(folder, design, full, log),
        _checked("HLS C++", lambda: _hls(folder)),
        _checked("HLS scripts", lambda: _scripts(folder)),
    ]


def verdict(name: str, checked: str, found: Sequence[str], measured: dict[str, Any] | None = None) -> Verdict:
    """Return the verdict of a check: failed when anything was found."""
    record = dict(measured or {})
    if not found:
        return Verdict(
            rung=STATIC_RUNG, name=f"static: {name}", status=Status.PASS, first=f"{name}: {checked}", measured=record
        )
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    record["findings"] = list(found[:MOST_FINDINGS])
    words = f"{name}: {checked}; {'; '.join(found[:SHOWN])}{more}"
    return Verdict(rung=STATIC_RUNG, name=f"static: {name}", status=Status.FAIL, first=words, measured=record)


def _not_run(name: str, reason: str, *, left_out: bool = False) -> Verdict:
    """A check that was not run: its tool is missing, or (`left_out`) only `full` synthesises what it looks at.

    The words of a missing tool are the same for all checks that need it.
    """
    words, measured = (f"{name}: {reason}", {LEFT_OUT: True}) if left_out else (reason, {})
    return Verdict(rung=STATIC_RUNG, name=f"static: {name}", status=Status.NOT_RUN, first=words, measured=measured)


def _checked(name: str, check: Callable[[], tuple[str, Sequence[str]]]) -> Verdict:
    try:
        return verdict(name, *check())
    except ToolError as error:
        return _not_run(name, error.message)


def _systemverilog(folder: Path) -> tuple[str, Sequence[str]]:
    version = slang_version()
    rtl = folder / "rtl"
    files = sorted(path for place in ("rtl", "constants") for path in (folder / place).rglob("*.sv"))
    tops = [path.stem for path in rtl.glob("*.sv") if path.stem == "system" or path.stem.endswith("_system")]
    return f"{len(files)} files read by slang {version}", diagnostics(files, tops)


# Netlists


def _netlists(folder: Path, design: Design, full: bool, log: Log) -> list[Verdict]:
    names = NAMES[1:4]
    units = units_of(folder, design)
    if not units:
        devices = ", ".join(sorted({fpga.device.name for fpga in design.system.fpgas}))
        return [_not_run(name, f"cells of {devices} are not read here, those of AMD devices are") for name in names]
    try:
        yosys()
    except ToolError as error:
        return [_not_run(name, error.message) for name in names]
    taken, left = chosen(units, None if full else DEFAULT_EFFORT)
    if not taken:
        said = f"all {len(units)} modules are large; --full synthesises them"
        return [_not_run(name, said, left_out=True) for name in names]
    done = measure(design, taken, log)
    return [_paths(design, done, left), _blocks(design, done, left), _counts(done, left)]


def extent(done: Sequence[Measured], left: Sequence[Unit]) -> str:
    """Say what was synthesised and what was not."""
    whole = [one for one in done if one.unit.whole and not one.problem]
    parts = [one for one in done if not one.unit.whole and not one.problem]
    words = f"{len(whole)} of {sum(one.unit.whole for one in done) + len(left)} modules"
    if parts:
        words += f" and a part of {len(parts)} larger ones"
    if left:
        largest = max(left, key=lambda unit: unit.effort)
        words += f", largest left out: {largest.name} (--full takes all)"
    stopped = [f"{one.unit.name}: {one.problem}" for one in done if one.problem]
    return "; ".join([words, *stopped[:SHOWN]])


def _label(one: Measured) -> str:
    return f"{one.unit.fpga} {one.unit.name}"


def _paths(design: Design, done: Sequence[Measured], left: Sequence[Unit]) -> Verdict:
    overhead_ps = max(design.system.fpgas[fpga.index].device.arcs.overhead_ps for fpga in design.fpgas)
    period_ps = design.system.period_ps - overhead_ps
    read = [(one, one.path) for one in done if one.path is not None]
    if not read:
        return _not_run("paths", extent(done, left))
    slow = [f"{_label(one)}: {path.worst}" for one, path in read if path.worst.delay_ps > period_ps]
    worst, path = max(read, key=lambda item: item[1].worst.delay_ps)
    widest, wide = max(read, key=lambda item: item[1].fanout)
    words = f"{extent(done, left)}: slowest {path.worst.delay_ps / 1000:.2f} of {period_ps / 1000:.2f} ns in "
    words += f"{_label(worst)}, most loads {wide.fanout} in {_label(widest)} ({wide.fanout_name})"
    measured = {
        "period_ps": round(period_ps, 1),
        "modules": [_record(one) for one in done],
        "left_out": [f"{unit.fpga} {unit.name}" for unit in left],
    }
    return verdict("paths", words, slow, measured)


def _record(one: Measured) -> dict[str, Any]:
    """Return what was found of a module, as plain data."""
    record: dict[str, Any] = {"fpga": one.unit.fpga, "module": one.unit.name, "whole": one.unit.whole}
    if one.path is not None and one.counted is not None:
        record |= {
            "path_ps": one.path.worst.delay_ps,
            "path": str(one.path.worst),
            "fanout": one.path.fanout,
            "fanout_net": one.path.fanout_name,
            "planned": None if one.unit.planned is None else one.unit.planned.as_dict(),
            "counted": one.counted.as_dict(),
            "dsp_blocks": len(one.blocks),
            "dsp_complete": sum(block.complete for block in one.blocks),
        }
    return record | ({"problem": one.problem} if one.problem else {})


def _blocks(design: Design, done: Sequence[Measured], left: Sequence[Unit]) -> Verdict:
    made = [one for one in done if one.blocks]
    if not made:
        needed = any(kernel.resources.dsp for fpga in design.fpgas for kernel in fpga.kernels)
        if needed:
            return _not_run(
                "DSP registers",
                f"none of the synthesised modules has DSP blocks: {extent(done, left)}",
                left_out=bool(left),
            )
        return verdict("DSP registers", "the plan has no DSP blocks", ())
    blocks = [block for one in made for block in one.blocks]
    complete = sum(block.complete for block in blocks)
    found = [f"{one.unit.fpga} {problem}" for one in made for problem in dsp_findings(one.blocks)]
    words = f"{extent(done, left)}: {complete:,} of {len(blocks):,} DSP blocks have registers A, B, M and P"
    return verdict("DSP registers", words, found, {"blocks": len(blocks), "complete": complete})


def _counts(done: Sequence[Measured], left: Sequence[Unit]) -> Verdict:
    compared = [
        (one, outside(one.unit.planned, one.counted)) for one in done if one.unit.planned and one.counted is not None
    ]
    if not compared:
        return _not_run("planned and counted", extent(done, left))
    far = [f"{_label(one)}: {', '.join(found)}" for one, found in compared if found]
    words = f"{len(compared) - len(far)} of {len(compared)} kernels within {BAND[0]:g} to {BAND[1]:g}"
    if far:
        more = f" and {len(far) - SHOWN} more" if len(far) > SHOWN else ""
        words += f"; estimates beyond: {'; '.join(far[:SHOWN])}{more}"
    passed = verdict("planned and counted", words, ())
    return passed if not far else verdict("planned and counted", words, (), {"beyond": far})


# HLS


def _projects(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "hls").iterdir() if path.is_dir())


def _hls(folder: Path) -> tuple[str, Sequence[str]]:
    found = check_build(folder)
    program = clang()
    count = len(_projects(folder))
    words = f"{count} project{'s' if count != 1 else ''} read"
    if program is None:
        return f"{words}, not by clang++, which is not installed", found
    try:
        found = [*found, *(line for project in _projects(folder) for line in clang_findings(project, program))]
    except ToolError as error:
        return f"{words}, not by clang++: {error.message}", found
    return f"{words}, and by clang++", found


def _scripts(folder: Path) -> tuple[str, Sequence[str]]:
    tclsh()
    found: list[str] = []
    with tempfile.TemporaryDirectory(prefix="metronn-", dir=scratch_base()) as name:
        for project in _projects(folder):
            found += script_findings(project, Path(name) / project.name)
    return "build.tcl under a Tcl shell, promises kept and missed", found
