"""A build against the framework of its network, or against hls4ml: what the build keeps for it, the comparison."""

from __future__ import annotations

import enum
import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metronn.errors import ModelError
from metronn.frontends import load_model
from metronn.frontends.hls4ml.apply import apply_hls4ml
from metronn.frontends.hls4ml.config import parse_hls4ml, read_hls4ml
from metronn.ir.graph import Graph
from metronn.model.graph import RealGraph
from metronn.passes.pipeline import prepare
from metronn.quantize.exact.values import ExactValue, present
from metronn.verify.against import AgainstResult, borders, compare_framework
from metronn.verify.against_events import event_chunks
from metronn.verify.framework import Framework, opened_framework, opened_hls4ml
from metronn.verify.run import Build

EXACT, HLS4ML_CONFIG = "vectors/against.json", "vectors/hls4ml_config.json"
NETWORK = "network"
"""Folder in a build of a network that came as no file."""
EVENTS = 100_000
HLS4ML_EVENTS = 2_000
COMPILED = 20_000
"""From so many events on, the compiled emulator pays."""
ROWS = 500
"""Events in a call of the framework."""


class Against(enum.Enum):
    """What a build can be compared with."""

    FRAMEWORK = "framework"
    HLS4ML = "hls4ml"


def exact_files(frontier: Sequence[ExactValue], graph: Graph, hls4ml_config: Path | None) -> dict[str, bytes]:
    """Return what a later comparison needs, by name in the build; nothing for a network quantized after training."""
    kept = present(frontier, graph)
    files = {}
    if kept:
        files[EXACT] = _json({"values": [exact.to_json() for exact in kept]})
    if hls4ml_config is not None:
        files[HLS4ML_CONFIG] = _json(read_hls4ml(hls4ml_config).sections)
    return files


def _json(data: Mapping[str, Any]) -> bytes:
    return (json.dumps(data, indent=1) + "\n").encode()


def model_record(path: Path) -> dict[str, str]:
    """Return what the manifest says about the model file."""
    return {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def find_model(folder: Path, manifest: Mapping[str, Any], given: Path | None) -> Path:
    """Return the model file of a build: the one given, or one of its name in or beside the build, or where we are.

    Raises ModelError when there is none, or it is not the one that was compiled.
    """
    record = manifest.get("model") or {}
    name = str(record.get("file", ""))
    known = [folder / NETWORK / name, folder.parent / name, Path(name)] if name else []
    places = [given] if given is not None else known
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        looked = ", ".join(map(str, places)) or "nowhere: the build does not say"
        raise ModelError(f"{folder}: the model file was not found (looked for {looked})\n  Name it: --model FILE.")
    if record and model_record(found)["sha256"] != record.get("sha256"):
        raise ModelError(f"{found}: is not the model that {folder} was compiled from (its content differs)")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What a build keeps for a comparison."""

    frontier: tuple[ExactValue, ...]
    hls4ml_config: Mapping[str, Any] | None


def read_kept(folder: Path) -> Kept:
    """Read it. Raises ModelError when it is damaged, or the build's network was quantized after training."""
    exact, config = folder / EXACT, folder / HLS4ML_CONFIG
    if not exact.is_file():
        raise ModelError(
            f"{folder}: nothing to compare bit for bit: its network was quantized by metronn, not by a framework. "
            "Rung 1 measures what that costs."
        )
    try:
        frontier = tuple(map(ExactValue.from_json, json.loads(exact.read_text(encoding="utf-8"))["values"]))
        sections = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder}: the files of a comparison are damaged: {error}; compile again") from None
    return Kept(frontier=frontier, hls4ml_config=sections)


@contextmanager
def _opened(against: Against, model: Path, kept: Kept, python: Path | None) -> Iterator[Framework]:
    if against is Against.FRAMEWORK:
        with opened_framework(model, python, ROWS) as framework:
            yield framework
        return
    with (
        tempfile.TemporaryDirectory(prefix="metronn-hls4ml-") as scratch,
        opened_hls4ml(model, kept.hls4ml_config, Path(scratch), python) as framework,
    ):
        yield framework


def real_network(model: Path, kept: Kept) -> RealGraph:
    """Return the network that was lowered to the build's graph."""
    network = load_model(model)
    if kept.hls4ml_config is not None:
        network = apply_hls4ml(network, parse_hls4ml(kept.hls4ml_config, HLS4ML_CONFIG)).model
    return prepare(network)


def compare_build(
    build: Build,
    against: Against,
    model: Path,
    *,
    python: Path | None = None,
    events: int | None = None,
    seen: Callable[[int], None] = lambda _: None,
) -> AgainstResult:
    """Compare a build with the framework or with hls4ml, in the interpreter `python` (None: this one).

    Raises ModelError when there is nothing to compare, ToolError when a tool is missing (MissingFramework) or fails.
    """
    kept = read_kept(build.folder)
    if against is Against.FRAMEWORK and kept.hls4ml_config is not None:
        raise ModelError(
            f"{build.folder}: its types are those of an hls4ml configuration, which the framework does not know; "
            "compare it --against hls4ml"
        )
    network = real_network(model, kept)
    count = events or (EVENTS if against is Against.FRAMEWORK else HLS4ML_EVENTS)
    rows = ROWS if against is Against.FRAMEWORK else count
    with _opened(against, model, kept, python) as framework:
        chunks = event_chunks(build.graph, build.events, count, rows, borders(build.graph, kept.frontier))
        floating = against is Against.FRAMEWORK
        return compare_framework(
            network,
            build.graph,
            kept.frontier,
            framework,
            chunks,
            floating=floating,
            compiled=count >= COMPILED,
            seen=seen,
        )
