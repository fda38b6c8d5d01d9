"""Tables of time: what users wait for, emulators, compilation, simulators, growth with the network."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from evidence.markdown import table

CASES = {
    "help": "`metronn --help`",
    "boards": "`metronn boards`",
    "missing file": "error about a missing file",
    "image": "plan of 26 convolutions, II 1024",
    "dense 1024": "plan of a dense layer 1024 x 1024, II 1600",
    "dense 4096": "plan of a dense layer 4096 x 4096, II 1600",
    "no board": "refusal: those convolutions on a Pynq-Z2",
    "no II": "refusal: the same at II 256 on one VU9P",
}
"""What waiting.py measures, in words."""


def joined(outputs: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the rows of all parts that print lists of rows."""
    return [row for output in outputs.values() for row in json.loads(output)]


def waiting(outputs: Mapping[str, str]) -> str:
    """Return processor seconds now and before."""

    def seconds(value: float | None) -> str:
        return "not ended" if value is None else f"{value:.2f}" if value < 10 else f"{value:.1f}"

    rows = [
        (CASES[row["case"]], seconds(row["before_s"]), seconds(row["now_s"]), f"{row['limit_s']:g}")
        for row in joined(outputs)
    ]
    return table(("processor seconds", "before", "now", "limit"), rows)


def emulators(outputs: Mapping[str, str]) -> str:
    """Return events per second of one network, with wall and processor time."""
    (found,) = json.loads(next(iter(outputs.values()))).values()
    peer = found[-1]
    rows = [
        (
            row["name"],
            f"{row['median']:,.0f}",
            f"{min(row['rates']):,.0f}",
            f"{max(row['rates']):,.0f}",
            f"{row['cpu_median']:,.0f}",
            f"{row['cpu_median'] / peer['cpu_median']:,.0f}",
            f"{row['build_s']:.1f} s" if row["build_s"] else "",
            f"{row['differing']:,} of {row['outputs']:,}",
        )
        for row in found
    ]
    ratio = f"/ {peer['name'].split()[0]}"
    return table(("", "events/s", "min", "max", "per CPU s", ratio, "build", "outputs that differ"), rows)


def emulators_quantized(outputs: Mapping[str, str]) -> str:
    """Return events per second of processor time of trained, quantized networks, by tool."""
    rows = []
    for network, output in outputs.items():
        for row in json.loads(output):
            if row["missing"]:
                rows.append((f"`{network}`", row["tool"], "", f"not run: {row['missing']}", "", "", ""))
                continue
            rates = [row["events"] / max(cpu, 1e-9) for _, cpu in row["runs"]]
            differing = "" if row["differing"] is None else f"{row['differing']:,} of {row['outputs']:,}"
            rows.append(
                (
                    *(f"`{network}`", row["tool"], str(row["threads"]), f"{statistics.median(rates):,.0f}"),
                    *(f"{row['events_per_s']:,.0f}", f"{row['build_s']:.1f}", differing),
                )
            )
    columns = ("network", "tool", "threads", "per CPU s", "events/s", "build s", "outputs that differ from metronn")
    return table(columns, rows, left=(0, 1))


def compilation(outputs: Mapping[str, str]) -> str:
    """Return seconds and memory of compilations."""
    found = joined(outputs)
    peer = next((row for row in found if row["name"].startswith("hls4ml")), None)
    rows = [
        (
            row["name"],
            *(f"{row[key]:.1f}" for key in ("wall_s", "wall_min_s", "wall_max_s", "cpu_s")),
            f"{row['memory_mb']:.0f}",
            "" if peer is None else f"{row['cpu_s'] / peer['cpu_s']:.2f}",
        )
        for row in found
    ]
    return table(("", "wall s", "min", "max", "CPU s", "peak MB", "CPU / hls4ml"), rows)


def simulators(outputs: Mapping[str, str]) -> str:
    """Return what rungs 4 and 5 of the demo take, built and from the cache, and what they found."""
    found = json.loads(next(iter(outputs.values())))
    rows = [
        (
            f"rung {row['rung']}, {row['name']}",
            row["status"],
            f"{row['events']:,}",
            f"{row['bits']:,}",
            str(row["cycles_promised"]),
        )
        for row in found["verdicts"]
    ]
    first = table(("", "verdict", "events", "bits", "cycles promised"), rows)
    times = [
        ("simulators built and run", f"{found['total_s']:.0f}", f"{found['total_cpu_s']:.0f}"),
        ("again, simulators in the cache", f"{found['run_s']:.0f}", f"{found['run_cpu_s']:.0f}"),
    ]
    return first + "\n\n" + table(("", "wall s", "CPU s"), times)


def layers(outputs: Mapping[str, str]) -> str:
    """Return processor seconds of plan + emit against the number of layers."""
    titles = {"dense": "dense 32 x 32 with ReLU, II 9", "image": "3 x 3 convolution 8 -> 8 on 16 x 16 pixels, II 256"}
    counts: list[int] = []
    lines: dict[str, tuple[dict[int, float], float]] = {}
    for output in outputs.values():
        for kind, found in json.loads(output).items():
            seconds = {row["layers"]: row["cpu_s"]["plan"] + row["cpu_s"]["emit"] for row in found["rows"]}
            lines[kind] = (seconds, found["exponent"])
            counts += [count for count in seconds if count not in counts]
    counts.sort()
    rows = [
        (titles[kind], *(f"{seconds[n]:.1f}" if n in seconds else "" for n in counts), f"{slope:.2f}")
        for kind, (seconds, slope) in lines.items()
    ]
    return table(("layers", *map(str, counts), "exponent"), rows)


STAGES = ("read", "quantize", "plan", "emit", "write")


def million(outputs: Mapping[str, str]) -> str:
    """Return processor seconds of each stage for networks of a million weights."""
    rows = [
        (
            f"{row['network']}, {row['what']}",
            *(f"{row['cpu_s'][stage]:.1f}" for stage in STAGES),
            f"{sum(row['cpu_s'].values()):.0f}",
            f"{row['wall_s']:.0f}",
            f"{max(row['peak_mb'].values()):.0f}",
            "180 s, 4,000 MB",
        )
        for row in joined(outputs)
    ]
    return table(("network", *STAGES, "sum", "wall s", "peak MB", "limit"), rows)


def search(outputs: Mapping[str, str]) -> str:
    """Return searched widths beside 8 bits: the rows as compression_search.py has them."""
    found: Sequence[Mapping[str, str]] = joined(outputs)
    return table(tuple(found[0]), [tuple(row.values()) for row in found], left=(0, 2))
