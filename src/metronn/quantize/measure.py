"""Measuring an integer network against its float original."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from metronn.emulate.numpy import emulate, evaluate
from metronn.events.codes import decode_outputs, encode_inputs, input_steps
from metronn.events.data import Events
from metronn.events.metrics import find_metric
from metronn.events.split import Split, candidates
from metronn.ir.arrays import Array
from metronn.ir.graph import Graph, Node
from metronn.ir.infer import infer
from metronn.ir.ops import Input, Overflow, Requantize, operands
from metronn.ir.types import Range
from metronn.model.graph import Floats, RealGraph
from metronn.model.reference import run_reference
from metronn.quantize.calibrated.calibration import CHUNK_ELEMENTS
from metronn.quantize.calibrated.emitter import Emitter
from metronn.quantize.calibrated.lowering import Lowering
from metronn.quantize.exact.lowering import ExactLowering
from metronn.quantize.judge import judge
from metronn.quantize.options import QuantizeOptions
from metronn.quantize.records import Exactness, LayerRecord
from metronn.quantize.report import LayerReport, MetricReport, OutputReport, QuantizationReport, sqnr_db, widths

BATCH = 4096
"""Events run at a time, so that memory stays bounded; fewer where a network's values are large."""


def run_float(model: RealGraph, inputs: Mapping[str, Floats]) -> dict[str, Floats]:
    """Run any number of events through the float network, in batches."""
    largest = max(math.prod(node.shape) for node in model.nodes)
    return _joined([_per_event(run_reference(model, batch), batch) for batch in _batches(inputs, largest)])


def run_fixed(graph: Graph, inputs: Mapping[str, Floats]) -> dict[str, Floats]:
    """Run any number of events, in the model's units, through the integer network, in batches."""
    largest = max(node.type.size for node in graph.nodes)
    return _joined([_answers(graph, encode_inputs(graph, batch)) for batch in _batches(inputs, largest)])


def run_codes(graph: Graph, codes: Mapping[str, Array]) -> dict[str, Floats]:
    """Run any number of events, as input codes, through the integer network, in batches."""
    largest = max(node.type.size for node in graph.nodes)
    return _joined([_answers(graph, batch) for batch in _batches(codes, largest)])


def _answers(graph: Graph, codes: Mapping[str, Array]) -> dict[str, Floats]:
    return _per_event(decode_outputs(graph, emulate(graph, codes)), codes)


