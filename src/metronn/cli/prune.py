"""`metronn prune`: zeros where they save hardware."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from metronn.cli import options
from metronn.cli.console import Log, handled, say, say_json
from metronn.cli.taking import taking
from metronn.cli.training import (
    SHARED,
    about_run,
    begun,
    check_output,
    checkpoint_folder,
    copy_network,
    read_requests,
)
from metronn.errors import ModelError
from metronn.flow.options import Given
from metronn.report.tables import table_text
from metronn.train.options import Structure
from metronn.train.prune import LayerResult, Pruned, Pruner


@handled
@taking("prune.*", *SHARED)
def prune_network(
    given: Given,
    target: options.TrainedTarget = None,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="Network to write.")] = Path(
        "pruned.keras"
    ),
    checkpoints: options.Checkpoints = None,
    resume: options.Resume = False,
    force: options.Force = False,
    json: options.Json = False,
) -> None:
    """Set weights of a network of Keras, float or of HGQ2, to zero, with training in between."""
    log = Log()
    request, file, place = read_requests(target, given, "prune")
    own = file.options.prune
    if own.structure is Structure.FOLD and place is None:
        raise ModelError("--structure fold: which weights share a multiplier follows from a system: give --system NAME")
    if resume and own.epochs == 0:
        raise ModelError("--resume: without training (--epochs 0) there is nothing to go on with")
    check_output(output, request.model)
    folder = checkpoint_folder(checkpoints, output, resume=resume, force=force)
    start = begun("prune", request, quantized=False, log=log)
    engine = start.engine(request)
    engine.compile()
    accepted = file.quantize.tolerance if own.tolerance is None and own.sparsity is None else own.tolerance
    result = Pruner(
        engine=engine,
        options=own.model_copy(update={"tolerance": accepted}),
        folder=folder,
        reference=start.reference,
        target=place,
        events=start.train,
        about=about_run("prune", request, start, place),
        log=log,
    ).run(resume=resume)
    copy_network(result.file, output)
    log(f"written: {output}; checkpoints are in {folder}")
    if json:
        say_json(as_json(result, output))
        return
    say(pruned_text(result, start.task.metric_name))


def pruned_text(result: Pruned, metric: str) -> str:
    """Return the table of layers and a line about the whole."""
    columns = ["layer", "weights", "not zero", "left", "zeros"]
    costed, folded = not math.isnan(result.cost_before), any(layer.multipliers_before for layer in result.layers)
    columns += ["LUT-equivalents", "after"] if costed else []
    columns += ["multipliers", "left"] if folded else []
    rows = [_row(layer, costed=costed, folded=folded) for layer in result.layers]
    table = table_text(tuple(columns), rows, right=tuple(range(1, len(columns))))
    best = result.best
    line = (
        f"{100 * best.sparsity:.1f} % of the weights are zero; {metric} {best.metric:.4f} after {result.reference:.4f} "
        f"({-100 * best.loss_of_metric:+.2f} %)"
    )
    if costed:
        line += f"; LUT-equivalents {result.cost_before:,.0f} -> {best.lut_equivalents:,.0f}"
    return f"{table.rstrip()}\n{line}\n"


def _row(layer: LayerResult, *, costed: bool, folded: bool) -> tuple[str, ...]:
    cells = [
        layer.layer,
        f"{layer.weights:,}",
        f"{layer.before:,}",
        f"{layer.after:,}",
        f"{100 * (1 - layer.after / layer.weights):.1f} %",
    ]
    cells += [f"{layer.cost_before:,.0f}", f"{layer.cost_after:,.0f}"] if costed else []
    cells += [f"{layer.multipliers_before:,}", f"{layer.multipliers_after:,}"] if folded else []
    return tuple(cells)


def as_json(result: Pruned, output: Path) -> dict[str, object]:
    """Return the result for machines."""

    def number(value: float) -> float | None:
        return None if math.isnan(value) else value

    return {
        "network": str(output),
        "reference_metric": result.reference,
        "best": result.best.as_dict(),
        "lut_equivalents_before": number(result.cost_before),
        "layers": [
            {
                "layer": layer.layer,
                "weights": layer.weights,
                "nonzero_before": layer.before,
                "nonzero_after": layer.after,
                "lut_equivalents_before": number(layer.cost_before),
                "lut_equivalents_after": number(layer.cost_after),
                "multipliers_before": layer.multipliers_before,
                "multipliers_after": layer.multipliers_after,
            }
            for layer in result.layers
        ],
        "epochs": [record.as_dict() for record in result.records],
    }
