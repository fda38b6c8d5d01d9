"""Designs made by hand: the inputs of a graph go over all links of a chain and out, with delays in between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from metronn.emit.build import all_values
from metronn.emit.data import data_directory
from metronn.emit.rtl.fpga import LIBRARY, emit_fpga
from metronn.emit.rtl.system import emit_system
from metronn.emit.rtl.text import identifier
from metronn.emit.sim import emit_rtl_vectors, emit_sim
from metronn.emit.tops import system_module
from metronn.events.verification import verification_events
from metronn.ir.graph import Graph, GraphBuilder
from metronn.ir.ops import Input
from metronn.ir.types import Range
from metronn.plan.design import Design, DesignOutput, FpgaDesign, Frame, FrameField, KernelInstance, Signal
from metronn.plan.frames.packing import VERDICT_CYCLES, link_latency_cycles, plan_frame
from metronn.plan.hardware.fabric import common
from metronn.plan.hardware.resources import Resources
from metronn.plan.hardware.system import load_system
from metronn.plan.kernels.kernels import Kernels
from metronn.plan.kernels.spec import Delay
from metronn.plan.layout import Layout
from metronn.verify.run import Build
from timings import level_timing


def inputs_graph(layouts: Sequence[tuple[int, Layout]]) -> Graph:
    """Inputs of some bits, as many elements as their layouts have; every input is an output."""
    builder = GraphBuilder()
    for k, (bits, layout) in enumerate(layouts):
        name = builder.add(Input(shape=(layout.size,), range=Range.fixed(bits, 0)), f"v{k}")
        builder.output(f"y{k}", name)
    return builder.build()


def framed(graph: Graph, signals: Sequence[Signal], ii: int, lanes: int, flag: int = 0, link: int = 0) -> Frame | None:
    """Return the frame of the planner with the received signals named like the sent ones."""
    plan = plan_frame(graph, signals, ii, lanes, flag)
    if plan is None:
        return None
    system = load_system("four-serenity")
    fields = tuple(
        FrameField(
            value=s.value,
            source=s.name,
            target=s.value,
            layout=s.layout,
            target_first_cycle=plan.first_cycles[s.value],
        )
        for s in signals
    )
    return Frame(
        link=link,
        lanes=plan.lanes,
        words=plan.words,
        send_cycle=plan.send_cycle,
        latency_cycles=link_latency_cycles(system.links[link].latency_max_cycles),
        fields=fields,
        segments=plan.segments,
    )


def chain(
    layouts: Sequence[tuple[int, Layout]], ii: int, delays: Sequence[int], fpgas: int, step: int | None = None
) -> Design:
    """`fpgas` in a row, up to four. `delays[k]` cycles are put in front of value k on every FPGA; 0 is none.

    With `step` a delay is several kernels of at most so many cycles, each with a start of its own.
    """
    graph, system = inputs_graph(layouts), load_system("four-serenity").with_overrides(ii=ii)
    made: list[FpgaDesign] = []
    outputs: tuple[DesignOutput, ...] = ()
    received: Frame | None = None
    offset = 0
    first = [0] * len(layouts)
    for index in range(fpgas):
        known = 0 if received is None else received.words + VERDICT_CYCLES
        waits, sends = list(delays), None
        if index == fpgas - 1:
            waits = [max(wait, known - cycle) for wait, cycle in zip(waits, first, strict=True)]
        else:
            ends = [_signal(k, layout, first[k] + waits[k]) for k, (_, layout) in enumerate(layouts)]
            sends = framed(graph, ends, ii, system.links[index].lanes, known, index)
            assert sends is not None, "the values do not fit the link"
            for k, (_, layout) in enumerate(layouts):
                own = [s for s in sends.segments if s.value == f"v{k}"]
                late = max(sends.send_cycle + s.word - first[k] - layout.cycles[s.beat] for s in own) - ii
                waits[k] = max(waits[k], late)
        kernels, signals, ends = [], [], []
        for k, (_, layout) in enumerate(layouts):
            signals.append(_signal(k, layout, first[k]))
            last = first[k] + waits[k]
            for number, cycle in enumerate(range(first[k], last, step or max(1, waits[k]))):
                later = min(last, cycle + (step or waits[k]))
                signals.append(_signal(k, layout, later, "_late" if later == last else f"_wait{number}"))
                kernels.append(_delay(signals[-2], signals[-1], "" if later == last else f"{number}"))
            ends.append(signals[-1])
        if sends is None:
            outputs = tuple(DesignOutput(name=f"y{k}", signal=end.name) for k, end in enumerate(ends))
        else:
            named = zip(sends.fields, ends, strict=True)
            sends = replace(sends, fields=tuple(replace(field, source=end.name) for field, end in named))
        made.append(
            FpgaDesign(
                index=index,
                name=system.fpgas[index].name,
                offset_cycles=offset,
                kernels=tuple(kernels),
                signals=tuple(signals),
                receives=received,
                sends=sends,
                fabric=system.fpgas[index].device.fabric,
            )
        )
        if sends is not None:
            offset += sends.send_cycle + sends.latency_cycles
            first = [field.target_first_cycle for field in sends.fields]
        received = sends
    timing = level_timing(common(fpga.device.fabric for fpga in system.fpgas))
    return Design(kernels=Kernels(graph, timing), system=system, ii_cycles=ii, fpgas=tuple(made), outputs=outputs)


def _signal(k: int, layout: Layout, first_cycle: int, suffix: str = "") -> Signal:
    return Signal(name=f"v{k}{suffix}", value=f"v{k}", layout=layout, first_cycle=first_cycle)


def _delay(source: Signal, later: Signal, number: str) -> KernelInstance:
    cycles = later.first_cycle - source.first_cycle
    spec = Delay(value=source.value, layout=source.layout, cycles=cycles)
    return KernelInstance(
        name=f"{source.value}_delay{number}",
        spec=spec,
        inputs=(source.name,),
        output=later.name,
        start_cycle=source.first_cycle,
        latency_cycles=cycles,
        resources=Resources(),
    )


def written(design: Design, folder: Path, events: int) -> Build:
    """Write what the simulations of a design need, at most `events` events, and return it as a build."""
    codes, _ = verification_events(design.graph, {}, events, events)
    values = all_values(design.graph, codes)
    files = {f"rtl/{system_module(design.prefix)}.sv": emit_system(design)}
    files["rtl/mnn_link_model.sv"] = (data_directory("firmware") / "sim" / "mnn_link_model.sv").read_text()
    for name in LIBRARY:
        files[f"rtl/library/{name}.sv"] = (data_directory("firmware") / "rtl" / f"{name}.sv").read_text()
    for fpga in design.fpgas:
        files |= {f"rtl/{identifier(fpga.name)}/{name}": text for name, text in emit_fpga(design, fpga).items()}
    files |= {f"sim/{name}": text for name, text in emit_sim(design).items()}
    files |= {f"vectors/{name}": text for name, text in emit_rtl_vectors(design, values).items()}
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return Build(folder=folder, graph=design.graph, design=design, events=codes)
