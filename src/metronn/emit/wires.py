"""Integer codes as they are on wires: the bits of beats and of link words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from metronn.ir.arrays import Array
from metronn.ir.graph import Graph
from metronn.plan.design import Signal
from metronn.plan.frames.signals import AnyFrame
from metronn.plan.layout import Layout, wire_format

Bits = npt.NDArray[np.uint8]


def element_bits(codes: Array, width: int) -> Bits:
    """Return the two's complement bits of codes [events] as [events, width], lowest first."""
    if codes.dtype == object and width > 62:
        return np.array([[(int(code) >> k) & 1 for k in range(width)] for code in codes], dtype=np.uint8)
    shifts = np.minimum(np.arange(width), 63)
    return ((codes.astype(np.int64)[:, np.newaxis] >> shifts) & 1).astype(np.uint8)


def beat_bit_arrays(graph: Graph, value: str, layout: Layout, codes: Array) -> list[Bits]:
    """Return the bits of every beat of a value: one array [events, bits] a beat, only the slots the beat uses."""
    tensor = graph.type_of(value)
    flat = codes.reshape(codes.shape[0], -1)
    slots = wire_format(tensor, layout).slots
    return [
        np.concatenate([element_bits(flat[:, k], slot.width) for k, slot in zip(beat, slots, strict=False)], axis=1)
        for beat in layout.beats
    ]


def to_integers(bits: Bits) -> list[int]:
    """Return each row's bits, lowest first, as an integer."""
    packed = np.packbits(bits, axis=1, bitorder="little")
    return [int.from_bytes(row.tobytes(), "little") for row in packed]


def signal_beats(graph: Graph, signal: Signal, codes: Array) -> list[list[int]]:
    """Return for every beat the vector's integer, event by event; slots the beat does not use are 0."""
    return [to_integers(bits) for bits in beat_bit_arrays(graph, signal.value, signal.layout, codes)]


def frame_words(graph: Graph, frame: AnyFrame, codes: Mapping[str, Array]) -> list[list[int]]:
    """Return for every word the payload of all lanes (lane 0 lowest), event by event; unused and tail bits are 0."""
    beats = {
        field.value: beat_bit_arrays(graph, field.value, field.layout, codes[field.value]) for field in frame.fields
    }
    events = len(next(iter(beats.values()))[0])
    words = [np.zeros((events, frame.form.bits * frame.lanes), dtype=np.uint8) for _ in range(frame.words)]
    for segment in frame.segments:
        start = segment.lane * frame.form.bits + segment.bit
        source = beats[segment.value][segment.beat][:, segment.offset : segment.offset + segment.width]
        words[segment.word][:, start : start + segment.width] = source
    return [to_integers(word) for word in words]


def hexadecimal_lines(columns: Sequence[Sequence[int]]) -> str:
    """Return one line per event with one hexadecimal number per column."""
    return "".join(" ".join(f"{value:x}" for value in row) + "\n" for row in zip(*columns, strict=True))
