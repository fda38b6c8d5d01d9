"""`metronn quantize`: from a trained network to an integer graph."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from metronn.cli import options
from metronn.cli.config import Overrides, find_request
from metronn.cli.console import Log, handled, plain_json, say, say_json
from metronn.cli.folders import write_file
from metronn.cli.stages import calibration_events, import_model, quantized_graph
from metronn.ir.text import graph_hash, to_text
from metronn.quantize.report import COLUMNS
from metronn.report.tables import table_text


@handled
def quantize_network(
    target: options.Target = None,
    calibrate: options.Calibrate = None,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="Graph to write.")] = Path("graph.txt"),
    report: Annotated[
        Path | None, typer.Option("--report", metavar="FILE", help="Also write the quantization report as JSON.")
    ] = None,
    weight_bits: options.WeightBits = None,
    activation_bits: options.ActivationBits = None,
    label: options.Label = None,
    json: options.Json = False,
) -> None:
    """Quantize a network with calibration events and write the integer graph as text."""
    log = Log()
    request = find_request(
        target,
        Overrides(calibrate=calibrate, weight_bits=weight_bits, activation_bits=activation_bits, label=label),
    )
    model = import_model(request.model, log)
    quantized = quantized_graph(request, model, calibration_events(request, model, log), log)
    write_file(output, to_text(quantized.graph).encode())
    if report is not None:
        write_file(report, plain_json(quantized.report.to_json()).encode())
    log(f"written: {output}")
    if json:
        say_json({"graph": str(output), "graph_hash": graph_hash(quantized.graph)} | quantized.report.to_json())
        return
    say(table_text(COLUMNS, list(quantized.report.rows()), right=(5, 6, 7)))
    say(quantized.report.summary())
