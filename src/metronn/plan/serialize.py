"""plan.json: a design as JSON and back. The graph is kept beside it as text and given again when reading."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from typing import Any

from metronn.ir.graph import Graph
from metronn.plan import design as design_module
from metronn.plan.design import Design
from metronn.plan.kernels import spec as spec_module
from metronn.plan.kernels.spec import KernelSpec
from metronn.plan.system import System

FORMAT = 1
KERNELS: dict[str, type[Any]] = {kind.__name__: kind for kind in typing.get_args(KernelSpec)}


class PlanFormatError(ValueError):
    """The text is not a plan this version can read."""


def design_to_json(design: Design) -> str:
    """Return the design, without its graph, as indented JSON. Same design, same text."""
    record = {
        "format": FORMAT,
        "system": design.system.model_dump(mode="json"),
        "timing": _encode(design.timing),
        "ii_cycles": design.ii_cycles,
        "latency_cycles": design.latency_cycles,
        "fpgas": [_encode(fpga) for fpga in design.fpgas],
        "outputs": [_encode(output) for output in design.outputs],
    }
    return json.dumps(record, indent=1) + "\n"


def _encode(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        record = {item.name: _encode(getattr(value, item.name)) for item in dataclasses.fields(value)}
        if type(value).__name__ in KERNELS:
            record = {"kernel": type(value).__name__, **record}
        return record
    if isinstance(value, tuple):
        return [_encode(item) for item in value]
    return value


def design_from_json(text: str, graph: Graph) -> Design:
    """Return the design of `design_to_json`, for the graph it was made for. Raises PlanFormatError."""
    try:
        record = json.loads(text)
        if record["format"] != FORMAT:
            raise PlanFormatError(f"plan format is {record['format']}, this version reads {FORMAT}")
        names = typing.get_type_hints(Design, vars(design_module))
        return Design(
            graph=graph,
            system=System.model_validate(record["system"]),
            timing=_decode(record["timing"], names["timing"]),
            ii_cycles=record["ii_cycles"],
            fpgas=_decode(record["fpgas"], names["fpgas"]),
            outputs=_decode(record["outputs"], names["outputs"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise PlanFormatError(f"the plan cannot be read: {error}") from error


def _decode(value: Any, hint: Any) -> Any:  # noqa: ANN401 - the shape of JSON and of type hints
    if hint == KernelSpec:
        kind = KERNELS[value["kernel"]]
        return _decode({k: v for k, v in value.items() if k != "kernel"}, kind)
    origin = typing.get_origin(hint)
    if origin is types.UnionType:
        if value is None:
            return None
        return _decode(value, next(arm for arm in typing.get_args(hint) if arm is not type(None)))
    if origin is tuple:
        inner = typing.get_args(hint)[0]
        return tuple(_decode(item, inner) for item in value)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        module = spec_module if hint.__name__ in KERNELS else design_module
        names = typing.get_type_hints(hint, vars(module))
        fields = {item.name for item in dataclasses.fields(hint)}
        return hint(**{name: _decode(item, names[name]) for name, item in value.items() if name in fields})
    return value
