"""`metronn finetune`: quantization-aware training with learned widths."""

from __future__ import annotations

import enum
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
from metronn.errors import ToolError
from metronn.flow.options import Given
from metronn.report.tables import table_text
from metronn.train.finetune import Finetuned, Finetuner
from metronn.train.options import Widths
from metronn.train.records import Record
from metronn.train.start import quantize_network


class QuantizerLibrary(enum.Enum):
    """Whose quantizers are trained."""

    HGQ = "hgq"
    QKERAS = "qkeras"


COLUMNS = ("epoch", "metric", "loss of metric", "zeros", "EBOPs", "LUT-equivalents")


@handled
@taking("finetune.*", *SHARED)
def finetune_network(
    given: Given,
    target: options.TrainedTarget = None,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="Network to write.")] = Path(
        "finetuned.keras"
    ),
    quantizer: Annotated[
        QuantizerLibrary, typer.Option("--quantizer", help="Whose quantizers are trained.")
    ] = QuantizerLibrary.HGQ,
    checkpoints: options.Checkpoints = None,
    resume: options.Resume = False,
    force: options.Force = False,
    json: options.Json = False,
) -> None:
    """Train a network with quantizers whose widths are learned, and keep the cheapest one that is good enough."""
    log = Log()
    if quantizer is QuantizerLibrary.QKERAS:
        raise ToolError(
            "finetune: training with quantizers of QKeras is not available: QKeras and HGQ2 cannot be installed "
            "together.\n  Use --quantizer hgq. Networks that QKeras trained are read by metronn compile as they are."
        )
    request, file, place = read_requests(target, given, "finetune")
    check_output(output, request.model)
    folder = checkpoint_folder(checkpoints, output, resume=resume, force=force)
    start = begun("finetune", request, quantized=True, log=log)
    own = file.options.finetune
    default = Widths.LAYER if place is not None and place.system.ii > 1 else Widths.WEIGHT
    resolved = own.model_copy(
        update={
            "widths": own.widths or default,
            "tolerance": file.quantize.tolerance if own.tolerance is None else own.tolerance,
        }
    )
    finetuner = Finetuner(
        engine=quantize_network(start, request, resolved),
        options=resolved,
        folder=folder,
        reference=start.reference,
        target=place,
        events=start.train,
        about=about_run("finetune", request, start, place),
        log=log,
    )
    result = finetuner.run(resume=resume)
    copy_network(result.file, output)
    log(f"written: {output}; the networks of the Pareto set are in {folder}")
    if json:
        say_json(as_json(result, output))
        return
    say(table_text(COLUMNS, [row(record) for record in result.front], right=(0, 1, 2, 3, 4, 5)))
    say(
        f"epoch {result.best.epoch}: {start.task.metric_name} {result.best.metric:.4f} after {result.reference:.4f} "
        f"({-100 * result.best.loss_of_metric:+.2f} %), {first_cost(result)} -> {cost_text(result.best)}"
    )


def row(record: Record) -> tuple[str, ...]:
    """Return the cells of a record."""

    def number(value: float) -> str:
        return "-" if value != value else f"{value:,.0f}"

    return (
        str(record.epoch),
        f"{record.metric:.4f}",
        f"{100 * record.loss_of_metric:+.2f} %",
        f"{100 * record.sparsity:.1f} %",
        number(record.ebops),
        number(record.lut_equivalents),
    )


def cost_text(record: Record) -> str:
    """Return the cost of a record with its unit."""
    unit = "EBOPs" if record.lut_equivalents != record.lut_equivalents else "LUT-equivalents"
    return f"{record.cost:,.0f} {unit}"


def first_cost(result: Finetuned) -> str:
    """Return the cost before training."""
    return f"{result.records[0].cost:,.0f}"


def as_json(result: Finetuned, output: Path) -> dict[str, object]:
    """Return the result for machines."""
    return {
        "network": str(output),
        "reference_metric": result.reference,
        "best": result.best.as_dict(),
        "pareto": [record.as_dict() for record in result.front],
        "epochs": [record.as_dict() for record in result.records],
    }
