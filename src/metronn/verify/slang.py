"""Emitted SystemVerilog read by slang, which keeps to the standard where simulators are lenient."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path

from metronn.errors import ToolError

WARNINGS = ("-Wextra", "-Wno-useless-cast", "-Wno-case-redundant-default")
"""What counts beside errors and slang's default warnings.

Left out: every emitted operand is cast to its width, also where it has it; a `unique case` over phases ends in a
default, so that no code is left open.
"""


def slang_version() -> str:
    """Return the version of slang. Raises ToolError when pyslang is not installed."""
    if importlib.util.find_spec("pyslang") is None:
        raise ToolError("pyslang is not installed (pip install 'metronn[synth]')")
    found = importlib.import_module("pyslang").VersionInfo
    return f"{found.getMajor()}.{found.getMinor()}"


def diagnostics(files: Sequence[Path], tops: Sequence[str]) -> list[str]:
    """Return all that slang says of files with these top modules, as `file.sv:LINE:COLUMN: error: ...`.

    Raises ToolError when pyslang is not installed.
    """
    slang_version()
    driver = importlib.import_module("pyslang.driver").Driver()
    driver.addStandardArgs()
    words = ["slang", *WARNINGS, *(f"--top {top}" for top in tops), *(f'"{file}"' for file in files)]
    if not driver.parseCommandLine(" ".join(words)) or not driver.processOptions():
        raise ToolError(f"slang takes none of {', '.join(file.name for file in files)}")
    driver.parseAllSources()
    compilation = driver.createCompilation()
    sources, engine = driver.sourceManager, driver.diagEngine
    engine.clearCounts()
    found = []
    for one in compilation.getAllDiagnostics():
        place = sources.getFullyExpandedLoc(one.location)
        severity = str(engine.getSeverity(one.code, place)).rpartition(".")[2].lower()
        if severity in ("ignored", "note"):
            continue
        where = f"{Path(sources.getFileName(place)).name}:{sources.getLineNumber(place)}"
        where += f":{sources.getColumnNumber(place)}"
        found.append(f"{where}: {severity}: {engine.formatMessage(one)}")
    return sorted(dict.fromkeys(found))
