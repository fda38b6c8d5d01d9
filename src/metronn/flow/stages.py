"""The stages of a compilation, in order: import, quantize, plan, emit, verify."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from metronn.diagnose.kept import trace_files
from metronn.emit.build import emit_build
from metronn.emit.manifest import build_manifest
from metronn.emit.tops import prefix_of
from metronn.errors import ModelError
from metronn.events.codes import encode_inputs
from metronn.events.data import Events, EventSource, load_events, source_name
from metronn.events.split import split_events
from metronn.flow.builds import NOT_ASKED, RUNGS, not_run, with_verdicts
from metronn.flow.planning import chosen_system, planned
from metronn.flow.request import Request
from metronn.frontends import load_model
from metronn.frontends.hls4ml.apply import apply_hls4ml
from metronn.frontends.hls4ml.config import read_hls4ml
from metronn.ir.arrays import Array
from metronn.log import Log
from metronn.model.graph import RealGraph, real_op_arrays
from metronn.passes.pipeline import Watch, prepare, quantize_model, watch_nothing
from metronn.quantize.exact.events import drawn_events, inputs_without_grid
from metronn.quantize.exact.values import present
from metronn.quantize.measure import judged
from metronn.quantize.outliers import find_outliers, outlier_sentences, outlying
from metronn.quantize.quantize import Quantized
from metronn.quantize.report import QuantizationReport
from metronn.report.picture import Picture, read_pictures
from metronn.verify.against_build import NETWORK, exact_files, model_record
from metronn.verify.reference import reference_files

GIVEN_BY = {
    "calibration data": "--calibrate or data.calibrate",
    "verification data": "--verify-data or verify.data",
}
"""What names the events of each purpose."""
DRAWN_EVENTS = 1024
"""Events drawn for a network that comes with its formats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """A network as it is lowered, and as it was read: before an hls4ml configuration gave its layers types."""

    model: RealGraph
    original: RealGraph


def import_model(path: Path, log: Log, hls4ml_config: Path | None = None) -> RealGraph:
    """Read a network; an hls4ml configuration gives its layers their types."""
    return import_network(path, log, hls4ml_config).model


def import_network(path: Path, log: Log, hls4ml_config: Path | None = None) -> Imported:
    """Read a network; an hls4ml configuration gives its layers their types, which the original does not have."""
    with log.stage("reading the network"):
        original = model = load_model(path)
        if hls4ml_config is not None:
            applied = apply_hls4ml(model, read_hls4ml(hls4ml_config))
            model = applied.model
            for note in applied.notes:
                log(f"hls4ml configuration: {note}")
    weights = sum(array.array.size for array in _constants(model))
    layers = len(dict.fromkeys(node.source for node in model.nodes))
    log(f"import: {path.name}: {layers} layers, {weights:,} constants")
    return Imported(model=model, original=original)


def _constants(model: RealGraph) -> list[Any]:
    return [array for node in model.nodes for array in real_op_arrays(node.op)]


def calibration_events(request: Request, model: RealGraph, log: Log) -> Events:
    """Read the events to calibrate with.

    A network that its framework quantized, inputs included, needs none: without any, events are drawn over what its
    inputs can tell apart.
    """
    why = "quantization needs events"
    if request.calibrate is None and model.quantized:
        ready = prepare(model)
        drawn = drawn_events(ready, DRAWN_EVENTS)
        if drawn is not None:
            log(f"calibration data: none given; {drawn.count:,} events drawn uniformly over the grid of the inputs")
            return drawn
        floats = ", ".join(model.input_names[name] for name in inputs_without_grid(ready))
        why = f"nothing tells the range of input {floats}: no quantizer is the first to read it"
    return _events(request.needed_calibration(why), request, model, "calibration data", log)


def verification_data(request: Request, model: RealGraph, log: Log) -> Events | None:
    """Read the real events to verify with, those of verify.data; None when the calibration events are to do."""
    if request.verify_data is None:
        return None
    return _events(request.verify_data, request, model, "verification data", log)


def _events(source: EventSource, request: Request, model: RealGraph, what: str, log: Log) -> Events:
    shapes = {node.name: node.shape for node in model.inputs}
    with log.stage(f"reading the {what}"):
        try:
            events = load_events(
                source, shapes, label=request.label, columns=request.columns, model_names=model.input_names
            )
        except ModelError as error:
            where = source if isinstance(source, str) else source_name(source)
            raise ModelError(f"{error.message}\n  {where}: the {what}, {GIVEN_BY[what]}") from None
    labels = "" if events.labels is None else ", with labels"
    log(f"{what}: {source_name(source)}: {events.count:,} events{labels}")
    return events


