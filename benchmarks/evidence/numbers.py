"""Tables of what networks lose or keep: exactness, quantization after training, compression."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from typing import Any

from evidence.markdown import table
from evidence.speed import joined


def exactness(outputs: Mapping[str, str]) -> str:
    """Return differing bits between frameworks and integer graphs."""
    columns = (
        *("network", "framework", "tensors", "not exact", "events", "bits compared", "differing bits"),
        *("noise values", "at quantizers", "consequences", "real differences", "seconds"),
    )
    keys = (
        *("events", "bits", "differing_bits", "float32_noise", "float32_noise_at_quantizers"),
        *("consequences", "real_differences"),
    )
    rows = []
    for row in joined(outputs):
        name, seconds = f"`{row['network']}`", f"{row['seconds']:.0f}"
        if "not_run" in row:
            rows.append((name, f"not run: {row['not_run'][:120]}", *[""] * (len(columns) - 3), seconds))
            continue
        counts = (str(len(row["tensors"])), str(len(row["approximate"])))
        rows.append((name, row["framework"].split(",")[0], *counts, *(f"{row[key]:,}" for key in keys), seconds))
    return table(columns, rows, left=(0, 1))


def after_training(outputs: Mapping[str, str]) -> str:
    """Return counts of verdicts for each choice of widths."""
    found = [row for row in joined(outputs) if row["build"].startswith("metronn ")]
    rows = []
    for build in dict.fromkeys(row["build"] for row in found):
        some = [row for row in found if row["build"] == build]
        decibels = [row["measured"]["total_db"] for row in some if row["measured"]]
        width = build.removeprefix("metronn ")
        rows.append(
            (
                "default" if width == "auto" else f"{width} bits",
                str(len(some)),
                *(str(sum(row["verdict"] == verdict for row in some)) for verdict in ("pass", "fail", "refused")),
                str(sum(row["failed_not_lost"] for row in some)),
                str(sum(row["silent_loss"] for row in some)),
                f"{statistics.median(decibels):.1f} dB" if decibels else "",
            )
        )
    columns = ("widths", "networks", "pass", "fail", "refused", "fail, not lost", "silent losses", "median SQNR")
    return table(columns, rows)


PEERS = ("hls4ml ap_fixed<16,6>", "hls4ml auto")


def peers(outputs: Mapping[str, str]) -> str:
    """Return signal to noise, and accuracy where there is one, beside hls4ml on its events."""
    rows = []
    for network, output in outputs.items():
        by_build = {row["build"]: row for row in json.loads(output)}
        rows.append((network, *(_signal(by_build.get(build)) for build in ("metronn auto", *PEERS))))
    return table(("network", "default widths", *PEERS), rows)


def _signal(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return "not run"
    measured = row["measured"]
    if measured is None:
        return f"{row['verdict']}: {row['reason'][:60]}"
    accuracy = f" ({measured['fixed_value']:.4f})" if measured["fixed_value"] is not None else ""
    return f"{measured['total_db']:.1f}{accuracy}"


def compression(outputs: Mapping[str, str]) -> str:
    """Return the muon network pruned and fine-tuned beside 8 bits after training."""
    found = json.loads(next(iter(outputs.values())))
    reference, rows = found["float"], found["rows"]
    first = {row["ii"]: row["lut_equivalents"] for row in rows if row["network"] == rows[0]["network"]}
    cells = [
        (
            row["network"],
            str(row["ii"]),
            *(f"{row[key]:,.0f}" for key in ("lut", "ff", "dsp", "lut_equivalents")),
            f"{first[row['ii']] / row['lut_equivalents']:.2f}",
            f"{row['metric']:.4f}",
            f"{100 * (reference - row['metric']) / reference:.2f} %",
        )
        for row in rows
    ]
    estimates = table(("network", "II", "LUT", "FF", "DSP", "LUT-eq.", "fewer", "area", "loss"), cells)
    plan = found["plan"]
    keys = ("ii", "fpgas", "latency_cycles", "lut", "ff", "dsp")
    row = (f"{rows[-1]['network']}, planned", *(f"{plan[key]:,}" for key in keys))
    return estimates + "\n\n" + table(("network", "II", "FPGAs", "cycles", "LUT", "FF", "DSP"), [row])
