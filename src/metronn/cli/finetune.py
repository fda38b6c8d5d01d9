"""`metronn finetune`: quantization-aware training with learned widths."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from metronn.cli import options, train_options
from metronn.cli.console import Log, handled, say, say_json
from metronn.cli.training import check_output, checkpoint_folder, copy_network, read_requests
from metronn.errors import ToolError
from metronn.report.tables import table_text
from metronn.train.convert import ConvertOptions, Widths
from metronn.train.finetune import Finetuned, FinetuneOptions, Finetuner
from metronn.train.records import Record
from metronn.train.start import begin, quantize_network
from metronn.train.task import Loss


class QuantizerLibrary(enum.Enum):
    """Whose quantizers are trained."""

    HGQ = "hgq"
    QKERAS = "qkeras"


COLUMNS = ("epoch", "metric", "loss of metric", "zeros", "EBOPs", "LUT-equivalents")


@handled
def finetune_network(
    data: train_options.Data,
    target: train_options.Model = None,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="Network to write.")] = Path(
        "finetuned.keras"
    ),
    validation: train_options.ValidationData = None,
    validation_share: train_options.ValidationShare = 0.2,
    label: options.Label = None,
    reference: train_options.Reference = None,
    loss: train_options.LossName = Loss.AUTO,
    metric: train_options.Metric = None,
    tolerance: train_options.Tolerance = None,
    target_cost: Annotated[
        float | None,
        typer.Option(
            "--target-cost", metavar="F", min=0.0, help="LUT-equivalents to come below, instead of tolerance."
        ),
    ] = None,
    price: Annotated[
        float | None, typer.Option("--price", metavar="F", min=0.0, help="First price of a LUT-equivalent in the loss.")
    ] = None,
    epochs: Annotated[
        int, typer.Option("--epochs", metavar="N", min=1, max=100_000, help="Passes over the data.")
    ] = 30,
    batch: train_options.Batch = 1024,
    rate: train_options.Rate = 1e-3,
    width_rate: Annotated[
        float,
        typer.Option(
            "--width-rate", metavar="F", min=0.0, max=1e4, help="Learning rate of widths, in units of --rate."
        ),
    ] = 20.0,
    seed: train_options.Seed = 1,
    patience: Annotated[
        int, typer.Option("--patience", metavar="N", min=0, help="End after so many epochs without a better network.")
    ] = 0,
    weight_bits: Annotated[
        int, typer.Option("--weight-bits", metavar="N", min=2, max=16, help="Bits of weights at the start.")
    ] = 8,
    activation_bits: Annotated[
        int, typer.Option("--activation-bits", metavar="N", min=2, max=20, help="Bits of activations at the start.")
    ] = 10,
    input_bits: Annotated[
        int | None,
        typer.Option("--input-bits", metavar="N", min=2, max=24, help="Bits of inputs; else the data's grid."),
    ] = None,
    widths: Annotated[
        Widths | None, typer.Option("--widths", help="What has a width of its own; else weight at II 1, layer above.")
    ] = None,
    saturate: Annotated[bool, typer.Option("--saturate", help="Activations saturate; else they wrap.")] = False,
    keep_zeros: Annotated[
        bool, typer.Option("--keep-zeros/--free-zeros", help="Weights that are zero stay zero.")
    ] = True,
    quantizer: Annotated[
        QuantizerLibrary, typer.Option("--quantizer", help="Whose quantizers are trained.")
    ] = QuantizerLibrary.HGQ,
    system: options.SystemName = None,
    ii: options.Ii = None,
    clock_mhz: options.ClockMhz = None,
    fold: options.FoldOption = None,
    checkpoints: train_options.Checkpoints = None,
    checkpoint_every: train_options.CheckpointEvery = 5,
    resume: train_options.Resume = False,
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
    request, file, place = read_requests(
        target,
        data=data,
        validation=validation,
        validation_share=validation_share,
        label=label,
        reference=reference,
        loss=loss,
        metric=metric,
        seed=seed,
        batch=batch,
        system=system,
        ii=ii,
        clock_mhz=clock_mhz,
        fold=fold,
    )
    check_output(output, request.model)
    folder = checkpoint_folder(checkpoints, output, resume=resume, force=force)
    start = begin(request, "finetune", quantized=True)
    log(
        f"finetune: {request.model.name}: {start.task.train.count:,} events to train with, "
        f"{start.task.held_out.count:,} to judge with; {start.task.loss_name}; "
        f"{start.task.metric_name} {start.reference:.4f} to hold"
    )
    if widths is None:
        widths = Widths.LAYER if place is not None and place.system.ii > 1 else Widths.WEIGHT
    convert = ConvertOptions(
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        input_bits=input_bits,
        widths=widths,
        saturate=saturate,
    )
    engine = quantize_network(start, request, convert, keep_zeros=keep_zeros, width_rate=width_rate)
    finetuner = Finetuner(
        engine=engine,
        options=FinetuneOptions(
            epochs=epochs,
            batch=batch,
            rate=rate,
            seed=seed,
            tolerance=file.quantize.tolerance if tolerance is None else tolerance,
            target_cost=target_cost,
            price=price,
            patience=patience,
            checkpoint_every=checkpoint_every,
        ),
        folder=folder,
        reference=start.reference,
        target=place,
        events=start.train,
        about={
            "verb": "finetune",
            "model": request.model.name,
            "widths": widths.value,
            "weight_bits": weight_bits,
            "activation_bits": activation_bits,
            "input_bits": input_bits,
            "saturate": saturate,
            "keep_zeros": keep_zeros,
            "width_rate": width_rate,
            "loss": start.task.loss_name,
            "metric": start.task.metric_name,
            "events": start.task.train.count,
            "system": None if place is None else f"{place.system.name} at II {place.system.ii}",
        },
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
