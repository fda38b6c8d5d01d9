"""plan.json: a design as JSON and back. The graph is kept beside it as text and given again when reading.

Layouts are short however many beats they have: `{"rows": [size, width]}` when the elements come in order, `cycles`
only where the beats do not follow each other. Sequences of integers are written as `metronn.plan.compact` says. What
kernels and links are built of is in the devices of the system, and nowhere else.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Sequence
from typing import Any

from metronn.ir.graph import Graph
from metronn.plan.compact import decode_ints, encode_ints
from metronn.plan.design import Design
from metronn.plan.frames.signals import Segment
from metronn.plan.hardware.fabric import Fabric, common
from metronn.plan.hardware.system import System
from metronn.plan.hardware.timing import Timing
from metronn.plan.kernels.kernels import Kernels
from metronn.plan.kernels.spec import KernelSpec
from metronn.plan.layout import Layout

FORMAT = 5
KERNELS: dict[str, type[Any]] = {kind.__name__: kind for kind in typing.get_args(KernelSpec)}
MANY_SEGMENTS = 64
"""Frames of more segments are written column by column."""


class PlanFormatError(ValueError):
    """The text is not a plan this version can read."""


def design_to_json(design: Design) -> str:
    """Return the design, without its graph, as indented JSON. Same design, same text."""
    record = {
        "format": FORMAT,
        "prefix": design.prefix,
        "system": design.system.model_dump(mode="json"),
        "timing": _encode(design.timing),
        "ii_cycles": design.ii_cycles,
        "latency_cycles": design.latency_cycles,
        "fpgas": [_encode(fpga) for fpga in design.fpgas],
        "outputs": [_encode(output) for output in design.outputs],
    }
    return json.dumps(record, indent=1) + "\n"


def _encode(value: object) -> object:
    if isinstance(value, Layout):
        return encode_layout(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {item.name: getattr(value, item.name) for item in dataclasses.fields(value) if _said(item, value)}
        record = {name: _encode(item) for name, item in fields.items() if not isinstance(item, Fabric)}
        if type(value).__name__ in KERNELS:
            record = {"kernel": type(value).__name__, **record}
        return record
    if isinstance(value, tuple):
        if len(value) > MANY_SEGMENTS and isinstance(value[0], Segment):
            return _encode_segments(value)
        return [_encode(item) for item in value]
    return value


def _said(item: dataclasses.Field[Any], value: object) -> bool:
    """Whether a field is written: all but those that are None where that is what they are by themselves."""
    return item.default is not None or getattr(value, item.name) is not None


def encode_layout(layout: Layout) -> dict[str, object]:
    """Return a layout as JSON, in full and short."""
    record: dict[str, object]
    if layout.beats == Layout.rows(layout.size, layout.slot_count).beats:
        record = {"rows": [layout.size, layout.slot_count]}
    else:
        record = {
            "sizes": encode_ints([len(beat) for beat in layout.beats]),
            "elements": encode_ints([element for beat in layout.beats for element in beat]),
        }
    if layout.span != layout.beat_count:
        record["cycles"] = encode_ints(layout.cycles)
    return record


def decode_layout(record: Any) -> Layout:  # noqa: ANN401 - the shape of JSON
    """Return the layout of `encode_layout`. Raises KeyError, TypeError or ValueError for anything else."""
    cycles = decode_ints(record["cycles"]) if "cycles" in record else ()
    if "rows" in record:
        size, width = record["rows"]
        return Layout(Layout.rows(size, width).beats, cycles)
    elements, beats, start = decode_ints(record["elements"]), [], 0
    for size in decode_ints(record["sizes"]):
        beats.append(elements[start : start + size])
        start += size
    if start != len(elements):
        raise ValueError(f"the beats of a layout hold {start} elements of {len(elements)}")
    return Layout(tuple(beats), cycles)


def _encode_segments(segments: Sequence[Segment]) -> dict[str, object]:
    values = list(dict.fromkeys(segment.value for segment in segments))
    number = {value: k for k, value in enumerate(values)}
    record: dict[str, object] = {"values": values, "value": encode_ints([number[s.value] for s in segments])}
    for name in ("word", "lane", "bit", "beat", "offset", "width"):
        record[name] = encode_ints([getattr(segment, name) for segment in segments])
    return record


def _decode_segments(record: Any) -> tuple[Segment, ...]:  # noqa: ANN401 - the shape of JSON
    names = ("word", "lane", "bit", "beat", "offset", "width")
    columns = [decode_ints(record[name]) for name in names]
    values = [record["values"][k] for k in decode_ints(record["value"])]
    rows = zip(values, *columns, strict=True)
    return tuple(Segment(value=value, **dict(zip(names, row, strict=True))) for value, *row in rows)


def design_from_json(text: str, graph: Graph) -> Design:
    """Return the design of `design_to_json`, for the graph it was made for. Raises PlanFormatError."""
    try:
        record = json.loads(text)
        if record["format"] != FORMAT:
            raise PlanFormatError(f"plan format is {record['format']}, this version reads {FORMAT}")
        names = typing.get_type_hints(Design)
        system = System.model_validate(record["system"])
        fabrics = [fpga.device.fabric for fpga in system.fpgas]
        fpgas = [{**fpga, "fabric": fabric} for fpga, fabric in zip(record["fpgas"], fabrics, strict=False)]
        if len(fpgas) < len(record["fpgas"]):
            raise PlanFormatError(f"{len(record['fpgas'])} FPGAs are planned, the system has {len(fabrics)}")
        timing = _decode({**record["timing"], "fabric": common(fabrics)}, Timing)
        return Design(
            kernels=Kernels(graph, timing),
            system=system,
            ii_cycles=record["ii_cycles"],
            fpgas=_decode(fpgas, names["fpgas"]),
            outputs=_decode(record["outputs"], names["outputs"]),
            prefix=record["prefix"],
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise PlanFormatError(f"the plan cannot be read: {error}") from error


def _decode(value: Any, hint: Any) -> Any:  # noqa: ANN401 - the shape of JSON and of type hints
    if hint is Layout:
        return decode_layout(value)
    if isinstance(value, Fabric):
        return value
    if isinstance(value, dict) and "kernel" in value:
        kind = KERNELS[value["kernel"]]
        return _decode({k: v for k, v in value.items() if k != "kernel"}, kind)
    origin = typing.get_origin(hint)
    if origin is types.UnionType:
        if value is None:
            return None
        arms = [arm for arm in typing.get_args(hint) if arm is not type(None)]
        if len(arms) > 1:
            raise ValueError(f"a kernel must say which it is, found {str(value)[:80]}")
        return _decode(value, arms[0])
    if origin is tuple:
        inner = typing.get_args(hint)[0]
        if inner is Segment and isinstance(value, dict):
            return _decode_segments(value)
        return tuple(_decode(item, inner) for item in value)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        names = typing.get_type_hints(hint)
        fields = {item.name for item in dataclasses.fields(hint)}
        return hint(**{name: _decode(item, names[name]) for name, item in value.items() if name in fields})
    return value
