"""Seconds and peak memory of `metronn compile --no-verify` on the demo network, beside hls4ml's convert and compile.

One run on one machine measures, each in a process of its own, in turn:

    metronn compile      import, quantize, plan, emit HLS C++, RTL, tests, emulator and vectors of examples/omtf
    metronn HLS g++      the g++ time of the C simulation of the HLS C++ of every FPGA of that build
    hls4ml               load the same Keras file, convert (Vitis backend, io_parallel, Strategy Resource), write, g++

and prints medians, smallest and largest values, and ratios to hls4ml:

    python benchmarks/compile.py [--repeats N] [--without-hls4ml] [--json]

Processor seconds count all threads and child processes: what other work on the machine does not change.
Peak memory is that of the largest process. Exit status 1 when a figure of metronn is above its limit.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEMO = Path(__file__).resolve().parents[1] / "examples" / "omtf"
LIMITS_S = {"metronn compile": 30.0, "metronn HLS g++": 60.0}
LIMIT_MEMORY_MB = 2000.0

HLS_GPP = """
import sys, pathlib
from metronn.verify.hls import HlsSimulation
build, scratch = map(pathlib.Path, sys.argv[1:])
for folder in sorted(path for path in (build / "hls").iterdir() if path.is_dir()):
    HlsSimulation.build(folder, scratch / folder.name)
"""

HLS4ML = """
import os, sys
os.environ["KERAS_BACKEND"] = "jax"
import hls4ml, keras
model = keras.models.load_model(sys.argv[1], compile=False)
config = hls4ml.utils.config_from_keras_model(
    model, granularity="name", backend="Vitis", default_precision="fixed<16,6>"
)
config["Model"]["Strategy"] = sys.argv[3]
config["Model"]["ReuseFactor"] = 8
for layer in config["LayerName"].values():
    layer.update(Strategy=sys.argv[3], ReuseFactor=8)
converted = hls4ml.converters.convert_from_keras_model(
    model, hls_config=config, output_dir=sys.argv[2], backend="Vitis", io_type="io_parallel"
)
converted.compile()
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One process: wall and processor seconds, peak memory in MB (10^6 bytes)."""

    wall_s: float
    cpu_s: float
    memory_mb: float


def timed(command: Sequence[str], environment: dict[str, str] | None = None) -> Run:
    """Run a command and measure it and its children. Raises RuntimeError with the end of what it said."""
    probe = (
        "import json, resource, subprocess, sys, time\n"
        "start = time.perf_counter()\n"
        "done = subprocess.run(sys.argv[2:], stdout=subprocess.DEVNULL, stderr=open(sys.argv[1], 'w'))\n"
        "wall = time.perf_counter() - start\n"
        "use = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print(json.dumps([done.returncode, wall, use.ru_utime + use.ru_stime, use.ru_maxrss * 1024 / 1e6]))\n"
    )
    with tempfile.NamedTemporaryFile("r", suffix=".log") as log:
        done = subprocess.run(
            [sys.executable, "-c", probe, log.name, *command],
            env={**os.environ, **(environment or {})},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        status, wall, cpu, memory = json.loads(done.stdout)
        if status != 0:
            raise RuntimeError(f"{' '.join(command[:4])} ended with status {status}:\n{log.read()[-2000:]}")
    return Run(wall_s=wall, cpu_s=cpu, memory_mb=memory)


def one_round(arguments: argparse.Namespace, folder: Path) -> dict[str, Run]:
    """Measure every contestant once."""
    build = folder / "build"
    metronn = [sys.executable, "-m", "metronn", "compile", str(arguments.model), "--no-verify", "-o", str(build)]
    runs = {"metronn compile": timed([*metronn, "--force"])}
    if importlib.util.find_spec("hls4ml") is None:
        return runs
    runs["metronn HLS g++"] = timed([sys.executable, "-c", HLS_GPP, str(build), str(folder / "csim")])
    if not arguments.without_hls4ml:
        network = next(arguments.model.glob("*.keras"))
        script = [sys.executable, "-c", HLS4ML, str(network), str(folder / "hls4ml"), arguments.strategy]
        runs["hls4ml convert and g++"] = timed(script, {"KERAS_BACKEND": "jax", "TF_CPP_MIN_LOG_LEVEL": "3"})
    return runs


def summary(name: str, runs: Sequence[Run]) -> dict[str, Any]:
    walls = [run.wall_s for run in runs]
    return {
        "name": name,
        "wall_s": statistics.median(walls),
        "wall_min_s": min(walls),
        "wall_max_s": max(walls),
        "cpu_s": statistics.median(run.cpu_s for run in runs),
        "memory_mb": max(run.memory_mb for run in runs),
    }


def over_limit(row: dict[str, Any]) -> bool:
    if row["name"] not in LIMITS_S:
        return False
    return bool(row["wall_s"] > LIMITS_S[row["name"]] or row["memory_mb"] > LIMIT_MEMORY_MB)


def print_table(rows: Sequence[dict[str, Any]], repeats: int) -> None:
    print(
        f"{'':26}{'median s':>9}{'min':>7}{'max':>7}{'CPU s':>8}{'peak MB':>9}{'wall / hls4ml':>15}{'CPU / hls4ml':>14}"
    )
    peer = next((row for row in rows if row["name"].startswith("hls4ml")), None)
    for row in rows:
        ratios = ("-", "-")
        if peer is not None:
            ratios = (f"{row['wall_s'] / peer['wall_s']:.2f}", f"{row['cpu_s'] / peer['cpu_s']:.2f}")
        note = f"  limit {LIMITS_S[row['name']]:.0f} s" if row["name"] in LIMITS_S else ""
        print(
            f"{row['name']:26}{row['wall_s']:9.1f}{row['wall_min_s']:7.1f}{row['wall_max_s']:7.1f}{row['cpu_s']:8.1f}"
            f"{row['memory_mb']:9.0f}{ratios[0]:>15}{ratios[1]:>14}{note}"
        )
    load = os.getloadavg()[0]
    print(f"medians of {repeats} runs; {os.cpu_count()} cores, load at the end {load:.1f}")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=DEMO, help="folder with metronn.toml and one .keras file")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--strategy", default="Resource", choices=("Resource", "Latency"), help="hls4ml's strategy")
    parser.add_argument("--without-hls4ml", action="store_true")
    parser.add_argument("--json", action="store_true", help="machine-readable result")
    return parser.parse_args()


def main() -> int:
    arguments = parsed()
    runs: dict[str, list[Run]] = {}
    try:
        for number in range(arguments.repeats):
            with tempfile.TemporaryDirectory(prefix="metronn-bench-") as name:
                for who, run in one_round(arguments, Path(name)).items():
                    runs.setdefault(who, []).append(run)
                    print(f"run {number + 1}: {who}: {run.wall_s:.1f} s, {run.memory_mb:.0f} MB", file=sys.stderr)
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    rows = [summary(who, found) for who, found in runs.items()]
    if arguments.json:
        print(json.dumps(rows, indent=1))
    else:
        print_table(rows, arguments.repeats)
    return 1 if any(over_limit(row) for row in rows) else 0


if __name__ == "__main__":
    raise SystemExit(main())
