"""Reading hls4ml configurations: precision and options of every layer, looked up as hls4ml 1.3.0 looks them up.

Read are the YAML that hls4ml writes beside a project (with its `HLSConfig`), and the dictionary of
`config_from_keras_model` and its sisters as YAML or JSON, of any granularity.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from metronn.errors import ModelError
from metronn.frontends.common.files import read_bytes
from metronn.frontends.hls4ml.types import Fixed, parse_type

SECTIONS = ("Model", "LayerType", "LayerName")
OTHER_SECTIONS = ("Flows", "Optimizers", "SkipOptimizers")
PRECISIONS = (
    *("default", "maximum", "weight", "bias", "scale", "accum", "result", "table", "exp_table", "inv_table", "inv_inp"),
    *("param", "depthwise", "pointwise", "slope", "shift"),
)
"""Names of precisions; `table`, `exp_table`, `inv_table` and `inv_inp` under `Precision` have no effect in hls4ml."""
TABLE_TYPES = ("table_t", "exp_table_t", "inv_table_t", "inv_inp_t", "inp_norm_t", "accum_t")
APPLIED = ("Precision", "Strategy", "TableSize", "Implementation", *TABLE_TYPES)
"""Keys of a layer that change what is computed, besides those of precisions."""
HARDWARE = (
    *("ReuseFactor", "ParallelizationFactor", "ConvImplementation", "Compression", "TargetCycles", "BramFactor"),
    *("PipelineStyle", "PipelineInterval", "Skip"),
)
"""Keys about hls4ml's own hardware: read, not applied."""
TRACES = ("Trace", "TraceOutput")
"""Keys about what hls4ml's C simulation shows: without effect on a design."""
BIT_EXACT = "BitExact"
"""Key of `Model` that hls4ml writes into every project: null and false leave all types as they are named."""
STRATEGIES = ("latency", "resource", "resource_unrolled")
IMPLEMENTATIONS = ("stable", "latency", "argmax")


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerConfig:
    """One entry of `Model`, `LayerType` or `LayerName`: precisions by name, other keys in snake_case."""

    precision: Mapping[str, Fixed | None] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hls4mlConfig:
    """A configuration. Layer names and types are in lower case, as hls4ml compares them; None means `auto`.

    `sections` holds `Model`, `LayerType` and `LayerName` as they were read.
    """

    where: str
    model: LayerConfig
    types: Mapping[str, LayerConfig]
    names: Mapping[str, LayerConfig]
    sections: Mapping[str, Any] = field(default_factory=dict)

    @property
    def default(self) -> Fixed:
        """The precision of everything that nothing else is said of."""
        found = self.model.precision.get("default")
        if found is None:
            raise AssertionError("parse_hls4ml checks the default")
        return found

    @property
    def maximum(self) -> Fixed | None:
        """The widest type that `auto` may choose."""
        return self.model.precision.get("maximum")

    def precision(self, layer: str, kind: str, name: str) -> Fixed | None:
        """Look a precision up: layer, then type of layer, then model, at each the name and then the default."""
        for entry in (self.names.get(layer.lower()), self.types.get(kind.lower()), self.model):
            for key in (name, "default"):
                if entry is not None and key in entry.precision:
                    return entry.precision[key]
        raise AssertionError("parse_hls4ml checks the default")

    def option(self, layer: str, kind: str, name: str, default: Any = None) -> Any:  # noqa: ANN401 - YAML values
        """Look an attribute of a layer up: what the type says is overridden by what the layer says."""
        for entry in (self.names.get(layer.lower()), self.types.get(kind.lower())):
            if entry is not None and name in entry.options:
                return entry.options[name]
        return default

    def strategy(self, layer: str, kind: str) -> str:
        """Return the strategy of a layer."""
        found = self.option(layer, kind, "strategy", self.model.options.get("strategy", "latency"))
        return _snake(str(found))

    def reuse_factors(self) -> list[int]:
        """Return every reuse factor that is named."""
        entries = (self.model, *self.types.values(), *self.names.values())
        return sorted({int(e.options["reuse_factor"]) for e in entries if "reuse_factor" in e.options})


