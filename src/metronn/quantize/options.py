"""The `[quantize]` table of metronn.toml: widths, ranges, rounding, tables, metric."""

from __future__ import annotations

import difflib
import enum
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from metronn.errors import ModelError
from metronn.ir.ops import Overflow, Rounding

Bits = Annotated[int, Field(strict=True, ge=2, le=32)]
Frac = Annotated[int, Field(strict=True, ge=-64, le=64)]


class Calibration(enum.Enum):
    """How the binary exponent of a tensor follows from the values calibration events give it."""

    MAX = "max"
    """No calibration value saturates."""
    PERCENTILE = "percentile"
    """At most the largest `100 - percentile` percent saturate."""
    MSE = "mse"
    """The exponent of least mean squared error, clipping included."""


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class InputOptions(_Table):
    """Width and exponent of a model input; without `frac` it follows from the calibration events."""

    bits: Bits = 16
    frac: Frac | None = None


class LayerOptions(_Table):
    """What may differ from layer to layer; None keeps the general value.

    `channel_bits` gives each output channel of a matrix its own width of weights, instead of `weight_bits`.
    """

    weight_bits: Bits | None = None
    channel_bits: Annotated[tuple[Bits, ...], Field(min_length=1)] | None = None
    activation_bits: Bits | None = None
    weight_frac: Frac | None = None
    activation_frac: Frac | None = None
    rounding: Rounding | None = None
    overflow: Overflow | None = None
    calibration: Calibration | None = None
    bias_correction: bool | None = None
    table_max_error: Annotated[float, Field(gt=0, lt=1)] | None = None


class QuantizeOptions(_Table):
    """Everything that steers quantization after training.

    `bits` is "auto" (weights and activations begin at their widths, and layers that the signal needs wider are widened,
    but for widths that are given), or one width for all that is not given otherwise.
    `input` is "auto" (the exact grid of the calibration events where 16 bits hold it, else 16 bits that cover them)
    or one width for all inputs; `inputs` names single inputs. `layers` maps patterns (as in file names) to what is
    different in the layers whose name matches; later patterns win. `widths` names the file of a search whose layers
    were put behind those of the table. `table_max_error` bounds the error of an activation
    table relative to its largest value; None means half a step of the result, but not less than 1/1024. `metric` is
    "auto" (accuracy where the events have whole-number labels), "accuracy", "auc", "none" or "file.py:function";
    `tolerance` is the loss of metric that is accepted, relative to the float network. `min_sqnr_db` is the signal that
    each output must keep (`metronn.quantize.judge`); with a metric, less is a warning only.

    `operand_bits` is for networks that their framework quantized: how wide operands of matrices that no quantizer made
    may be before they are rounded. None keeps them exact, as do all widths that hold them.

    `bias_correction` refits biases and weights to what rounding in the layers before did on the calibration events;
    `rescale` scales the channels between matrices so that they fill their integers.
    """

    bits: Literal["auto"] | Bits = "auto"
    weight_bits: Bits = 8
    activation_bits: Bits = 8
    input: Literal["auto"] | InputOptions = "auto"
    inputs: Mapping[str, InputOptions] = {}
    output_bits: Bits = 16
    operand_bits: Annotated[int, Field(strict=True, ge=2, le=56)] | None = None
    rounding: Rounding = Rounding.RND
    overflow: Overflow = Overflow.SAT
    calibration: Calibration = Calibration.MSE
    percentile: Annotated[float, Field(gt=50, le=100)] = 99.9
    calibration_events: Annotated[int, Field(strict=True, ge=1)] = 4096
    bias_correction: bool = True
    rescale: bool = True
    table_max_error: Annotated[float, Field(gt=0, lt=1)] | None = None
    table_bits: Annotated[int, Field(strict=True, ge=2, le=14)] = 12
    layers: Mapping[str, LayerOptions] = {}
    widths: str | None = None
    metric: str = "auto"
    tolerance: Annotated[float, Field(ge=0)] = 0.005
    min_sqnr_db: Annotated[float, Field(ge=-1000, le=1000)] = 20.0

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
    try:
        options = QuantizeOptions.model_validate(dict(table))
    except ValidationError as error:
        raise ModelError("\n".join(_explain(item, where) for item in error.errors())) from None
    problems = _consistency(options, where)
    if problems:
        raise ModelError("\n".join(problems))
    return options


def _consistency(options: QuantizeOptions, where: str) -> list[str]:
    problems = []
    allowed = (Overflow.SAT, Overflow.WRAP)
    chosen = {"": options.overflow, **{f" layers.{p}": o.overflow for p, o in options.layers.items() if o.overflow}}
    for place, overflow in chosen.items():
        if overflow not in allowed:
            problems.append(f"{where}{place} overflow: {overflow.value} is not possible here, allowed are SAT and WRAP")
    named = ("auto", "none", "accuracy", "auc")
    if options.metric not in named and not _looks_like_function(options.metric):
        found = f"{where} metric: found {options.metric!r}"
        problems.append(f"{found}, allowed are {', '.join(named)} and file.py:function")
    return problems


def _looks_like_function(text: str) -> bool:
    path, _, name = text.rpartition(":")
    return path.endswith(".py") and name.isidentifier()


_TABLES: dict[str, type[BaseModel]] = {"layers": LayerOptions, "inputs": InputOptions, "input": InputOptions}


def _explain(item: Mapping[str, Any], where: str) -> str:
    location = [str(part) for part in item["loc"] if part not in ("InputOptions", "literal['auto']")]
    place = f"{where} {'.'.join(location)}"
    if item["type"] == "extra_forbidden":
        model = _TABLES.get(location[0], QuantizeOptions) if len(location) > 1 else QuantizeOptions
        allowed = list(model.model_fields)
        near = difflib.get_close_matches(location[-1], allowed, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        return f"{place}: unknown key{hint}; allowed are {', '.join(allowed)}"
    message = str(item["msg"])
    return f"{place}: found {item['input']!r}; {message[:1].lower()}{message[1:]}"
