"""Searched widths against 8 bits everywhere: LUT-equivalents of the plan, and the metric. One run, one table.

Networks: `own_omtf_mlp` and `KERAS_3layer` of ../shared/models, and with `--omtf` the muon network of examples/omtf
(10 layers of 128: an hour on one core). LUT-equivalents: LUT + 0.5 FF + 100 DSP + 300 BRAM36 + 1300 URAM. Labels of
KERAS_3layer are the float network's own answers, its inputs are random: the metric is agreement.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from metronn.plan.hardware.resources import RESOURCE_NAMES, Resources, lut_equivalents
from metronn.report.tables import table_text

ROOT = Path(__file__).resolve().parents[1]
MODELS = ROOT.parent / "shared" / "models"
COLUMNS = ("network", "II", "widths", "metric", "LUT-eq.", "LUT", "FF", "DSP", "cycles", "evaluations", "seconds")


def metronn(*arguments: object) -> dict[str, Any]:
    """Run the command line and return its JSON; that of an error has the key `error`."""
    words = [sys.executable, "-m", "metronn", *map(str, arguments), "--json"]
    found: dict[str, Any] = json.loads(subprocess.run(words, check=False, stdout=subprocess.PIPE).stdout)
    return found


def planned(graph: Path, system: str, ii: int) -> tuple[Resources, int]:
    """Plan a graph; return resources over all FPGAs and the latency in cycles."""
    found = metronn("plan", graph, "--system", system, "--ii", ii, "-o", graph.with_suffix(".json"))["promises"]
    total = Resources()
    for used in found["resources"].values():
        total += Resources(**{name: used[name] for name in RESOURCE_NAMES})
    return total, int(found["latency_cycles"])


def compare(
    name: str, ii: int, system: str, folder: Path, call: tuple[object, ...], search: tuple[object, ...]
) -> list[tuple[str, ...]]:
    """Quantize with 8 bits and with searched widths, plan both, return their rows."""
    rows = []
    for widths in ("8 bits", "searched"):
        graph = folder / f"{name}_{ii}_{widths[0]}.txt"
        more = ("--search", "--system", system, "--ii", ii, *search) if widths == "searched" else ()
        start = time.monotonic()
        found = metronn("quantize", *call, "--weight-bits", 8, "--activation-bits", 8, *more, "-o", graph)
        seconds = time.monotonic() - start
        if "error" in found:
            said = found["error"]["message"].splitlines()[0]
            rows.append((name, str(ii), widths, f"refused: {said}", *[""] * (len(COLUMNS) - 5), f"{seconds:.0f}"))
            continue
        used, cycles = planned(graph, system, ii)
        evaluations = found.get("search", {}).get("evaluations", 1)
        rows.append(
            (
                name,
                str(ii),
                widths,
                f"{found['metric']['fixed_value']:.4f} of {found['metric']['float_value']:.4f}",
                f"{lut_equivalents(used):,.0f}",
                f"{used.lut:,}",
                f"{used.ff:,}",
                f"{used.dsp:,}",
                str(cycles),
                str(evaluations),
                f"{seconds:.0f}",
            )
        )
        sys.stderr.write("  ".join(rows[-1]) + "\n")
    return rows


def main() -> int:
    """Measure and print; returns the exit status: 1 where a search was refused."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--omtf", action="store_true", help="also the muon network of examples/omtf")
    parser.add_argument("--network", action="append", choices=("own_omtf_mlp", "KERAS_3layer"), help="only this one")
    parser.add_argument("--ii", type=int, action="append", help="of own_omtf_mlp; default 1 and 9")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--tolerance", type=float, default=0.01)
    parser.add_argument("--json", action="store_true", help="machine-readable result")
    arguments = parser.parse_args()
    search = ("--jobs", arguments.jobs, "--tolerance", arguments.tolerance)
    rows: list[tuple[str, ...]] = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        muons = MODELS / "own_omtf_mlp"
        call: tuple[object, ...] = (muons / "own_omtf_mlp.keras", "--calibrate", muons / "data.npz")
        networks = arguments.network or ["own_omtf_mlp", "KERAS_3layer"]
        for ii in arguments.ii or (1, 9) if "own_omtf_mlp" in networks else ():
            rows += compare("own_omtf_mlp", ii, "one-serenity", folder, call, search)
        if "KERAS_3layer" in networks:
            jets = np.load(MODELS / "KERAS_3layer" / "data.npz")
            np.savez(folder / "jets.npz", x=jets["x"], label=jets["y"].argmax(axis=1))
            call = (MODELS / "KERAS_3layer" / "KERAS_3layer.keras", "--calibrate", folder / "jets.npz")
            rows += compare("KERAS_3layer", 1, "one-serenity", folder, call, search)
        if arguments.omtf:
            generate = (sys.executable, ROOT / "examples/omtf/generate.py", "--events", "8000", "--seed", "1")
            subprocess.run([*map(str, generate), "--output", str(folder / "muons.npz")], check=True)
            call = (ROOT / "examples/omtf", "--calibrate", folder / "muons.npz")
            rows += compare("omtf", 9, "two-serenity", folder, call, search)
    if arguments.json:
        print(json.dumps([dict(zip(COLUMNS, row, strict=True)) for row in rows], indent=1))
    else:
        print(table_text(COLUMNS, rows, right=range(3, len(COLUMNS))))
    return int(any(row[3].startswith("refused") for row in rows))


if __name__ == "__main__":
    sys.exit(main())
