"""A bench for kernels: many of them side by side in one top module, each with its own events, checked cycle by cycle.

The top module has one wide input and one wide output; each kernel owns a slice of both. A stimulus is, for every
cycle, the input vector, and the output vector that must be there with a mask of the bits that are promised. Each beat
is driven, and compared, in the cycle its layout says; between them a kernel's inputs are noise.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from metronn.emit.rtl.kernels.any_kernel import emit_kernel
from metronn.emit.rtl.text import comment
from metronn.emulate.numpy import emulate
from metronn.ir.arrays import Array, object_array
from metronn.ir.graph import Graph, Node
from metronn.ir.types import TensorType
from metronn.plan.hardware.timing import Timing
from metronn.plan.kernels.kernels import AnyKernel, planned
from metronn.plan.kernels.spec import KernelSpec
from metronn.plan.layout import Layout, wire_format

RESET_CYCLES = 4
TOP = "kernel_bench"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One kernel under test: events come every `ii_cycles` at the fastest."""

    name: str
    spec: KernelSpec
    graph: Graph
    timing: Timing
    ii_cycles: int
    events: int = 24

    @cached_property
    def planned(self) -> AnyKernel:
        """The kernel's plan."""
        return planned(self.spec, self.graph, self.timing)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """The files of a bench and, per cycle, what goes in and what must come out (mask: the bits that are promised)."""

    files: tuple[Path, ...]
    stimulus: Path
    cycles: int
    bits_checked: int


@dataclass(slots=True)
class _Slices:
    """Where a case's bits lie: start bit, inputs, output."""

    start: int
    inputs: list[tuple[str, Layout, int]]
    output: int


def events_of(graph: Graph, count: int, seed: int) -> dict[str, Array]:
    """Return corner events (all minimum, all maximum, alternating, one-hot) and random ones, for every input."""
    source = random.Random(seed)
    data = {}
    for node in graph.inputs:
        lows, highs = node.type.range.los(node.type.size), node.type.range.his(node.type.size)
        size = node.type.size
        rest = [min(max(0, lo), hi) for lo, hi in zip(lows, highs, strict=True)]
        rows = [list(lows), list(highs)]
        rows += [[(lows, highs)[(k + flip) % 2][k] for k in range(size)] for flip in (0, 1)]
        for k in range(min(size, 4)):
            where = k * (size - 1) // max(1, min(size, 4) - 1)
            rows += [[*rest[:where], ends[where], *rest[where + 1 :]] for ends in (highs, lows)]
        rows += [[source.randint(lo, hi) for lo, hi in zip(lows, highs, strict=True)] for _ in range(count)]
        source.shuffle(rows)
        data[node.name] = object_array([code for row in rows[:count] for code in row], (count, *node.type.shape))
    return data


def packed_beat(tensor: TensorType, layout: Layout, beat: int, codes: Sequence[int]) -> tuple[int, int]:
    """Return the bits of one beat on the wires, and the mask of the bits it uses, from all codes of an event."""
    slots = wire_format(tensor, layout).slots
    value = mask = 0
    for slot, element in zip(slots, layout.beats[beat], strict=False):
        ones = (1 << slot.width) - 1
        value |= (codes[element] & ones) << slot.offset
        mask |= ones << slot.offset
    return value, mask


def event_starts(count: int, ii_cycles: int, seed: int) -> list[int]:
    """Return start cycles: the first half back to back, then gaps at random."""
    source = random.Random(seed)
    starts, cycle = [], RESET_CYCLES
    for event in range(count):
        starts.append(cycle)
        cycle += ii_cycles + (source.choice([0, 0, 1, ii_cycles, 2 * ii_cycles + 1]) if 2 * event > count else 0)
    return starts


def write_bench(cases: Sequence[Case], directory: Path, *, seed: int = 1, libraries: Sequence[Path] = ()) -> Bench:
    """Write the modules, the top module and the stimulus of a bench into a directory.

    `libraries` are files the kernels need beside their own. Expected outputs come from the NumPy emulator.
    """
    directory.mkdir(parents=True, exist_ok=True)
    files = list(libraries)
    places: list[_Slices] = []
    ins = outs = 0
    for case in cases:
        files.append(directory / f"{case.name}.sv")
        files[-1].write_text(emit_kernel(case.planned, case.name))
        slices = _Slices(start=ins, inputs=[], output=outs)
        ins += 1
        for value, layout in case.planned.inputs:
            slices.inputs.append((value, layout, ins))
            ins += wire_format(case.graph.type_of(value), layout).width
        outs += _output_width(case)
        places.append(slices)
    files.append(directory / f"{TOP}.sv")
    files[-1].write_text(_top(cases, places, ins, outs))
    return _stimulate(cases, places, ins, directory, tuple(files), seed)


def _output_width(case: Case) -> int:
    tensor = case.graph.type_of(case.planned.result)
    return wire_format(tensor, case.planned.output).width


