"""Quantization after training: a real network and calibration events to an integer graph and a report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from metronn.errors import ModelError
from metronn.events.codes import encode, encode_input
from metronn.events.data import Events
from metronn.events.split import FEWEST, Split, candidates, split_events
from metronn.ir.arrays import Array
from metronn.ir.check import check
from metronn.ir.graph import Graph
from metronn.ir.ops import Input, Movement
from metronn.ir.types import Range, TensorType
from metronn.model.graph import Floats, RealGraph, RealNode, real_op_arrays
from metronn.model.reference import run_reference
from metronn.quantize.calibrated.calibration import RealValues, affordable_events, chunks
from metronn.quantize.calibrated.contributions import contributions
from metronn.quantize.calibrated.emitter import Emitter
from metronn.quantize.calibrated.lowering import Lowering
from metronn.quantize.calibrated.masks import soften_masks
from metronn.quantize.calibrated.rescale import Rescaled, rescale
from metronn.quantize.calibrated.structure import constant_names
from metronn.quantize.calibrated.widen import Widths, is_given, more_bits, present_bits
from metronn.quantize.exact.lowering import ExactLowering
from metronn.quantize.exact.values import ExactValue
from metronn.quantize.measure import measure, run_float
from metronn.quantize.options import QuantizeOptions
from metronn.quantize.outliers import constant_sentences, find_outliers, outlier_sentences, outlying
from metronn.quantize.report import QuantizationReport
from metronn.quantize.traced import Lowered, Origin, TracedMatrix, TracedValue, proved, traced_matrices

ATTEMPTS = 6
"""How often layers are widened before the best that was found is taken."""
MARGIN_DB = 6.0
"""Noise is reduced by this much more than is needed, so that events not seen are good too."""
METRIC_DB = 10.0
"""Noise is reduced by this much at a time while a metric is not good enough: it does not tell how much is missing."""
MOST_DB = 40.0
"""Noise is reduced by at most this much at a time: what causes it looks different where there is less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantized:
    """The integer network and what its making cost.

    `frontier`, for a network its framework quantized: the values that the graph holds exactly, those nearest to the
    outputs first; `metronn.quantize.exact.values.exact_values` computes them. Empty after quantization of floats.
    `traced`: the integers that stand for the values of the network as it was read, by their names there, exact or not;
    `matrices`: those that stand for the matrices of the network that was quantized.
    """

    graph: Graph
    report: QuantizationReport
    frontier: tuple[ExactValue, ...] = ()
    traced: tuple[TracedValue, ...] = ()
    matrices: tuple[TracedMatrix, ...] = ()


