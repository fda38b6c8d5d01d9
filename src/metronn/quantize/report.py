"""What quantization cost: per layer, per output, and in the user's metric."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from metronn.ir.types import Range
from metronn.model.graph import Floats
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
    """One output on all events: SQNR in dB (None: equal) and the largest difference in the model's units."""

    name: str
    sqnr_db: float | None
    max_error: float


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

    `calibration_cut` says that memory allowed fewer calibration events than were there and asked for.
    """

    calibration_events: int
    calibration_cut: bool
    events: int
    layers: tuple[LayerReport, ...]
    outputs: tuple[OutputReport, ...]
    metric: MetricReport | None

    def rows(self) -> Iterator[tuple[str, ...]]:
        """Iterate over table rows, one per layer, in the order of COLUMNS."""
        return (layer.row() for layer in self.layers)

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON; every number is finite."""
        data = asdict(self)
        for layer in data["layers"]:
            if layer["exactness"] is None:
                del layer["exactness"], layer["note"]
            else:
                layer["exactness"] = layer["exactness"].value
        if self.metric is not None:
            data["metric"] |= {"loss": self.metric.loss, "accepted": self.metric.accepted}
        return data

    def summary(self) -> str:
        """Return what a terminal shows in one line."""
        outputs = ", ".join(
            f"{output.name} exact" if output.sqnr_db is None else f"{output.name} {output.sqnr_db:.1f} dB"
            for output in self.outputs
        )
        inexact = [layer for layer in self.layers if layer.exactness not in (None, Exactness.EXACT)]
        if inexact:
            names = dict.fromkeys(f"{layer.layer} {layer.exactness.value}" for layer in inexact if layer.exactness)
            outputs += f"; all layers exact but {', '.join(names)}"
        elif any(layer.exactness is Exactness.EXACT for layer in self.layers):
            outputs += "; all layers exact"
        cut = f"; calibrated on {self.calibration_events}, what memory allows" if self.calibration_cut else ""
        if self.metric is None:
            return f"quantized: {outputs} on {self.events} events; no metric{cut}"
        metric = self.metric
        verdict = "within" if metric.accepted else "beyond"
        return (
            f"quantized: {outputs}; {metric.name} {metric.float_value:.4f} float, {metric.fixed_value:.4f} fixed, "
            f"loss {100 * metric.loss:.2f} % ({verdict} {100 * metric.tolerance:.2f} %) on {metric.events} events"
            f"{cut}"
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