def _top(cases: Sequence[Case], places: Sequence[_Slices], ins: int, outs: int) -> str:
    lines = []
    for case, place in zip(cases, places, strict=True):
        ports = [".clk_i(clk_i)", ".rst_i(rst_i)", f".start_i(stimulus_i[{place.start}])"]
        for number, (value, layout, offset) in enumerate(place.inputs):
            width = wire_format(case.graph.type_of(value), layout).width
            ports.append(f".x{number}_i(stimulus_i[{offset} +: {width}])")
        ports.append(f".y_o(response_o[{place.output} +: {_output_width(case)}])")
        lines += [f"  {case.name} u_{case.name} (", ",\n".join(f"    {port}" for port in ports), "  );", ""]
    return (
        comment([f"{len(cases)} kernels side by side; each owns a slice of the input and of the output."])
        + f"`default_nettype none\n\nmodule {TOP} (\n  input  wire clk_i,\n  input  wire rst_i,\n"
        + f"  input  wire  [{ins - 1}:0] stimulus_i,\n  output logic [{outs - 1}:0] response_o\n);\n\n"
        + "\n".join(lines)
        + "\nendmodule\n\n`default_nettype wire\n"
    )


def _stimulate(
    cases: Sequence[Case], places: Sequence[_Slices], ins: int, directory: Path, files: tuple[Path, ...], seed: int
) -> Bench:
    """Write stimulus.json: input, expected output and mask of every cycle, and which bits belong to which case."""
    driven: list[dict[int, tuple[int, int]]] = []  # per case: cycle -> (bits, mask) of its inputs and start
    wanted: dict[int, tuple[int, int]] = {}
    owners = []
    bits = 0
    for number, (case, place) in enumerate(zip(cases, places, strict=True)):
        if case.ii_cycles < case.planned.cycles_per_event:
            raise ValueError(f"{case.name}: II {case.ii_cycles}, at least {case.planned.cycles_per_event} is needed")
        starts = event_starts(case.events, case.ii_cycles, seed * 1000 + number)
        codes = _codes(case, events_of(case.graph, case.events, seed * 1000 + number))
        driven.append(_driven(case, place, starts, codes))
        tensor = case.graph.type_of(case.planned.result)
        layout = case.planned.output
        latency = case.planned.latency_cycles
        for event, start in enumerate(starts):
            for beat, cycle in enumerate(layout.cycles):
                value, mask = packed_beat(tensor, layout, beat, codes[case.planned.result][event])
                have = wanted.get(start + latency + cycle, (0, 0))
                if have[1] & mask << place.output:
                    raise ValueError(f"{case.name}: event {event} leaves while the one before still does")
                wanted[start + latency + cycle] = (have[0] | value << place.output, have[1] | mask << place.output)
                bits += mask.bit_count()
        owners.append([case.name, place.output, _output_width(case), latency, starts])
    cycles = max(wanted) + 2
    source = random.Random(seed)
    rows = []
    starts_mask = sum(1 << place.start for place in places)
    for cycle in range(cycles):
        value = source.getrandbits(ins) & ~starts_mask  # noise wherever nothing is driven
        for drive in driven:
            given, mask = drive.get(cycle, (0, 0))
            value = value & ~mask | given
        expected, mask = wanted.get(cycle, (0, 0))
        rows.append([f"{value:x}", f"{expected:x}", f"{mask:x}"])
    path = directory / "stimulus.json"
    path.write_text(json.dumps({"reset_cycles": RESET_CYCLES - 1, "cycles": rows, "cases": owners}))
    return Bench(files=files, stimulus=path, cycles=cycles, bits_checked=bits)


def _codes(case: Case, inputs: dict[str, Array]) -> dict[str, list[list[int]]]:
    """Return, for each value the kernel reads or makes, all codes of every event, flat."""
    names = {name for name, _ in case.planned.inputs} | {case.planned.result}
    kept: dict[str, list[list[int]]] = {}

    def tap(node: Node, codes: Array) -> None:
        if node.name in names:
            kept[node.name] = [[int(code) for code in event] for event in codes.reshape(len(codes), -1)]

    emulate(case.graph, inputs, tap)
    return kept


def _driven(
    case: Case, place: _Slices, starts: Sequence[int], codes: dict[str, list[list[int]]]
) -> dict[int, tuple[int, int]]:
    """Return, by cycle, the bits this case drives and their mask."""
    drive: dict[int, tuple[int, int]] = {}
    for event, start in enumerate(starts):
        drive[start] = _joined(drive.get(start), 1 << place.start, 1 << place.start)
        for value, layout, offset in place.inputs:
            for beat, cycle in enumerate(layout.cycles):
                given, mask = packed_beat(case.graph.type_of(value), layout, beat, codes[value][event])
                drive[start + cycle] = _joined(drive.get(start + cycle), given << offset, mask << offset)
    return drive


def _joined(have: tuple[int, int] | None, value: int, mask: int) -> tuple[int, int]:
    return (value, mask) if have is None else (have[0] | value, have[1] | mask)