def quantize(
    model: RealGraph,
    events: Events,
    options: QuantizeOptions | None = None,
    *,
    base: Path = Path(),
    origin: Origin | None = None,
) -> Quantized:
    """Quantize a network to integers: one that its framework quantized exactly, others from events.

    Quantization after training uses at most `calibration_events` of the events; those it did not use judge it, and all
    of them measure the metric (`metronn.events.split`).

    `model` may be anything a frontend returns; `metronn.passes` makes it smaller first. `base` is the folder in which
    a metric `file.py:function` is looked for. `origin` is the network that `model` was made of, where its values are to
    be traced. Deterministic: the same arguments give the same graph.

    Raises ModelError when the model holds NaN or infinite constants, leaves float64 on the calibration events, or an
    option names an unknown input or layer.
    """
    options = _by_identifier(options or QuantizeOptions(), model)
    check_constants(model)
    check_names(model, options)
    outliers = () if model.quantized else find_outliers(events.inputs)
    excluded = outlying(outliers, events.count)
    wanted = min(options.calibration_events, candidates(events.count))
    split = split_events(events.count, affordable_events(model, wanted)).without(excluded)
    chosen = calibration_subset(events, split)
    values = RealValues()
    with np.errstate(all="ignore"):
        run_in_parts(model, chosen, values)
    check_values(model, values)
    if model.quantized:
        emitter = Emitter()

        def encode_exact(op: Input, name: str) -> None:
            emitter.inputs[name] = encode_input(chosen[name], op)

        exact = ExactLowering(
            graph=model, options=options, reference=values, encode_input=encode_exact, emitter=emitter
        )
        exact.run()
        graph = check(_with_sources(emitter.builder.build(), model))
        report = replace(measure(model, graph, exact, events, split, options, base), warnings=exact.warnings)
        quantized = Quantized(graph=graph, report=report, frontier=exact.frontier)
        return _with_traced(quantized, origin, Lowered(model, {}, exact.held), chosen)
    warnings = [*outlier_sentences(outliers), *constant_sentences(model, values)]
    if not split.unseen:
        warnings.append(
            f"only {counted_events(events.count)}: none is held out, so those that calibrate judge too, and others may "
            f"fare worse; give {FEWEST} or more"
        )
    softened = soften_masks(model, values)
    if softened != model:
        values = RealValues()
        run_in_parts(softened, chosen, values)
    run = FloatRun(
        original=model,
        model=softened,
        values=values,
        chosen=chosen,
        events=events,
        answers=run_float(model, events.inputs),
        split=split,
        base=base,
        excluded=excluded,
        origin=origin,
    )
    return run.quantized(options, warnings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A float network, rescaled and lowered with some options, and how that was judged."""

    lowering: Lowering
    graph: Graph
    report: QuantizationReport
    rescaled: Rescaled

    @property
    def good(self) -> bool:
        """Whether the metric, or for want of one the signal, is kept."""
        metric = self.report.metric
        return metric.accepted if metric is not None else not self.report.lost()

    @property
    def missing_db(self) -> float:
        """By how much the noise has to be less, in dB, as far as can be told."""
        least = [output.signal.least_db for output in self.report.outputs if not output.signal.decision]
        found = min((db for db in least if db is not None), default=math.inf)
        if self.report.metric is not None:
            return METRIC_DB
        return min(max(self.report.min_sqnr_db - found, 0.0) + MARGIN_DB, MOST_DB)


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatRun:
    """Quantization after training of one network on one set of events, with one set of options after the other.

    `model` is the `original` with masks of moderate size; `values` are its floats on the `chosen` events, which
    calibrate, `answers` those of the original's outputs on all `events`.
    """

    original: RealGraph
    model: RealGraph
    values: RealValues
    chosen: Mapping[str, Floats]
    events: Events
    answers: Mapping[str, Floats]
    split: Split
    base: Path
    excluded: Array
    origin: Origin | None

    def quantized(self, options: QuantizeOptions, warnings: Sequence[str]) -> Quantized:
        """Quantize with the widths of the options; widen, where that is not enough, the layers that cause the noise."""
        first = self.attempt(options)
        if first.good:
            return self.done(first, warnings)
        best, widths = self.widened(first, options)
        if best is not first:
            warnings = [*warnings, widened_sentence(first.report, best.report, widths)]
        if best.good:
            return self.done(best, warnings)
        free = options.model_copy(update={"bits": "auto"})
        ideal, widths = self.widened(best, free.with_nothing_given())
        advice = (
            f"These widths keep it: [quantize] {widths.words()}."
            if ideal.good
            else "No widths were found that keep it: look at the ranges and tables of the layers above."
        )
        return self.done(best, warnings, advice)

    def attempt(self, options: QuantizeOptions) -> Attempt:
        """Lower and judge with these options."""
        values = self.values
        rescaled = Rescaled(graph=self.model, factors={})
        if options.rescale:
            rescaled = rescale(self.model, values, options)
            values = RealValues()
            run_in_parts(rescaled.graph, self.chosen, values)
        emitter = Emitter()

        def encode_float(node: RealNode, codes: Range) -> None:
            emitter.inputs[node.name] = encode(self.chosen[node.name], TensorType(node.shape, codes))

        lowering = Lowering(
            graph=rescaled.graph, options=options, reference=values, encode_input=encode_float, emitter=emitter
        )
        lowering.run()
        graph = check(_with_sources(emitter.builder.build(), self.model))
        report = measure(
            self.original,
            graph,
            lowering,
            self.events,
            self.split,
            options,
            self.base,
            excluded=self.excluded,
            answers=self.answers,
        )
        return Attempt(lowering=lowering, graph=graph, report=report, rescaled=rescaled)

    def widened(self, first: Attempt, options: QuantizeOptions) -> tuple[Attempt, Widths]:
        """Widen what causes the noise, but nothing that is given, until it is little enough; returns the best."""
        attempt, best, chosen = first, first, Widths({})
        taken = chosen
        for _ in range(ATTEMPTS):
            noise = contributions(attempt.lowering)
            given = frozenset(site for site in noise if is_given(options, site))
            present = {site: present_bits(attempt.lowering, site) for site in noise}
            more = more_bits(noise, present, attempt.missing_db, given)
            if not more:
                break
            chosen = Widths({**chosen.bits, **more})
            attempt = self.attempt(chosen.applied(options))
            if attempt.good or attempt.report.better_than(best.report):
                best, taken = attempt, chosen
            if attempt.good:
                break
        return best, taken

    def done(self, attempt: Attempt, warnings: Sequence[str], advice: str = "") -> Quantized:
        """Return an attempt as the result."""
        report = replace(attempt.report, warnings=tuple(warnings), advice=advice)
        lowered = Lowered(attempt.rescaled.graph, attempt.rescaled.factors, attempt.lowering.held)
        return _with_traced(Quantized(graph=attempt.graph, report=report), self.origin, lowered, self.chosen)


def _with_traced(
    quantized: Quantized, origin: Origin | None, lowered: Lowered, chosen: Mapping[str, Floats]
) -> Quantized:
    """Return the result with what is traced, where there is an origin that it is traced to."""
    if origin is None:
        return quantized
    matrices = traced_matrices(lowered, quantized.graph.by_name)
    return replace(quantized, traced=proved(origin, lowered, chosen), matrices=matrices)


def counted_events(count: int) -> str:
    """Return '1 event' or '3 events'."""
    return f"{count} event" + ("" if count == 1 else "s")


def widened_sentence(before: QuantizationReport, after: QuantizationReport, widths: Widths) -> str:
    """Say what was widened, and what for."""
    return (
        f"wider than asked for, since {before.quality()} was not enough (now {after.quality()}): {widths.words()}; "
        "write these under [quantize] to keep them, or bits = 8 to refuse them"
    )


def _by_identifier(options: QuantizeOptions, model: RealGraph) -> QuantizeOptions:
    """Return the options with inputs that are named as in the framework named by their identifiers."""
    identifiers = {source: name for name, source in model.input_names.items()}
    inputs = {identifiers.get(name, name): kind for name, kind in options.inputs.items()}
    return options.model_copy(update={"inputs": inputs})


def _with_sources(graph: Graph, model: RealGraph) -> Graph:
    """Return the graph with the framework's names of its outputs."""
    sources = {name: source for name, source in model.output_names.items() if source != name}
    return replace(graph, outputs=tuple(replace(o, source=sources.get(o.name, "")) for o in graph.outputs))


def run_in_parts(model: RealGraph, inputs: Mapping[str, Floats], values: RealValues) -> None:
    """Run the float network on the calibration events, some at a time, and keep what it computes."""
    count = len(next(iter(inputs.values())))
    largest = max(math.prod(node.shape) for node in model.nodes)
    constant = constant_names(model)
    parts: dict[str, list[Floats]] = {}

    def keep(node: RealNode, part: Floats) -> None:
        if isinstance(node.op, Movement):
            values.keep(node, part)
        else:
            parts.setdefault(node.name, []).append(part)

    for events in chunks(count, largest):
        run_reference(model, {name: array[events] for name, array in inputs.items()}, keep)
    for node in model.nodes:
        if node.name in parts:
            several = parts.pop(node.name)
            alike = len(several) == 1 or node.name in constant
            values.keep(node, several[0] if alike else np.concatenate(several))


def calibration_subset(events: Events, split: Split) -> dict[str, Floats]:
    """Return the inputs of the events that calibrate."""
    return {name: np.asarray(array[split.calibrating], dtype=np.float64) for name, array in events.inputs.items()}


def check_constants(model: RealGraph) -> None:
    """Raise ModelError listing every layer with NaN or infinite constants."""
    problems = []
    for node in model.nodes:
        for array in real_op_arrays(node.op):
            bad = int((~np.isfinite(array.array)).sum())
            if bad:
                problems.append(f"layer {node.source}: {bad} of {array.array.size} constants are NaN or infinite")
    if problems:
        raise ModelError("\n".join(dict.fromkeys(problems)))


def check_names(model: RealGraph, options: QuantizeOptions) -> None:
    """Raise ModelError listing every input and layer pattern of the options that the model does not have."""
    sources = list(dict.fromkeys(node.source for node in model.nodes))
    problems = [
        f"[quantize] inputs.{name}: the model has no such input; it has {', '.join(model.input_names.values())}"
        for name in options.inputs
        if name not in model.input_names
    ]
    problems += [
        f"[quantize] layers.{pattern}: no layer has such a name; there are {', '.join(sources)}"
        for pattern in options.layers
        if not any(fnmatchcase(source, pattern) for source in sources)
    ]
    if problems:
        raise ModelError("\n".join(problems))


def check_values(model: RealGraph, values: Mapping[str, Floats]) -> None:
    """Raise ModelError naming the first layer whose float values are NaN or infinite."""
    for node in model.nodes:
        if isinstance(node.op, Movement):
            continue
        bad = ~np.isfinite(values[node.name])
        if bad.any():
            event = int(np.argwhere(bad)[0][0])
            raise ModelError(
                f"layer {node.source}: the float network gives {int(bad.sum())} NaN or infinite values on the "
                f"calibration events, the first in event {event}"
            )
