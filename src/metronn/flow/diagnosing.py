"""A build beside the network it was made of, and events for both: what a trace and a profile are of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from metronn.diagnose.kept import TRACED
from metronn.diagnose.subject import Subject, read_subject
from metronn.events.data import EventSource, load_events
from metronn.flow.builds import read_manifest
from metronn.flow.emulating import beyond_words
from metronn.flow.integrity import check_file, hashes
from metronn.flow.planning import read_graph
from metronn.log import Log
from metronn.model.graph import Floats
from metronn.verify.against_build import HLS4ML_CONFIG


def diagnosed(
    build: Path, events: EventSource, log: Log, model: Path | None = None
) -> tuple[Subject, Mapping[str, Floats]]:
    """Read a build beside its network, and events by the identifiers of the inputs; saturation is a warning.

    `model` is the model file; None: it is looked for as `find_model` does. Raises ModelError where it, or what the
    build keeps for a trace, is missing, MismatchError where a file that is read was changed.
    """
    manifest = read_manifest(build)
    graph = read_graph(build / "graph.txt")
    for name in ("graph.txt", TRACED, HLS4ML_CONFIG):
        if name in hashes(build, manifest) or (build / name).exists():
            check_file(build, manifest, name)
    with log.stage("reading the network"):
        subject = read_subject(build, manifest, graph, model)
    shapes = {node.name: node.type.shape for node in graph.inputs}
    inputs = load_events(events, shapes, model_names=graph.input_names).inputs
    for node in graph.inputs:
        line = beyond_words(graph.input_names[node.name], node.op, inputs[node.name])
        if line:
            log.warn(line)
    return subject, inputs
