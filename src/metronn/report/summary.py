"""What reports say of a build, gathered from its design and manifest into plain rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from metronn.plan.design import Design, FpgaDesign, KernelInstance
from metronn.plan.frames.packing import TAIL_BITS, WORD_BITS
from metronn.plan.hardware.resources import RESOURCE_NAMES
from metronn.plan.kernels.spec import covered_nodes, result_value
from metronn.plan.layout import wire_format
from metronn.report.path import Share, critical_path
from metronn.verify.verdict import Verdict

RESOURCE_TITLES = {"lut": "LUT", "ff": "FF", "dsp": "DSP", "bram36": "BRAM36", "uram": "URAM"}


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelRow:
    """One kernel: the layers it serves, its place, its system cycles, and what it puts out and costs."""

    name: str
    layer: str
    kind: str
    fpga: str
    start_cycle: int
    latency_cycles: int
    beats: str
    span: int
    resources: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeRow:
    """One value on wires: what makes it, in which beats it travels, the cycles of the first and last one."""

    value: str
    maker: str
    fpga: str
    beats: str
    bits: int
    first_cycle: int
    last_cycle: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkRow:
    """One link's frame: `bits` of payload in `words` words on `lanes` lanes, sent at a system cycle."""

    name: str
    lanes: int
    lanes_there: int
    words: int
    bits: int
    capacity_bits: int
    send_cycle: int
    latency_cycles: int
    raw_ns: str

    @property
    def occupancy(self) -> float:
        """The share of the frame's bits that is payload."""
        return self.bits / self.capacity_bits