def _batches(inputs: Mapping[str, Array], elements: int) -> Iterator[dict[str, Array]]:
    """Cut the events into batches for a network whose largest value has so many elements."""
    count = len(next(iter(inputs.values())))
    size = max(1, min(BATCH, CHUNK_ELEMENTS // max(1, elements)))
    for start in range(0, count, size):
        yield {name: array[start : start + size] for name, array in inputs.items()}


def _per_event(outputs: Mapping[str, Floats], batch: Mapping[str, Array]) -> dict[str, Floats]:
    """Give constant outputs, which come once, to every event of the batch."""
    count = len(next(iter(batch.values())))
    return {name: np.broadcast_to(values, (count, *values.shape[1:])) for name, values in outputs.items()}


def _joined(parts: Sequence[Mapping[str, Floats]]) -> dict[str, Floats]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def measure(
    model: RealGraph,
    graph: Graph,
    lowering: Lowering | ExactLowering,
    events: Events,
    split: Split,
    options: QuantizeOptions,
    base: Path,
    *,
    excluded: Array | None = None,
    answers: Mapping[str, Floats] | None = None,
) -> QuantizationReport:
    """Compare layers on the calibration events, outputs on those that judge, and the metric on all events.

    `excluded` masks events, of all, that judge no output. `answers` are those of the model on all events, where they
    are at hand.
    """
    layers = tuple(layer_report(record, lowering) for record in lowering.records)
    mask = np.zeros(events.count, dtype=bool) if excluded is None else excluded
    report = QuantizationReport(
        calibration_events=len(split.calibrating),
        calibration_limit=split.limit,
        calibration_cut=split.limit < min(options.calibration_events, candidates(events.count)),
        events=events.count,
        layers=layers,
        outputs=(),
        metric=None,
        min_sqnr_db=options.min_sqnr_db,
        excluded=tuple(int(k) for k in np.flatnonzero(mask)),
    )
    return judged(report, model, graph, events, split.judging, options, base, unseen=split.unseen, answers=answers)


def judged(
    report: QuantizationReport,
    model: RealGraph,
    graph: Graph,
    events: Events,
    judging: Array,
    options: QuantizeOptions,
    base: Path,
    *,
    unseen: bool,
    answers: Mapping[str, Floats] | None = None,
) -> QuantizationReport:
    """Return the report with the outputs judged on some of the events (their positions) and the metric on all.

    `model` is what counts as the original, with the inputs and outputs of `graph`. The report's `excluded` events are
    left out.
    """
    sizes = {output.name: graph.type_of(output.value).size for output in graph.outputs}
    metric = find_metric(options.metric, events.arrays(), sizes, base)
    reference = run_float(model, events.inputs) if answers is None else answers
    fixed = run_fixed(graph, events.inputs)
    excluded = np.isin(judging, report.excluded)
    whole = len(judging) == events.count
    outputs = []
    for output in graph.outputs:
        layers = layers_behind(graph, output.value)
        name = output.name
        some = (reference[name], fixed[name]) if whole else (reference[name][judging], fixed[name][judging])
        signal = judge(name, *some, excluded if excluded.any() else None)
        signal = replace(signal, worst_event=int(judging[signal.worst_event]))
        decides = metric is None and inexact(report.layers, layers)
        outputs.append(OutputReport(name=name, signal=signal, decides=decides, layers=layers))
    found = None
    if metric is not None:
        found = MetricReport(
            name="accuracy" if options.metric == "auto" else options.metric,
            float_value=metric(reference, events.arrays()),
            fixed_value=metric(fixed, events.arrays()),
            tolerance=options.tolerance,
            events=events.count,
        )
    return replace(
        report,
        events=events.count,
        outputs=tuple(outputs),
        metric=found,
        judging_events=len(judging) - int(excluded.sum()),
        unseen=unseen,
    )


def layers_behind(graph: Graph, value: str) -> tuple[str, ...]:
    """Return the layers that a value of the graph is computed from, its own included, in graph order."""
    needed = {value}
    for node in reversed(graph.nodes):
        if node.name in needed:
            needed.update(operands(node.op))
    return tuple(dict.fromkeys(node.source for node in graph.nodes if node.name in needed))


def inexact(layers: Sequence[LayerReport], behind: Sequence[str]) -> bool:
    """Tell whether any of these layers is not exactly the framework's; after quantization of floats none is."""
    found = [layer.exactness for layer in layers if layer.layer in behind]
    return any(exactness is not Exactness.EXACT for exactness in found) or not found


def layer_report(record: LayerRecord, lowering: Lowering | ExactLowering) -> LayerReport:
    """Measure one layer on the calibration events."""
    emitter = lowering.emitter
    bits, frac, signed = widths(emitter.type_of(record.value).range)
    counted = [saturations(emitter, name) for name in record.requantize]
    if record.kind == "input":
        counted.append(input_saturations(emitter, record.value, lowering.reference[record.real]))
    fixed = emitter.real(record.value)
    if record.scale is not None:
        fixed = fixed * record.scale.array
    if record.offset is not None:
        fixed = fixed + record.offset.array
    return LayerReport(
        layer=record.source,
        kind=record.kind,
        weight_bits=record.weight_bits,
        weight_frac=record.weight_frac,
        weights=record.weights,
        weights_saturated=record.weights_saturated,
        accumulator_bits=emitter.type_of(record.accumulator).range.width_bits if record.accumulator else None,
        bits=bits,
        frac=frac,
        signed=signed,
        sqnr_db=sqnr_db(lowering.reference[record.real], fixed),
        saturated=sum(hit for hit, _ in counted),
        values=sum(total for _, total in counted),
        table_entries=record.table_entries,
        table_max_error=record.table_max_error,
        exactness=record.exactness,
        note=record.note,
    )


def saturations(emitter: Emitter, name: str) -> tuple[int, int]:
    """Count the values that a Requantize changed beyond rounding, and all its values."""
    changed = clipped(emitter.nodes, emitter.codes, name)
    return int(changed.sum()), int(changed.size)


def clipped(nodes: Mapping[str, Node], codes: Mapping[str, Array], name: str) -> Array:
    """Tell which values of a Requantize were changed beyond rounding, from the codes of it and of its operand."""
    node = nodes[name]
    op = node.op
    if not isinstance(op, Requantize):
        raise AssertionError(f"{name} is no Requantize")
    source = nodes[op.x].type
    grow = max(0, op.out.max_frac - min(source.range.fracs(source.size)))
    reach = max(abs(source.range.lowest), abs(source.range.highest)) + 1 << grow
    free = Requantize(x=op.x, out=Range(-reach, reach, op.out.frac), rounding=op.rounding, overflow=Overflow.SAT)
    twin = Node(name="unbounded", op=free, type=infer(free, [source]), source=node.source)
    step = Graph(nodes=(*(nodes[x] for x in operands(op)), twin), outputs=())
    rounded: Array = evaluate(step, twin, codes, {})
    return np.asarray(rounded != codes[name])


def input_saturations(emitter: Emitter, name: str, values: Floats) -> tuple[int, int]:
    """Count the input values that lie outside the input's range."""
    op = emitter.nodes[name].op
    if not isinstance(op, Input):
        raise AssertionError(f"{name} is no input")
    scaled = input_steps(values, op)
    return int((scaled != emitter.codes[name].astype(np.float64)).sum()), int(values.size)