def read_hls4ml(path: Path) -> Hls4mlConfig:
    """Read a configuration from `.yml`, `.yaml` or `.json`. Raises ModelError listing every problem."""
    content = read_bytes(path)
    if path.suffix.lower() not in (".yml", ".yaml", ".json"):
        raise ModelError(f"{path}: suffix {path.suffix or 'missing'}; an hls4ml configuration is .yml, .yaml or .json")
    try:
        text = content.decode()
        data = json.loads(text) if path.suffix.lower() == ".json" else yaml.load(text, Loader=_Loader)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise ModelError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
    return parse_hls4ml(data, str(path))


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Safe YAML that skips the tags with which hls4ml serializes models."""


_Loader.add_multi_constructor("!", lambda loader, suffix, node: None)


def parse_hls4ml(data: object, where: str) -> Hls4mlConfig:
    """Read a configuration that has been loaded. Raises ModelError listing every problem."""
    if not isinstance(data, dict):
        raise ModelError(f"{where}: found {type(data).__name__}, an hls4ml configuration is a table")
    hls = data.get("HLSConfig", {key: value for key, value in data.items() if key in SECTIONS + OTHER_SECTIONS})
    problems: list[str] = []
    if not isinstance(hls, dict) or not any(section in hls for section in SECTIONS):
        listed = ", ".join(map(str, data)) or "nothing"
        raise ModelError(
            f"{where}: no hls4ml configuration: found {listed}; needed is HLSConfig, or {', '.join(SECTIONS)}"
        )
    for key in hls:
        if key not in SECTIONS + OTHER_SECTIONS:
            problems.append(_unknown(f"{where}: {key}", key, SECTIONS + OTHER_SECTIONS))
    for key in ("Optimizers", "SkipOptimizers"):
        if hls.get(key):
            problems.append(f"{where}: {key}: found {hls[key]}; another list of hls4ml's own passes is not supported")
    model = _entry(hls.get("Model", {}), f"{where}: Model", problems, whole_model=True)
    types = _entries(hls.get("LayerType", {}), f"{where}: LayerType", problems)
    names = _entries(hls.get("LayerName", {}), f"{where}: LayerName", problems)
    if model.precision.get("default") is None:
        problems.append(f"{where}: Model.Precision.default: a type such as ap_fixed<16,6> is needed, auto is not one")
    if problems:
        raise ModelError("\n".join(problems))
    sections = {key: hls[key] for key in SECTIONS if key in hls}
    return Hls4mlConfig(where=where, model=model, types=types, names=names, sections=sections)


def _entries(table: object, where: str, problems: list[str]) -> dict[str, LayerConfig]:
    if not isinstance(table, dict):
        problems.append(f"{where}: found {type(table).__name__}, a table of layers is needed")
        return {}
    return {str(name).lower(): _entry(entry, f"{where}.{name}", problems) for name, entry in table.items()}


def _entry(table: object, where: str, problems: list[str], *, whole_model: bool = False) -> LayerConfig:
    if not isinstance(table, dict):
        problems.append(f"{where}: found {table!r}, a table is needed")
        return LayerConfig()
    allowed = (
        (*APPLIED, *HARDWARE, *TRACES, "ChannelsLastConversion", "TransposeOutputs", BIT_EXACT)
        if whole_model
        else (
            *APPLIED,
            *HARDWARE,
            *TRACES,
        )
    )
    snakes = {_snake(key) for key in allowed}
    options: dict[str, Any] = {}
    precision: dict[str, Fixed | None] = {}
    for key, value in table.items():
        if key == "Precision":
            precision = _precisions(value, f"{where}.Precision", problems)
        elif _snake(str(key)) not in snakes:
            problems.append(_unknown(f"{where}.{key}", str(key), allowed))
        else:
            options[_snake(str(key))] = _option(_snake(str(key)), value, f"{where}.{key}", problems)
    return LayerConfig(precision=precision, options=options)


def _option(key: str, value: object, where: str, problems: list[str]) -> object:
    if key in TABLE_TYPES:
        return _type(value, where, problems)
    if key == _snake(BIT_EXACT) and value:
        problems.append(
            f"{where}: found {value!r}, allowed are null and false: hls4ml would replace the types of every layer by "
            "ones of its own"
        )
    if key == "strategy" and _snake(str(value)) not in STRATEGIES:
        problems.append(f"{where}: found {value}, allowed are {', '.join(STRATEGIES)}")
    if key == "implementation" and str(value).lower() not in IMPLEMENTATIONS:
        problems.append(f"{where}: found {value}, allowed are {', '.join(IMPLEMENTATIONS)}")
    if key in ("table_size", "reuse_factor") and not (isinstance(value, int) and value >= 1):
        if not (isinstance(value, str) and re.fullmatch("0*[1-9][0-9]{0,8}", value)):
            problems.append(f"{where}: found {value!r}, a whole number of at least 1 is needed")
            return 1
        return int(value)
    return value


def _precisions(value: object, where: str, problems: list[str]) -> dict[str, Fixed | None]:
    if isinstance(value, str):
        return {"default": _type(value, where, problems)}
    if not isinstance(value, dict):
        problems.append(f"{where}: found {value!r}, a type or a table of types is needed")
        return {}
    found = {}
    for key, text in value.items():
        name = str(key).removesuffix("_t")
        if name not in PRECISIONS:
            problems.append(_unknown(f"{where}.{key}", str(key), PRECISIONS))
        else:
            found[name] = _type(text, f"{where}.{key}", problems)
    return found


def _type(value: object, where: str, problems: list[str]) -> Fixed | None:
    try:
        return parse_type(str(value))
    except ValueError as error:
        problems.append(f"{where}: {error}")
        return None


def _snake(key: str) -> str:
    return re.sub(r"_{2,}", "_", re.sub(r"(?<!^)(?=[A-Z])", "_", key).lower())


def _unknown(where: str, key: str, allowed: Iterable[str]) -> str:
    near = difflib.get_close_matches(key, list(allowed), n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"{where}: unknown key{hint}; allowed are {', '.join(allowed)}"
