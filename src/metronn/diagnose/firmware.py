"""What the firmware computes for the values of a network as it was read, in that network's units and shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from metronn.diagnose.subject import Subject
from metronn.emulate.numpy import emulate
from metronn.events.codes import encode_inputs, input_steps
from metronn.ir.arrays import Array
from metronn.ir.graph import Graph, Node
from metronn.ir.ops import Input, Requantize, Rewire
from metronn.ir.types import TensorType
from metronn.model.graph import Floats
from metronn.model.reference import evaluate_real
from metronn.quantize.calibrated.calibration import chunks
from metronn.quantize.measure import clipped
from metronn.quantize.traced import TracedValue


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FirmwareValue:
    """A value of the firmware in the units and the shape of the network as it was read.

    `clipped` says which codes met a bound, `step` what a code is worth, both with a leading axis of events. To become 0
    for want of negative codes does not count: so a ReLU is done.
    """

    entry: TracedValue
    formats: tuple[str, ...]
    fixed: Floats
    clipped: Floats
    step: Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Firmware:
    """Codes of the traced values on all events, and which of them were clipped."""

    subject: Subject
    values: Mapping[str, TracedValue]
    codes: Mapping[str, Array]
    clipped: Mapping[str, Array]
    events: int

    @staticmethod
    def run(subject: Subject, inputs: Mapping[str, Floats]) -> Firmware:
        """Run the integer graph, some events at a time."""
        graph, values = subject.graph, subject.values
        wanted = {entry.value for entry in values.values()}
        parts: dict[str, list[Array]] = {name: [] for name in wanted}
        hits: dict[str, list[Array]] = {name: [] for name in wanted}
        encoded = encode_inputs(graph, inputs)
        count = max((len(codes) for codes in encoded.values()), default=1)
        for events in chunks(count, max(node.type.size for node in graph.nodes)):
            part = {name: codes[events] for name, codes in encoded.items()}
            floats = {name: inputs[name][events] for name in encoded}
            for name, (codes, hit) in _run_part(graph, part, floats, wanted).items():
                parts[name].append(np.broadcast_to(codes, (events.stop - events.start, *codes.shape[1:])))
                hits[name].append(np.broadcast_to(hit, (events.stop - events.start, *hit.shape[1:])))
        joined, clips = ({name: np.concatenate(some) for name, some in each.items()} for each in (parts, hits))
        return Firmware(subject=subject, values=values, codes=joined, clipped=clips, events=count)

    def found(self, name: str) -> FirmwareValue | None:
        """Return a value of the network as the firmware has it, or None; movement is done to what it moves."""
        if name in self.values:
            entry = self.values[name]
            kind = self.subject.graph.type_of(entry.value)
            return FirmwareValue(
                entry=entry,
                formats=formats_of(kind),
                fixed=entry.decoded(self.codes[entry.value], kind),
                clipped=entry.ordered(self.clipped[entry.value]).astype(np.float64),
                step=entry.step(kind)[np.newaxis],
            )
        node = self.subject.network.by_name[name]
        if not isinstance(node.op, Rewire):
            return None
        parts = {x: part for x in node.op.xs if (part := self.found(x)) is not None}
        if len(parts) < len(set(node.op.xs)):
            return None
        moved = {
            what: evaluate_real(node, {x: getattr(part, what) for x, part in parts.items()}, {})
            for what in ("fixed", "clipped", "step")
        }
        formats = tuple(dict.fromkeys(text for part in parts.values() for text in part.formats))
        entries = [part.entry for part in parts.values()]
        exact = next((entry for entry in entries if not entry.exact), entries[0])
        return FirmwareValue(entry=exact, formats=formats, **moved)


def _run_part(
    graph: Graph, codes: Mapping[str, Array], floats: Mapping[str, Floats], wanted: set[str]
) -> dict[str, tuple[Array, Array]]:
    """Return codes of the wanted values, and which of them were clipped."""
    operands = {op.x for name in wanted if isinstance(op := graph.by_name[name].op, Requantize)}
    values: dict[str, Array] = {}

    def keep(node: Node, found: Array) -> None:
        if node.name in wanted or node.name in operands:
            values[node.name] = found

    emulate(graph, codes, keep)
    found = {}
    for name in wanted:
        op = graph.by_name[name].op
        match op:
            case Requantize():
                relu = (values[name] == 0) & (op.out.lo_array(graph.type_of(name).shape) == 0)
                hit = clipped(graph.by_name, values, name) & ~relu
            case Input():
                hit = np.asarray(input_steps(floats[name], op) != values[name].astype(np.float64))
            case _:
                hit = np.zeros(values[name].shape, dtype=bool)
        found[name] = (values[name], hit)
    return found


def formats_of(kind: TensorType) -> tuple[str, ...]:
    """Return the formats of a tensor's codes, `u8.6`: for each number of fraction bits the widest, in their order."""
    widest: dict[int, int] = {}
    for bits, frac in zip(kind.element_widths(), kind.range.fracs(kind.size), strict=True):
        widest[frac] = max(bits, widest.get(frac, 0))
    return tuple(f"{'s' if kind.range.signed else 'u'}{bits}.{frac}" for frac, bits in sorted(widest.items()))
