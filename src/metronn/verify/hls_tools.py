"""An HLS project before other tools than g++: clang, which the vendor's front end is, and its script in a Tcl shell."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from metronn.errors import ToolError
from metronn.verify.hls import ap_types_directory

STEPS = ("csim_design", "csynth_design", "cosim_design", "export_design")
"""Commands of the vendor's tool that a script runs, whatever each finds."""

STUBS = """
set calls {}
proc called {command arguments} {
  lappend ::calls [concat $command $arguments]
  if {$command eq $::env(BROKEN)} {error broken}
}
foreach command {
  open_project set_top add_files open_solution set_part create_clock set_clock_uncertainty config_schedule csim_design
  csynth_design cosim_design export_design
} {
  proc $command {args} "called $command \\$args"
}
rename exit real_exit
proc exit {{status 0}} { foreach call $::calls { puts "CALL $call" }; real_exit $status }
source build.tcl
"""
REPORT = "<a><Interval-max>{ii}</Interval-max><Worst-caseLatency> {latency} </Worst-caseLatency></a>"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptRun:
    """What a run of build.tcl did: status, the tool's commands that it called, what it printed, its csynth.json."""

    status: int
    calls: tuple[str, ...]
    text: str
    result: Mapping[str, Mapping[str, object]]

    @property
    def steps(self) -> tuple[str, ...]:
        """The steps in order."""
        return tuple(call.split()[0] for call in self.calls if call.split()[0] in STEPS)


def tclsh() -> str:
    """Return the path of the Tcl shell. Raises ToolError when there is none."""
    found = shutil.which("tclsh")
    if found is None:
        raise ToolError("tclsh is not installed; Debian's package is tcl")
    return found


def run_script(
    scripts: Mapping[str, str], top: str, folder: Path, *, ii: object, latency: object, broken: str = ""
) -> ScriptRun:
    """Run build.tcl in a new folder, the tool's commands recorded; its report says `ii` and `latency`.

    `scripts`: build.tcl and check.tcl. `broken`: a command that fails. Raises ToolError without a Tcl shell.
    """
    folder.mkdir(parents=True)
    for name, text in {**scripts, "stubs.tcl": STUBS}.items():
        (folder / name).write_text(text)
    report = folder / "project" / "solution" / "syn" / "report" / f"{top}_csynth.xml"
    report.parent.mkdir(parents=True)
    report.write_text(REPORT.format(ii=ii, latency=latency))
    done = subprocess.run(
        [tclsh(), "stubs.tcl"], cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "COSIM": "1", "CSIM": "1", "BROKEN": broken},
    )  # fmt: skip
    calls = [line.removeprefix("CALL ") for line in done.stdout.splitlines() if line.startswith("CALL ")]
    found = folder / "project" / "csynth.json"
    result = json.loads(found.read_text()) if found.is_file() else {}
    return ScriptRun(status=done.returncode, calls=tuple(calls), text=done.stdout + done.stderr, result=result)


def script_findings(project: Path, scratch: Path) -> list[str]:
    """Return what is wrong with the scripts of an HLS project, by runs with kept and with missed promises.

    Raises ToolError without a Tcl shell.
    """
    interface = json.loads((project / "interface.json").read_text(encoding="utf-8"))
    top, expected = str(interface["top"]), interface["expected"]
    scripts = {name: (project / name).read_text(encoding="utf-8") for name in ("build.tcl", "check.tcl")}
    found = []
    for number, (more_ii, more_latency) in enumerate(((0, 0), (1, 0), (0, 1))):
        ii, latency = expected["ii_cycles"] + more_ii, expected["latency_cycles"] + more_latency
        run = run_script(scripts, top, scratch / str(number), ii=ii, latency=latency)
        where = f"{project.name}/build.tcl with II {ii} and latency {latency}"
        wanted = int(bool(more_ii or more_latency))
        told = {
            "ii_cycles": {"found": ii, "expected": expected["ii_cycles"]},
            "latency_cycles": {"found": latency, "expected": expected["latency_cycles"]},
        }
        if run.steps != STEPS:
            said = run.text.strip().splitlines()
            found.append(
                f"{where}: runs {', '.join(run.steps) or 'nothing'} of {', '.join(STEPS)}: {said[-1] if said else ''}"
            )
        elif run.status != wanted:
            found.append(f"{where}: the exit status is {run.status}, expected is {wanted}")
        elif run.result != told:
            found.append(f"{where}: csynth.json says {json.dumps(run.result)}")
    return found


def clang() -> str | None:
    """Return the path of clang++, None where it is not installed."""
    return shutil.which("clang++")


def clang_findings(project: Path, program: str) -> list[str]:
    """Return the errors that clang++ has against a project. Raises ToolError without the ap_types headers."""
    top = json.loads((project / "interface.json").read_text(encoding="utf-8"))["top"]
    flags = ["-std=c++14", "-fsyntax-only", "-Wno-unknown-pragmas", "-isystem", str(ap_types_directory())]
    done = subprocess.run([program, *flags, f"{top}.cpp"], cwd=project, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return []
    errors = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()[-1:]
    return [f"{project.name}: clang++: {line}" for line in errors or [f"exit status {done.returncode}"]]
