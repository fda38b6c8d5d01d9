"""`metronn import`: what is in a model file, as metronn understands it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from metronn.cli import options
from metronn.cli.console import Log, handled, say, say_json
from metronn.flow.folders import check_files, write_file
from metronn.flow.stages import import_model
from metronn.ir.ops import operands
from metronn.model.graph import RealGraph, real_op_arrays
from metronn.report.tables import table_text

COLUMNS = ("layer", "ops", "shape", "constants", "largest")


@handled
def import_network(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A network: .onnx, .keras, .h5 or .json.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="Also write it there.")] = None,
    json: options.Json = False,
) -> None:
    """Read a network and list its layers, inputs and outputs."""
    check_files(output=output)
    graph = import_model(model, Log())
    if json:
        say_json(_record(graph))
        return
    text = _text(graph)
    if output is not None:
        write_file(output, text.encode())
    say(text)


def _layers(graph: RealGraph) -> list[tuple[str, str, str, int, float]]:
    """Return name, ops, result shape, number of constants and largest magnitude of every layer."""
    found = []
    for source in dict.fromkeys(node.source for node in graph.nodes):
        nodes = [node for node in graph.nodes if node.source == source]
        arrays = [array.array for node in nodes for array in real_op_arrays(node.op)]
        ops = " ".join(
            type(node.op).__name__.removeprefix("Real").lower()
            for node in nodes
            if operands(node.op) or len(nodes) == 1
        )
        largest = max((float(abs(array).max()) for array in arrays if array.size), default=0.0)
        shape = "x".join(str(n) for n in nodes[-1].shape) or "scalar"
        found.append((source, ops, shape, sum(array.size for array in arrays), largest))
    return found


def _text(graph: RealGraph) -> str:
    rows = [
        (name, ops, shape, f"{count:,}" if count else "", f"{largest:.4g}" if count else "")
        for name, ops, shape, count, largest in _layers(graph)
    ]
    inputs = ", ".join(_both(source, name) for name, source in graph.input_names.items())
    outputs = ", ".join(_both(source, name) for name, source in graph.output_names.items())
    return f"{table_text(COLUMNS, rows, right=(3, 4))}\ninputs: {inputs}\noutputs: {outputs}\n"


def _both(source: str, name: str) -> str:
    """Return a name of the model, with that of the firmware where it is another."""
    return source if source == name else f"{source} ({name} in the firmware)"


def _record(graph: RealGraph) -> dict[str, object]:
    return {
        "inputs": [{"name": node.name, "model_name": node.source, "shape": list(node.shape)} for node in graph.inputs],
        "outputs": [
            {"name": name, "model_name": graph.output_names[name], "shape": list(graph.by_name[value].shape)}
            for name, value in graph.outputs
        ],
        "layers": [
            {"layer": name, "ops": ops.split(), "shape": shape, "constants": count, "largest": largest}
            for name, ops, shape, count, largest in _layers(graph)
        ],
    }
