"""A graph and a system from their files, and the plan of one on the other."""

from __future__ import annotations

from pathlib import Path

from metronn.errors import ModelError
from metronn.flow.request import Request
from metronn.ir.graph import Graph
from metronn.ir.text import TextError, from_text
from metronn.log import Log
from metronn.plan.design import Design
from metronn.plan.explain.remarks import remarks
from metronn.plan.hardware.system import System, load_system
from metronn.plan.planner import plan
from metronn.plan.splitting import split_layers


def chosen_system(request: Request) -> System:
    """Read the system and give it the II and clock that were asked for."""
    wanted = request.options.plan
    return system_at(request.needed_system(), ii=wanted.ii, clock_mhz=wanted.clock_mhz)


def system_at(name: str | Path, *, ii: int | None, clock_mhz: float | None) -> System:
    """Read a system and give it another II or clock, its own where None. Raises ModelError listing what is wrong."""
    system = load_system(name)
    return system if ii is None and clock_mhz is None else system.with_overrides(ii=ii, clock_mhz=clock_mhz)


def planned(request: Request, graph: Graph, system: System, log: Log) -> Design:
    """Plan a graph."""
    with log.stage("planning"):
        design = plan(graph, system, request.plan, log.progress("planning"))
    count = len(design.fpgas)
    log(
        f"plan: {count} FPGA{'s' if count > 1 else ''} of {system.name}, latency {design.latency_cycles} cycles = "
        f"{design.latency_ns:.1f} ns, II {design.ii_cycles} at {system.clock_mhz:g} MHz"
    )
    for layer, parts in split_layers(graph, design.graph).items():
        why = "since no region of an FPGA holds it" if request.plan.parts_of(layer) is None else "as asked"
        log(f"{layer}: made in {parts} parts, {why}")
    for line in remarks(design, request.plan):
        log(line)
    return design


def read_graph(path: Path) -> Graph:
    """Read graph.txt. Raises ModelError when it is missing or damaged."""
    try:
        return from_text(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file; metronn quantize writes one") from None
    except (OSError, UnicodeDecodeError, TextError) as error:
        raise ModelError(f"{path}: is no graph of metronn: {error}") from None
