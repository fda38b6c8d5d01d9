"""`metronn plan`: from an integer graph to kernels, cycles, FPGAs and links."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from metronn.cli import options
from metronn.cli.config import FILE_NAME, Overrides, read_request
from metronn.cli.console import Log, handled, say, say_json
from metronn.cli.folders import write_file
from metronn.cli.planning import chosen_system, planned, read_graph
from metronn.emit.manifest import promises
from metronn.plan.design import Design
from metronn.plan.options import Objective, PlanOptions
from metronn.plan.planner import plan
from metronn.plan.resources import Resources
from metronn.plan.serialize import design_to_json
from metronn.report.summary import summarize
from metronn.report.tables import table_text
from metronn.report.text import plan_text


@handled
def plan_graph(
    graph: Annotated[Path, typer.Argument(metavar="GRAPH", help="A graph.txt of `metronn quantize`.")],
    system: options.SystemName = None,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="Plan to write.")] = Path("plan.json"),
    ii: options.Ii = None,
    clock_mhz: options.ClockMhz = None,
    objective: options.ObjectiveOption = None,
    fold: options.FoldOption = None,
    fpgas: options.Fpgas = None,
    inputs: options.Inputs = None,
    outputs: options.Outputs = None,
    max_latency_ns: options.MaxLatency = None,
    json: options.Json = False,
) -> None:
    """Plan a graph on a system. Options that are not given are those of the metronn.toml beside the graph, if any."""
    log = Log()
    beside = graph.parent / FILE_NAME
    request = read_request(
        beside if beside.is_file() else None,
        Overrides(
            model=graph,
            system=system,
            ii=ii,
            clock_mhz=clock_mhz,
            objective=objective,
            fold=fold,
            fpgas=fpgas,
            inputs=inputs,
            outputs=outputs,
            max_latency_ns=max_latency_ns,
        ),
    )
    design = planned(request, read_graph(graph), chosen_system(request), log)
    ends = _ends(request.plan, design)
    write_file(output, design_to_json(design).encode())
    log(f"written: {output}")
    if json:
        trade = {objective.value: _trade(end) for objective, end in ends.items()}
        say_json({"plan": str(output), "promises": promises(design), "trade": trade})
        return
    say(plan_text(summarize(design, {"name": graph.stem, "promises": promises(design)})))
    rows = [
        (objective.value, *(f"{value:,}" for value in _trade(end).values()), "*" if end is design else "")
        for objective, end in ends.items()
    ]
    say(
        "\n"
        + table_text(("plan.objective", "cycles", "LUT", "FF", "DSP", "BRAM36", "this"), rows, right=(1, 2, 3, 4, 5))
    )


def _ends(options: PlanOptions, design: Design) -> dict[Objective, Design]:
    """Return the plans of both objectives: the one that was asked for, and what the other one gives."""
    return {
        objective: design
        if objective is options.objective
        else plan(design.graph, design.system, options.model_copy(update={"objective": objective}))
        for objective in Objective
    }


def _trade(design: Design) -> dict[str, float]:
    total = sum((fpga.resources for fpga in design.fpgas), Resources())
    return {
        "latency_cycles": design.latency_cycles,
        "lut": total.lut,
        "ff": total.ff,
        "dsp": total.dsp,
        "bram36": total.bram36,
    }
