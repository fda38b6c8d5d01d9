"""The `[quantize]` table of metronn.toml: widths, ranges, rounding, tables, metric."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Strict, Tag

from metronn.ir.ops import Overflow, Rounding
from metronn.toml_tables import Flag, Table, Text, key, number, parse, whole

WIDEST = 32
"""Bits of weights, results and inputs at most."""
METRICS = ("auto", "none", "accuracy", "auc")
"""Metrics that are known by name."""
Bits = Annotated[int, whole(2, WIDEST)]
Frac = Annotated[int, whole(-64, 64)]
Truth = Annotated[bool, Strict()]


def _bits_or_auto(value: object) -> object:
    if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and 2 <= value <= WIDEST):
        return value
    raise ValueError(f"must be 'auto' or a whole number from 2 to {WIDEST}, found {value!r}")


def _possible(value: Overflow) -> Overflow:
    if value not in (Overflow.SAT, Overflow.WRAP):
        raise ValueError(f"must be SAT or WRAP, found {value.value}")
    return value


def _known_metric(value: str) -> str:
    path, _, name = value.rpartition(":")
    if value not in METRICS and not (path.endswith(".py") and name.isidentifier()):
        raise ValueError(f"must be one of {', '.join(METRICS)}, or file.py:function, found {value!r}")
    return value


def _auto(value: object) -> str:
    return "auto" if isinstance(value, str) else "table"


class Calibration(enum.Enum):
    """How the binary exponent of a tensor follows from the values calibration events give it."""

    MAX = "max"
    """No calibration value saturates."""
    PERCENTILE = "percentile"
    """At most the largest `100 - percentile` percent saturate."""
    MSE = "mse"
    """The exponent of least mean squared error, clipping included."""


ResultOverflow = Annotated[Overflow, AfterValidator(_possible)]
LargestError = Annotated[float, number(1e-12, 1)]


class InputOptions(Table):
    """Width and exponent of a model input."""

    bits: Bits = key(16, "width of the input, 2 to 32")
    frac: Frac | None = key(None, "fraction bits", shown="from the calibration events")


class LayerOptions(Table):
    """What may differ from layer to layer; None keeps the general value."""

    weight_bits: Bits | None = key(None, "width of weights")
    channel_bits: Annotated[tuple[Bits, ...], Field(min_length=1)] | None = key(
        None, "a width of weights for each output channel of a matrix, instead of `weight_bits`"
    )
    activation_bits: Bits | None = key(None, "width of results")
    weight_frac: Frac | None = key(None, "fraction bits of weights", shown="from the weights")
    activation_frac: Frac | None = key(None, "fraction bits of results", shown="from the calibration events")
    rounding: Rounding | None = key(None, "rounding of results")
    overflow: ResultOverflow | None = key(None, "what results do beyond their range")
    calibration: Calibration | None = key(None, "how a range follows from the calibration events")
    bias_correction: Truth | None = key(None, "whether biases make up for the mean error of rounded weights")
    table_max_error: LargestError | None = key(None, "largest error of an activation table")


Input = Annotated[Annotated[Literal["auto"], Tag("auto")] | Annotated[InputOptions, Tag("table")], Discriminator(_auto)]


class QuantizeOptions(Table):
    """Everything that steers quantization after training; `layers` maps patterns, as in file names, to differences.

    Widths that are given, as fields that are set, are kept; others may be widened where `bits` is "auto".
    """

    bits: Annotated[Literal["auto"] | int, BeforeValidator(_bits_or_auto)] = key(
        "auto",
        '`"auto"`: widths begin at those below, and layers are [widened](#widths-by-measured-error) where the signal '
        "needs it; or one width, 2 to 32, for weights and activations, as it is",
        flag=Flag(metavar="N", help="Bits of weights and activations alike, kept as they are."),
    )
    weight_bits: Bits = key(
        8, "width of weights, 2 to 32; when given, it is kept", flag=Flag(metavar="N", help="Bits of weights.")
    )
    activation_bits: Bits = key(
        8,
        "width of results inside the network; when given, it is kept",
        flag=Flag(metavar="N", help="Bits of activations."),
    )
    output_bits: Bits = key(
        16, "width of the network's outputs, each element at a step of its own where they reach differently far"
    )
    operand_bits: Annotated[int, whole(2, 56)] | None = key(
        None,
        "for networks quantized by their framework: operands of matrices behind float constants, which no quantizer "
        "made, are rounded to this width; none keeps them exact up to 56 bits",
    )
    input: Input = key(
        "auto",
        '`"auto"`: the exact grid of the calibration events where 16 bits hold it, else 16 bits that cover twice what '
        "they reach to, for [each feature](#formats-where-scales-differ) where scales differ; or "
        "`{bits = 12, frac = 8}` for all inputs (without `frac` it follows from the events)",
    )
    inputs: Mapping[str, InputOptions] = key({}, "single inputs by name: `inputs.x = {bits = 12, frac = 8}`")
    rounding: Rounding = key(Rounding.RND, f"of results: {', '.join(f'`{one.value}`' for one in Rounding)}")
    overflow: ResultOverflow = key(Overflow.SAT, "of results: `SAT` or `WRAP`")
    calibration: Calibration = key(
        Calibration.MSE,
        "how a range follows from the calibration events: `mse` (least squared error, clipping included), "
        "`percentile`, `max`",
    )
    percentile: Annotated[float, number(50, 100)] = key(
        99.9, "for `percentile`: this share of the values does not saturate"
    )
    calibration_events: Annotated[int, whole(1, 1_000_000_000)] = key(
        4096,
        "at most so many events are used for ranges, evenly spaced; of 50 events or more every fifth is never used, "
        "and judges",
    )
    bias_correction: Truth = key(
        True, "biases and weights are refitted to what rounding in the layers before did on the calibration events"
    )
    rescale: Truth = key(True, "channels are scaled between layers so that they fill their integers")
    table_max_error: LargestError | None = key(
        None,
        "largest error of an activation table, relative to its largest value; of 1/x, 1/√x, √x and powers over a wide "
        "range, relative to each value",
        shown="half a step of the result, 1/1024 at least",
    )
    table_bits: Annotated[int, whole(2, 14)] = key(
        12,
        "a table has at most 2^table_bits entries, the tables of a function over a wide range together four times as "
        "many",
    )
    layers: Mapping[str, LayerOptions] = key(
        {},
        'by pattern of the layer\'s name, what differs there: `layers."dense*" = {weight_bits = 6}`; later patterns '
        "win",
    )
    widths: Text | None = key(
        None,
        "a file of widths found by [`metronn quantize --search`](compression.md#searching-widths): its "
        "`[quantize.layers]` come behind those here, and win",
        flag=Flag(metavar="FILE", help="Widths of layers, as `metronn quantize --search` writes them."),
    )
    metric: Annotated[str, AfterValidator(_known_metric)] = key(
        "auto",
        "`auto` (accuracy where there are whole-number labels), `accuracy`, `auc`, `none`, or `file.py:function`",
        flag=Flag(metavar="NAME", help="accuracy, auc, none or file.py:function."),
    )
    tolerance: Annotated[float, number(0, 1e6)] = key(
        0.005,
        "accepted loss of the metric, relative to the trained network; a larger one fails rung 1",
        flag=Flag(metavar="F", help="Accepted loss of the metric, relative."),
    )
    min_sqnr_db: Annotated[float, number(-1000, 1000)] = key(
        20.0,
        "what must be left of each output's [signal](cli.md#the-signal), in dB, -1000 to 1000; less fails rung 1, or "
        "is a warning where there is a metric",
    )

    def layer(self, *sources: str) -> Settings:
        """Return the settings of a layer known by these names: the general ones, then the patterns that match."""
        values: dict[str, Any] = {name: getattr(self, name, None) for name in LayerOptions.model_fields}
        if self.bits != "auto":
            values |= {n: self.bits for n in ("weight_bits", "activation_bits") if n not in self.model_fields_set}
        for pattern, different in self.layers.items():
            if any(fnmatchcase(source, pattern) for source in sources):
                values.update({key: value for key, value in different if value is not None})
        return Settings(**values)

    def gives(self, name: str, *sources: str) -> bool:
        """Tell whether a width, such as `weight_bits`, of a layer known by these names was given, or its exponent."""
        if self.bits != "auto" or name in self.model_fields_set:
            return True
        own = (o for pattern, o in self.layers.items() if any(fnmatchcase(source, pattern) for source in sources))
        also = name.replace("_bits", "_frac")
        return any(getattr(o, name, None) is not None or getattr(o, also, None) is not None for o in own)

    def with_nothing_given(self) -> QuantizeOptions:
        """Return the same options, their widths as defaults from which layers may be widened."""
        given = {name: getattr(self, name) for name in self.model_fields_set - {"bits"}}
        if self.bits != "auto":
            given = {"weight_bits": self.bits, "activation_bits": self.bits} | given
        widths = {"weight_bits", "activation_bits", "output_bits"}
        return self.model_construct(_fields_set=set(given) - widths, **given)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of one layer after all patterns; None means: chosen from the calibration events."""

    weight_bits: int
    channel_bits: tuple[int, ...] | None
    activation_bits: int
    weight_frac: int | None
    activation_frac: int | None
    rounding: Rounding
    overflow: Overflow
    calibration: Calibration
    bias_correction: bool
    table_max_error: float | None


def parse_options(table: Mapping[str, Any], where: str = "[quantize]") -> QuantizeOptions:
    """Read the table; raises ModelError with one line per bad key or value."""
    return parse(QuantizeOptions, table, where)
