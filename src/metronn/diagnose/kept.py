"""What a build keeps so that its values can be traced: which integers stand for which value, at which scale."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from metronn.errors import ModelError
from metronn.ir.graph import Graph
from metronn.ir.ops import Linear
from metronn.quantize.quantize import Quantized
from metronn.quantize.traced import TracedMatrix, TracedValue, first_present

TRACED = "vectors/traced.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptTrace:
    """The values and the matrices of a network that the integer graph of its build has."""

    values: tuple[TracedValue, ...]
    matrices: tuple[TracedMatrix, ...]


def kept_of(quantized: Quantized, graph: Graph) -> KeptTrace:
    """Return what of a quantized network is traced in a graph that passes or the planner made of its own."""
    matrices = (m for m in quantized.matrices if m.value in graph.by_name)
    return KeptTrace(
        values=first_present(quantized.traced, graph),
        matrices=tuple(m for m in matrices if isinstance(graph.by_name[m.value].op, Linear)),
    )


def trace_files(quantized: Quantized, graph: Graph) -> dict[str, bytes]:
    """Return the file of a build, by its path, that says what stands for what in the graph of its design."""
    kept = kept_of(quantized, graph)
    data = {name: [entry.to_json() for entry in getattr(kept, name)] for name in ("values", "matrices")}
    return {TRACED: (json.dumps(data, indent=1) + "\n").encode()}


def read_trace(folder: Path, graph: Graph) -> KeptTrace:
    """Read it. Raises ModelError when there is none, as in builds of older versions, or it is damaged."""
    path = folder / TRACED
    if not path.is_file():
        raise ModelError(f"{folder}: {TRACED} is missing, which says what its integers stand for; compile again")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        values = tuple(map(TracedValue.from_json, data["values"]))
        matrices = tuple(map(TracedMatrix.from_json, data["matrices"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path}: is damaged: {error}; compile again") from None
    named = [entry.value for entry in values] + [entry.value for entry in matrices]
    missing = [name for name in named if name not in graph.by_name]
    if missing:
        raise ModelError(f"{path}: names values that graph.txt has not: {', '.join(missing)}; compile again")
    return KeptTrace(values=values, matrices=matrices)
