"""Where each cycle of the demo network's latency goes: on one FPGA without links, and over two boards.

The network of examples/omtf is imported, quantized and planned; printed is the longest path, kernel by kernel, for
`one-large-virtual` (no links) and `two-serenity`. Exit status 1 when the parts do not add up to the promise, do not
follow one another without a gap, or one FPGA takes more than 120 cycles:

    python benchmarks/latency.py [--model graph.txt] [--system NAME]... [--json]

Without --model the network is quantized anew; with it, the graph of a build is planned as it is.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from metronn.cli.console import Log
from metronn.errors import MetronnError
from metronn.flow.options import Given
from metronn.flow.planning import read_graph
from metronn.flow.request import find_request
from metronn.flow.stages import calibration_events, import_network, quantized_graph
from metronn.ir.graph import Graph
from metronn.plan.design import Design
from metronn.plan.hardware.system import load_system
from metronn.plan.options import PlanOptions
from metronn.plan.planner import plan
from metronn.report.path import Share, critical_path

DEMO = Path(__file__).resolve().parents[1] / "examples" / "omtf"
SYSTEMS = {"one-large-virtual": 1, "two-serenity": 2}
"""Systems and the number of their FPGAs to use."""

LIMITS = {"one-large-virtual": 120}
"""Most cycles allowed."""


def demo_graph() -> Graph:
    """Import and quantize the demo network as `metronn compile` does."""
    log = Log()
    request = find_request(DEMO, Given())
    network = import_network(request.model, log)
    return quantized_graph(request, network, calibration_events(request, network.model, log), log).graph


def kinds(design: Design) -> dict[tuple[str, str], str]:
    """Kernel kinds by FPGA and kernel name."""
    return {(f.name, k.name): type(k.spec).__name__ for f in design.fpgas for k in f.kernels}


def problems(design: Design, shares: tuple[Share, ...]) -> list[str]:
    """What is wrong with the parts: empty when they follow one another and add up to the promise."""
    found = []
    total = sum(share.cycles for share in shares)
    if total != design.latency_cycles:
        found.append(f"the parts add up to {total} cycles, {design.latency_cycles} are promised")
    at = 0
    for share in shares:
        if share.start_cycle != at:
            found.append(f"{share.what} starts in cycle {share.start_cycle}, the part before it ends in {at}")
        at = share.start_cycle + share.cycles
    limit = LIMITS.get(design.system.name)
    if limit is not None and design.latency_cycles > limit:
        found.append(f"{design.latency_cycles} cycles, at most {limit} were wanted")
    return found


def kind_of(design: Design, share: Share) -> str:
    """Kind of a part of the path: that of its kernel, else the first word of what it is."""
    return kinds(design).get((share.fpga, share.kernel or ""), share.what.split(" ")[0])


def print_path(design: Design, shares: tuple[Share, ...], seconds: float) -> None:
    known = kinds(design)
    promise = f"{design.latency_cycles} cycles = {design.latency_ns:.1f} ns at {design.system.clock_mhz:g} MHz"
    fpgas = f"{len(design.fpgas)} FPGA{'s' if len(design.fpgas) > 1 else ''}"
    print(f"{design.system.name}: {fpgas}, {promise}, II {design.ii_cycles}; planned in {seconds:.1f} s")
    print(f"  {'cycles':>11}{'':4}{'':3}{'what':44}{'kernel':14}FPGA")
    for share in shares:
        span = f"{share.start_cycle}..{share.start_cycle + share.cycles - 1}"
        kind = known.get((share.fpga, share.kernel or ""), "")
        print(f"  {span:>11}{share.cycles:4}   {share.what:44}{kind:14}{share.fpga}")
    by_kind: dict[str, int] = {}
    for share in shares:
        what = kind_of(design, share)
        by_kind[what] = by_kind.get(what, 0) + share.cycles
    print(
        f"  {'sum':>11}{sum(share.cycles for share in shares):4}   " + ", ".join(f"{k} {n}" for k, n in by_kind.items())
    )


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="text form of an integer graph (graph.txt of a build)")
    parser.add_argument("--system", action="append", help="systems to plan for; may be repeated")
    parser.add_argument("--json", action="store_true", help="machine-readable result")
    return parser.parse_args()


def main() -> int:
    arguments = parsed()
    results: list[dict[str, Any]] = []
    wrong: list[str] = []
    try:
        graph = demo_graph() if arguments.model is None else read_graph(arguments.model)
        for name in arguments.system or SYSTEMS:
            start = time.perf_counter()
            design = plan(graph, load_system(name), PlanOptions(fpgas=SYSTEMS.get(name)))
            seconds = time.perf_counter() - start
            shares = critical_path(design)
            found = problems(design, shares)
            wrong += [f"{name}: {text}" for text in found]
            results.append(
                {
                    "system": name,
                    "fpgas": len(design.fpgas),
                    "latency_cycles": design.latency_cycles,
                    "latency_ns": round(design.latency_ns, 3),
                    "plan_s": round(seconds, 2),
                    "path": [asdict(share) | {"kind": kind_of(design, share)} for share in shares],
                    "problems": found,
                }
            )
            if not arguments.json:
                print_path(design, shares, seconds)
                print()
    except MetronnError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    if arguments.json:
        print(json.dumps(results, indent=1))
    for text in wrong:
        print(f"wrong: {text}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