def quantized_graph(
    request: Request,
    network: Imported,
    events: Events,
    log: Log,
    verification: Events | None = None,
    watch: Watch = watch_nothing,
) -> Quantized:
    """Quantize a network; what is not as it should be is logged.

    `verification` (None: the calibration events that did not calibrate) judges the outputs and the metric. Both are
    those of the network as it was read. `watch` is told every stage, from the network as read on.
    """
    watch("read", network.original)
    watch("hls4ml_types", network.model)
    with log.stage("quantizing"):
        quantized = quantize_model(network.model, events, request.quantize, base=request.base, watch=watch)
        if verification is not None or network.original is not network.model:
            quantized = replace(quantized, report=_judged_anew(request, network, events, verification, quantized))
    log(quantized.report.summary())
    for line in quantized.report.all_warnings():
        log.warn(line)
    return quantized


def _judged_anew(
    request: Request, network: Imported, events: Events, verification: Events | None, quantized: Quantized
) -> QuantizationReport:
    report = quantized.report
    if verification is not None:
        outliers = find_outliers(verification.inputs)
        excluded = np.flatnonzero(outlying(outliers, verification.count))
        told = [f"verification data: {line}" for line in outlier_sentences(outliers)]
        report = replace(report, excluded=tuple(excluded.tolist()), warnings=(*report.warnings, *told))
    report = replace(report, hls4ml_types=network.original is not network.model)
    judging, unseen = judging_events(report, events, verification)
    return judged(
        report,
        prepare(network.original),
        quantized.graph,
        verification or events,
        judging,
        request.quantize,
        request.base,
        unseen=unseen,
    )


def judging_events(report: QuantizationReport, events: Events, verification: Events | None) -> tuple[Array, bool]:
    """Return the positions of the events that judge the signal, and whether calibration saw none of them."""
    if verification is not None:
        return np.arange(verification.count), True
    split = split_events(events.count, report.calibration_limit)
    return split.judging, split.unseen


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """The files of a build but manifest and report, the design, and the manifest without verdicts."""

    files: Mapping[str, bytes]
    manifest: dict[str, Any]
    pictures: tuple[Picture, ...]


def compile_files(request: Request, log: Log, watch: Watch = watch_nothing) -> Compiled:
    """Run every stage up to emission; `watch` is told every graph. Nothing else is written."""
    pictures = read_pictures(request.pictures)
    system = chosen_system(request)
    network = import_network(request.model, log, request.hls4ml_config)
    calibration = calibration_events(request, network.model, log)
    verification = verification_data(request, network.model, log)
    real, verify = verification or calibration, request.options.verify
    quantized = quantized_graph(request, network, calibration, log, verification, watch)
    design = planned(request, quantized.graph, system, log)
    design = replace(design, prefix=request.options.build.prefix or prefix_of(request.name))
    watch("planned", design.graph)
    with log.stage("writing firmware"):
        codes = encode_inputs(design.graph, {name: array[: verify.events] for name, array in real.inputs.items()})
        files = emit_build(design, codes, events=verify.events, rtl_events=verify.rtl_events)
        reference = reference_files(
            prepare(network.model),
            design.graph,
            real,
            judging_events(quantized.report, calibration, verification)[0],
            request.quantize,
            request.base,
            quantized.report,
            present(quantized.frontier, design.graph),
            original=None if network.original is network.model else prepare(network.original),
            log=log,
        )
        files = {**files, **{f"vectors/{name}": content for name, content in reference.items()}}
        files.update(exact_files(quantized.frontier, design.graph, request.hls4ml_config))
        files.update(trace_files(quantized, design.graph))
        files.update({f"report/{picture.file}": picture.content for picture in pictures})
        if request.keep_model:
            files[f"{NETWORK}/{request.model.name}"] = request.model.read_bytes()
    log(f"emit: {len(files)} files, {sum(len(content) for content in files.values()) / 1e6:.1f} MB")
    manifest = with_verdicts(
        build_manifest(design, name=request.name, report=quantized.report, files=files),
        not_run(tuple(RUNGS), NOT_ASKED),
    )
    manifest["model"] = model_record(request.model)
    manifest["required_rungs"] = list(request.require)
    return Compiled(files=dict(sorted(files.items())), manifest=manifest, pictures=pictures)
