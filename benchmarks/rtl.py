"""Rungs 4 and 5 on the demo: 2,000 muons through each FPGA's RTL and through the system, simulator builds included.

    python benchmarks/rtl.py [BUILD] [--json]

Without a build folder examples/omtf is compiled into a temporary one first (not counted). The cache of simulators is
an empty temporary folder, so every simulator is built; then all is run again with the simulators in the cache, and
the difference of the two is the time of the builds. Exit status 1 when a rung fails or the first run takes 4 minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from metronn.errors import MetronnError
from metronn.verify.run import read_build, verify_build
from metronn.verify.verdict import Status, Verdict

DEMO = Path(__file__).resolve().parents[1] / "examples" / "omtf"
LIMIT_S = 240.0
WHO = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)


def processor_s() -> float:
    """Processor seconds of this process and its children so far."""
    return sum(use.ru_utime + use.ru_stime for use in map(resource.getrusage, WHO))


def timed(build: Path) -> tuple[float, float, tuple[Verdict, ...]]:
    """Run rungs 4 and 5; return wall and processor seconds and the verdicts."""
    start, used = time.perf_counter(), processor_s()
    verdicts = verify_build(build, rungs=(4, 5), log=lambda text: print(text, file=sys.stderr))
    return time.perf_counter() - start, processor_s() - used, verdicts


def simulated_cycles(build: Path, verdicts: tuple[Verdict, ...]) -> int:
    """Clock cycles simulated at least: the events of all tops times the II, and one latency each."""
    design = read_build(build).design
    return sum(v.events * design.ii_cycles + (v.cycles_promised or 0) for v in verdicts)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=Path, nargs="?", help="build folder; none: examples/omtf is compiled")
    parser.add_argument("--once", action="store_true", help="only the run with the empty cache")
    parser.add_argument("--json", action="store_true", help="machine-readable result")
    return parser.parse_args()


def measure(build: Path, cache: Path, *, once: bool) -> dict[str, Any]:
    os.environ["XDG_CACHE_HOME"] = str(cache)
    os.environ["CCACHE_DIR"] = str(cache / "ccache")
    total, total_cpu, verdicts = timed(build)
    again, again_cpu, _ = (None, None, ()) if once else timed(build)
    cycles = simulated_cycles(build, verdicts)
    return {
        "total_s": total,
        "total_cpu_s": total_cpu,
        "run_s": again,
        "run_cpu_s": again_cpu,
        "cycles": cycles,
        "events": sum(v.events for v in verdicts),
        "bits": sum(v.bits for v in verdicts),
        "verdicts": [
            {
                "rung": v.rung,
                "name": v.name,
                "status": v.status.value,
                "events": v.events,
                "bits": v.bits,
                "cycles_promised": v.cycles_promised,
                "first": v.first,
            }
            for v in verdicts
        ],
    }


def print_result(result: dict[str, Any]) -> None:
    for verdict in result["verdicts"]:
        print(
            f"rung {verdict['rung']}  {verdict['name']:24}{verdict['status']:8}{verdict['events']:7,} events"
            f"{verdict['bits']:13,} bits  {verdict['first']}"
        )
    total, run = result["total_s"], result["run_s"]
    print(f"simulators built and run  {total:6.1f} s, CPU {result['total_cpu_s']:6.1f} s (limit {LIMIT_S:.0f} s)")
    if run is not None:
        print(f"again, simulators cached  {run:6.1f} s, CPU {result['run_cpu_s']:6.1f} s")
        print(
            f"the builds, by difference {total - run:6.1f} s, CPU {result['total_cpu_s'] - result['run_cpu_s']:6.1f} s"
        )
        rate = result["cycles"] / run
        print(f"at least {result['cycles']:,} cycles simulated, {rate:,.0f} a second over all, start-up included")
    print(f"{os.cpu_count()} cores, load at the end {os.getloadavg()[0]:.1f}")


def main() -> int:
    arguments = parsed()
    with tempfile.TemporaryDirectory(prefix="metronn-bench-") as name:
        build = arguments.build or Path(name) / "build"
        try:
            if arguments.build is None:
                command = [sys.executable, "-m", "metronn", "compile", str(DEMO), "--no-verify", "-o", str(build)]
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            result = measure(build, Path(name) / "cache", once=arguments.once)
        except subprocess.CalledProcessError as error:
            print(f"error: compiling the demo ended with status {error.returncode}", file=sys.stderr)
            return 3
        except MetronnError as error:
            print(f"error: {error}", file=sys.stderr)
            return error.exit_code
    if arguments.json:
        print(json.dumps(result, indent=1))
    else:
        print_result(result)
    passed = all(verdict["status"] == Status.PASS.value for verdict in result["verdicts"])
    return 0 if passed and result["total_s"] <= LIMIT_S else 1


if __name__ == "__main__":
    raise SystemExit(main())
