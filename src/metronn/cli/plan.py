"""`metronn plan`: from an integer graph to kernels, cycles, FPGAs and links."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from metronn.cli import options
from metronn.cli.console import Log, handled, say, say_json
from metronn.cli.taking import taking
from metronn.emit.manifest import promises
from metronn.errors import InfeasibleError, ModelError
from metronn.flow.folders import check_files, write_file
from metronn.flow.options import Given
from metronn.flow.planning import chosen_system, planned, read_graph
from metronn.flow.request import FILE_NAME, read_request
from metronn.ir.text import to_text
from metronn.plan.design import Design
from metronn.plan.hardware.resources import Resources
from metronn.plan.options import Objective, PlanOptions
from metronn.plan.planner import first_reason, plan
from metronn.plan.serialize import design_to_json
from metronn.report.summary import summarize
from metronn.report.tables import table_text
from metronn.report.text import plan_text


@handled
@taking("plan.*")
def plan_graph(
    given: Given,
    graph: Annotated[Path, typer.Argument(metavar="GRAPH", help="A graph.txt of `metronn quantize`.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="Plan to write.")] = Path("plan.json"),
    json: options.Json = False,
) -> None:
    """Plan a graph on a system. Options that are not given are those of the metronn.toml beside the graph, if any."""
    log = Log()
    in_parts = output.with_suffix(".graph.txt")
    check_files(output=output)
    beside = graph.parent / FILE_NAME
    request = read_request(beside if beside.is_file() else None, given, model=graph)
    whole = read_graph(graph)
    design = planned(request, whole, chosen_system(request), log)
    write_file(output, design_to_json(design).encode())
    log(f"written: {output}")
    if design.graph != whole:
        write_file(in_parts, to_text(design.graph).encode())
        log(f"written: {in_parts}, the graph with its layers in parts, which that plan is of")
    ends = _ends(request.plan, design, log)
    if json:
        trade = {
            objective.value: _trade(end) if isinstance(end, Design) else {"no_plan": end}
            for objective, end in ends.items()
        }
        say_json({"plan": str(output), "promises": promises(design), "trade": trade})
        return
    say(plan_text(summarize(design, {"name": graph.stem, "promises": promises(design)})))
    rows = [
        (objective.value, *(f"{value:,}" for value in _trade(end).values()), "*" if end is design else "")
        for objective, end in ends.items()
        if isinstance(end, Design)
    ]
    say(
        "\n"
        + table_text(("plan.objective", "cycles", "LUT", "FF", "DSP", "BRAM36", "this"), rows, right=(1, 2, 3, 4, 5))
    )
    for objective, end in ends.items():
        if isinstance(end, str):
            say(f'plan.objective = "{objective.value}" has no plan: {end}')


def _ends(options: PlanOptions, design: Design, log: Log) -> dict[Objective, Design | str]:
    """Return the plans of both objectives, the one that was asked for among them; or why the other has none, a line."""
    found: dict[Objective, Design | str] = {}
    for objective in Objective:
        if objective is options.objective:
            found[objective] = design
            continue
        other = options.model_copy(update={"objective": objective})
        try:
            with log.stage(f"planning for {objective.value}, to compare"):
                found[objective] = plan(
                    design.graph, design.system, other, log.progress("planning to compare"), advise=False
                )
        except (InfeasibleError, ModelError) as error:
            found[objective] = first_reason(error, design.system)
    return found


def _trade(design: Design) -> dict[str, float]:
    total = sum((fpga.resources for fpga in design.fpgas), Resources())
    return {
        "latency_cycles": design.latency_cycles,
        "lut": total.lut,
        "ff": total.ff,
        "dsp": total.dsp,
        "bram36": total.bram36,
    }
