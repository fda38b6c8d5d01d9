"""What quantization cost: per layer, per output, and in the user's metric."""

from __future__ import annotations

import glob
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from metronn.ir.names import toml_string
from metronn.ir.types import Range
from metronn.model.graph import Floats
from metronn.quantize.judge import Signal, allowed_share, decibels, element_name
from metronn.quantize.records import Exactness

COLUMNS = (
    "layer",
    "kind",
    "weights",
    "accumulator",
    "activations",
    "SQNR [dB]",
    "saturated weights",
    "saturated values",
    "table",
    "against the framework",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerReport:
    """One layer. `sqnr_db` compares its result with the float network's on the calibration events; None means equal.

    `saturated` counts the values that met a bound on the way to the layer's result, out of `values`.
    """

    layer: str
    kind: str
    weight_bits: int | None
    weight_frac: int | None
    weights: int
    weights_saturated: int
    accumulator_bits: int | None
    bits: int
    frac: int
    signed: bool
    sqnr_db: float | None
    saturated: int
    values: int
    table_entries: int | None
    table_max_error: float | None
    exactness: Exactness | None = None
    note: str = ""

    def row(self) -> tuple[str, ...]:
        """Return the cells of a table row, in the order of COLUMNS."""
        return (
            self.layer,
            self.kind,
            "" if self.weight_bits is None else f"s{self.weight_bits}.{self.weight_frac}",
            "" if self.accumulator_bits is None else f"{self.accumulator_bits} bits",
            f"{'s' if self.signed else 'u'}{self.bits}.{self.frac}",
            "exact" if self.sqnr_db is None else f"{self.sqnr_db:.1f}",
            f"{self.weights_saturated} of {self.weights}" if self.weights else "",
            f"{self.saturated} of {self.values}" if self.values else "",
            "" if self.table_entries is None else f"{self.table_entries} entries",
            "" if self.exactness is None else self.exactness.value,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputReport:
    """One output on the events that judge it.

    `decides`: a lost signal fails rung 1; else something better judges (a metric, exact comparison), and it is a
    warning.
    `layers` are the names of the layers behind the output.
    """

    name: str
    signal: Signal
    decides: bool = True
    layers: tuple[str, ...] = ()

    @property
    def sqnr_db(self) -> float | None:
        """SQNR of all values together in dB; None: equal."""
        return self.signal.sqnr_db

    @property
    def max_error(self) -> float:
        """The largest difference in the model's units."""
        return self.signal.max_error

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"name": self.name, "decides": self.decides} | self.signal.to_json()


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricReport:
    """The user's metric, larger is better, of the float and the integer network on all events."""

    name: str
    float_value: float
    fixed_value: float
    tolerance: float
    events: int

    @property
    def loss(self) -> float:
        """Relative loss; negative when the integer network is better."""
        difference = self.float_value - self.fixed_value
        return difference / abs(self.float_value) if self.float_value else difference

    @property
    def accepted(self) -> bool:
        """Whether the loss is within the tolerance."""
        return self.loss <= self.tolerance


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizationReport:
    """Layers in graph order, outputs, and the metric where there is one.

    `calibration_cut` says that memory allowed fewer calibration events than were there and asked for;
    `calibration_limit` allowed at most so many, of which those without outliers calibrated. `events` were given,
    `judging_events` of them judged the outputs, `unseen`: none of these calibrated. `excluded` are the positions of
    the events that judge nothing, outliers that saturate by decision. `advice` is a remedy for a lost signal, the
    estimate of `remedy` where it is empty; `warnings` are lines about what is not as it should be. `hls4ml_types`
    says that an hls4ml configuration gave the layers types which the network that judges does not have.
    """

    calibration_events: int
    calibration_cut: bool
    events: int
    layers: tuple[LayerReport, ...]
    outputs: tuple[OutputReport, ...]
    metric: MetricReport | None
    calibration_limit: int = 0
    judging_events: int = 0
    unseen: bool = False
    min_sqnr_db: float = 20.0
    excluded: tuple[int, ...] = ()
    hls4ml_types: bool = False
    advice: str = ""
    warnings: tuple[str, ...] = field(default=())

    def rows(self) -> Iterator[tuple[str, ...]]:
        """Iterate over table rows, one per layer, in the order of COLUMNS."""
        return (layer.row() for layer in self.layers)

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON; every number is finite."""
        data = asdict(self)
        data["outputs"] = [output.to_json() for output in self.outputs]
        data["excluded"] = list(self.excluded)
        data["warnings"] = list(self.all_warnings())
        data["lost"] = list(self.lost())
        for layer in data["layers"]:
            if layer["exactness"] is None:
                del layer["exactness"], layer["note"]
            else:
                layer["exactness"] = layer["exactness"].value
        if self.metric is not None:
            data["metric"] |= {"loss": self.metric.loss, "accepted": self.metric.accepted}
        return data

    def lost(self) -> tuple[str, ...]:
        """Return a message for every output whose signal decides and is lost: rung 1 fails."""
        return tuple(self._lost(output) for output in self.outputs if output.decides and self._is_lost(output))

    def all_warnings(self) -> tuple[str, ...]:
        """Return a line for everything that is not as it should be but fails nothing, each with its remedy."""
        poor = [self._lost(output) for output in self.outputs if not output.decides and self._is_lost(output)]
        constant = [line for output in self.outputs if (line := constant_words(output))]
        saturated = [line for layer in self.layers if (line := saturated_words(layer))]
        metric = []
        if self.metric is not None and not self.metric.accepted:
            metric = [metric_words(self.metric) + (f"\n  {self.advice}" if self.advice else "")]
        return tuple(dict.fromkeys((*self.warnings, *saturated, *constant, *metric, *poor)))

    def quality(self) -> str:
        """Return in a few words how good it is: the metric, or the least that is left of an output's signal."""
        if self.metric is not None:
            return f"{self.metric.name} {self.metric.fixed_value:.4f} ({self.metric.float_value:.4f} float)"
        worst = min(self.outputs, key=lambda output: self._level(output))
        if worst.signal.decision:
            return f"{worst.name} {worst.signal.words()}"
        return f"{worst.name} {decibels(worst.signal.least_db)}"

    def better_than(self, other: QuantizationReport) -> bool:
        """Whether the metric, or for want of one the worst output's signal, is better than in another attempt."""
        if self.metric is not None and other.metric is not None:
            return self.metric.loss < other.metric.loss
        return min(map(self._level, self.outputs)) > min(map(self._level, other.outputs))

    @staticmethod
    def _level(output: OutputReport) -> float:
        signal = output.signal
        if signal.decision:
            return math.inf if not signal.differing else -10 * math.log10(signal.differing / signal.events)
        return math.inf if signal.least_db is None else signal.least_db

    def _is_lost(self, output: OutputReport) -> bool:
        return output.signal.lost(self.min_sqnr_db)

    def _lost(self, output: OutputReport) -> str:
        where = where_lost(self, output.name)
        return lost_words(output.name, output.signal, self.min_sqnr_db, where_words(where), remedy(self, output))

    def summary(self) -> str:
        """Return what a terminal shows in one line."""
        outputs = ", ".join(f"{output.name} {output.signal.words()}" for output in self.outputs)
        inexact = [layer for layer in self.layers if layer.exactness not in (None, Exactness.EXACT)]
        if inexact:
            names = dict.fromkeys(f"{layer.layer} {layer.exactness.value}" for layer in inexact if layer.exactness)
            outputs += f"; all layers exact but {', '.join(names)}"
        elif any(layer.exactness is Exactness.EXACT for layer in self.layers):
            outputs += "; all layers exact"
        cut = f"; calibrated on {self.calibration_events:,}, what memory allows" if self.calibration_cut else ""
        judged = f"on {judging_words(self.judging_events, unseen=self.unseen)}"
        if self.metric is None:
            return f"quantized: {outputs} {judged}; no metric{cut}"
        metric = self.metric
        verdict = "within" if metric.accepted else "beyond"
        return (
            f"quantized: {outputs} {judged}; {metric.name} {metric.float_value:.4f} float, {metric.fixed_value:.4f} "
            f"fixed, loss {100 * metric.loss:.2f} % ({verdict} {100 * metric.tolerance:.2f} %) on {metric.events:,} "
            f"events{cut}"
        )


def judging_words(count: int, *, unseen: bool) -> str:
    """Return how many events judged, and whether calibration had seen them."""
    return f"{count:,} unseen events" if unseen else f"the {count:,} calibration events"


SATURATED = 0.02
"""Share of a layer's weights that may saturate without a warning."""


def where_lost(report: QuantizationReport, output: str | None = None) -> LayerReport | None:
    """Return the layer that loses the signal (of an output, where one is named), or None where no layer loses any.

    The first one whose SQNR is below the threshold, or else the one that adds most noise to the worst before it; not
    so behind types of hls4ml, which no layer's SQNR tells.
    """
    behind = next((set(o.layers) for o in report.outputs if o.name == output and o.layers), None)
    layers = [x for x in report.layers if x.sqnr_db is not None and (behind is None or x.layer in behind)]
    found, before, most = None, 0.0, 0.0
    for layer in layers:
        if layer.sqnr_db is None:
            continue
        if layer.sqnr_db < report.min_sqnr_db:
            return layer
        noise = 10 ** (-layer.sqnr_db / 10)
        if noise - before > most and not report.hls4ml_types:
            found, most = layer, noise - before
        before = max(before, noise)
    return found


def where_words(layer: LayerReport | None) -> str:
    """Return where a signal is lost in words, or nothing."""
    return "" if layer is None else f"layer {layer.layer} ({decibels(layer.sqnr_db)})"


def remedy(report: QuantizationReport, output: OutputReport) -> str:
    """Return what to change so that an output keeps its signal: the report's advice, or an estimate of 6 dB a bit."""
    if report.advice:
        return report.advice
    least = output.signal.least_db
    missing = 12.0 if output.signal.decision or least is None else report.min_sqnr_db - least
    bits = min(16, max(1, math.ceil(missing / 6)))
    more = f"{bits} bit{'s' if bits > 1 else ''} more, for example"
    layer = where_lost(report, output.name)
    if layer is None and report.hls4ml_types:
        return "The types of the hls4ml configuration lose it, not metronn: give wider ones there, of the tables too."
    if layer is None:
        return 'Raise quantize.weight_bits and quantize.activation_bits, or let bits = "auto" choose.'
    name = toml_string(glob.escape(layer.layer))
    if layer.kind == "input":
        return f"Give it {more} [quantize] inputs.{toml_string(layer.layer)} = {{bits = {min(32, layer.bits + bits)}}}."
    widths: dict[str, int | None] = {"weight_bits": layer.weight_bits, "activation_bits": layer.bits}
    if layer.weight_bits is not None and layer.layer in output.layers[-1:]:
        del widths["activation_bits"]  # its result is the output, which quantize.output_bits decides
    wider = ", ".join(f"{key} = {min(32, width + bits)}" for key, width in widths.items() if width is not None)
    otherwise = ', or let bits = "auto" choose.' if output.decides else "; the metric decides, so nothing was widened."
    return f"Give it {more} [quantize.layers] {name} = {{{wider}}}{otherwise}"


def lost_words(name: str, signal: Signal, min_db: float, where: str, advice: str) -> str:
    """Return the message about a lost signal: output, element, ratios, layer, and what to change."""
    if signal.decision:
        found = (
            f"output {name}: {100 * signal.differing / signal.events:.3g} % of its decisions differ from the trained "
            f"network's ({signal.differing:,} of {signal.events:,} events), allowed are "
            f"{100 * allowed_share(min_db):.3g} % (quantize.min_sqnr_db = {min_db:g})"
        )
    else:
        found = (
            f"output {name}: too little of its signal is left: all together keeps {decibels(signal.sqnr_db)}, "
            f"{element_name(signal.element)} {decibels(signal.element_db)}, the median event "
            f"{decibels(signal.median_db)}, the worst 1 % of events "
            f"{decibels(signal.worst_db)}; {min_db:g} dB are needed (quantize.min_sqnr_db). Event "
            f"{signal.worst_event}, {element_name(signal.worst_element)}: {signal.worst_float:.6g} in the trained "
            f"network, {signal.worst_fixed:.6g} in fixed point"
        )
    return found + (f"; it is lost in {where}" if where else "") + (f"\n  {advice}" if advice else "")


def constant_words(output: OutputReport) -> str:
    """Return a warning that names the constant elements of an output, or nothing."""
    signal = output.signal
    if not signal.constant_count or signal.decision:
        return ""
    names = ", ".join(str(e[0]) if len(e) == 1 else str(e) for e in signal.constants) or "the one"
    more = ", ..." if signal.constant_count > len(signal.constants) else ""
    return (
        f"output {output.name}: {signal.constant_count} of its elements hardly vary on the {signal.events:,} events "
        f"that judge it ({names}{more}), so nothing tells whether they keep what they say on others. "
        "Calibrate with events in which they vary."
    )


def saturated_words(layer: LayerReport) -> str:
    """Return a warning about a layer with more than 2 % saturated weights, or nothing."""
    if layer.weights_saturated <= SATURATED * layer.weights:
        return ""
    name = toml_string(glob.escape(layer.layer))
    width = min(32, (layer.weight_bits or 8) + 1)
    return (
        f"layer {layer.layer}: {layer.weights_saturated:,} of {layer.weights:,} weights saturate "
        f"({100 * layer.weights_saturated / layer.weights:.1f} %). "
        f"Give it a smaller weight_frac, or more bits: [quantize.layers] {name} = {{weight_bits = {width}}}."
    )


def metric_words(metric: MetricReport) -> str:
    """Return a warning about a metric that loses more than its tolerance."""
    return (
        f"{metric.name} is {metric.float_value:.4f} in the trained network and {metric.fixed_value:.4f} in fixed "
        f"point: a loss of {100 * metric.loss:.2f} %, allowed are {100 * metric.tolerance:g} % (quantize.tolerance)"
    )


def sqnr_db(reference: Floats, fixed: Floats) -> float | None:
    """Signal-to-quantization-noise ratio 10 log10(sum r^2 / sum (r - f)^2); None without noise.

    A zero signal with noise counts as one step of the smallest float: a large negative number, still finite.
    """
    noise = float(np.square(reference - fixed).sum())
    if noise == 0:
        return None
    return 10 * math.log10(max(float(np.square(reference).sum()), 1e-300) / max(noise, 1e-300))


def widths(codes: Range) -> tuple[int, int, bool]:
    """Return bits, frac and sign of a range, of its widest element and finest step."""
    return codes.width_bits, codes.max_frac, codes.signed
