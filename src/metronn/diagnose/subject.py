"""A build beside the network it was made of: the float network as its frontend read it, the integers, what is which."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metronn.diagnose.kept import KeptTrace, read_trace
from metronn.errors import ModelError
from metronn.frontends import load_model
from metronn.frontends.hls4ml.apply import apply_hls4ml
from metronn.frontends.hls4ml.config import parse_hls4ml
from metronn.ir.graph import Graph
from metronn.model.graph import RealGraph
from metronn.quantize.traced import TracedValue
from metronn.verify.against_build import HLS4ML_CONFIG, find_model


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A float network, its integer graph, and which integers stand for which of its values.

    With types of hls4ml, `quantized_network` is the network with them, which was quantized, and `names` says which of
    its values stands for one of `network`; else both networks are the same.
    """

    network: RealGraph
    graph: Graph
    kept: KeptTrace
    typed: RealGraph | None = None
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def quantized_network(self) -> RealGraph:
        """The network that was quantized."""
        return self.network if self.typed is None else self.typed

    @property
    def values(self) -> Mapping[str, TracedValue]:
        """What is traced, by the name in `network`."""
        found = {entry.real: entry for entry in self.kept.values}
        if self.typed is None:
            return found
        return {name: found[typed] for name, typed in self.names.items() if typed in found}


def read_subject(folder: Path, manifest: Mapping[str, Any], graph: Graph, model: Path | None = None) -> Subject:
    """Read the network of a build and what the build keeps for a trace.

    `manifest` and `graph` are those of the build; `model` is the model file, looked for as `find_model` does where it
    is not given. Raises ModelError when the file is missing or another one, or the build keeps nothing.
    """
    kept = read_trace(folder, graph)
    network = load_model(find_model(folder, manifest, model))
    config = folder / HLS4ML_CONFIG
    if not config.is_file():
        return Subject(network=network, graph=graph, kept=kept)
    try:
        sections = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{config}: is damaged: {error}; compile again") from None
    applied = apply_hls4ml(network, parse_hls4ml(sections, HLS4ML_CONFIG))
    return Subject(network=network, graph=graph, kept=kept, typed=applied.model, names=applied.names)
