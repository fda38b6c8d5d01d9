"""Tables of firmware: cycles, resources, streams, and networks compiled and verified on all rungs."""

from __future__ import annotations

import importlib
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evidence.markdown import table
from evidence.speed import joined

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
KINDS = {
    "adders": ("MatvecAdders",),
    "folds by outputs": ("FoldOutputs",),
    "folds by inputs": ("FoldInputs",),
    "gathered": ("Gather", "Reorder"),
    "link": ("link",),
}
"""Columns of the latency table and the kinds of parts that they count."""


def latency(outputs: Mapping[str, str]) -> str:
    """Return the cycles of each kind of part of the demo's longest path."""
    rows = []
    for row in joined(outputs):
        by_kind: dict[str, list[int]] = {}
        for part in row["path"]:
            column = next((name for name, kinds in KINDS.items() if part["kind"] in kinds), "other")
            by_kind.setdefault(column, []).append(part["cycles"])
        cells = [
            f"{sum(cycles)} ({len(cycles)})" if (cycles := by_kind.get(name)) else "-" for name in (*KINDS, "other")
        ]
        rows.append((f"`{row['system']}`", f"{row['latency_cycles']} ({row['latency_ns']:.1f} ns)", *cells))
    return table(("system", "cycles", *(f"{name} (parts)" for name in KINDS), "other"), rows)


def resources(outputs: Mapping[str, str]) -> str:
    """Return estimates divided by counts of Yosys, median and worst of each kind of kernel."""
    found = joined(outputs)
    rows = []
    for kind in dict.fromkeys(row["kind"] for row in found):
        some = [row for row in found if row["kind"] == kind]
        cells = [text for name in ("lut", "ff") for text in _ratios(name, some)]
        exact = sum(
            row["counted"] is not None and all(row["estimate"][n] == row["counted"][n] for n in ("dsp", "bram36"))
            for row in some
        )
        rows.append((kind, *cells, f"{exact} of {len(some)}", f"{sum(bool(row['off']) for row in some)}"))
    columns = ("kind", "LUT median", "worst", "FF median", "worst", "DSP and BRAM36 as counted", "kernels off")
    return table(columns, rows)


def _ratios(name: str, rows: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """Return median and worst ratio of estimate to count; where none are counted, what was estimated."""
    counted = [row for row in rows if row["counted"] is not None]
    ratios = [row["estimate"][name] / row["counted"][name] for row in counted if row["counted"][name]]
    if not ratios:
        most = max((row["estimate"][name] for row in counted), default=None)
        return ("not measured" if most is None else f"at most {most:g} for 0", "")
    worst = max(ratios, key=lambda ratio: max(ratio, 1 / ratio) if ratio else math.inf)
    return f"{statistics.median(ratios):.2f}", f"{worst:.2f}"


def streams(outputs: Mapping[str, str]) -> str:
    """Return line buffers and DSP blocks of streamed convolutions beside the least."""
    rows = [
        (
            row["image"],
            *(str(row["ii"]), row["kernel"], str(row["pixels_a_beat"])),
            *(f"{row[key]:,}" for key in ("buffer_bits", "buffer_limit", "dsp", "dsp_least")),
            f"{row['cycles_after']} cycles",
        )
        for row in joined(outputs)
    ]
    columns = (
        *("image", "II", "kernel", "pixels a beat", "line-buffer bits", "limit", "DSPs"),
        *("ceil(MACs / (II x 2))", "from last pixel to last result"),
    )
    return table(columns, rows, left=(0, 2))


def alkaid(outputs: Mapping[str, str]) -> str:
    """Return metronn's RTL beside alkaid's by Yosys."""
    rows = []
    for pair in joined(outputs):
        for name in ("metronn", "alkaid"):
            row = pair[name]
            counts = (f"{row[key]:,}" for key in ("stages", "lut", "ff", "input_ff", "inverters"))
            rows.append((f"`{row['network']}`", name, *counts, f"{pair['differing']:,}"))
    columns = ("network", "RTL", "stages", "LUT", "FF", "FF of the input", "inverters", "events that differ")
    return table(columns, rows, left=(0, 1))


def operands(outputs: Mapping[str, str]) -> str:
    """Return what exact operands cost beside those of 16 bits."""
    rows = [
        (
            f"`{row['network']}`",
            str(row["ii"]),
            *(f"{row[key]['lut']:,}" for key in ("exact", "rounded")),
            *(f"{row[key]['lut_equivalents']:,.0f}" for key in ("exact", "rounded")),
            f"{row['exact']['lut_equivalents'] / row['rounded']['lut_equivalents']:.2f}",
        )
        for row in joined(outputs)
    ]
    columns = ("network", "II", "LUT, exact", "LUT, 16 bits", "LUT-eq., exact", "LUT-eq., 16 bits", "ratio of LUT-eq.")
    return table(columns, rows)


def zoo(outputs: Mapping[str, str]) -> str:
    """Return the table of the examples."""
    if str(EXAMPLES) not in sys.path:
        sys.path.insert(0, str(EXAMPLES))
    records = {record["name"]: record for record in joined(outputs)}
    found: str = importlib.import_module("zoo").table(records)
    return found


def networks(outputs: Mapping[str, str]) -> str:
    """Return the table of the shared networks."""
    found: str = importlib.import_module("rungs").table_of(joined(outputs))
    return found


def demo(outputs: Mapping[str, str]) -> str:
    """Return what the demo ends with, as it prints it, without the table of edges."""
    blocks = next(iter(outputs.values())).strip("\n").split("\n\n")
    kept = [block for block in blocks if not block.split("\n", 1)[0].startswith("edge")]
    return "```\n" + "\n\n".join(kept) + "\n```"