@dataclass(frozen=True, slots=True, kw_only=True)
class WordsRow:
    """Inputs that come, or results that leave, as `words` words of 64 bits on each of `lanes` lanes.

    `bits` of the `capacity_bits` are used; the words are on the port in system cycles `first_cycle` to `last_cycle`.
    """

    name: str
    lanes: int
    words: int
    bits: int
    capacity_bits: int
    first_cycle: int
    last_cycle: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionRow:
    """One super logic region of an FPGA: the kernels in it, and what it uses and may use, by resource."""

    fpga: str
    name: str
    kernels: tuple[str, ...]
    used: Mapping[str, float]
    budget: Mapping[str, float]

    def ratio(self, resource: str) -> float:
        """Return the used share of the budget; 0 where nothing is used."""
        return self.used[resource] / self.budget[resource] if self.used[resource] else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossingRow:
    """A value that goes from one region of an FPGA into the next: `bits` lines, so many cycles."""

    fpga: str
    value: str
    left: str
    reached: str
    bits: int
    cycles: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FpgaRow:
    """One FPGA: what it uses and may use, by resource."""

    name: str
    board: str
    part: str
    used: Mapping[str, float]
    budget: Mapping[str, float]

    def ratio(self, resource: str) -> float:
        """Return the used share of the budget; 0 where nothing is used."""
        return self.used[resource] / self.budget[resource] if self.used[resource] else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A build as reports show it. `manifest` may be a part: the name and the promises are enough for a plan.

    `regions` and `crossings` are of FPGAs of several dies; `cautions` say what of the boards is beyond the methodology.
    `changed` names the files of the build that are not as they were compiled, if any.
    """

    name: str
    system: str
    manifest: Mapping[str, Any]
    latency_cycles: int
    latency_ns: float
    ii_cycles: int
    clock_mhz: float
    kernels: tuple[KernelRow, ...]
    edges: tuple[EdgeRow, ...]
    links: tuple[LinkRow, ...]
    words: tuple[WordsRow, ...]
    fpgas: tuple[FpgaRow, ...]
    regions: tuple[RegionRow, ...]
    crossings: tuple[CrossingRow, ...]
    cautions: tuple[str, ...]
    path: tuple[Share, ...]
    changed: str = ""

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """The verdicts, in order of their rungs."""
        return tuple(Verdict.of(record) for record in self.manifest.get("verdicts", ()))

    @property
    def quantization(self) -> Mapping[str, Any] | None:
        """The quantization report, or None for a plan alone."""
        return self.manifest.get("quantization")

    def nanoseconds(self, cycles: int) -> float:
        """Convert cycles to nanoseconds."""
        return cycles * 1000 / self.clock_mhz


def summarize(design: Design, manifest: Mapping[str, Any], changed: str = "") -> Summary:
    """Gather what reports say."""
    return Summary(
        changed=changed,
        name=str(manifest["name"]),
        system=design.system.name,
        manifest=manifest,
        latency_cycles=design.latency_cycles,
        latency_ns=design.latency_ns,
        ii_cycles=design.ii_cycles,
        clock_mhz=design.system.clock_mhz,
        kernels=tuple(_kernel(design, fpga, kernel) for fpga in design.fpgas for kernel in fpga.kernels),
        edges=tuple(edge for fpga in design.fpgas for edge in _edges(design, fpga)),
        links=tuple(_links(design)),
        words=tuple(_words(design)),
        fpgas=tuple(
            FpgaRow(
                name=fpga.name,
                board=design.system.fpgas[fpga.index].board.name,
                part=design.system.fpgas[fpga.index].part,
                used=fpga.resources.as_dict(),
                budget=design.system.fpgas[fpga.index].budget.as_dict(),
            )
            for fpga in design.fpgas
        ),
        regions=tuple(row for fpga in design.fpgas for row in _regions(design, fpga)),
        crossings=tuple(row for fpga in design.fpgas for row in _crossings(design, fpga)),
        cautions=_cautions(design),
        path=critical_path(design),
    )


def _kernel(design: Design, fpga: FpgaDesign, kernel: KernelInstance) -> KernelRow:
    layout = fpga.signal[kernel.output].layout
    nodes = covered_nodes(kernel.spec) or (result_value(kernel.spec),)
    return KernelRow(
        name=kernel.name,
        layer=" + ".join(dict.fromkeys(design.graph.by_name[node].source for node in nodes)),
        kind=design.planned(kernel).kind_name,
        fpga=fpga.name,
        start_cycle=fpga.offset_cycles + kernel.start_cycle,
        latency_cycles=kernel.latency_cycles,
        beats=layout.describe(),
        span=layout.span,
        resources=kernel.resources.as_dict(),
    )


def _edges(design: Design, fpga: FpgaDesign) -> list[EdgeRow]:
    makers = {kernel.output: kernel.name for kernel in fpga.kernels}
    outside = "words" if fpga.enters else "input" if fpga.receives is None else "link"
    return [
        EdgeRow(
            value=signal.value,
            maker=makers.get(signal.name, outside),
            fpga=fpga.name,
            beats=signal.layout.describe(),
            bits=wire_format(design.graph.type_of(signal.value), signal.layout).width,
            first_cycle=fpga.offset_cycles + signal.first_cycle,
            last_cycle=fpga.offset_cycles + signal.last_cycle,
        )
        for signal in sorted(fpga.signals, key=lambda signal: (signal.first_cycle, signal.name))
    ]


def _regions(design: Design, fpga: FpgaDesign) -> list[RegionRow]:
    hardware = design.system.fpgas[fpga.index]
    if len(hardware.region_budgets) < 2:
        return []
    return [
        RegionRow(
            fpga=fpga.name,
            name=name,
            kernels=tuple(k.name for k in fpga.kernels if fpga.region_of(k) == number and k not in fpga.crossings),
            used=fpga.resources_in(number).as_dict(),
            budget=budget.as_dict(),
        )
        for number, (name, budget) in enumerate(zip(hardware.device.region_names, hardware.region_budgets, strict=True))
    ]


def _crossings(design: Design, fpga: FpgaDesign) -> list[CrossingRow]:
    names = design.system.fpgas[fpga.index].device.region_names
    return [
        CrossingRow(
            fpga=fpga.name,
            value=result_value(kernel.spec),
            left=names[fpga.signal[kernel.inputs[0]].region],
            reached=names[fpga.region_of(kernel)],
            bits=wire_format(design.graph.type_of(result_value(kernel.spec)), fpga.signal[kernel.output].layout).width,
            cycles=kernel.latency_cycles,
        )
        for kernel in fpga.crossings
    ]


def _cautions(design: Design) -> tuple[str, ...]:
    hardware = (design.system.fpgas[fpga.index] for fpga in design.fpgas)
    found = (one.board.warning(one.device) for one in hardware)
    return tuple(dict.fromkeys(text for text in found if text))


def _words(design: Design) -> Iterator[WordsRow]:
    first, last = design.fpgas[0], design.fpgas[-1]
    sides = (
        (f"inputs to {first.name}", first.enters, 0),
        (f"results of {last.name}", last.leaves, last.offset_cycles + design.answer_cycle),
    )
    for name, frame, cycle in sides:
        if frame is not None:
            yield WordsRow(
                name=name,
                lanes=frame.lanes,
                words=frame.words,
                bits=frame.payload_bits,
                capacity_bits=frame.form.room_bits(frame.lanes, frame.words),
                first_cycle=cycle,
                last_cycle=cycle + frame.words - 1,
            )


def _links(design: Design) -> list[LinkRow]:
    rows = []
    for fpga, receiver in zip(design.fpgas, design.fpgas[1:], strict=False):
        frame = fpga.sends
        if frame is None:
            continue
        link = design.system.links[frame.link]
        rows.append(
            LinkRow(
                name=f"{fpga.name} to {receiver.name}",
                lanes=frame.lanes,
                lanes_there=link.lanes,
                words=frame.words,
                bits=frame.payload_bits,
                capacity_bits=frame.lanes * (WORD_BITS * frame.words - TAIL_BITS),
                send_cycle=fpga.offset_cycles + frame.send_cycle,
                latency_cycles=frame.latency_cycles,
                raw_ns=f"{link.latency_min_ns:g} to {link.latency_max_ns:g}",
            )
        )
    return rows


def count_text(value: float) -> str:
    """Write a count of resources: halves as they are, all else whole."""
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


def used_resources(summary: Summary) -> tuple[str, ...]:
    """Return the resources that any FPGA of the system has."""
    return tuple(name for name in RESOURCE_NAMES if any(fpga.budget[name] for fpga in summary.fpgas))
