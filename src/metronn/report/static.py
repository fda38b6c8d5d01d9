"""What rung 6 measured of each synthesised module, as rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metronn.report.summary import RESOURCE_TITLES, Summary, count_text
from metronn.verify.verdict import STATIC_RUNG

COMPARED = ("lut", "ff", "dsp", "bram36")
STATIC_COLUMNS = (
    "module",
    "FPGA",
    "slowest path [ns]",
    "most loads",
    "DSP blocks with all registers",
    *(f"{RESOURCE_TITLES[name]} planned, counted" for name in COMPARED),
)
MODEL = (
    "Each module is synthesised alone by Yosys. The time of a path is what a budget gives its nets, LUTs and carries "
    "on the device's speed grade: nothing was placed or routed."
)


def static_record(summary: Summary) -> Mapping[str, Any] | None:
    """Return what the verdict about paths measured, None where it was not run."""
    found = [
        verdict.measured
        for verdict in summary.verdicts
        if verdict.rung == STATIC_RUNG and "modules" in verdict.measured
    ]
    return found[0] if found else None


def static_rows(summary: Summary) -> list[tuple[str, ...]]:
    """Return a row for each synthesised module, in the order of STATIC_COLUMNS."""
    record = static_record(summary)
    if record is None:
        return []
    period = record["period_ps"] / 1000
    rows = []
    for module in record["modules"]:
        if "path_ps" not in module:
            rows.append(
                (module["module"], module["fpga"], module.get("problem", ""), *[""] * (len(STATIC_COLUMNS) - 3))
            )
            continue
        planned, counted = module["planned"], module["counted"]
        cells = [f"{count_text(planned[name]) if planned else '-'}, {count_text(counted[name])}" for name in COMPARED]
        blocks = f"{module['dsp_complete']:,} of {module['dsp_blocks']:,}" if module["dsp_blocks"] else ""
        path = f"{module['path_ps'] / 1000:.2f} of {period:.2f}"
        rows.append((module["module"], module["fpga"], path, str(module["fanout"]), blocks, *cells))
    return rows


def left_out_words(summary: Summary) -> str:
    """Say which modules were not synthesised whole; empty when all were."""
    left = (static_record(summary) or {}).get("left_out", ())
    return f"Not synthesised whole: {', '.join(left)}." if left else ""
